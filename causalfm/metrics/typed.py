"""Neighbours by type: who shares the biology and who the confounder, and how often chance would make it so.

The first letter is the biology, the second the confounder: S same, O other. Arrays in, arrays out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from causalfm.metrics.deletion import Channels, blocks
from causalfm.metrics.joint_cells import ByCell, joint_codes
from causalfm.neighbours import Neighbours

SS, SO, OS, OO = range(4)
KINDS = ("SS", "SO", "OS", "OO")

# ``weigh(neighbours, kinds)`` gives the weight of every list entry, ``(m, width)``.
Weigh = Callable[[Neighbours, np.ndarray], np.ndarray]


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
    bits = int(confounder.max()).bit_length()
    small = np.int32 if (int(biology.max()) + 1) << bits < 2**31 else np.int64
    both = ((biology << bits) | confounder).astype(small)  # one look-up per entry instead of two
    for rows in blocks(m, width):
        index = neighbours.indices[rows]
        differs = both[index] ^ both[neighbours.queries[rows, None]]
        kind = (differs >> bits != 0).view(np.int8) * np.int8(2)
        kind += (differs & ((1 << bits) - 1)) != 0
        kind[index < 0] = -1
        kinds[rows] = kind
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


def support_of(kinds: np.ndarray) -> dict[str, float]:
    """Say for which share of the queries there is something to compare, and why not for the others.

    Parameters
    ----------
    kinds
        ``(m, k)`` types of the neighbours that are counted.

    Returns
    -------
    dict
        ``"support"``: share of queries with at least one SO or OS neighbour. Of the others, as shares of all queries:
        ``"SS-dominated"`` (more SS than OO neighbours: biology and confounder together order the neighbourhood),
        ``"OO-dominated"`` and ``"mixed"`` (as many of each).
    """
    ss, oo = (kinds == SS).sum(axis=1), (kinds == OO).sum(axis=1)
    void = ~((kinds == SO) | (kinds == OS)).any(axis=1)
    causes = {"SS-dominated": void & (ss > oo), "OO-dominated": void & (oo > ss), "mixed": void & (ss == oo)}
    return {"support": float(1 - void.mean())} | {name: float(one.mean()) for name, one in causes.items()}


def kind_channels(
    biology: np.ndarray, confounder: np.ndarray, kinds: Sequence[int], weigh: Weigh | None = None
) -> Channels:
    """Return channels that mark the entries of some types, with weights if these are given."""

    def channels(part: Neighbours) -> np.ndarray:
        found = neighbour_kinds(part, biology, confounder)
        marked = np.stack([found == kind for kind in kinds])
        return np.moveaxis(marked if weigh is None else marked * weigh(part, found), 0, 2)

    return channels


def candidates(
    biology: np.ndarray, confounder: np.ndarray, groups: np.ndarray, within: np.ndarray | None = None
) -> ByCell:
    """Count, for each row, the rows outside its group and inside its stratum by type, ``(n, 4)``.

    Parameters
    ----------
    biology, confounder, groups
        ``(n,)`` integer codes.
    within
        ``(n,)`` codes of the strata in which neighbours are looked for; None: everywhere.
    """
    columns = (biology, confounder, groups) if within is None else (biology, confounder, groups, within)
    cell, (a, b, group, *rest) = joint_codes(*columns)
    rows = np.bincount(cell, minlength=len(a))
    scope = rest[0] if rest else np.zeros_like(a)

    def outside(*codes: np.ndarray) -> np.ndarray:
        return np.asarray(_shared(rows, scope, *codes) - _shared(rows, scope, group, *codes))

    both = outside(a, b)
    so, os = outside(a) - both, outside(b) - both
    return ByCell(np.stack([both, so, os, outside() - both - so - os], axis=1), cell)


def expected_sums(
    weights: np.ndarray | float, queries: np.ndarray, available: ByCell, kinds: Sequence[int]
) -> np.ndarray:
    """Return the weight of each type that noise would give, summed over queries, up to the list length.

    A query draws each neighbour evenly from its ``N_i`` candidates, ``A_i`` of them of the type: the sum of
    ``W_i A_i / N_i``.

    Parameters
    ----------
    weights
        ``(m,)`` weight of each query's list, ``W_i``; a number if they are equal.
    queries
        ``(m,)`` row positions.
    available
        ``(n, 4)`` from :func:`candidates`.
    kinds
        Types to return.
    """
    found = available[queries]
    return np.asarray((weights * (found / found.sum(axis=1, keepdims=True)).T).sum(axis=1)[list(kinds)])


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
        for label in np.unique(votes):
            hit = votes == label
            nearest = np.where(hit.any(1), hit.argmax(1), width)
            score = hit.cumsum(1)[:, at] * (width + 1) - nearest[:, None]  # votes first, then nearness
            winner = np.where(score > best, label, winner)
            best = np.maximum(score, best)
        correct[rows] = winner == truth[rows, None]
    return np.asarray(np.mean([correct[truth == label].mean(0) for label in np.unique(truth)], axis=0))


def _shared(rows: np.ndarray, *codes: np.ndarray) -> np.ndarray:
    """Count, for each cell of so many rows, the rows of all cells that share these codes with it (its own included)."""
    joint = codes[0]
    for code in codes[1:]:
        joint = np.unique(joint * (int(code.max()) + 1) + code, return_inverse=True)[1]
    return np.asarray(np.bincount(joint, rows)[joint]).astype(np.int64)
