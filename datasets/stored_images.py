"""Images inside the files of a data set, with their table: what ``causalfm.extract`` takes as a data set of items."""

from __future__ import annotations

import io
import os
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causalfm.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG", "TIFF")
MAX_PIXELS = 2**26


class StoredImages(ABC):
    """Images read one by one, in the order of ``obs``. Pickles into workers; files are opened where they are read.

    Attributes
    ----------
    obs
        One row per image.
    """

    def __init__(self, obs: pd.DataFrame) -> None:
        if len(obs) == 0:
            raise DataError("no image is left after this selection: widen it.")
        self.obs = obs.reset_index(drop=True)
        self._held: tuple[Any, Any] | None = None

    def __len__(self) -> int:
        return len(self.obs)

    def __repr__(self) -> str:
        return f"<{len(self)} images of {type(self).__name__}: {', '.join(map(str, self.obs.columns))}>"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_held": None}

    def __getitem__(self, i: int) -> Image.Image | np.ndarray:
        if not 0 <= i < len(self):
            raise IndexError(f"image {i} of {len(self)}")
        return self._read(i)

    def where(self, **levels: Any) -> StoredImages:
        """Return the images with these levels, as ``where(subset="ID", medical_center=["RUMC", "UMCU"])``.

        Raises
        ------
        DataError
            A column or level that is not there.
        """
        keep = np.ones(len(self), dtype=bool)
        for column, wanted in levels.items():
            if column not in self.obs:
                raise DataError(f"the images have no column {column!r}: choose from {', '.join(self.obs.columns)}.")
            chosen = [wanted] if isinstance(wanted, str) else list(wanted)
            if absent := set(map(str, chosen)) - set(self.obs[column].astype(str)):
                raise DataError(f"column {column!r} has not all of the levels asked for: {len(absent)} are absent.")
            keep &= self.obs[column].astype(str).isin(list(map(str, chosen))).to_numpy()
        return self._part(np.flatnonzero(keep))

    def _part(self, rows: np.ndarray) -> StoredImages:
        other = object.__new__(type(self))
        other.__dict__.update(self.__getstate__())
        StoredImages.__init__(other, self.obs.iloc[rows])
        other._take(rows)
        return other

    def _block(self, key: Any, load: Any) -> Any:
        """Return what ``load`` gives for a key; the last one is kept, because rows lie side by side.

        A handle that crossed a fork is not used.
        """
        key = (os.getpid(), key)
        if self._held is None or self._held[0] != key:
            self._held = (key, load())
        return self._held[1]

    @abstractmethod
    def _take(self, rows: np.ndarray) -> None:
        """Keep what reads these rows."""

    @abstractmethod
    def _read(self, i: int) -> Image.Image | np.ndarray:
        """Return one image."""


def picture(content: bytes) -> Image.Image:
    """Decode an image that a table holds: PNG, JPEG or TIFF of at most 2**26 pixels.

    Raises
    ------
    ValueError
        Another format, or more pixels.
    """
    from PIL import Image

    image = Image.open(io.BytesIO(content), formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"the image has {image.width} x {image.height} pixels, more than {MAX_PIXELS}")
    image.load()
    return image
