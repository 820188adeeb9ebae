"""One function that tells what the images are and opens them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalfm.errors import DataError
from causalfm.extraction.sources.decoding import Decoding
from causalfm.extraction.sources.file_names import IMAGES, SLIDES, ending
from causalfm.extraction.sources.folders import open_folder
from causalfm.extraction.sources.joining import joined
from causalfm.extraction.sources.manifests import open_manifest
from causalfm.extraction.sources.memory import ArraySource, ItemSource
from causalfm.extraction.sources.patches import open_hdf5, open_zarr
from causalfm.extraction.sources.protocol import Described, ImageSource, Source
from causalfm.extraction.sources.several import SeveralSources
from causalfm.extraction.sources.tars import open_tar
from causalfm.extraction.sources.tiles import Tiles
from causalfm.extraction.sources.whole_slides import open_slides
from causalfm.extraction.sources.zips import open_zip
from causalfm.formats.stores import is_store

FilePath = str | os.PathLike[str]


def open_images(
    images: Any,
    *,
    obs: pd.DataFrame | FilePath | None = None,
    key: str | None = None,
    root: FilePath | None = None,
    tiles: Tiles | None = None,
    sixteen_bit: str = "refuse",
    max_pixels: int = 2**26,
    max_bytes: int = 2**28,
) -> ImageSource:
    """Open images for reading one by one; ``docs/images.md`` says what is accepted and what is refused.

    Parameters
    ----------
    images
        - a folder of images (sorted by path, folders in it included), of archives or of patch files (one kind);
        - a ``.zip``, an uncompressed ``.tar`` (plain or WebDataset style), patches in HDF5 (``.h5``, ``.hdf5``) or
          Zarr; shards as ``"train-{0000..0009}.tar"`` or ``"train-*.tar"``; a list of such paths;
        - a manifest: a DataFrame, ``.csv``, ``.csv.gz`` or ``.parquet`` with a column of paths;
        - with ``tiles``: whole slides, a file, a list or a folder of them;
        - an array ``(n, h, w, 3)`` uint8, a list of Pillow images, or a data set with ``len`` and ``[i]``;
        - an :class:`ImageSource`.
    obs
        A table to join by the names of the images: every image has one row, every row one image. Rows keep the order
        of the images. Images without names (arrays, data sets) are joined by position.
    key
        The column of paths of a manifest, or the data set of HDF5 and Zarr.
    root
        Where relative paths of a manifest start; None: the folder of the manifest.
    tiles
        How whole slides are cut.
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
    options = _Options(Decoding(sixteen_bit, max_pixels, max_bytes), key, None if root is None else Path(root), tiles)
    source = _open(images, options)
    _refuse_unused(source, options)
    if obs is None:
        return source
    table = joined(source, obs)
    return source.described(table) if isinstance(source, Source) else Described(source, table)


@dataclass(frozen=True)
class _Options:
    rules: Decoding
    key: str | None
    root: Path | None
    tiles: Tiles | None


def _open(images: Any, options: _Options) -> ImageSource:
    if isinstance(images, (str, os.PathLike)):
        return _open_paths(_expanded(images), options)
    if isinstance(images, ImageSource):
        return images
    if isinstance(images, np.ndarray):
        return ArraySource(images, options.rules)
    if isinstance(images, pd.DataFrame):
        return open_manifest(images, options.rules, key=options.key, root=options.root)
    if isinstance(images, (list, tuple)) and images and all(isinstance(i, (str, os.PathLike)) for i in images):
        return _open_paths([path for item in images for path in _expanded(item)], options)
    if hasattr(images, "__len__") and hasattr(images, "__getitem__") and not isinstance(images, dict):
        return ItemSource(images, options.rules)
    raise DataError(
        f"images is a {type(images).__name__}: pass a path, a list of paths, a manifest, an array (n, h, w, 3) uint8, "
        "a list of Pillow images, or a data set with len() and [i]."
    )


def _expanded(path: FilePath) -> list[Path]:
    """Return the paths that a brace range or a pattern stands for."""
    text = os.fspath(path)
    if Path(text).exists():
        return [Path(text)]
    if found := re.fullmatch(r"(.*)\{(\d+)\.\.(\d+)\}(.*)", text, flags=re.DOTALL):
        before, first, last, after = found.groups()
        if not 0 <= int(last) - int(first) < 10**6:
            raise DataError(f"the range {{{first}..{last}}} must go up, by less than a million.")
        return [Path(f"{before}{i:0{len(first)}d}{after}") for i in range(int(first), int(last) + 1)]
    if any(mark in Path(text).name for mark in "*?["):
        shards = sorted(Path(text).parent.glob(Path(text).name))
        if not shards:
            raise DataError(f"no file fits the pattern {Path(text).name!r} where you point: check the path.")
        return shards
    return [Path(text)]


def _open_paths(paths: Sequence[Path], options: _Options) -> ImageSource:
    missing = [i for i, path in enumerate(paths) if not path.exists()]
    if missing:
        where = (
            f"no file or folder {paths[0].name!r}" if len(paths) == 1 else f"nothing at {len(missing)} of them, the "
        )
        where += "" if len(paths) == 1 else f"first at position {missing[0]} of {len(paths)}"
        raise DataError(f"there is {where} where you point: check the path.")
    if options.tiles is not None:
        return open_slides(paths, options.tiles, options.rules)
    if len(paths) == 1:
        return _open_path(paths[0], options)
    if any(path.suffix.lower() not in _OPENERS and not path.is_dir() for path in paths):
        raise DataError(
            f"a list of paths holds folders, {', '.join(_OPENERS)}; single image files go into a manifest: "
            "pd.DataFrame({'path': files})."
        )
    parts = [_open_part(i, paths, options) for i in range(len(paths))]
    return SeveralSources(parts, [path.name for path in paths], options.rules)


def _open_part(i: int, paths: Sequence[Path], options: _Options) -> ImageSource:
    """Open one of several; a message gives its position, because names of parts are slides and patients."""
    try:
        return _open_path(paths[i], options)
    except DataError as error:
        raise DataError(str(error).replace(repr(paths[i].name), f"part {i} of {len(paths)}")) from None


def _open_path(path: Path, options: _Options) -> ImageSource:
    if path.is_dir():
        if is_store(path) or path.suffix.lower() == ".zarr":
            return open_zarr(path, options.rules, options.key)
        shards = _shards(path)
        return _open_paths(shards, options) if shards else open_folder(path, options.rules)
    name = path.name.lower()
    if name.endswith((".csv", ".csv.gz", ".parquet")):
        return open_manifest(path, options.rules, key=options.key, root=options.root)
    if ending(name) in SLIDES:
        raise DataError(f"{path.name!r} is a whole slide: say with tiles=Tiles(...) how to cut it.")
    if path.suffix.lower() not in _OPENERS:
        raise DataError(
            f"{path.name!r}: images come as a folder, a manifest (.csv, .parquet), or as {', '.join(_OPENERS)}; whole "
            "slides with tiles=."
        )
    return _OPENERS[path.suffix.lower()](path, options)


def _shards(folder: Path) -> list[Path]:
    """Return the archives or patch files of a folder that holds nothing else to read."""
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in _OPENERS and not p.name.startswith("."))
    return files if len({p.suffix.lower() for p in files}) == 1 and not _holds_images(folder) else []


def _holds_images(folder: Path) -> bool:
    return any(p.is_dir() or ending(p.name) in IMAGES for p in folder.iterdir() if not p.name.startswith("."))


def _refuse_unused(source: ImageSource, options: _Options) -> None:
    kind = getattr(source, "info", {}).get("kind")
    if options.key is not None and kind not in ("manifest", "hdf5", "zarr", "several"):
        raise DataError("key= names a column of a manifest, or a data set of HDF5 or Zarr: these images need none.")
    if options.root is not None and kind != "manifest":
        raise DataError("root= says where relative paths of a manifest start: these images have no manifest.")
    if options.tiles is not None and kind != "slides":
        raise DataError("tiles= cuts whole slides: these images are none.")


_OPENERS: dict[str, Callable[[Path, _Options], ImageSource]] = {
    ".zip": lambda path, options: open_zip(path, options.rules),
    ".tar": lambda path, options: open_tar(path, options.rules),
    ".h5": lambda path, options: open_hdf5(path, options.rules, options.key),
    ".hdf5": lambda path, options: open_hdf5(path, options.rules, options.key),
}
