"""Mergeable sufficient statistics per cell: one streaming pass, float64 sums of float32 rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from causalfm.lazy_rows import LazyRows, is_lazy
from causalfm.row_tasks import map_blocks, spans

KEPT = 4  # sums remembered of rows outside memory


@dataclass(frozen=True, eq=False)
class CellSums:
    """Counts and sums of rows per cell.

    Attributes
    ----------
    count
        ``(n_cells,)`` sum of row weights (number of rows if unweighted), float64.
    total
        ``(n_cells, d)`` weighted sums, float64.
    """

    count: np.ndarray
    total: np.ndarray

    def __add__(self, other: CellSums) -> CellSums:
        return CellSums(self.count + other.count, self.total + other.total)

    def means(self) -> np.ndarray:
        """Cell means ``(n_cells, d)``; an empty cell gives ``nan``."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self.total / self.count[:, None])

    def merge_cells(self, parent: np.ndarray, n_parents: int) -> CellSums:
        """Add cells up: ``parent (n_cells,)`` names the coarser cell of each."""
        onehot = _onehot(parent, n_parents)
        return CellSums(np.asarray(onehot @ self.count), np.asarray(onehot @ self.total))


def cell_sums(
    X: np.ndarray,
    codes: np.ndarray,
    n_cells: int,
    *,
    features: Callable[[np.ndarray, slice], np.ndarray] | None = None,
    block_bytes: int = 64 * 2**20,
) -> CellSums:
    """Sum the rows of each cell, or features of the rows, in one pass.

    Parameters
    ----------
    X
        ``(n, d)`` floating, may be a memory map or lie outside memory: then one pass answers whoever asks for the same.
    codes
        ``(n,)`` integer cell of each row, in ``[0, n_cells)``.
    n_cells
        Number of cells.
    features
        Map of a block of rows, and of their positions, to the features that are summed; None: the rows themselves.
    block_bytes
        Bytes of float64 rows held at once.

    Returns
    -------
    CellSums
        Mergeable with ``+`` across shards that use the same codes.
    """
    blocks = spans(len(X), max(1, block_bytes // (8 * X.shape[1])))
    count = np.bincount(codes, minlength=n_cells).astype(np.float64)
    if features is not None:
        total = np.zeros((n_cells, features(X[:1], slice(0, 1)).shape[1]))
        for rows in blocks:
            add_by(total, codes[rows], np.asarray(features(X[rows], rows), dtype=np.float64))
        return CellSums(count, total)
    if is_lazy(X):
        return CellSums(count, _remembered(X, codes, n_cells, blocks))
    return CellSums(count, _total(X, codes, n_cells, blocks))


def _total(X: np.ndarray | LazyRows, codes: np.ndarray, n_cells: int, blocks: list[slice]) -> np.ndarray:
    total = np.zeros((n_cells, X.shape[1]))
    for _, (used, sums) in map_blocks(X, blocks, sums_by_code, aligned=(codes,)):
        total[used] += sums
    return total


def _remembered(X: LazyRows, codes: np.ndarray, n_cells: int, blocks: list[slice]) -> np.ndarray:
    """Return the sums from the last pass that asked for the same, if they are small enough to be kept."""
    if not remembered(X, n_cells):
        return _total(X, codes, n_cells, blocks)
    key = "cell sums", n_cells, hashlib.sha256(np.ascontiguousarray(codes, dtype=np.int64).data).digest()
    if key not in X.memo:
        for old in [k for k in X.memo if k[0] == "cell sums"][: -KEPT + 1]:
            del X.memo[old]
        X.memo[key] = _total(X, codes, n_cells, blocks)
    return np.array(X.memo[key])


def remembered(X: LazyRows, n_cells: int) -> bool:
    """Whether sums of so many cells are kept, so that the next question about them needs no pass."""
    return 8 * n_cells * X.shape[1] <= X.limit // 8


def centred(values: np.ndarray, codes: np.ndarray, n_cells: int) -> np.ndarray:
    """Take the mean of their cell off the rows of ``values (n, q)``."""
    total = np.zeros((n_cells, values.shape[1]))
    np.add.at(total, codes, values)
    return np.asarray(values - (total / np.maximum(np.bincount(codes, minlength=n_cells), 1)[:, None])[codes])


def weighted_products(
    X: np.ndarray, features: Callable[[slice], np.ndarray], weights: np.ndarray, *, block_bytes: int = 32 * 2**20
) -> tuple[np.ndarray, np.ndarray]:
    """Sum ``w f f'`` and ``w f x'`` over rows, in one pass: the normal equations of a regression on ``features``.

    Parameters
    ----------
    X
        ``(n, d)`` floating, may be a memory map.
    features
        ``(rows, p)`` regressors of a slice of rows.
    weights
        ``(n,)``.
    block_bytes
        Bytes of float64 rows, or of their regressors, held at once.

    Returns
    -------
    gram, cross
        ``(p, p)`` and ``(p, d)``; both add up across shards.
    """
    step = max(1, block_bytes // (8 * max(X.shape[1], features(slice(0, 1)).shape[1])))
    gram: np.ndarray | float = 0.0
    cross: np.ndarray | float = 0.0
    for start in range(0, len(X), step):
        rows = slice(start, start + step)
        f = features(rows)
        weighted = (f * weights[rows, None]).T
        gram = gram + weighted @ f
        cross = cross + weighted @ np.asarray(X[rows], dtype=np.float64)
    return np.asarray(gram), np.asarray(cross)


def ordered_blocks(
    X: np.ndarray, order: np.ndarray, width: int = 0, *, block_bytes: int = 2 * 2**20
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield rows of ``X`` in a given order, few enough to stay in cache; rows that lie together are read in one piece.

    Parameters
    ----------
    X
        ``(n, d)`` floating, may be a memory map.
    order
        ``(n,)`` row positions, for instance patient by patient.
    width
        Numbers that the caller holds beside each row, if more than ``d``.
    block_bytes
        Bytes that these rows would take in float64.

    Yields
    ------
    tuple
        Slice of ``order`` and its rows, in float32 or float64; they may be a view, never write to them.
    """
    if is_lazy(X):
        yield from _ordered_reads(X, order, width, block_bytes)
        return
    step = max(1, block_bytes // (8 * max(X.shape[1], width)))
    for start in range(0, len(order), step):
        rows = order[start : start + step]
        together = len(rows) == rows[-1] - rows[0] + 1 and bool((np.diff(rows) == 1).all())
        block = X[rows[0] : rows[-1] + 1] if together else X[rows]
        dtype = np.float64 if X.dtype == np.float64 else np.float32
        yield slice(start, start + len(rows)), np.asarray(block, dtype=dtype)


def _ordered_reads(X: LazyRows, order: np.ndarray, width: int, block_bytes: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Read many rows at a time, each chunk once for all of them: rows scattered over the file cost a pass each time."""
    step = max(1, block_bytes // (8 * max(X.shape[1], width)))
    many = max(1, X.limit // 4 // (step * X.shape[1] * X.dtype.itemsize)) * step
    for start in range(0, len(order), many):
        held = X[order[start : start + many]]
        for at, block in ordered_blocks(held, np.arange(len(held)), width, block_bytes=block_bytes):
            yield slice(start + at.start, start + at.stop), block


def sums_by_code(values: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Add up the rows of ``values (n, d)`` with the same code, in float64: the codes there are, and their sums."""
    used, local = np.unique(codes, return_inverse=True)
    values = np.asarray(values, dtype=np.float64)
    if len(used) == len(codes):  # a row per code: nothing to add up
        return codes, values
    return used, np.asarray(_onehot(local, len(used)) @ values)


def add_by(out: np.ndarray, codes: np.ndarray, values: np.ndarray) -> None:
    """Add ``values (n, d)`` to the rows ``codes (n,)`` of ``out``, in place; a code may come many times."""
    used, sums = sums_by_code(values, codes)
    out[used] += sums


def add_squares_by(out: np.ndarray, codes: np.ndarray, values: np.ndarray) -> None:
    """Add ``v v'`` of each row of ``values (n, k)`` to the matrices ``out (n_codes, k, k)`` of its code, in place."""
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(order)], strict=True):
        rows = values[order[start:stop]]
        out[codes[order[start]]] += rows.T @ rows


def _onehot(codes: np.ndarray, n_cells: int) -> sparse.csr_array:
    n = len(codes)
    return sparse.csr_array((np.ones(n), (codes, np.arange(n))), shape=(n_cells, n))
