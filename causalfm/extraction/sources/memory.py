"""Images that are in memory already, and data sets of the user's own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causalfm.errors import DataError
from causalfm.extraction.sources.decoding import Decoding, UnreadableError, to_rgb
from causalfm.extraction.sources.protocol import Source

if TYPE_CHECKING:
    from PIL import Image


LOOKS = 8  # items of a data set that its fingerprint reads


class ArraySource(Source):
    """``(n, h, w, 3)`` uint8, RGB; a memory map stays on disk."""

    kind = "array"

    def __init__(self, pixels: np.ndarray, rules: Decoding) -> None:
        check_pixels(pixels)
        super().__init__(_numbered(len(pixels)), rules)
        self.pixels = pixels

    def _cut(self, kept: slice) -> None:
        self.pixels = self.pixels[kept]

    def _read(self, i: int) -> Image.Image:
        from PIL import Image

        return to_rgb(Image.fromarray(np.ascontiguousarray(self.pixels[i])), self.rules, own=True)

    def _identity(self) -> Iterator[str]:
        yield str(self.pixels.shape)
        digest = hashlib.sha256()
        for image in self.pixels:
            digest.update(np.ascontiguousarray(image).data)
        yield digest.hexdigest()


class ItemSource(Source):
    """Anything with ``len`` and ``[i]`` that gives Pillow images or uint8 arrays, alone or first in a tuple.

    An array is ``(h, w, 3)``, a torch tensor ``(3, h, w)`` as torchvision makes it; both uint8, RGB. Attributes of the
    data set are its own matter, but for ``obs``: a DataFrame with a row per item describes them. The fingerprint knows
    its type, its length and eight of its items, these only where two looks at the first one are equal (random
    augmentations are not); of a plain list it knows all.
    """

    kind = "items"

    def __init__(self, items: Any, rules: Decoding) -> None:
        super().__init__(_numbered(len(items)), rules, _table_of(items))
        self.items = items
        self._skipped = 0

    def _cut(self, kept: slice) -> None:
        if isinstance(self.items, (list, tuple)):
            self.items = self.items[kept]
        else:
            self._skipped += kept.start

    def _read(self, i: int) -> Image.Image:
        try:
            item = self.items[self._skipped + i]
        except Exception as error:  # whatever the user's data set raises
            raise UnreadableError(f"the data set raised {type(error).__name__}") from error
        return to_rgb(as_picture(item), self.rules)

    def _identity(self) -> Iterator[str]:
        yield type(self.items).__qualname__
        if isinstance(self.items, (list, tuple)):
            yield from map(self._digest, range(len(self)))
        elif self._digest(0) == self._digest(0):
            yield from (self._digest(i * (len(self) - 1) // (LOOKS - 1)) for i in range(LOOKS))

    def _digest(self, i: int) -> str:
        try:
            picture = as_picture(self.items[i])
            return f"{picture.mode} {picture.size} {hashlib.sha256(picture.tobytes()).hexdigest()}"
        except Exception as error:  # a bad item, or whatever the user's data set raises: said when its row is read
            return type(error).__name__


def _table_of(items: Any) -> pd.DataFrame | None:
    """Return the table that a data set carries, one row per item, if it does."""
    table = getattr(items, "obs", None)
    if not isinstance(table, pd.DataFrame):
        return None
    if len(table) != len(items):
        raise DataError(f"the data set has {len(items)} items, and its obs has {len(table)} rows: one row per item.")
    return table


def as_picture(item: Any) -> Image.Image:
    """Return an item of a data set as a Pillow image.

    Raises
    ------
    UnreadableError
        Something else than an image, or pixels that are not uint8.
    """
    from PIL import Image

    while isinstance(item, (tuple, list)) and item:
        item = item[0]
    if isinstance(item, Image.Image):
        return item
    if hasattr(item, "detach"):  # a tensor, without importing torch
        item = item.detach().cpu().numpy()
        item = item.transpose(1, 2, 0) if item.ndim == 3 and item.shape[0] == 3 else item
    if isinstance(item, np.ndarray) and item.ndim == 3 and item.shape[2] == 3 and item.dtype == np.uint8:
        return Image.fromarray(np.ascontiguousarray(item))
    shape = f" {getattr(item, 'shape', '')} {getattr(item, 'dtype', '')}".rstrip()
    raise UnreadableError(
        f"the item is a {type(item).__name__}{shape}: give Pillow images, uint8 arrays (h, w, 3) or uint8 tensors "
        "(3, h, w), before normalisation, which is the encoder's part"
    )


def check_pixels(pixels: np.ndarray) -> None:
    """Refuse an array that is not ``(n, h, w, 3)`` uint8.

    Raises
    ------
    DataError
        Naming its shape and type, and the way out.
    """
    if pixels.ndim != 4 or pixels.shape[3] != 3 or pixels.dtype != np.uint8:
        raise DataError(
            f"images must be (n, h, w, 3) uint8 in RGB; this array is {pixels.shape} {pixels.dtype}. "
            "Scale floats to 0-255 and round, move channels last, add an axis to a single image."
        )


def _numbered(n: int) -> Sequence[str]:
    if n == 0:
        raise DataError("there are no images.")
    return [str(i) for i in range(n)]
