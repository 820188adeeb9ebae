"""The m nearest neighbours of one type: from the shared lists as far as they reach, else searched among that type."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from causalfm.metrics.deletion import blocks, take
from causalfm.metrics.design import Design
from causalfm.metrics.growing_lists import Lists
from causalfm.metrics.typed import SO, neighbour_kinds
from causalfm.neighbours import Loader, Neighbours, row_loader

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
            made.append(row_loader(X, torch.device("cpu")))
        return made[0](index)

    return load


@dataclass(frozen=True, eq=False)
class Wanted:
    """Lists that are wanted: of which type, under which labels, of which queries.

    Attributes
    ----------
    design
        Own groups are excluded, and only entries of the same stratum are candidates.
    kind
        SO or OS.
    queries
        ``(q,)`` entries.
    shared
        Lists of the same queries, any type; queries with enough of the type in them are not searched again. None:
        every query is searched.
    """

    design: Design
    kind: int
    queries: np.ndarray
    shared: Neighbours | None = None

    def labels(self) -> tuple[np.ndarray, np.ndarray]:
        """Return what an entry of the type shares with its query, stratum and all, and in what it differs."""
        roles = self.design.biology, self.design.confounder
        same, other = roles if self.kind == SO else roles[::-1]
        return self.design.within * (int(same.max()) + 1) + same, other


def nearest_typed(load: Loader, wanted: Sequence[Wanted], width: int, m: int) -> list[Neighbours]:
    """Return the ``width`` nearest entries of one type for each query.

    Parameters
    ----------
    load
        Unit rows of the cohort, see :func:`unit_loader`.
    wanted
        What is searched. Designs differ by their labels only: groups, strata and rows are those of the first.
    width
        List length.
    m
        Entries of the type that make a shared list long enough.

    Returns
    -------
    list of Neighbours
        ``k`` is 0: -1 where a list has ended, -2 where a shared one was cut, after ``m`` entries at least.
    """
    out, few = [], []
    for ask in wanted:
        indices = np.full((len(ask.queries), width), -2, dtype=np.int64)
        similarity = np.full(indices.shape, -np.inf, dtype=np.float32)
        missing = np.ones(len(ask.queries), dtype=bool)
        if ask.shared is not None:
            _first_of_kind(ask, indices, similarity)
            missing = indices[:, m - 1] < 0
        out.append(Neighbours(indices, similarity, ask.queries, 0, len(ask.design.groups)))
        lists = Lists(ask.queries[missing], width)
        if len(lists.queries) > FEW:
            _search_pools(load, ask, lists)
            lists.finish()
        few.append((ask, lists, missing))
    _search_all(load, [(ask, lists) for ask, lists, _ in few if 0 < len(lists.queries) <= FEW])
    for found, (_, lists, missing) in zip(out, few, strict=True):
        found.indices[missing], found.similarity[missing] = lists.indices, lists.similarity
    return out


def _first_of_kind(ask: Wanted, indices: np.ndarray, similarity: np.ndarray) -> None:
    """Write the first entries of the type of the shared lists."""
    width, shared = indices.shape[1], ask.shared
    assert shared is not None
    length = shared.indices.shape[1]
    for rows in blocks(len(shared.queries), length):
        part = take(shared, rows, length)
        fits = neighbour_kinds(part, ask.design.biology, ask.design.confounder) == ask.kind
        at = np.flatnonzero(fits)
        row = at // length
        place = np.arange(len(at)) - np.searchsorted(row, np.arange(len(fits)))[row]
        kept = place < width
        row, at, place = row[kept], at[kept], place[kept]
        indices[rows][row, place] = part.indices.ravel()[at]
        similarity[rows][row, place] = part.similarity.ravel()[at]


def _search_all(load: Loader, wanted: Sequence[tuple[Wanted, Lists]]) -> None:
    """Search among all entries: where queries are few, to gather their candidates would cost more than the products."""
    import torch

    if not wanted:
        return
    design = wanted[0][0].design
    queries = np.unique(np.concatenate([lists.queries for _, lists in wanted]))
    rows, n = _rows(load, design, queries), len(design.groups)
    group = torch.from_numpy(design.groups.astype(np.int32))
    for start in range(0, n, CANDIDATE_BLOCK):
        part = slice(start, min(start + CANDIDATE_BLOCK, n))
        found = rows @ load(part if design.rows is None else design.rows[part]).T
        for ask, lists in wanted:
            same, level = (torch.from_numpy(codes.astype(np.int32)) for codes in ask.labels())
            own = lists.queries
            wrong = (same[own, None] != same[part]).logical_or_(level[own, None] == level[part])
            wrong.logical_or_(group[own, None] == group[part])
            mine = found[np.searchsorted(queries, own)].masked_fill_(wrong, -torch.inf)
            lists.see(np.arange(len(own)), mine.numpy(), np.arange(part.start, part.stop))
    for _, lists in wanted:
        lists.finish()


def _search_pools(load: Loader, ask: Wanted, lists: Lists) -> None:
    """Compare the levels of each pool pair by pair: the products of two levels serve the queries of both."""
    design, (pool, other) = ask.design, ask.labels()
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
    asked_a, asked_b = np.flatnonzero(place[a] >= 0), np.flatnonzero(place[b] >= 0)
    if len(a) * len(b) <= len(asked_a) * len(b) + len(asked_b) * len(a):
        block = _similarities(design, a, b, rows_a, rows_b)
        lists.see(place[a[asked_a]], block if len(asked_a) == len(a) else block[asked_a], b)
        lists.see(place[b[asked_b]], block.T if len(asked_b) == len(b) else block.T[asked_b], a)
        return
    for asked, mine, theirs, rows, candidates in ((asked_a, a, b, rows_a, rows_b), (asked_b, b, a, rows_b, rows_a)):
        if len(asked):
            block = _similarities(design, mine[asked], theirs, rows[asked], candidates)
            lists.see(place[mine[asked]], block, theirs)


def _similarities(
    design: Design, a: np.ndarray, b: np.ndarray, rows_a: torch.Tensor, rows_b: torch.Tensor
) -> np.ndarray:
    """Return the similarities of entries ``a`` and ``b``, ``-inf`` within a group."""
    block = np.asarray((rows_a @ rows_b.T).numpy())
    if len(np.intersect1d(design.groups[a], design.groups[b])):
        block[design.groups[a][:, None] == design.groups[b]] = -np.inf
    return block


def _rows(load: Loader, design: Design, entries: np.ndarray) -> torch.Tensor:
    return load(entries if design.rows is None else design.rows[entries])
