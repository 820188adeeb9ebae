"""Neighbours by type: who shares the biology and who the confounder, what chance gives, what one group changes.

The first letter is the biology, the second the confounder: S same, O other. Arrays in, arrays out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from causalfm.neighbours import Neighbours

SS, SO, OS, OO = range(4)
BLOCK = 2**20  # list entries worked on at once, about 100 MiB

Search = Callable[[np.ndarray, int], Neighbours]


def neighbour_kinds(neighbours: Neighbours, biology: np.ndarray, confounder: np.ndarray) -> np.ndarray:
    """Type every neighbour.

    Parameters
    ----------
    neighbours
        Lists of m queries.
    biology, confounder
        ``(n,)`` integer codes.

    Returns
    -------
    numpy.ndarray
        ``(m, k + reserve)`` int8: 0 SS, 1 SO, 2 OS, 3 OO, and -1 where the list has ended.
    """
    m, width = neighbours.indices.shape
    kinds = np.empty((m, width), dtype=np.int8)
    for rows in _blocks(m, width):
        index, query = neighbours.indices[rows], neighbours.queries[rows, None]
        other_biology, other_confounder = biology[index] != biology[query], confounder[index] != confounder[query]
        kinds[rows] = np.where(index < 0, -1, 2 * other_biology + other_confounder)
    return kinds


def kind_counts(kinds: np.ndarray, ks: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Count types among the first k neighbours.

    Parameters
    ----------
    kinds
        ``(m, K)`` types.
    ks
        Ascending list lengths.

    Returns
    -------
    counts : numpy.ndarray
        ``(len(ks), 4)`` int64, summed over queries, columns SS, SO, OS, OO.
    support : numpy.ndarray
        ``(len(ks),)`` share of queries with at least one SO or OS neighbour.
    """
    first = np.full(len(kinds), kinds.shape[1])
    column = np.zeros((kinds.shape[1], 4), dtype=np.int64)
    for rows in _blocks(len(kinds), kinds.shape[1]):
        typed = (kinds[rows] == SO) | (kinds[rows] == OS)
        first[rows] = np.where(typed.any(1), typed.argmax(1), kinds.shape[1])
        for kind in range(4):
            column[:, kind] += (kinds[rows] == kind).sum(0)
    at = np.asarray(ks) - 1
    return column.cumsum(0)[at], np.array([(first <= j).mean() for j in at])


def expected_counts(queries: np.ndarray, biology: np.ndarray, confounder: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return the SO and OS neighbours per list position that noise would give, ``(2,)``, summed over queries.

    A query draws each neighbour evenly from the ``N_i`` rows outside its group, of which ``A_i`` are of the type:
    the sum of ``A_i / N_i``. The chance level of the index is the first entry over the sum of both.

    Parameters
    ----------
    queries
        ``(m,)`` row positions.
    biology, confounder, groups
        ``(n,)`` integer codes.
    """
    candidates = len(groups) - _shared(groups)
    both = _shared(biology, confounder) - _shared(biology, confounder, groups)
    so = _shared(biology) - _shared(biology, groups) - both
    os = _shared(confounder) - _shared(confounder, groups) - both
    return np.array([(so / candidates)[queries].sum(), (os / candidates)[queries].sum()])


def vote_accuracy(neighbours: Neighbours, labels: np.ndarray, ks: Sequence[int]) -> np.ndarray:
    """Balanced accuracy of the majority vote among the first k neighbours, ``(len(ks),)``.

    A tied vote goes to the tied class whose nearest member is nearest, which does not depend on the classes' names.

    Parameters
    ----------
    neighbours
        Lists without the query's own group.
    labels
        ``(n,)`` integer codes from 0.
    ks
        List lengths.
    """
    at = np.asarray(ks) - 1
    width = int(at.max()) + 1
    truth = labels[neighbours.queries]
    correct = np.empty((len(truth), len(at)), dtype=bool)
    for rows in _blocks(len(truth), width):
        votes = labels[neighbours.indices[rows, :width]]
        best = np.full((len(votes), len(at)), -width - 1)
        winner = np.zeros_like(best)
        for label in range(int(labels.max()) + 1):
            hit = votes == label
            nearest = np.where(hit.any(1), hit.argmax(1), width)
            score = hit.cumsum(1)[:, at] * (width + 1) - nearest[:, None]  # votes first, then nearness
            winner = np.where(score > best, label, winner)
            best = np.maximum(score, best)
        correct[rows] = winner == truth[rows, None]
    return np.asarray(np.mean([correct[truth == label].mean(0) for label in np.unique(truth)], axis=0))


@dataclass(frozen=True, eq=False)
class Deletion:
    """What the absence of each unit changes in the SO and OS counts.

    Attributes
    ----------
    own
        ``(U, 2)`` SO and OS counts of the unit's own queries, which go with it.
    pairs
        Two sparse ``(U, U)`` arrays, SO and OS: change of the counts of the row unit's queries without the column unit.
    """

    own: np.ndarray
    pairs: tuple[sparse.csr_array, sparse.csr_array]

    @property
    def effects(self) -> np.ndarray:
        """Change of the SO and OS counts without each unit, ``(U, 2)``."""
        return np.asarray(np.stack([pair.sum(axis=0) for pair in self.pairs], axis=1) - self.own)


def deletion_effects(
    neighbours: Neighbours, biology: np.ndarray, confounder: np.ndarray, units: np.ndarray, k: int, search: Search
) -> Deletion | None:
    """Change of the SO and OS counts when all rows of one unit are gone, as queries and from every list.

    Lists that lose rows are refilled from the reserve, exactly as a new search without the unit would. Queries whose
    reserve is too short are searched again with a longer one.

    Parameters
    ----------
    neighbours
        Lists without the query's own unit, at least ``k`` long.
    biology, confounder, units
        ``(n,)`` integer codes, ``units`` from 0.
    k
        Neighbours counted.
    search
        ``search(queries, reserve)`` gives the neighbours of these row positions with ``k + reserve`` columns.

    Returns
    -------
    Deletion or None
        None if without one unit some query has fewer than ``k`` candidates.
    """
    n_units = int(units.max()) + 1
    so = sparse.csr_array((n_units, n_units))
    os = sparse.csr_array((n_units, n_units))
    pending, width = neighbours, min(neighbours.indices.shape[1], 2 * k + 32)
    while True:
        kinds = neighbour_kinds(pending, biology, confounder)[:, :width]
        owner_of_query = units[pending.queries]
        short = np.zeros(len(kinds), dtype=bool)
        for rows in _blocks(len(kinds), width):
            owner = np.where(kinds[rows] < 0, -1, units[pending.indices[rows, :width]])
            row, unit, change, short[rows] = _refill(kinds[rows], owner, k)
            where = (owner_of_query[rows][row], unit)
            so = so + sparse.csr_array((change[:, 0], where), shape=so.shape)
            os = os + sparse.csr_array((change[:, 1], where), shape=os.shape)
        if not short.any():
            return Deletion(_own_counts(neighbours, biology, confounder, units, k), (so, os))
        if width < pending.indices.shape[1]:
            width = min(2 * width, pending.indices.shape[1])
            pending = replace(
                pending,
                indices=pending.indices[short],
                similarity=pending.similarity[short],
                queries=pending.queries[short],
            )
        elif (pending.indices[short, -1] < 0).any():
            return None  # the whole list is known and still too short
        else:
            pending = search(pending.queries[short], 2 * width)
            width = pending.indices.shape[1]


def _own_counts(
    neighbours: Neighbours, biology: np.ndarray, confounder: np.ndarray, units: np.ndarray, k: int
) -> np.ndarray:
    kinds = neighbour_kinds(replace(neighbours, indices=neighbours.indices[:, :k]), biology, confounder)
    counts = [np.bincount(units[neighbours.queries], (kinds == kind).sum(1), int(units.max()) + 1) for kind in (SO, OS)]
    return np.stack(counts, axis=1)


def _refill(kinds: np.ndarray, owner: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Say, for each (list, unit), what the unit's absence changes; and mark the lists that end too early to tell.

    The refilled list is the first k entries of other units. An entry of unit h lies before its end if fewer than k
    entries of other units precede it; with c such entries the refilled list ends at position k - 1 + c.
    """
    q, width = kinds.shape
    order = np.argsort(owner, axis=1, kind="stable")
    sorted_owner = np.take_along_axis(owner, order, axis=1)
    start = np.ones((q, width), dtype=bool)
    start[:, 1:] = sorted_owner[:, 1:] != sorted_owner[:, :-1]
    starts = np.flatnonzero(start)  # one run per (list, unit)
    lengths = np.diff(np.append(starts, q * width))
    before_end = order.ravel() - (np.arange(q * width) - np.repeat(starts, lengths)) < k
    row, unit = starts // width, sorted_owner.ravel()[starts]
    removed = np.add.reduceat(before_end, starts, dtype=np.int64)
    touched = (removed > 0) & (unit >= 0)
    end = k - 1 + removed
    short = np.zeros(q, dtype=bool)
    short[row[touched & (end >= (owner >= 0).sum(1)[row])]] = True
    use = np.flatnonzero(touched & ~short[row])
    change = np.empty((len(use), 2))
    for column, kind in enumerate((SO, OS)):
        hit = kinds == kind
        running = hit.cumsum(1)
        gone = np.add.reduceat(np.take_along_axis(hit, order, 1).ravel() & before_end, starts, dtype=np.int64)
        change[:, column] = running[row[use], end[use]] - gone[use] - running[row[use], k - 1]
    return row[use], unit[use], change, short


def _shared(*codes: np.ndarray) -> np.ndarray:
    """Count, for each row, the rows that share all these codes with it (itself included)."""
    joint = codes[0]
    for code in codes[1:]:
        joint = np.unique(joint * (int(code.max()) + 1) + code, return_inverse=True)[1]
    return np.asarray(np.bincount(joint)[joint])


def _blocks(n: int, width: int) -> Iterator[slice]:
    step = max(1, BLOCK // width)
    return (slice(start, start + step) for start in range(0, n, step))
