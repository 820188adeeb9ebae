"""Rows corrected block by block, and looked at while they are in cache."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from causalfm.validation import refuse_not_finite, row_blocks, rows_not_finite


def over_blocks(X: np.ndarray, change: Callable[[slice, np.ndarray], np.ndarray]) -> np.ndarray:
    """Apply a map to blocks of rows in float64 (float32 for half precision and float32) and return a new array.

    Raises
    ------
    DataError
        Rows that are not finite, by position.
    """
    dtype = np.float64 if X.dtype == np.float64 else np.float32
    out, bad = np.empty(X.shape, dtype=dtype), []
    for rows in row_blocks(X):
        block = np.ascontiguousarray(X[rows])
        if found := rows_not_finite(block):
            bad += [i + rows.start for i in found]
        elif not bad:
            out[rows] = change(rows, block.astype(np.float64))
    refuse_not_finite(bad, len(X))
    return out
