"""Folders of ``<slide>.h5`` as TRIDENT and CLAM write them: ``features`` and ``coords``, one file per slide.

References
----------
TRIDENT (mahmoodlab), ``trident/IO.py`` and ``trident/wsi_objects/WSI.py``: ``features`` (n, d) with
attributes name, savetodir and encoder, ``coords`` (n, 2) with patch_size and others, None written as the text ``None``;
slide encoders keep ``coords`` beside ``features`` (d,). CLAM: the same two data sets in ``h5_files``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalfm.errors import DataError
from causalfm.formats.hdf5 import refuse_broken_heaps, refuse_holes
from causalfm.formats.loaded import Loaded
from causalfm.formats.slide_rows import Slide, gather
from causalfm.tables import existing

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


def slide_files(folder: Path, ending: str = ".h5") -> list[Path]:
    """Return the slide files of a folder, sorted by name."""
    return sorted(p for p in folder.glob(f"*{ending}") if p.is_file() and not p.name.startswith("."))


def read_slides(files: list[Path], key: str | None, table: pd.DataFrame | None) -> Loaded:
    """Read slide files into one matrix (:func:`causalfm.formats.slide_rows.gather`).

    Parameters
    ----------
    files
        ``<slide>.h5``, each with ``features`` (n, d), (1, n, d) or (d,) and, for tiles, ``coords`` (n, 2).
    key
        Name of the data set, in place of ``features``.
    table
        One row per slide, or None.

    Raises
    ------
    DataError
        As ``gather``; data that was never written.
    """
    name = key or FEATURES

    def fill(path: Path, rows: np.ndarray) -> None:
        import h5py

        with h5py.File(path, "r") as file:
            file[name].read_direct(rows)

    return gather(files, table, lambda path, label: _inspect(existing(path, label), name, label), fill)


def _inspect(path: Path, key: str, label: str) -> Slide:
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
        columns = {}
        if coords is not None and len(shape) > 1 and shape[-2]:
            refuse_holes(coords)
            places = _places(coords, shape[-2], label)
            columns = {"x": places[:, 0], "y": places[:, 1]}
        told = {name: value for name, value in made.items() if value != "None"}  # how TRIDENT writes None
        return Slide(shape, features.dtype, columns, told)


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
