"""One function that tells what the images are and opens them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalfm.errors import DataError
from causalfm.extraction.sources.decoding import Decoding
from causalfm.extraction.sources.folders import open_folder
from causalfm.extraction.sources.memory import ArraySource, ItemSource
from causalfm.extraction.sources.protocol import ImageSource
from causalfm.extraction.sources.zips import open_zip

FilePath = str | os.PathLike[str]


def open_images(
    images: Any,
    *,
    sixteen_bit: str = "refuse",
    max_pixels: int = 2**26,
    max_bytes: int = 2**28,
) -> ImageSource:
    """Open images for reading one by one; ``docs/images.md`` says what is accepted and what is refused.

    Parameters
    ----------
    images
        - a folder (sorted by path, folders in it included) or a ``.zip``;
        - an array ``(n, h, w, 3)`` uint8, a list of Pillow images, or a data set with ``len`` and ``[i]``;
        - an :class:`ImageSource`, returned as it is.
    sixteen_bit
        What to do with 16 bits per channel: ``"refuse"``, or ``"high byte"`` (value // 256).
    max_pixels, max_bytes
        Limits of one image: width times height, looked at before decoding, and bytes, counted while unpacking.

    Returns
    -------
    ImageSource
        Pickles into workers; opens files on first use in each process.

    Raises
    ------
    DataError
        What is there cannot be images, or not without losing some in silence.
    """
    rules = Decoding(sixteen_bit, max_pixels, max_bytes)
    if isinstance(images, (str, os.PathLike)):
        return _open_path(Path(images), rules)
    if isinstance(images, ImageSource):
        return images
    if isinstance(images, np.ndarray):
        return ArraySource(images, rules)
    if hasattr(images, "__len__") and hasattr(images, "__getitem__") and not isinstance(images, (dict, pd.DataFrame)):
        return ItemSource(images, rules)
    raise DataError(
        f"images is a {type(images).__name__}: pass a path, an array (n, h, w, 3) uint8, a list of Pillow images, or "
        "a data set with len() and [i]."
    )


def _open_path(path: Path, rules: Decoding) -> ImageSource:
    if path.is_dir():
        return open_folder(path, rules)
    if not path.exists():
        raise DataError(f"there is no file or folder {path.name!r} where you point: check the path.")
    if path.suffix.lower() not in _OPENERS:
        raise DataError(f"{path.name!r}: images come as a folder or as {', '.join(_OPENERS)}.")
    return _OPENERS[path.suffix.lower()](path, rules)


_OPENERS: dict[str, Callable[[Path, Decoding], ImageSource]] = {".zip": open_zip}
