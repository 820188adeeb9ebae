"""Parquet: one file, or a folder of parts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import numpy as np

from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.formats.corrections import NAME, into_schema, joined, of_schema
from causalfm.formats.lazy_arrays import CHUNK
from causalfm.formats.lazy_parquet import lazy_parquet, list_rows
from causalfm.formats.loaded import Loaded
from causalfm.lazy_rows import import_dask, is_dask
from causalfm.tables import arrow_table, atomic, existing, join_tables, reading, to_arrow, to_frame

if TYPE_CHECKING:
    import pyarrow as pa

EMBEDDING = "embedding"
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


def read_parquet(path: Path, key: str | None, *, lazy: bool = False) -> Loaded:
    """Read a file, or the parts of a folder sorted by path; folders ``site=A`` give a text column ``site``."""
    if not path.is_dir():
        return _read_file(path, lazy=lazy)
    files = parts(path)
    labels = [f"part {i} of {path.name!r}" for i in range(len(files))]  # file names can be patients
    loaded = [_read_file(file, label, lazy=lazy) for file, label in zip(files, labels, strict=True)]
    tables = []
    for file, label, part in zip(files, labels, loaded, strict=True):
        table, values = part.obs, _partition(file.relative_to(path).parent)
        assert table is not None
        both = sorted(set(values) & set(map(str, table.columns)))
        if both:
            raise DataError(f"{label} has {', '.join(both)} both as a column and as a folder name=value: keep one.")
        tables.append(table.assign(**values))
    done = joined([part.info for part in loaded])
    X = stack([part.X for part in loaded], [f"part {i}" for i in range(len(files))])
    return Loaded(X, join_tables(tables), {NAME: done} if done else {})


def parts(folder: Path) -> list[Path]:
    """Return the parts of a data set, sorted by path; names that begin with ``.`` or ``_`` are no data."""
    found = [(file.relative_to(folder).parts, file) for file in folder.rglob("*.parquet") if file.is_file()]
    return [file for names, file in sorted(found) if not any(name.startswith((".", "_")) for name in names)]


def _partition(folder: Path) -> dict[str, str | None]:
    """Return the columns that folder names hold. Text stays text: pandas and Spark guess types, and 007 becomes 7."""
    pairs = [unquote(name).split("=", 1) for name in folder.parts if "=" in name]
    return {name: None if value == NO_VALUE else value for name, value in pairs}


def holds_embeddings(path: Path) -> bool:
    """Whether a parquet file has columns of embeddings; a damaged one counts, so that reading it says what is wrong."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        columns = pq.read_schema(path).names
    except (OSError, pa.ArrowException):
        return True
    return EMBEDDING in columns or "z0" in columns


def _read_file(path: Path, label: str | None = None, *, lazy: bool = False) -> Loaded:
    name = label or repr(path.name)
    with reading(existing(path, label), label):
        if lazy:
            return _outside_memory(path, name)
        table, info = arrow_table(path), of_schema(path)
        columns = _embedding_columns(table.column_names, name)
        if columns == [EMBEDDING]:
            _refuse_no_lists(table.schema.field(EMBEDDING).type, name)
            X = list_rows(table[EMBEDDING], f"column {EMBEDDING!r} of {name}")
            return Loaded(X, to_frame(table.drop_columns([EMBEDDING])), info)
        return Loaded(table.select(columns).to_pandas().to_numpy(), to_frame(table.drop_columns(columns)), info)


def _outside_memory(path: Path, name: str) -> Loaded:
    """Read the table and leave the embeddings where they are."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        names = file.schema_arrow.names
        columns = _embedding_columns(names, name)
        if columns == [EMBEDDING]:
            _refuse_no_lists(file.schema_arrow.field(EMBEDDING).type, name)
        table = file.read(columns=[c for c in names if c not in set(columns)])
    return Loaded(lazy_parquet(path, tuple(columns)), to_frame(table), of_schema(path))


def _embedding_columns(names: list[str], label: str) -> list[str]:
    """Return the list column, or the columns of the dimensions in order."""
    if EMBEDDING in names:
        return [EMBEDDING]
    columns = sorted((c for c in names if re.fullmatch(r"z\d+", c)), key=lambda c: int(c[1:]))
    if not columns:
        raise DataError(f"{label} has neither a list column {EMBEDDING!r} nor columns z0, z1, ...")
    if columns != [f"z{j}" for j in range(len(columns))]:
        raise DataError(f"{label}: the columns z0 .. z{len(columns) - 1} must be complete; {columns[-1]} is there.")
    return columns


def _refuse_no_lists(held: pa.DataType, name: str) -> None:
    import pyarrow as pa

    if not any(test(held) for test in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)):
        raise DataError(f"{name}: column {EMBEDDING!r} holds {held}, not one list of numbers per row.")


def stack(arrays: list[np.ndarray], names: list[str]) -> np.ndarray:
    """Put parts one after the other.

    Raises
    ------
    DataError
        Parts that are not 2-D or differ in dimensions or dtype.
    """
    if len(arrays) == 1:
        return arrays[0]
    if any(part.ndim != 2 for part in arrays) or len({part.shape[1] for part in arrays}) > 1:
        shapes = ", ".join(f"{name} {part.shape}" for name, part in zip(names, arrays, strict=True))
        raise DataError(f"parts must be 2-D with one number of dimensions: {shapes}.")
    if len({part.dtype for part in arrays}) > 1:
        kinds = ", ".join(f"{name} {part.dtype}" for name, part in zip(names, arrays, strict=True))
        raise DataError(f"parts must have one dtype: {kinds}. Convert them to one before.")
    return import_dask().concatenate(arrays) if is_dask(arrays[0]) else np.concatenate(arrays)


def write_parquet(cohort: Cohort, path: Path) -> None:
    """Write table and embeddings into one file, with a checksum per page.

    Raises
    ------
    DataError
        ``obs`` has a column ``embedding``.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if EMBEDDING in cohort.obs.columns:
        raise DataError(f"obs has a column {EMBEDDING!r}, where parquet keeps the embeddings: rename it.")
    rows = pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(cohort.X).ravel()), cohort.d)
    table = into_schema(to_arrow(cohort.obs), cohort.info)
    names = table.column_names  # dictionaries and statistics of embeddings only cost time
    with atomic(path) as temporary:
        table = table.append_column(EMBEDDING, rows)
        group = max(1, CHUNK // max(1, cohort.d * cohort.X.dtype.itemsize))  # can be read apart from the others
        settings = {"use_dictionary": names, "write_statistics": names, "write_page_checksum": True}
        pq.write_table(table, temporary, row_group_size=group, **settings)
