"""The m nearest neighbours of one type: from the shared lists as far as they reach, else searched among that type."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from causalfm.metrics.deletion import blocks
from causalfm.metrics.design import Design
from causalfm.metrics.typed import SO
from causalfm.neighbours import BLOCK_ENTRIES, Loader, Neighbours, _loader, _top

if TYPE_CHECKING:
    import torch

CANDIDATE_BLOCK = 2**14


def unit_loader(X: np.ndarray) -> Loader:
    """Return a function that gives rows of unit length; they are scaled when the first are asked for."""
    made: list[Loader] = []

    def load(index: slice | np.ndarray) -> torch.Tensor:
        import torch

        if not made:
            made.append(_loader(X, torch.device("cpu")))
        return made[0](index)

    return load


def nearest_typed(
    load: Loader, design: Design, kind: int, queries: np.ndarray, width: int, shared: Neighbours | None, m: int
) -> Neighbours:
    """Return the ``width`` nearest entries of one type for each query.

    Parameters
    ----------
    load
        Unit rows of the cohort, see :func:`unit_loader`.
    design
        Own groups are excluded, and only entries of the same stratum are candidates.
    kind
        SO or OS.
    queries
        ``(q,)`` entries.
    width
        List length.
    shared, m
        Lists of the same queries, any type; queries with ``m`` of the type in them are not searched again. None:
        every query is searched.

    Returns
    -------
    Neighbours
        ``k`` is 0: -1 where a list has ended, -2 where a shared one was cut, after ``m`` entries at least.
    """
    indices = np.full((len(queries), width), -2, dtype=np.int64)
    similarity = np.full(indices.shape, -np.inf, dtype=np.float32)
    missing = np.ones(len(queries), dtype=bool)
    if shared is not None:
        _first_of_kind(shared, design, kind, indices, similarity)
        missing = indices[:, m - 1] < 0
    if missing.any():
        indices[missing], similarity[missing] = _search(load, design, kind, queries[missing], width)
    return Neighbours(indices, similarity, queries, 0, len(design.groups))


def _first_of_kind(shared: Neighbours, design: Design, kind: int, indices: np.ndarray, similarity: np.ndarray) -> None:
    """Write the first entries of a type of the shared lists."""
    width = indices.shape[1]
    for rows in blocks(len(shared.queries), shared.indices.shape[1]):
        index, query = shared.indices[rows], shared.queries[rows, None]
        same = design.biology if kind == SO else design.confounder
        other = design.confounder if kind == SO else design.biology
        fits = (same[index] == same[query]) & (other[index] != other[query]) & (index >= 0)
        rank = fits.cumsum(axis=1, dtype=np.int32)
        row, column = np.nonzero(fits & (rank <= width))
        place = rank[row, column] - 1
        indices[rows][row, place] = index[row, column]
        similarity[rows][row, place] = shared.similarity[rows][row, column]


def _search(load: Loader, design: Design, kind: int, queries: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Search among the candidates alone, pool by pool: entries of one stratum that agree in what the type shares.

    Queries of one level of what the type does not share see all of the pool but that level.
    """
    indices = np.full((len(queries), width), -1, dtype=np.int64)
    similarity = np.full(indices.shape, -np.inf, dtype=np.float32)
    same, other = (design.biology, design.confounder) if kind == SO else (design.confounder, design.biology)
    pool = design.within * (int(same.max()) + 1) + same
    order = np.lexsort((other, pool))
    ends = np.searchsorted(pool[order], np.arange(int(pool.max()) + 2))
    for code in np.unique(pool[queries]):
        mine = np.flatnonzero(pool[queries] == code)
        cells = [mine[other[queries[mine]] == level] for level in np.unique(other[queries[mine]])]
        entries = order[ends[code] : ends[code + 1]]
        for start in range(0, len(entries), CANDIDATE_BLOCK):
            part = entries[start : start + CANDIDATE_BLOCK]
            rows = _rows(load, design, part)
            for cell in cells:
                low, high = np.searchsorted(other[part], other[queries[cell[0]]] + np.arange(2))
                for side in (slice(0, low), slice(high, len(part))):
                    _merge(load, design, queries, cell, part[side], rows[side], indices, similarity)
    return indices, similarity


def _merge(
    load: Loader,
    design: Design,
    queries: np.ndarray,
    cell: np.ndarray,
    entries: np.ndarray,
    rows: torch.Tensor,
    indices: np.ndarray,
    similarity: np.ndarray,
) -> None:
    """Bring the nearest of these entries outside the own group into the lists of a cell's queries."""
    import torch

    width = indices.shape[1]
    step = max(1, BLOCK_ENTRIES // CANDIDATE_BLOCK)
    for start in range(0, len(cell) if len(entries) else 0, step):
        at = cell[start : start + step]
        block = _rows(load, design, queries[at]) @ rows.T
        own = torch.from_numpy(design.groups[queries[at]])[:, None] == torch.from_numpy(design.groups[entries])
        values, found = _top(block.masked_fill_(own, -torch.inf), width)
        best = torch.cat([torch.from_numpy(similarity[at]), values], 1)
        where = torch.cat([torch.from_numpy(indices[at]), torch.from_numpy(entries)[found]], 1)
        best, place = best.sort(dim=1, descending=True, stable=True)
        best, where = best[:, :width], where.gather(1, place[:, :width])
        similarity[at], indices[at] = best.numpy(), where.masked_fill(best == -torch.inf, -1).numpy()


def _rows(load: Loader, design: Design, entries: np.ndarray) -> torch.Tensor:
    return load(entries if design.rows is None else design.rows[entries])
