"""Exact nearest neighbours by cosine similarity: one pass that every neighbour metric shares.

Blocked matrix products on the CPU or a GPU, whole groups excluded, a reserve beyond ``k`` for the jackknife, ties
broken by row position. Needs torch and numpy only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from causalfm.arguments import check_device, check_seed, check_whole
from causalfm.errors import DataError
from causalfm.lazy_rows import as_rows, is_lazy
from causalfm.streamed_lists import no_direction, streamed_lists
from causalfm.symmetric_pass import symmetric_lists, worthwhile
from causalfm.unit_vectors import refuse_no_direction, unit_block, without_direction

if TYPE_CHECKING:
    import torch

BLOCK_ENTRIES = (
    2**25
)  # similarities held at once: 128 MiB of float32; selecting from them needs about half as much again
COLUMN_BLOCK = 2**16

# A loader gives the unit-length rows of an index as a float32 tensor on the device.
Loader = Callable[[slice | np.ndarray], "torch.Tensor"]


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The nearest rows of each query, most similar first.

    Attributes
    ----------
    indices
        ``(m, k + reserve)`` int64 row positions. Beyond the first ``k`` columns a list may end: then -1.
    similarity
        ``(m, k + reserve)`` float32 cosine similarities, ``-inf`` where the index is -1.
    queries
        ``(m,)`` int64 row positions of the queries, ascending if they were sampled.
    k
        Neighbours that every query is guaranteed to have.
    n
        Rows searched.
    """

    indices: np.ndarray
    similarity: np.ndarray
    queries: np.ndarray
    k: int
    n: int

    @property
    def reserve(self) -> int:
        """Columns beyond ``k``."""
        return int(self.indices.shape[1]) - self.k


def knn(
    X: np.ndarray,
    k: int,
    *,
    exclude: np.ndarray | None = None,
    queries: int | np.ndarray | None = None,
    reserve: int = 0,
    device: str | None = None,
    random_state: int = 0,
) -> Neighbours:
    """Find the ``k`` most similar rows of each query, exactly.

    Parameters
    ----------
    X
        ``(n, d)`` floating, not modified. Rows are scaled to unit length in float32, so positive row scaling changes
        nothing. One float32 copy is made; a memory map is read and scaled block by block instead.
    k
        Neighbours per query.
    exclude
        ``(n,)`` integer codes (patients): rows that share the query's code, hence the query itself, are no
        neighbours. Without it only the query itself is left out.
    queries
        None for every row, a number m for a random sample of m rows, or an array of row positions.
    reserve
        Further neighbours kept per query; where the candidates run out they are padded with -1 and ``-inf``.
    device
        A torch device such as ``"cuda"``; None is the CPU.
    random_state
        Seed of the sample of queries.

    Returns
    -------
    Neighbours
        Equal similarities are ordered by row position, also at the edge of the list.

    Raises
    ------
    DataError
        Zero or non-finite rows (positions), unequal lengths, ``k`` above the shortest candidate list, no such device.

    Notes
    -----
    Similarities are float32 products: rows that are equal in exact arithmetic may differ in the last digit.
    """
    import torch

    check_whole(k, "k", 1, why="neighbours per query")
    check_whole(reserve, "reserve", 0, why="neighbours kept beyond k")
    check_seed(random_state)
    check_device(device)
    X = as_rows(X)
    n = _check_matrix(X)
    groups, rows = _group_codes(exclude, n), _query_rows(queries, n, random_state)
    _check_k(k, np.bincount(groups), groups[rows])
    width = min(k + reserve, n - 1)
    if is_lazy(X) and device in (None, "cpu"):
        best, where, bad = streamed_lists(X, rows, groups, width, _top)
        refuse_no_direction(bad)
        pad = ((0, 0), (0, k + reserve - width))
        indices, similarity = np.pad(where, pad, constant_values=-1), np.pad(best, pad, constant_values=-np.inf)
        return Neighbours(indices, similarity, rows, k, n)
    load = row_loader(X, torch.device(device or "cpu"))
    members, offsets = np.argsort(groups, kind="stable"), np.append(0, np.cumsum(np.bincount(groups)))
    indices = np.full((len(rows), k + reserve), -1, dtype=np.int64)
    similarity = np.full((len(rows), k + reserve), -np.inf, dtype=np.float32)
    left = np.arange(len(rows))
    if queries is None and device in (None, "cpu") and not isinstance(X, np.memmap) and worthwhile(n, width):
        left = _all_at_once(load(slice(0, n)), groups, width, indices, similarity)
    order = left[np.argsort(groups[rows[left]], kind="stable")]  # queries of one group together: one fill excludes it
    columns = min(n, COLUMN_BLOCK)
    step = max(1, min(len(order), BLOCK_ENTRIES // columns))
    buffer = torch.empty(step * columns if len(order) else 0, dtype=torch.float32, device=device or "cpu")
    for start in range(0, len(order), step):
        block = order[start : start + step]
        best, where = _search(load, rows[block], groups, lambda g: members[offsets[g] : offsets[g + 1]], width, buffer)
        similarity[block, : best.shape[1]], indices[block, : where.shape[1]] = best, where
    return Neighbours(indices, similarity, rows, k, n)


def _all_at_once(
    table: torch.Tensor, groups: np.ndarray, width: int, indices: np.ndarray, similarity: np.ndarray
) -> np.ndarray:
    """Write the lists of all queries but a few, whose positions are returned."""
    left = []
    for rows, where, best, unsure in symmetric_lists(table, groups, width):
        indices[rows, :width], similarity[rows, :width] = where, best
        left.append(unsure)
    return np.concatenate(left)


def _search(
    load: Loader,
    rows: np.ndarray,
    groups: np.ndarray,
    own_rows: Callable[[int], np.ndarray],
    width: int,
    buffer: torch.Tensor,
) -> tuple[np.ndarray, np.ndarray]:
    """Return similarities and positions ``(len(rows), width)`` for queries sorted by group."""
    import torch

    query, n = load(rows), len(groups)
    codes, first = np.unique(groups[rows], return_index=True)
    spans = list(zip(codes, first, np.append(first[1:], len(rows)), strict=True))
    columns = min(n, COLUMN_BLOCK)
    best = torch.empty((len(rows), 0), device=query.device)
    where = torch.empty((len(rows), 0), dtype=torch.int64, device=query.device)
    for start in range(0, n, columns):
        stop = min(start + columns, n)
        block = buffer[: len(rows) * (stop - start)].view(len(rows), stop - start)
        torch.mm(query, load(slice(start, stop)).T, out=block)
        for code, a, b in spans:
            own = own_rows(code)
            own = own[(own >= start) & (own < stop)] - start
            block[a:b].index_fill_(1, torch.from_numpy(own).to(block.device), -torch.inf)
        values, found = _top(block, width)
        best, where = torch.cat([best, values], 1), torch.cat([where, found + start], 1)
        if start:  # earlier columns come first and the sort is stable: ties keep the lower position
            best, order = best.sort(dim=1, descending=True, stable=True)
            best, where = best[:, :width], where.gather(1, order[:, :width])
    where = where.masked_fill(best == -torch.inf, -1)
    return best.cpu().numpy(), where.cpu().numpy()


def _top(block: torch.Tensor, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the ``width`` largest entries per row (all, if fewer) with their columns; ties by lower column.

    ``topk`` leaves the order of equal entries open, so rows with ties are put right afterwards: they are few.
    """
    width = min(width, block.shape[1])
    values, found = block.topk(min(width + 1, block.shape[1]), dim=1)
    equal = (values[:, 1:] == values[:, :-1]) & (values[:, 1:] > -float("inf"))
    edge = equal[:, width - 1 :].any(1).nonzero()[:, 0]  # which of the equal entries are in is open: sort the whole row
    inner = equal.any(1).nonzero()[:, 0]
    values, found = values[:, :width], found[:, :width]
    if len(edge):
        order = block[edge].sort(dim=1, descending=True, stable=True).indices[:, :width]
        values[edge], found[edge] = block[edge].gather(1, order), order
    if len(inner):
        by_column = found[inner].sort(dim=1)
        by_value = values[inner].gather(1, by_column.indices).sort(dim=1, descending=True, stable=True)
        values[inner], found[inner] = by_value.values, by_column.values.gather(1, by_value.indices)
    return values, found


def row_loader(X: np.ndarray, device: torch.device) -> Loader:
    """Return a function that gives unit rows: from one normalised copy, or of a memory map as they are read."""
    import torch

    if is_lazy(X):
        if "no direction" not in X.memo:  # one pass, whoever asks
            X.memo["no direction"] = no_direction(X)
        refuse_no_direction(X.memo["no direction"])
        return lambda index: torch.from_numpy(unit_block(X[index])[0]).to(device)
    step = max(1, 2**23 // X.shape[1])
    unit = None if isinstance(X, np.memmap) else np.empty(X.shape, dtype=np.float32)
    bad: list[int] = []
    for start in range(0, len(X), step):
        rows = slice(start, start + step)
        scaled, norms = unit_block(X[rows])
        bad += [i + start for i in without_direction(norms)]
        if unit is not None:
            unit[rows] = scaled
    refuse_no_direction(bad)
    if unit is not None:
        table = torch.from_numpy(unit).to(device)
        return lambda index: table[index if isinstance(index, slice) else torch.from_numpy(index).to(device)]
    return lambda index: torch.from_numpy(unit_block(X[index])[0]).to(device)


def _check_matrix(X: np.ndarray) -> int:
    if not is_lazy(X) and not isinstance(X, np.ndarray):
        raise DataError(f"X must be a NumPy array of floats, not {type(X).__name__}: convert it with np.asarray(X).")
    if X.ndim != 2 or 0 in X.shape or X.dtype not in (np.float16, np.float32, np.float64):
        raise DataError(
            f"X must be a non-empty 2-D array of floats, rows by dimensions; it has shape {X.shape}, {X.dtype}."
        )
    return len(X)


def _group_codes(exclude: np.ndarray | None, n: int) -> np.ndarray:
    if exclude is None:
        return np.arange(n)
    exclude = np.asarray(exclude)
    if exclude.shape != (n,) or not np.issubdtype(exclude.dtype, np.integer):
        raise DataError(
            f"exclude must be {n} integer codes, one per row of X, not {exclude.dtype} of shape {exclude.shape}."
        )
    return np.asarray(np.unique(exclude, return_inverse=True)[1])


def _query_rows(queries: int | np.ndarray | None, n: int, random_state: int) -> np.ndarray:
    if queries is None:
        return np.arange(n)
    if isinstance(queries, (int, np.integer)):
        if not 1 <= queries <= n:
            raise DataError(
                f"queries={queries} of {n} rows cannot be sampled: choose between 1 and {n}, or None for all."
            )
        return np.sort(np.random.default_rng(random_state).choice(n, size=int(queries), replace=False))
    rows = np.asarray(queries)
    if (
        rows.ndim != 1
        or not len(rows)
        or not np.issubdtype(rows.dtype, np.integer)
        or rows.min() < 0
        or rows.max() >= n
    ):
        raise DataError(f"queries must be a number, or a non-empty array of row positions between 0 and {n - 1}.")
    return rows.astype(np.int64)


def _check_k(k: int, sizes: np.ndarray, query_groups: np.ndarray) -> None:
    n, largest = int(sizes.sum()), int(sizes[query_groups].max())
    if k > n - largest:
        raise DataError(
            f"k={k} is larger than the shortest candidate list: {n - largest} of {n} rows are left for a query whose "
            f"own group has {largest}. Choose k up to {n - largest}, or subsample the rows of the largest groups."
        )
