"""Rows scaled to unit length, which is all that a cosine needs. Needs numpy only."""

from __future__ import annotations

import numpy as np

from causalfm.errors import DataError, positions
from causalfm.lazy_rows import empty_like
from causalfm.row_tasks import spans

BLOCK = 2**23  # numbers scaled at once: 64 MiB


def unit_rows(X: np.ndarray) -> np.ndarray:
    """Scale rows to unit length, ``(n, d)`` float32, from any float type and size, rounded once.

    Raises
    ------
    DataError
        Rows of zeros, or that are not finite: they have no direction.
    """
    out = empty_like(X, np.float32)
    bad: list[int] = []
    for rows in spans(len(X), max(1, BLOCK // X.shape[1])):
        out[rows], norms = unit_block(np.asarray(X[rows], dtype=np.float64))
        bad += [i + rows.start for i in without_direction(norms)]
    refuse_no_direction(bad)
    return out


def unit_block(block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale rows ``(m, d)`` to unit length, float32, and return their norms ``(m,)`` up to a positive factor each."""
    block = np.asarray(block, dtype=np.float32 if block.dtype == np.float16 else block.dtype)
    if block.dtype == np.float64:  # its squares can overflow and underflow, those of float32 cannot
        peak = np.abs(block).max(axis=1, keepdims=True, initial=0.0)
        block = block / np.where((peak > 0) & np.isfinite(peak), peak, 1.0)
    norms = np.sqrt(np.einsum("ij,ij->i", block, block, dtype=np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(block / norms.astype(block.dtype)[:, None], dtype=np.float32), norms


def without_direction(norms: np.ndarray) -> list[int]:
    """Return the positions of norms that are 0 or not finite."""
    return [int(i) for i in np.flatnonzero(~((norms > 0) & np.isfinite(norms)))]


def refuse_no_direction(rows: list[int]) -> None:
    """Refuse rows without a direction.

    Raises
    ------
    DataError
        Their count and first positions.
    """
    if rows:
        raise DataError(
            f"X has {len(rows)} zero or non-finite rows ({positions(rows)}): they have no direction, so no cosine "
            "similarity. Leave them out or re-extract them."
        )
