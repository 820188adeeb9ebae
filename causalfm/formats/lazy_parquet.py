"""Embeddings of parquet files as Dask arrays: a chunk for each row group."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from causalfm.errors import DataError, positions
from causalfm.lazy_rows import import_dask


@dataclass(frozen=True)
class ParquetRows:
    """Rows of one file: the list column ``columns[0]``, or a column for each dimension."""

    path: str
    columns: tuple[str, ...]
    edges: tuple[int, ...]
    dtype: np.dtype[Any]
    shape: tuple[int, int]
    ndim: int = 2

    def __getitem__(self, index: Any) -> np.ndarray:
        rows, dimensions = index
        start, stop, _ = rows.indices(self.shape[0])
        groups = [g for g in range(len(self.edges) - 1) if self.edges[g] < stop and self.edges[g + 1] > start]
        if not groups:
            return np.empty((0, self.shape[1]), self.dtype)[:, dimensions]
        found = self._groups(groups)[start - self.edges[groups[0]] :][: stop - start]
        return found[:, dimensions]

    def _groups(self, groups: list[int]) -> np.ndarray:
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.path, page_checksum_verification=True) as file:
            table = file.read_row_groups(groups, columns=list(self.columns))
        return rows_of(table, self.columns, self.shape[1], self.edges[groups[0]])


def rows_of(table: Any, columns: tuple[str, ...], d: int, first: int = 0) -> np.ndarray:
    """Return the embeddings ``(n, d)`` of an Arrow table, whose first row is the file's row ``first``.

    Raises
    ------
    DataError
        As for :func:`list_rows`.
    """
    if len(columns) > 1 or table.schema.field(columns[0]).type.num_fields == 0:
        return np.asarray(table.select(list(columns)).to_pandas().to_numpy())
    return list_rows(table[columns[0]], f"column {columns[0]!r}", d, first)


def list_rows(column: Any, name: str, d: int | None = None, first: int = 0) -> np.ndarray:
    """Stack a list column chunk by chunk: one flat Arrow list array ends at 2**31 values.

    Parameters
    ----------
    column
        Arrow lists of numbers.
    name
        What to call it in a message.
    d
        Length of every list; None: that of the first.
    first
        Row of the file that the column begins with.

    Raises
    ------
    DataError
        Lists of another length, whatever all of them add up to, or missing ones.
    """
    import pyarrow.compute as pc

    lengths = np.asarray(pc.fill_null(pc.list_value_length(column), -1))
    wanted = int(lengths[0]) if d is None and len(lengths) else d or 0
    bad = (np.flatnonzero((lengths != wanted) | (lengths < 0)) + first).tolist()
    if bad:
        raise DataError(
            f"the lists of {name} must have one length; {positions(bad)} differ from row 0 or are missing. Write every "
            "row with all of its dimensions."
        )
    chunks = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    return np.concatenate(chunks).reshape(len(column), -1) if len(column) else np.empty((0, wanted), np.float32)


def lazy_parquet(path: Path, columns: tuple[str, ...]) -> Any:
    """Return the embeddings of a file as a Dask array ``(n, d)``; only the first row is read."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        sizes = [file.metadata.row_group(g).num_rows for g in range(file.metadata.num_row_groups)]
        first = next(iter(file.iter_batches(batch_size=1, columns=list(columns))), None)
    if first is None:
        return import_dask().empty((0, 0), dtype=np.float32)
    import pyarrow as pa

    row = pa.Table.from_batches([first])
    d = len(columns) if row.schema.field(columns[0]).type.num_fields == 0 else len(row[columns[0]][0])
    dtype = rows_of(row, columns, d).dtype
    edges = tuple(int(e) for e in np.append(0, np.cumsum(sizes)))
    source = ParquetRows(str(path), columns, edges, dtype, (edges[-1], d))
    da = import_dask()
    return da.from_array(source, chunks=(tuple(sizes), -1), name=False, inline_array=True)
