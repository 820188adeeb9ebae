"""The m nearest neighbours of one type: from the shared lists as far as they reach, else searched among that type."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from causalfm.metrics.deletion import blocks
from causalfm.metrics.design import Design
from causalfm.metrics.typed import SO
from causalfm.neighbours import Loader, Neighbours, _loader, _top

if TYPE_CHECKING:
    import torch

CANDIDATE_BLOCK = 2**14
LEVEL_BLOCK = 2**12  # entries of one level compared at once: 64 MiB of similarities
FEW = 1024  # queries


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
    """Search among all entries if queries are few, since gathering the candidates would cost more than the products."""
    same, other = (design.biology, design.confounder) if kind == SO else (design.confounder, design.biology)
    pool = design.within * (int(same.max()) + 1) + same
    lists = Lists(queries, width)
    search = _search_all if len(queries) <= FEW else _search_pools
    search(load, design, pool, other, lists)
    return lists.indices, lists.similarity


class Lists:
    """Lists of some queries that grow as candidates are seen."""

    def __init__(self, queries: np.ndarray, width: int) -> None:
        self.queries, self.width = queries, width
        self.indices = np.full((len(queries), width), -1, dtype=np.int64)
        self.similarity = np.full(self.indices.shape, -np.inf, dtype=np.float32)

    def merge(self, at: np.ndarray, found: torch.Tensor, entries: np.ndarray) -> None:
        """Bring entries with similarities ``(len(at), len(entries))``, ``-inf`` for no candidate, into lists ``at``."""
        import torch

        values, column = _top(found, self.width)
        best = torch.cat([torch.from_numpy(self.similarity[at]), values], 1)
        where = torch.cat([torch.from_numpy(self.indices[at]), torch.from_numpy(entries)[column]], 1)
        best, place = best.sort(dim=1, descending=True, stable=True)
        best, where = best[:, : self.width], where.gather(1, place[:, : self.width])
        self.similarity[at], self.indices[at] = best.numpy(), where.masked_fill(best == -torch.inf, -1).numpy()


def _search_all(load: Loader, design: Design, pool: np.ndarray, other: np.ndarray, lists: Lists) -> None:
    import torch

    queries, n = lists.queries, len(pool)
    rows, at = _rows(load, design, queries), np.arange(len(queries))
    same, level, group = (torch.from_numpy(codes.astype(np.int32)) for codes in (pool, other, design.groups))
    for start in range(0, n, CANDIDATE_BLOCK):
        part = slice(start, min(start + CANDIDATE_BLOCK, n))
        wrong = (same[queries, None] != same[part]).logical_or_(level[queries, None] == level[part])
        wrong.logical_or_(group[queries, None] == group[part])
        candidates = load(part if design.rows is None else design.rows[part])
        lists.merge(at, (rows @ candidates.T).masked_fill_(wrong, -torch.inf), np.arange(part.start, part.stop))


def _search_pools(load: Loader, design: Design, pool: np.ndarray, other: np.ndarray, lists: Lists) -> None:
    """Compare the levels of each pool pair by pair: the products of two levels serve the queries of both."""
    order = np.lexsort((other, pool))
    ends = np.searchsorted(pool[order], np.arange(int(pool.max()) + 2))
    place = np.full(len(pool), -1)
    place[lists.queries] = np.arange(len(lists.queries))
    for code in np.unique(pool[lists.queries]):
        entries = order[ends[code] : ends[code + 1]]
        table = _rows(load, design, entries) if len(entries) <= CANDIDATE_BLOCK else None
        parts = list(_parts(other[entries]))
        for i, a in enumerate(parts):
            rows_a = _rows(load, design, entries[a]) if table is None else table[a]
            for b in parts[i + 1 :]:
                if other[entries[a.start]] == other[entries[b.start]]:
                    continue
                if max(place[entries[a]].max(), place[entries[b]].max()) < 0:
                    continue
                rows_b = _rows(load, design, entries[b]) if table is None else table[b]
                _compare(design, lists, place, entries[a], entries[b], rows_a, rows_b)


def _parts(levels: np.ndarray) -> Iterator[slice]:
    """Return slices of sorted levels, none longer than a block and none of two levels."""
    first = np.append(np.flatnonzero(np.diff(levels, prepend=levels[0] - 1)), len(levels))
    for low, high in pairwise(first):
        yield from (slice(start, min(start + LEVEL_BLOCK, high)) for start in range(low, high, LEVEL_BLOCK))


def _compare(
    design: Design,
    lists: Lists,
    place: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    rows_a: torch.Tensor,
    rows_b: torch.Tensor,
) -> None:
    """Bring entries ``b`` into the lists of ``a`` and the reverse, by the fewest products."""
    import torch

    asked_a, asked_b = np.flatnonzero(place[a] >= 0), np.flatnonzero(place[b] >= 0)
    both = len(a) * len(b) <= len(asked_a) * len(b) + len(asked_b) * len(a)
    product = rows_a @ rows_b.T if both else None
    shared = np.intersect1d(design.groups[a], design.groups[b], assume_unique=False)
    for asked, mine, theirs, rows, candidates, found in (
        (asked_a, a, b, rows_a, rows_b, product),
        (asked_b, b, a, rows_b, rows_a, None if product is None else product.T),
    ):
        if not len(asked):
            continue
        block = found[asked] if found is not None else rows[asked] @ candidates.T
        if len(shared):
            own = design.groups[mine[asked], None] == design.groups[theirs]
            block.masked_fill_(torch.from_numpy(own), -torch.inf)
        lists.merge(place[mine[asked]], block, theirs)


def _rows(load: Loader, design: Design, entries: np.ndarray) -> torch.Tensor:
    return load(entries if design.rows is None else design.rows[entries])
