"""Embeddings of parquet files as Dask arrays: a chunk for each row group."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from causalfm.errors import DataError
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
        return rows_of(table, self.columns, self.shape[1])


def rows_of(table: Any, columns: tuple[str, ...], d: int) -> np.ndarray:
    """Return the embeddings ``(n, d)`` of an Arrow table.

    Raises
    ------
    DataError
        Lists of another length, or missing ones.
    """
    if len(columns) > 1 or table.schema.field(columns[0]).type.num_fields == 0:
        return np.asarray(table.select(list(columns)).to_pandas().to_numpy())
    flat = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in table[columns[0]].chunks]
    values = np.concatenate(flat) if flat else np.empty(0)
    if len(values) != len(table) * d or table[columns[0]].null_count:
        raise DataError(f"the lists of column {columns[0]!r} must have one length, {d}, and none may be missing.")
    return values.reshape(len(table), d)


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
