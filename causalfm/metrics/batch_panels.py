"""Chi-square tests of the levels in neighbour lists, and what passes without each group. Arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.special import chdtrc, chdtri

from causalfm.metrics.deletion import ByLevel, LevelChannels, ListsTooShortError, Search, pair_sums
from causalfm.metrics.mixing import changes_in_parts, level_masses
from causalfm.neighbours import Neighbours

COMPOSITIONS = 64  # worked on at once


def kbet_tests(
    indices: np.ndarray, codes: np.ndarray, shares: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Test of each list whether its levels are a random draw from all rows.

    Parameters
    ----------
    indices
        ``(m, k)`` row positions of the neighbours.
    codes
        ``(n,)`` integer levels from 0.
    shares
        ``(B,)`` expected shares; those of ``codes`` by default.

    Returns
    -------
    statistic : numpy.ndarray
        ``(m,)`` Pearson's chi-square of the counts.
    p_value : numpy.ndarray
        ``(m,)`` with one degree of freedom fewer than there are levels; ``nan`` if there is one only.

    References
    ----------
    Büttner et al., A test metric for assessing single-cell RNA-seq batch correction, Nature Methods 16:43 (2019).
    """
    n_levels = int(codes.max()) + 1
    shares = np.bincount(codes) / len(codes) if shares is None else shares
    counts = level_masses(indices, None, codes, n_levels)
    statistic = counts**2 @ _inverse(shares, indices.shape[1]) - indices.shape[1]
    freedom = int((shares > 0).sum()) - 1
    return statistic, chdtrc(freedom, statistic) if freedom else np.full(len(statistic), np.nan)


def _inverse(shares: np.ndarray, k: int) -> np.ndarray:
    """Return 1 / expected counts, 0 for levels that do not occur."""
    return np.asarray(np.divide(1.0, k * shares, out=np.zeros_like(shares, dtype=float), where=shares > 0))


@dataclass(frozen=True, eq=False)
class Without:
    """A panel without each group: rows that pass ``(G,)``, rows left ``(G,)``, and what lists change ``(G, G)``."""

    passed: np.ndarray
    left: np.ndarray
    pairs: sparse.csr_array


@dataclass(frozen=True, eq=False)
class Panel:
    """Lists that are tested against the shares of the same rows.

    Attributes
    ----------
    lists
        Lists; positions are those of ``codes`` and ``groups``.
    search
        Longer lists.
    rows
        ``(r,)`` positions of the rows that give the expected shares.
    groups
        Integer group codes of all positions.
    """

    lists: Neighbours
    search: Search
    rows: np.ndarray
    groups: np.ndarray

    def accepted(self, codes: np.ndarray, alpha: float) -> np.ndarray:
        """Say which lists pass, ``(m,)`` bool."""
        shares = np.bincount(codes[self.rows], minlength=int(codes.max()) + 1) / len(self.rows)
        return np.asarray(kbet_tests(self.lists.indices[:, : self.lists.k], codes, shares)[1] >= alpha)

    def without(self, codes: np.ndarray, alpha: float) -> Without | str:
        """Say what passes without each group, exactly: its queries, its rows in lists and its share of the levels."""
        n_groups, k = int(self.groups.max()) + 1, self.lists.k
        owner, expected = self.groups[self.lists.queries], _Expected.of(codes, self.rows, self.groups, k, alpha)
        if (expected.freedom < 1).any():
            return "none: without one {unit} one level is left"
        counts = level_masses(self.lists.indices[:, :k], None, codes, expected.inverse.shape[1])
        onehot = sparse.csr_array((np.ones(len(owner)), (owner, np.arange(len(owner)))), shape=(n_groups, len(owner)))
        passed = np.zeros(n_groups)
        for start in range(0, len(expected.inverse), COMPOSITIONS):
            part = slice(start, start + COMPOSITIONS)
            fine = counts**2 @ expected.inverse[part].T - k <= expected.critical[part]
            by_group = onehot @ fine.astype(float)
            mine = np.flatnonzero((expected.of_group >= start) & (expected.of_group < start + COMPOSITIONS))
            passed[mine] = fine.sum(axis=0)[expected.of_group[mine] - start]
            passed[mine] -= by_group[mine, expected.of_group[mine] - start]
        try:
            pairs = self._flips(codes, counts, expected)
        except ListsTooShortError:
            return "none: without one {unit} some rows have too few candidates; choose a smaller k"
        left = len(owner) - np.bincount(owner, minlength=n_groups)
        return Without(passed + pairs.sum(axis=0), left, pairs)

    def _flips(self, codes: np.ndarray, counts: np.ndarray, expected: _Expected) -> sparse.csr_array:
        """Count lists that pass or fail because a group's rows are replaced in them."""
        n_levels = counts.shape[1]
        place = np.full(self.lists.n, -1)
        place[self.lists.queries] = np.arange(len(counts))
        parts = changes_in_parts(self.lists, self.groups, _level_channels(codes, n_levels), self.search, n_levels)

        def steps() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
            for query, unit, change in parts:
                base, composition = counts[place[query]], expected.of_group[unit]
                inverse, critical = expected.inverse[composition], expected.critical[composition]
                before, after = (
                    ((c**2) * inverse).sum(axis=1) - self.lists.k <= critical for c in (base, base + change)
                )
                yield query, unit, (after.astype(float) - before)[:, None]

        return pair_sums(steps(), self.groups, 1)[0]


@dataclass(frozen=True, eq=False)
class _Expected:
    """What is expected without each group: groups of one composition share it."""

    of_group: np.ndarray  # (G,) composition
    inverse: np.ndarray  # (C, B) 1 / expected counts
    critical: np.ndarray  # (C,) statistic that just passes
    freedom: np.ndarray  # (C,)

    @classmethod
    def of(cls, codes: np.ndarray, rows: np.ndarray, groups: np.ndarray, k: int, alpha: float) -> _Expected:
        table = np.zeros((int(groups.max()) + 1, int(codes.max()) + 1))
        np.add.at(table, (groups[rows], codes[rows]), 1)
        compositions, of_group = np.unique(table, axis=0, return_inverse=True)
        counts = table.sum(axis=0) - compositions
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
        freedom = (shares > 0).sum(axis=1) - 1
        critical = chdtri(np.maximum(freedom, 1), alpha) + 1e-9
        return cls(of_group.reshape(-1), _inverse(shares, k), critical, freedom)


def _level_channels(codes: np.ndarray, n_levels: int) -> LevelChannels:
    def channels(part: Neighbours) -> ByLevel:
        inside = part.indices >= 0
        return ByLevel(inside[None].astype(np.float32), np.where(inside, codes[part.indices], 0), n_levels)

    return channels
