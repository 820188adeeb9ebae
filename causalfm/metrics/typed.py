"""Neighbours by type: who shares the biology and who the confounder, what chance gives, what one group changes.

The first letter is the biology, the second the confounder: S same, O other. Arrays in, arrays out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from causalfm.metrics.deletion import ListsTooShortError, Search, blocks, list_changes, pair_sums, take
from causalfm.neighbours import Neighbours

SS, SO, OS, OO = range(4)


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
    for rows in blocks(m, width):
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
    for rows in blocks(len(kinds), kinds.shape[1]):
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
    for rows in blocks(len(truth), width):
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
    pairs: tuple[sparse.csr_array, ...]

    @property
    def effects(self) -> np.ndarray:
        """Change of the SO and OS counts without each unit, ``(U, 2)``."""
        return np.asarray(np.stack([pair.sum(axis=0) for pair in self.pairs], axis=1) - self.own)


def deletion_effects(
    neighbours: Neighbours, biology: np.ndarray, confounder: np.ndarray, units: np.ndarray, k: int, search: Search
) -> Deletion | None:
    """Change of the SO and OS counts when all rows of one unit are gone, as queries and from every list.

    Parameters
    ----------
    neighbours
        Lists without the query's own unit, at least ``k`` long.
    biology, confounder, units
        ``(n,)`` integer codes, ``units`` from 0.
    k
        Neighbours counted.
    search
        Longer lists, where the reserve is too short.

    Returns
    -------
    Deletion or None
        None if without one unit some query has fewer than ``k`` candidates.
    """

    def typed(part: Neighbours) -> np.ndarray:
        return np.asarray(neighbour_kinds(part, biology, confounder)[:, :, None] == [SO, OS])

    own = np.zeros((int(units.max()) + 1, 2))
    for rows in blocks(len(neighbours.queries), k):
        part = take(neighbours, rows, k)
        np.add.at(own, units[part.queries], typed(part).sum(axis=1))
    try:
        return Deletion(own, pair_sums(list_changes(neighbours, units, k, typed, search), units, 2))
    except ListsTooShortError:
        return None


def _shared(*codes: np.ndarray) -> np.ndarray:
    """Count, for each row, the rows that share all these codes with it (itself included)."""
    joint = codes[0]
    for code in codes[1:]:
        joint = np.unique(joint * (int(code.max()) + 1) + code, return_inverse=True)[1]
    return np.asarray(np.bincount(joint)[joint])
