"""Rows corrected block by block, and looked at while they are in cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from causalfm.lazy_rows import empty_like
from causalfm.validation import refuse_not_finite, row_blocks, rows_not_finite

Change = Callable[[slice, np.ndarray], np.ndarray]


def output_dtype(X: np.ndarray) -> type[np.floating]:
    """Return what corrected rows are held in: float64 for float64, else float32."""
    return np.float64 if X.dtype == np.float64 else np.float32


def changed_blocks(X: np.ndarray, change: Change) -> Iterator[tuple[slice, np.ndarray]]:
    """Apply a map to blocks of rows in float64 and yield each: nothing of the size of ``X`` is held.

    Raises
    ------
    DataError
        Rows that are not finite, by position, once all rows were looked at; blocks from the first such row on are not
        yielded.
    """
    bad: list[int] = []
    for rows in row_blocks(X):
        block = np.ascontiguousarray(X[rows])
        if found := rows_not_finite(block):
            bad += [i + rows.start for i in found]
        elif not bad:
            yield rows, change(rows, block.astype(np.float64)).astype(output_dtype(X), copy=False)
    refuse_not_finite(bad, len(X))


def over_blocks(X: np.ndarray, change: Change) -> np.ndarray:
    """Apply a map to blocks of rows and return a new array; errors as :func:`changed_blocks`."""
    out = empty_like(X, output_dtype(X))
    for rows, block in changed_blocks(X, change):
        out[rows] = block
    return out
