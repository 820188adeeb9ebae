"""NumPy files, with the table beside them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.formats.corrections import into_schema, of_schema
from causalfm.formats.loaded import Loaded
from causalfm.tables import atomic, existing, read_table, reading, to_arrow

TABLE_SUFFIX = ".obs.parquet"


def read_npz(path: Path, key: str | None) -> Loaded:
    """Read one array of an ``.npz`` archive; its checksum covers every byte, the shape included."""
    with reading(path):
        return Loaded(archive_member(existing(path), key), info=_corrections(path))


def archive_member(path: Path, key: str | None, label: str | None = None) -> np.ndarray:
    """Return the named array of an ``.npz`` archive, or the only one.

    Raises
    ------
    DataError
        No such array. Damage raises whatever zipfile raises: call it under :func:`causalfm.tables.reading`.
    """
    if not zipfile.is_zipfile(path):
        raise zipfile.BadZipFile("allow_pickle") if path.read_bytes()[:1] == b"\x80" else zipfile.BadZipFile
    with zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        if key is None and len(names) == 1:
            key = names[0]
        if key not in names:
            name = label or repr(path.name)
            raise DataError(f"{name}: name one array with key=. Keys: {', '.join(names) or 'none'}.")
        with archive.open(archive.namelist()[names.index(key)]) as member:
            array: np.ndarray = np.lib.format.read_array(member, allow_pickle=False)
            if member.read(1):  # a damaged header asked for less than there is; reading on also checks the sum
                raise zipfile.BadZipFile
    return array


def read_npy(path: Path, key: str | None = None) -> Loaded:
    """Map an ``.npy`` file into memory; it has no checksum, but its size must fit its header."""
    with reading(existing(path)):
        X = np.lib.format.open_memmap(path, mode="r")  # reads no pickles
        if X.offset + X.nbytes != path.stat().st_size:
            raise ValueError("size")
        return Loaded(X, info=_corrections(path))


def write_array(cohort: Cohort, path: Path) -> None:
    """Write ``X`` as ``.npz`` or ``.npy`` and the table beside it."""
    import pyarrow.parquet as pq

    with atomic(table_beside(path)) as table, atomic(path) as temporary:
        pq.write_table(into_schema(to_arrow(cohort.obs), cohort.info), table, write_page_checksum=True)
        with temporary.open("xb") as file:
            if path.suffix.lower() == ".npy":
                np.save(file, cohort.X, allow_pickle=False)
            else:
                np.savez(file, X=cohort.X)


def _corrections(path: Path) -> dict[str, Any]:
    beside = table_beside(path)
    if not beside.is_file():
        return {}
    with reading(existing(beside)):
        return of_schema(beside)


def table_beside(path: Path) -> Path:
    """Return where the table of a bare array lies: ``uni.npy.obs.parquet`` for ``uni.npy``."""
    return path.with_name(path.name + TABLE_SUFFIX)


def read_table_beside(path: Path) -> pd.DataFrame:
    """Read the table of a bare array.

    Raises
    ------
    DataError
        There is none.
    """
    beside = table_beside(path)
    if not beside.is_file():
        raise DataError(
            f"{path.name!r} holds embeddings only: pass their table with obs= (a DataFrame, or a CSV, CSV.gz or "
            f"parquet file with one row per embedding, in the same order), or put it beside as {beside.name!r}."
        )
    return read_table(existing(beside))
