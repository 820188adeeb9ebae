"""Folders of ``<slide>.h5`` as TRIDENT writes them: ``features`` and ``coords``, one file per slide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalfm.errors import DataError
from causalfm.formats.hdf5 import refuse_broken_heaps, refuse_holes
from causalfm.formats.loaded import Loaded
from causalfm.formats.slide_tables import file_positions, match_slides, spread
from causalfm.tables import existing, reading
from causalfm.validation import check_matrix, refuse_not_finite, rows_not_finite

FEATURES = "features"
# Attributes that say how the embeddings were made. TRIDENT also writes the slide's name and folder: not for reports.
ATTRIBUTES = (
    "encoder",
    "patch_size",
    "patch_size_level0",
    "level0_magnification",
    "target_magnification",
    "overlap",
)


@dataclass(frozen=True, eq=False)
class _Slide:
    """What one file holds, before its features are read: ``shape`` as stored, ``coords`` ``(n, 2)`` or None."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    coords: np.ndarray | None
    made: Mapping[str, Any]

    @property
    def tiled(self) -> bool:
        return len(self.shape) > 1

    @property
    def placed(self) -> bool:
        return self.coords is not None

    @property
    def rows(self) -> int:
        return self.shape[-2] if self.tiled else min(self.shape[0], 1)

    @property
    def dimensions(self) -> int:
        return self.shape[-1]

    @property
    def encoder(self) -> Any:
        return self.made.get("encoder")


def slide_files(folder: Path) -> list[Path]:
    """Return the slide files of a folder, sorted by name."""
    return sorted(p for p in folder.glob("*.h5") if p.is_file() and not p.name.startswith("."))


def read_slides(files: list[Path], key: str | None, table: pd.DataFrame | None) -> Loaded:
    """Read slide files into one matrix, in the order of the slide table, else as given.

    Parameters
    ----------
    files
        ``<slide>.h5``, each with ``features`` (n, d), (1, n, d) or (d,) and, for tiles, ``coords`` (n, 2).
    key
        Name of the data set, in place of ``features``.
    table
        One row per slide (:func:`causalfm.formats.slide_tables.match_slides`), or None: then ``obs`` holds what the
        files hold.

    Returns
    -------
    Loaded
        One row per tile: the slide's row, ``slide``, ``tile`` and, where the files have them, ``x`` and ``y``;
        numbered rows. ``info["patches"]`` has the attributes that all slides share, and a list of values where they
        differ.

    Raises
    ------
    DataError
        Unmatched slides, mixed dtypes, dimensions or encoders, slides without tiles, data that was never written.
    """
    names = [path.stem for path in files]
    if len(set(names)) < len(names):
        raise DataError("two files carry the name of one slide: read the folders one by one.")
    order = np.arange(len(files)) if table is None else match_slides(table, names)
    files, names = [files[i] for i in order], [names[i] for i in order]
    labels = [f"slide file {i} of {len(files)}" for i in order]
    slides = []
    for path, label in zip(files, labels, strict=True):
        with reading(existing(path, label), label):
            slides.append(_inspect(path, key or FEATURES, label))
    _refuse_mixtures(slides, order)
    obs = _rows(slides, names, table)  # before the embeddings, which take long
    return Loaded(_fill(files, labels, slides, key or FEATURES), obs, _shared(slides), finite=True)


def _rows(slides: list[_Slide], names: list[str], table: pd.DataFrame | None) -> pd.DataFrame:
    """Make the table of the tiles."""
    counts = np.array([slide.rows for slide in slides])
    where = np.repeat(np.arange(len(slides)), counts)
    tiles = pd.DataFrame({"slide": pd.Series(names, dtype=object).to_numpy()[where]})
    if slides[0].tiled:
        tiles["tile"] = np.arange(len(where)) - np.repeat(np.cumsum(counts) - counts, counts)
    if slides[0].placed:
        coords = np.concatenate([slide.coords for slide in slides if slide.coords is not None])
        tiles["x"], tiles["y"] = coords[:, 0], coords[:, 1]
    return spread(table, where, tiles)


def _inspect(path: Path, key: str, label: str) -> _Slide:
    import h5py

    with h5py.File(path, "r") as file:
        features, coords = file.get(key), file.get("coords")
        if not isinstance(features, h5py.Dataset):
            keys = ", ".join(name for name, node in file.items() if isinstance(node, h5py.Dataset)) or "none"
            raise DataError(f"{label} has no data set {key!r}: name it with key=. Data sets: {keys}.")
        refuse_holes(features)
        refuse_broken_heaps(path, features)
        shape = features.shape
        if len(shape) not in (1, 2) and not (len(shape) == 3 and shape[0] == 1):
            raise DataError(f"{label} holds {key!r} of shape {shape}; it must be (n, d), (1, n, d) or (d,).")
        nodes = [features] if coords is None else [coords, features]
        made = {name: _plain(value) for node in nodes for name, value in node.attrs.items() if name in ATTRIBUTES}
        places = None
        if coords is not None and len(shape) > 1 and shape[-2]:
            refuse_holes(coords)
            places = _places(coords, shape[-2], label)
        return _Slide(shape, features.dtype, places, made)


def _places(coords: Any, rows: int, label: str) -> np.ndarray:
    if coords.shape[-1:] != (2,) or len(coords.shape) not in (2, 3) or coords.shape[:-2] not in ((), (1,)):
        raise DataError(
            f"{label} holds 'coords' of shape {coords.shape}; they must be (n, 2) or (1, n, 2), x before y."
        )
    if coords.shape[-2] != rows:
        raise DataError(f"{label} holds {rows} features and {coords.shape[-2]} coordinates: extract it again.")
    places: np.ndarray = coords[()].reshape(-1, 2)
    return places


def _plain(value: Any) -> str | int | float:
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, (str, int, float)) else str(value)


def _refuse_mixtures(slides: list[_Slide], order: np.ndarray) -> None:
    """Refuse files that cannot be rows of one matrix, or that must not."""
    empty = order[[slide.rows == 0 for slide in slides]].tolist()
    if empty:
        raise DataError(
            f"{len(empty)} of {len(slides)} slide files hold no tiles ({file_positions(empty)}): pass a list of the "
            "other files instead of the folder, and leave these slides out of the slide table."
        )
    for what in ("dimensions", "dtype", "tiled", "placed", "encoder"):
        values = [getattr(slide, what) for slide in slides]
        odd = order[[value != values[0] for value in values]].tolist()
        if odd:
            found = ", ".join(sorted({str(value) for value in values}))
            raise DataError(
                f"slide files differ in {_MEANING[what]} ({found}): {file_positions(odd)} from file {order[0]}. Read "
                "files of one kind at a time."
            )


_MEANING = {
    "dimensions": "dimensions",
    "dtype": "dtype",
    "tiled": "whether they hold tiles or one vector per slide",
    "placed": "whether tiles have coordinates",
    "encoder": "encoder",
}


def _fill(files: list[Path], labels: list[str], slides: list[_Slide], key: str) -> np.ndarray:
    """Read every file into its rows of one matrix, and look at the values while they are in cache."""
    import h5py

    try:
        X = np.empty((sum(slide.rows for slide in slides), slides[0].dimensions), dtype=slides[0].dtype)
    except MemoryError:
        total = sum(slide.rows for slide in slides) * slides[0].dimensions * slides[0].dtype.itemsize / 2**30
        raise DataError(f"the slides hold {total:.0f} GiB and do not fit into memory: read fewer at a time.") from None
    check_matrix(X, values=False)
    bad: list[int] = []
    start = 0
    for path, label, slide in zip(files, labels, slides, strict=True):
        rows = X[start : start + slide.rows]
        with reading(path, label), h5py.File(path, "r") as file:
            file[key].read_direct(rows.reshape(slide.shape))
        bad.extend(i + start for i in rows_not_finite(rows))
        start += slide.rows
    refuse_not_finite(bad, len(X))
    return X


def _shared(slides: list[_Slide]) -> dict[str, Any]:
    """Return the attributes under ``patches``: the value, or the list of values where slides differ."""
    found: dict[str, Any] = {}
    for name in ATTRIBUTES:
        values = {slide.made[name] for slide in slides if name in slide.made}
        if values:
            found[name] = values.pop() if len(values) == 1 else sorted(values, key=str)
    return {"patches": found} if found else {}
