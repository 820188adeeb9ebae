"""Distances between all pairs of rows, a block at a time. Arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from causalfm.lazy_rows import empty_like
from causalfm.unit_vectors import unit_rows

Metric = Literal["cosine", "euclidean"]
METRICS: tuple[Metric, ...] = ("cosine", "euclidean")
BLOCK_ENTRIES = 2**22  # distances held at once, 16 MiB


def prepared(X: np.ndarray, metric: Metric) -> np.ndarray:
    """Return float32 rows: of unit length for cosine; about their mean, on a common scale, for Euclidean."""
    if metric == "cosine":
        return unit_rows(X)
    out, scale = empty_like(X, np.float32), safe_scale(X)
    mean = sum((block.sum(axis=0) for _, block in scaled_blocks(X, scale)), np.zeros(X.shape[1])) / len(X)
    for rows, block in scaled_blocks(X, scale):
        out[rows] = block - mean
    return out


def safe_scale(X: np.ndarray) -> int:
    """Return the power of two by which squares neither overflow nor vanish."""
    return -int(np.frexp(max(float(np.abs(block).max()) for _, block in scaled_blocks(X)))[1])


def scaled_blocks(X: np.ndarray, scale: int = 0) -> Iterator[tuple[slice, np.ndarray]]:
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
