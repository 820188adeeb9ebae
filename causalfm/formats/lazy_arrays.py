"""Files as Dask arrays: each task opens its file by name and reads its rows, here or in another process."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from causalfm.errors import DataError
from causalfm.lazy_rows import import_dask

CHUNK = 2**26  # bytes of a chunk of rows, or one chunk of the file if that is larger


@dataclass(frozen=True)
class MappedRows:
    """Rows of a file in one piece: ``.npy``, or a contiguous data set of HDF5."""

    path: str
    dtype: np.dtype[Any]
    offset: int
    shape: tuple[int, int]
    ndim: int = 2

    def __getitem__(self, index: Any) -> np.ndarray:
        return np.array(np.memmap(self.path, self.dtype, mode="r", offset=self.offset, shape=self.shape)[index])


@dataclass(frozen=True)
class DatasetRows:
    """Rows of a chunked data set of HDF5."""

    path: str
    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, int]
    ndim: int = 2

    def __getitem__(self, index: Any) -> np.ndarray:
        import h5py

        with h5py.File(self.path, "r") as file:
            return np.asarray(file[self.name][index])


def lazy_array(source: Any, rows: int | None = None) -> Any:
    """Return what gives rows by slices as a Dask array ``(n, d)``.

    Parameters
    ----------
    source
        Has ``shape``, ``dtype``, ``ndim`` and ``source[rows, columns]``; sent to workers as it is.
    rows
        Rows of a chunk of the file, of which whole ones are read; None: any number.

    Raises
    ------
    MissingDependencyError
        Dask is not installed.
    DataError
        Not 2-D.
    """
    da = import_dask()
    if len(source.shape) != 2:
        raise DataError(f"the embeddings have shape {source.shape}: they must be 2-D, rows by dimensions.")
    fitting = max(1, CHUNK // max(1, source.shape[1] * np.dtype(source.dtype).itemsize))
    step = fitting if rows is None else max(1, fitting // rows) * rows
    return da.from_array(source, chunks=(max(1, min(step, source.shape[0])), -1), name=False, inline_array=True)


def lazily_mapped(X: Any) -> Any:
    """Return a memory map as a Dask array.

    Raises
    ------
    DataError
        An array in memory.
    """
    base: Any = getattr(X, "base", None)
    if not isinstance(X, np.memmap) or not isinstance(base, mmap.mmap) or not X.flags.c_contiguous or X.ndim != 2:
        raise DataError(
            "lazy=True: this file is read into memory as a whole. Zarr, parquet, .npy and .h5ad can stay outside: "
            "write the cohort in one of these with causalfm.write."
        )
    assert X.filename is not None
    return lazy_array(MappedRows(str(Path(X.filename)), X.dtype, X.offset, (X.shape[0], X.shape[1])))
