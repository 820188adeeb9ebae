"""The m nearest neighbours of one type: from the shared lists as far as they reach, else searched among that type."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
MANY = 8  # one entry in so many: then they are sorted out by selection


def unit_loader(X: np.ndarray) -> Loader:
    """Return a function that gives rows of unit length; they are scaled when the first are asked for."""
    made: list[Loader] = []

    def load(index: slice | np.ndarray) -> torch.Tensor:
        import torch

        if not made:
            made.append(_loader(X, torch.device("cpu")))
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
    width, shared, design = indices.shape[1], ask.shared, ask.design
    assert shared is not None
    for rows in blocks(len(shared.queries), shared.indices.shape[1]):
        index, query = shared.indices[rows], shared.queries[rows, None]
        same = design.biology if ask.kind == SO else design.confounder
        other = design.confounder if ask.kind == SO else design.biology
        fits = (same[index] == same[query]) & (other[index] != other[query]) & (index >= 0)
        rank = fits.cumsum(axis=1, dtype=np.int32)
        row, column = np.nonzero(fits & (rank <= width))
        place = rank[row, column] - 1
        indices[rows][row, place] = index[row, column]
        similarity[rows][row, place] = shared.similarity[rows][row, column]


class Lists:
    """Lists of some queries that grow as candidates are seen."""

    def __init__(self, queries: np.ndarray, width: int) -> None:
        self.queries, self.width = queries, width
        self.indices = np.full((len(queries), width), -1, dtype=np.int64)
        self.similarity = np.full(self.indices.shape, -np.inf, dtype=np.float32)
        self.held: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # list, entry and similarity

    def see(self, at: np.ndarray, found: torch.Tensor, entries: np.ndarray) -> None:
        """Bring entries with similarities ``(len(at), len(entries))``, ``-inf`` for no candidate, into lists ``at``.

        What is not nearer than the last entry of a full list is left out. What is nearer is put aside until
        :meth:`finish`: to compare and pick is several times faster than to select and sort.
        """
        import torch

        last = torch.from_numpy(self.similarity[at, -1])
        if not torch.isinf(last).any():
            turned = not found.is_contiguous()  # a product seen from its other side
            block, least = (found.T, last) if turned else (found, last[:, None])
            hit = torch.nonzero((block > least).view(-1))[:, 0]
            if len(hit) <= block.numel() // MANY:
                row = torch.div(hit, block.shape[1], rounding_mode="floor")
                pair = row.numpy(), (hit - row * block.shape[1]).numpy()
                of_list, entry = pair[::-1] if turned else pair
                self.held.append((at[of_list], entries[entry], block.view(-1)[hit].numpy()))
                return
        values, column = _top(found, self.width)
        where = torch.from_numpy(entries)[column]
        if (self.indices[at, 0] >= 0).any():
            self._merge(at, values, where)
        else:
            width = values.shape[1]
            self.similarity[at, :width] = values.numpy()
            self.indices[at, :width] = where.masked_fill(values == -torch.inf, -1).numpy()

    def finish(self) -> None:
        """Sort in what was put aside."""
        import torch

        if not sum(len(part[0]) for part in self.held):
            return
        at, entry, value = (np.concatenate(parts) for parts in zip(*self.held, strict=True))
        self.held = []
        order = np.argsort(at, kind="stable")
        at, entry, value = at[order], entry[order], value[order]
        count = np.bincount(at, minlength=len(self.queries))
        place = np.arange(len(at)) - (np.cumsum(count) - count)[at]
        for rows in blocks(len(count), int(count.max())):
            mine = slice(*np.searchsorted(at, [rows.start, rows.stop]))
            values = np.full((len(count[rows]), int(count[rows].max())), -np.inf, dtype=np.float32)
            entries = np.full(values.shape, -1)
            where = at[mine] - rows.start, place[mine]
            values[where], entries[where] = value[mine], entry[mine]
            self._merge(np.arange(len(count))[rows], torch.from_numpy(values), torch.from_numpy(entries))

    def _merge(self, at: np.ndarray, values: torch.Tensor, entries: torch.Tensor) -> None:
        """Sort candidates ``(len(at), c)`` into lists; among equal ones those seen first come first."""
        import torch

        best = torch.cat([torch.from_numpy(self.similarity[at]), values], 1)
        where = torch.cat([torch.from_numpy(self.indices[at]), entries], 1)
        best, place = best.sort(dim=1, descending=True, stable=True)
        best, where = best[:, : self.width], where.gather(1, place[:, : self.width])
        self.similarity[at], self.indices[at] = best.numpy(), where.masked_fill(best == -torch.inf, -1).numpy()


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
            lists.see(np.arange(len(own)), mine, np.arange(part.start, part.stop))
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
        block = rows[asked] @ candidates.T if found is None else found if len(asked) == len(mine) else found[asked]
        if len(shared):
            own = design.groups[mine[asked], None] == design.groups[theirs]
            block = block.masked_fill(torch.from_numpy(own), -torch.inf)
        lists.see(place[mine[asked]], block, theirs)


def _rows(load: Loader, design: Design, entries: np.ndarray) -> torch.Tensor:
    return load(entries if design.rows is None else design.rows[entries])
