"""Files to cohort and back. Nothing is unpickled, nothing is half written, nothing is aligned by guessing."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causalfm.cohort import Cohort
from causalfm.errors import DataError, positions
from causalfm.tables import (
    arrow_table,
    atomic,
    existing,
    join_tables,
    mixed_columns,
    read_table,
    reading,
    to_arrow,
    to_frame,
)

if TYPE_CHECKING:
    import pyarrow as pa

FilePath = str | os.PathLike[str]
Table = pd.DataFrame | FilePath
Loaded = tuple[np.ndarray, pd.DataFrame | None]

EMBEDDING = "embedding"
TABLE_SUFFIX = ".obs.parquet"


def read(
    path: FilePath | Sequence[FilePath], obs: Table | Sequence[Table] | None = None, *, key: str | None = None
) -> Cohort:
    """Read embeddings and their table.

    Parameters
    ----------
    path
        ``.npz`` (one 2-D array, or name it with ``key``), ``.npy`` (stays a memory map), ``.parquet`` (a list column
        ``embedding``, or columns ``z0 .. z{d-1}``; the other columns are the table) or ``.h5ad``. Several parts of
        one format are put one after the other, in the order given.
    obs
        A DataFrame, or a CSV, CSV.gz or parquet file, or a list of these: one row per embedding, in the same order.
        Without it the table inside the file is used, for npz and npy the file ``<name>.obs.parquet`` beside it
        (``uni.npy.obs.parquet``), which :func:`write` makes.
    key
        Array of an npz file, or ``obsm`` key of an h5ad file.

    Returns
    -------
    Cohort
        ``info["source"]`` holds the file names (no folders) and ``info["format"]`` the format. Text columns have
        dtype object under every pandas.

    Raises
    ------
    DataError
        A file that is missing, empty, damaged, pickled or of unknown format; no table; unequal lengths.
    """
    files = [existing(p) for p in _as_list(path)]
    formats = sorted({p.suffix.lower() for p in files})
    if len(formats) != 1 or formats[0] not in _READERS:
        given = ", ".join(f or "no ending" for f in formats) or "no file"
        raise DataError(f"embeddings come as one format out of {', '.join(_READERS)}; given: {given}.")
    if key is not None and formats[0] not in (".npz", ".h5ad"):
        raise DataError(f"key= names an array of an npz or h5ad file; {files[0].name!r} needs none.")
    loaded = [_READERS[formats[0]](p, key) for p in files]
    X = _stack([matrix for matrix, _ in loaded], files)
    if obs is None:
        tables = [_table_beside(p) if inside is None else inside for p, (_, inside) in zip(files, loaded, strict=True)]
        sources = files
    else:
        given_tables = _as_list(obs)
        tables = [t if isinstance(t, pd.DataFrame) else read_table(existing(t)) for t in given_tables]
        sources = files + [Path(t) for t in given_tables if not isinstance(t, pd.DataFrame)]
    info = {"source": [p.name for p in sources], "format": formats[0][1:]}
    return Cohort(X, join_tables(tables), info)


def write(cohort: Cohort, path: FilePath) -> Path:
    """Write a cohort so that ``read(path)`` finds all of it again; ``info`` is not kept.

    Parameters
    ----------
    cohort
        What to write.
    path
        ``.npz`` and ``.npy`` hold ``X``, with the table beside as ``<name>.obs.parquet``. ``.parquet`` and ``.h5ad``
        hold both; h5ad turns the index into text, and text columns with missing values into categories.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    DataError
        Unknown format, or a column that the format cannot hold. An old file stays as it was.
    """
    path = Path(path)
    if path.suffix.lower() not in _WRITERS:
        raise DataError(f"{path.name!r}: a cohort is written as {', '.join(_WRITERS)}.")
    try:
        _WRITERS[path.suffix.lower()](cohort, path)
    except (DataError, MemoryError):
        raise
    except OSError as error:
        raise DataError(f"{path.name!r} cannot be written: {error.strerror or type(error).__name__}.") from None
    except Exception as error:  # from None: the libraries quote cell values, which can identify patients
        odd = mixed_columns(cohort.obs)
        where = (
            f"columns of mixed types: {', '.join(odd)}; use astype(str)"
            if odd
            else "convert its columns to plain types"
        )
        raise DataError(f"{path.name!r}: obs cannot be stored ({type(error).__name__}): {where}.") from None
    return path


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _read_npz(path: Path, key: str | None) -> Loaded:
    # Opened here: np.load leaves the file of a damaged archive open.
    with reading(path), path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        if key is None and len(archive.files) == 1:
            key = archive.files[0]
        if key not in archive.files:
            raise DataError(f"{path.name!r}: name one array with key=. Keys: {', '.join(archive.files) or 'none'}.")
        return archive[key], None


def _read_npy(path: Path, key: str | None) -> Loaded:
    with reading(path):
        return np.lib.format.open_memmap(path, mode="r"), None  # reads no pickles


def _read_h5ad(path: Path, key: str | None) -> Loaded:
    import anndata

    with reading(path):
        adata = anndata.read_h5ad(path)
    cohort = Cohort.from_anndata(adata, obsm=key)
    return cohort.X, cohort.obs


def _read_parquet(path: Path, key: str | None) -> Loaded:
    table = arrow_table(path)
    columns = sorted((c for c in table.column_names if re.fullmatch(r"z\d+", c)), key=lambda c: int(c[1:]))
    if EMBEDDING in table.column_names:
        return _list_column(table[EMBEDDING], path), to_frame(table.drop_columns([EMBEDDING]))
    if not columns:
        raise DataError(f"{path.name!r} has neither a list column {EMBEDDING!r} nor columns z0, z1, ...")
    if columns != [f"z{j}" for j in range(len(columns))]:
        raise DataError(
            f"{path.name!r}: the columns z0 .. z{len(columns) - 1} must be complete; {columns[-1]} is there."
        )
    return table.select(columns).to_pandas().to_numpy(), to_frame(table.drop_columns(columns))


def _list_column(column: pa.ChunkedArray, path: Path) -> np.ndarray:
    """Stack a list column chunk by chunk: one flat Arrow list array ends at 2**31 values."""
    import pyarrow.compute as pc

    if not _is_list(column):
        raise DataError(f"{path.name!r}: column {EMBEDDING!r} holds {column.type}, not one list of numbers per row.")
    lengths = np.asarray(pc.fill_null(pc.list_value_length(column), -1))
    bad = np.flatnonzero((lengths != lengths[:1]) | (lengths < 0)).tolist()
    if bad:
        raise DataError(
            f"{path.name!r}: the lists of column {EMBEDDING!r} must have one length; {positions(bad)} differ "
            "from row 0 or are missing."
        )
    chunks = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    return np.concatenate(chunks).reshape(len(column), -1) if len(column) else np.empty((0, 0), np.float32)


def _is_list(column: pa.ChunkedArray) -> bool:
    import pyarrow as pa

    tests = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(test(column.type) for test in tests)


def _table_beside(path: Path) -> pd.DataFrame:
    beside = path.with_name(path.name + TABLE_SUFFIX)
    if not beside.is_file():
        raise DataError(
            f"{path.name!r} holds embeddings only: pass their table with obs= (a DataFrame, or a CSV, CSV.gz or "
            f"parquet file with one row per embedding, in the same order), or put it beside as {beside.name!r}."
        )
    return read_table(existing(beside))


def _stack(parts: list[np.ndarray], files: list[Path]) -> np.ndarray:
    if len(parts) == 1:
        return parts[0]
    if any(part.ndim != 2 for part in parts) or len({part.shape[1] for part in parts}) > 1:
        shapes = ", ".join(f"{file.name} {part.shape}" for file, part in zip(files, parts, strict=True))
        raise DataError(f"parts must be 2-D with one number of dimensions: {shapes}.")
    return np.concatenate(parts)


def _write_array(cohort: Cohort, path: Path) -> None:
    import pyarrow.parquet as pq

    with atomic(path.with_name(path.name + TABLE_SUFFIX)) as table, atomic(path) as temporary:
        pq.write_table(to_arrow(cohort.obs), table)
        with temporary.open("xb") as file:
            if path.suffix.lower() == ".npy":
                np.save(file, cohort.X, allow_pickle=False)
            else:
                np.savez(file, X=cohort.X)


def _write_parquet(cohort: Cohort, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if EMBEDDING in cohort.obs.columns:
        raise DataError(f"obs has a column {EMBEDDING!r}, where parquet keeps the embeddings: rename it.")
    rows = pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(cohort.X).ravel()), cohort.d)
    table = to_arrow(cohort.obs)
    names = table.column_names  # dictionaries and statistics of embeddings only cost time
    with atomic(path) as temporary:
        table = table.append_column(EMBEDDING, rows)
        pq.write_table(table, temporary, use_dictionary=names, write_statistics=names)


def _write_h5ad(cohort: Cohort, path: Path) -> None:
    adata = cohort.to_anndata()
    for name, column in adata.obs.items():
        if column.dtype == object and column.isna().any():  # h5py has no missing text
            adata.obs[name] = column.astype("category")
    with atomic(path) as temporary:
        adata.write_h5ad(temporary, convert_strings_to_categoricals=False)


_READERS: dict[str, Callable[[Path, str | None], Loaded]] = {
    ".npz": _read_npz,
    ".npy": _read_npy,
    ".parquet": _read_parquet,
    ".h5ad": _read_h5ad,
}
_WRITERS: dict[str, Callable[[Cohort, Path], None]] = {
    ".npz": _write_array,
    ".npy": _write_array,
    ".parquet": _write_parquet,
    ".h5ad": _write_h5ad,
}
