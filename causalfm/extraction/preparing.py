"""An image becomes the square of 8-bit pixels that an encoder sees. Needs Pillow and numpy, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from causalfm.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

MOST_PIXELS = 100_000_000  # of the resized image before the crop: 300 MB


@dataclass(frozen=True)
class Preparation:
    """Resize and crop in 8 bits, as the published recipes do; can be pickled for workers.

    Attributes
    ----------
    input_size
        Side of the square, px.
    resize
        Side to which the image is resized before the centre crop, px.
    crop
        True: the shorter side becomes ``resize``. False: both sides do, whatever the shape of the image.
    interpolation
        Name in ``PIL.Image.Resampling``.
    """

    input_size: int
    resize: int
    crop: bool
    interpolation: str

    def __call__(self, image: Image.Image) -> np.ndarray:
        """Return ``(3, input_size, input_size)`` uint8.

        Parameters
        ----------
        image
            Of any size; modes other than RGB are converted.

        Raises
        ------
        DataError
            The image has no pixels, or is so long and thin that it would be enlarged beyond 100 million pixels.
        """
        from PIL import Image

        picture = image if image.mode == "RGB" else image.convert("RGB")
        width, height = self._size(*picture.size)
        picture = picture.resize((width, height), Image.Resampling[self.interpolation])
        left, top = round((width - self.input_size) / 2), round((height - self.input_size) / 2)  # to even, as published
        if (left, top) != (0, 0):
            picture = picture.crop((left, top, left + self.input_size, top + self.input_size))
        return np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))

    def _size(self, width: int, height: int) -> tuple[int, int]:
        if not self.crop:
            return self.resize, self.resize
        short, long = min(width, height), max(width, height)
        longer = int(self.resize * long / short) if short else 0
        if not short or self.resize * longer > MOST_PIXELS:
            raise DataError(
                f"an image of {width} x {height} px cannot be resized to a shorter side of {self.resize} px: cut it "
                "into tiles that are about square."
            )
        return (self.resize, longer) if width <= height else (longer, self.resize)
