"""Silhouette widths from one blocked pass over all pairs of rows, with what each group's absence changes.

Sums of distances by cell and group are kept for the rows of one block only; widths of labels, of batches within labels
and BRAS are read from the same sums. Arrays in, arrays out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import sparse

from causalfm.metrics.distances import Metric, distance_blocks, prepared

Between = Literal["nearest", "mean_other"]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Which rows are compared, what the clusters are, and how widths are averaged.

    Attributes
    ----------
    outer
        ``(n,)`` integer codes: rows are compared within them only.
    cluster
        ``(n,)`` integer codes of the clusters.
    n_clusters
        Number of codes; some may not occur.
    between
        Distance to the other clusters: ``"nearest"`` of their mean distances, or ``"mean_other"``, the mean over all
        their rows.
    batch
        Whether clusters should mix: a row scores ``1 - |width|``, averaged within outer levels. If not, it scores its
        width, averaged within clusters.
    """

    outer: np.ndarray
    cluster: np.ndarray
    n_clusters: int
    between: Between = "nearest"
    batch: bool = False

    @property
    def joint(self) -> np.ndarray:
        """Codes of the clusters of different outer levels, ``(n,)``."""
        return np.asarray(self.outer * self.n_clusters + self.cluster)

    @property
    def part(self) -> np.ndarray:
        """Codes within which scores are averaged, ``(n,)``."""
        return self.outer if self.batch else self.joint

    def scores(self, widths: np.ndarray) -> np.ndarray:
        """Turn widths into scores."""
        return 1.0 - np.abs(widths) if self.batch else widths


@dataclass(frozen=True, eq=False)
class Widths:
    """Silhouette widths, and the change of their scores without each bundle of groups.

    Attributes
    ----------
    values
        ``(n,)`` widths in [-1, 1]; ``nan`` where a row has no other candidate in its own cluster, or no other cluster.
    sums, counts
        ``(P, J)`` change in each part of the sum of scores and of the rows that have one, among rows that stay.
    pairs
        ``(U, J)`` change of the scores of the rows of a unit, a unit being a bundle of groups within a cluster.
    unit_part, unit_bundle
        ``(U,)`` codes.
    """

    values: np.ndarray
    sums: np.ndarray
    counts: np.ndarray
    pairs: np.ndarray
    unit_part: np.ndarray
    unit_bundle: np.ndarray


def silhouette_widths(
    X: np.ndarray,
    groups: np.ndarray,
    comparisons: Mapping[str, Comparison],
    *,
    metric: Metric = "cosine",
    exclude_groups: bool = True,
    bundles: np.ndarray | None = None,
) -> dict[str, Widths]:
    """Silhouette widths of every row, ``(b - a) / max(a, b)``, for several comparisons in one pass.

    ``a`` is the mean distance to the other rows of the own cluster, ``b`` that to the other clusters.

    Parameters
    ----------
    X
        ``(n, d)``.
    groups
        ``(n,)`` integer codes.
    comparisons
        Named comparisons.
    metric
        ``"cosine"`` or ``"euclidean"``.
    exclude_groups
        Leave rows of the own group out of ``a`` and ``b``.
    bundles
        ``(n,)`` integer codes from 0 of what is taken away in turn; the groups by default. Time and memory grow with
        their number.

    Returns
    -------
    dict
        Widths under the same names. Changes are exact for a bundle in one cluster; for one in several they are the sum
        of what its parts change, which is right to first order.

    Raises
    ------
    DataError
        Rows without direction under ``"cosine"``.

    References
    ----------
    Rousseeuw, Silhouettes, Journal of Computational and Applied Mathematics 20:53 (1987).
    """
    clusters = np.stack([c.joint for c in comparisons.values()])
    cell = np.unique(clusters, axis=1, return_inverse=True)[1].reshape(-1)
    taken = groups if bundles is None else bundles
    order = np.lexsort((taken, groups, cell))
    pair = np.stack([cell, groups, taken])[:, order]  # a group may be taken away in parts
    starts = np.flatnonzero(np.r_[True, (pair[:, 1:] != pair[:, :-1]).any(axis=0)])
    size, owner = np.diff(np.append(starts, len(groups))), pair[1, starts]
    unit = np.repeat(np.arange(len(starts)), size)
    frames = {name: _Frame(c, taken, order, starts) for name, c in comparisons.items()}
    for rows, distances in distance_blocks(prepared(X, metric)[order], metric):
        sums = np.add.reduceat(distances, starts, axis=1).astype(np.float64)
        held = np.tile(size.astype(np.float64), (len(sums), 1))
        if exclude_groups:
            own = pair[1, rows, None] == owner
            sums[own], held[own] = 0.0, 0.0
        else:
            held[np.arange(len(sums)), unit[rows]] -= 1.0
        for frame in frames.values():
            frame.add(rows, sums, held)
    return {name: frame.widths(order) for name, frame in frames.items()}


@dataclass(frozen=True, eq=False)
class Sides:
    """What the widths of ``b`` rows are made of, each ``(b,)``.

    Attributes
    ----------
    own, other
        Mean distance to the own cluster, and to the others.
    nearest, first, second
        The nearest other cluster, its mean distance, and that of the next one.
    total, count
        Sum of the distances to all rows of other clusters, and their number.
    """

    own: np.ndarray
    other: np.ndarray
    nearest: np.ndarray
    first: np.ndarray
    second: np.ndarray
    total: np.ndarray
    count: np.ndarray


def sides_of(totals: np.ndarray, counts: np.ndarray, own: np.ndarray, compared: np.ndarray, between: Between) -> Sides:
    """Return the distances behind the widths.

    Parameters
    ----------
    totals, counts
        ``(b, C)`` sum of the distances of a row to each cluster, and the rows in it.
    own
        ``(b,)`` cluster of the row.
    compared
        ``(b, C)`` clusters that the row is compared with.
    between
        As in :class:`Comparison`.
    """
    row = np.arange(len(own))
    others = compared & (counts > 0)
    others[row, own] = False
    means = np.divide(totals, counts, out=np.full(totals.shape, np.inf), where=others)
    nearest = means.argmin(axis=1)
    first = means[row, nearest]
    means[row, nearest] = np.inf
    total, count = (np.where(others, x, 0.0).sum(axis=1) for x in (totals, counts))
    other = _ratio(total, count) if between == "mean_other" else np.where(first < np.inf, first, np.nan)
    mine = _ratio(totals[row, own], counts[row, own])
    return Sides(mine, other, nearest, first, means.min(axis=1), total, count)


def width_of(own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return silhouette widths; 0 between rows that are all alike, ``nan`` where a side is missing."""
    larger = np.maximum(own, other)
    empty = np.where(np.isnan(larger), np.nan, 0.0)
    return np.asarray(np.divide(other - own, larger, out=empty, where=larger > 0))


def _ratio(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    empty = np.full(np.broadcast(total, count).shape, np.nan)
    return np.asarray(np.divide(total, count, out=empty, where=count > 0))


class _Frame:
    """One comparison on sorted rows: its clusters, its units, and what is added up block by block."""

    def __init__(self, comparison: Comparison, bundles: np.ndarray, order: np.ndarray, starts: np.ndarray) -> None:
        self.comparison = comparison
        self.bundle, self.part, self.outer = bundles[order], comparison.part[order], comparison.outer[order]
        first, self.cluster = np.unique(comparison.joint[order], return_index=True, return_inverse=True)[1:]
        self.cluster_outer = self.outer[first]
        codes = self.cluster * (int(bundles.max()) + 1) + self.bundle
        first, self.unit = np.unique(codes, return_index=True, return_inverse=True)[1:]
        self.unit_cluster, self.unit_bundle, self.unit_part = self.cluster[first], self.bundle[first], self.part[first]
        self.merge = _onehot(self.unit[starts])
        self.to_cluster, self.to_bundle = _onehot(self.unit_cluster), _onehot(self.unit_bundle)
        self.values = np.empty(len(order))
        self.sums = np.zeros((int(self.part.max()) + 1, len(first)))
        self.counts = np.zeros_like(self.sums)
        self.pairs = np.zeros((len(first), self.to_bundle.shape[1]))

    def add(self, rows: slice, sums: np.ndarray, held: np.ndarray) -> None:
        """Score a block from its sums of distances, and numbers of rows, ``(b, sorted units of the pass)``."""
        if self.merge.shape[0] > self.merge.shape[1] or (np.diff(self.merge.indices) != 1).any():
            sums, held = np.asarray(sums @ self.merge), np.asarray(held @ self.merge)
        own = self.cluster[rows]
        totals, counts = np.asarray(sums @ self.to_cluster), np.asarray(held @ self.to_cluster)
        compared = self.outer[rows, None] == self.cluster_outer
        sides = sides_of(totals, counts, own, compared, self.comparison.between)
        self.values[rows] = widths = width_of(sides.own, sides.other)
        after = self._without(own, sums, held, totals, counts, sides)
        touched = compared[:, self.unit_cluster] & (self.bundle[rows, None] != self.unit_bundle)
        touched &= ~np.isnan(widths)[:, None]
        score = self.comparison.scores
        lost = touched & np.isnan(after)
        change = np.where(touched, np.where(lost, 0.0, score(after)) - score(widths)[:, None], 0.0)
        for part in np.unique(self.part[rows]):
            mine = self.part[rows] == part
            self.sums[part] += change[mine].sum(axis=0)
            self.counts[part] -= lost[mine].sum(axis=0)
        units, place = np.unique(self.unit[rows], return_inverse=True)
        self.pairs[units] += (_onehot(place).T @ change) @ self.to_bundle

    def _without(
        self, own: np.ndarray, sums: np.ndarray, held: np.ndarray, totals: np.ndarray, counts: np.ndarray, sides: Sides
    ) -> np.ndarray:
        """Return the widths of a block without each unit, ``(b, U)``."""
        at = self.unit_cluster
        mean, inside = _ratio(totals[:, at] - sums, counts[:, at] - held), own[:, None] == at
        if self.comparison.between == "mean_other":
            other = _ratio(sides.total[:, None] - sums, sides.count[:, None] - held)
        else:
            rest = np.where(sides.nearest[:, None] == at, sides.second[:, None], sides.first[:, None])
            other = np.fmin(mean, rest)
            other[np.isinf(other)] = np.nan
        return width_of(np.where(inside, mean, sides.own[:, None]), np.where(inside, sides.other[:, None], other))

    def widths(self, order: np.ndarray) -> Widths:
        """Return the result in the order of the cohort, changes added up by bundle."""
        values = np.empty(len(order))
        values[order] = self.values
        sums, counts = (np.asarray(x @ self.to_bundle) for x in (self.sums, self.counts))
        return Widths(values, sums, counts, self.pairs, self.unit_part, self.unit_bundle)


def _onehot(codes: np.ndarray) -> sparse.csr_array:
    return sparse.csr_array((np.ones(len(codes)), codes, np.arange(len(codes) + 1)))
