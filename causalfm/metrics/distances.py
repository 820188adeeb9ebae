"""Distances between all pairs of rows, a block at a time. Arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from causalfm.errors import DataError, positions
from causalfm.lazy_rows import empty_like

Metric = Literal["cosine", "euclidean"]
METRICS: tuple[Metric, ...] = ("cosine", "euclidean")
BLOCK_ENTRIES = 2**22  # distances held at once, 16 MiB


def prepared(X: np.ndarray, metric: Metric) -> np.ndarray:
    """Return float32 rows: of unit length for cosine; about their mean, on a common scale, for Euclidean."""
    out = empty_like(X, np.float32)
    scale, mean, zero = 0, np.zeros(X.shape[1]), []
    if metric == "euclidean":
        scale = safe_scale(X)
        mean = sum((block.sum(axis=0) for _, block in row_blocks(X, scale)), mean) / len(X)
    for rows, block in row_blocks(X, scale):
        if metric == "euclidean":
            out[rows] = block - mean
            continue
        peak = np.abs(block).max(axis=1, keepdims=True)
        zero.extend((np.flatnonzero(peak[:, 0] == 0) + rows.start).tolist())
        block = block / np.where(peak > 0, peak, 1.0)
        out[rows] = block / np.maximum(np.sqrt((block**2).sum(axis=1, keepdims=True)), 1e-300)
    if zero:
        raise DataError(
            f"X has {len(zero)} rows of zeros ({positions(zero)}): they have no direction, so no cosine distance. "
            "Leave them out or re-extract them."
        )
    return out


def safe_scale(X: np.ndarray) -> int:
    """Return the power of two by which squares neither overflow nor vanish."""
    return -int(np.frexp(max(float(np.abs(block).max()) for _, block in row_blocks(X)))[1])


def row_blocks(X: np.ndarray, scale: int = 0) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield float64 rows times ``2 ** scale``, about 64 MiB at a time."""
    step = max(1, 2**23 // X.shape[1])
    for start in range(0, len(X), step):
        rows = slice(start, min(start + step, len(X)))
        yield rows, np.ldexp(np.asarray(X[rows], dtype=np.float64), scale)


def distance_blocks(
    table: np.ndarray, metric: Metric, rows: np.ndarray | None = None
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield the distances ``(b, n)`` of some of the rows (all by default) to all rows, a block at a time."""
    queries = table if rows is None else table[rows]
    at = np.arange(len(table)) if rows is None else rows
    squares = np.einsum("ij,ij->i", table, table)
    step = max(1, BLOCK_ENTRIES // len(table))
    for start in range(0, len(queries), step):
        block = slice(start, min(start + step, len(queries)))
        distances = queries[block] @ table.T
        if metric == "cosine":
            np.subtract(1.0, distances, out=distances)
            np.clip(distances, 0.0, 2.0, out=distances)
        else:
            distances *= -2.0
            distances += squares[at[block], None]
            distances += squares
            np.sqrt(np.maximum(distances, 0.0, out=distances), out=distances)
        distances[np.arange(len(distances)), at[block]] = 0.0
        yield block, distances
