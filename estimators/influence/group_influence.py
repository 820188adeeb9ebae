"""What each group adds to an estimate: the one form in which all estimators hand over their results.

Every estimator here is linear in the outcomes once factor and conditioning columns are given: ``theta = omega' Z``, the
weights ``omega (G, J)`` made of those columns alone, outcome models included. The error of an estimate is the same
sum over the groups' errors, the models' own error being part of it, and group ``g`` brings

    part_j[g] = theta_j + scale[g, j] * residual[g] - their mean,    scale = G omega

with one ``(G, d)`` matrix of residuals for all quantities: ``J x G x d`` numbers are never held. Conditioning columns
are taken as they are: estimates are for a population that has the groups' values of them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse, stats

from causalfm.confidence import level_in_force
from causalfm.errors import DataError
from causalfm.gram_norms import LEAST_DF, GramNorm, gram_norm
from causalfm.resampling import Multiplier, multiplier_maxima

FEW = 12  # groups of a level below which signs take too few values: Webb's six points
LEAST = 1e-12
AT_ONCE = 8  # contrasts whose contributions are held together
FEW_LEVELS = 8  # levels of a contrast up to which theirs are copied out
TINY = float(np.finfo(float).tiny)


@dataclass(frozen=True, eq=False)
class GroupInfluence:
    """Estimates of ``J`` quantities for ``d`` outcomes, with the contribution of every group.

    Attributes
    ----------
    names
        The ``J`` quantities: levels, whose mean potential outcome was estimated, or the step of a slope.
    theta
        ``(J, d)`` estimates: ``theta[j]`` is the mean over the groups of ``part(j)``.
    groups
        ``(G,)`` positions of the groups in the cohort's group codes.
    scale, residual
        ``(G, J)``, ``(G, d)``: see the head of this module.
    correction
        ``(G,)`` factor on the residuals that makes their squares unbiased (CR2): above 1 for residuals of groups that
        took part in the fit, below 1 for those that did not.
    cell, df
        ``(G,)`` cell within which residuals are alike, ``(C,)`` degrees of freedom of each cell's residuals.
    bundle, n_bundles
        ``(G,)`` and their number, see :mod:`causalfm.estimators.influence.bundles`; a bundle may be empty.
    absolute
        Whether ``theta`` are means; if not they are known up to a common shift, so that contrasts must sum to 0.
    level
        ``(G,)`` level of each group among ``names``; 0 for a slope.
    """

    names: tuple[str, ...]
    theta: np.ndarray
    groups: np.ndarray
    scale: np.ndarray
    residual: np.ndarray
    correction: np.ndarray
    cell: np.ndarray
    df: np.ndarray
    bundle: np.ndarray
    n_bundles: int
    level: np.ndarray
    absolute: bool = True

    def __len__(self) -> int:
        return len(self.groups)

    @property
    def d(self) -> int:
        """Number of outcomes."""
        return int(self.theta.shape[1])

    def part(self, j: int) -> np.ndarray:
        """``(G, d)`` what each group adds to quantity ``j``: the estimate is the mean of its rows."""
        out = self.scale[:, j, None] * self.residual
        return np.asarray(out + (self.theta[j] - out.mean(axis=0)))

    @functools.cached_property
    def _bundled(self) -> np.ndarray:
        """``(J, B, d)`` what the groups of each bundle add to the error of each quantity."""
        weights = self.scale * (self.correction / len(self))[:, None]
        order = np.argsort(self.bundle, kind="stable")
        starts = np.searchsorted(self.bundle[order], np.arange(self.n_bundles + 1))
        # sums over many groups are kept in single precision: errors of variances of 1e-6, at half the memory
        single = self.n_bundles < len(self)
        out = np.zeros((len(self.names), self.n_bundles, self.d), dtype=np.float32 if single else np.float64)
        for b in range(self.n_bundles):
            rows = order[starts[b] : starts[b + 1]]
            out[:, b] = weights[rows].T @ self.residual[rows]
        return out

    def contributions(self, C: np.ndarray) -> Iterator[np.ndarray]:
        """Sum what the groups of each bundle add to the error of ``C theta``, contrast by contrast.

        Parameters
        ----------
        C
            ``(K, J)`` contrasts.

        Yields
        ------
        numpy.ndarray
            ``(B, d)``; sums over bundles of products of these estimate the covariances of ``C theta``.
        """
        C, flat = self._checked(C), self._bundled.reshape(len(self.names), -1)
        for start in range(0, len(C), AT_ONCE):
            rows = C[start : start + AT_ONCE].astype(flat.dtype)
            used = np.flatnonzero(np.abs(rows).sum(axis=0))
            parts = rows @ flat if len(used) > FEW_LEVELS else rows[:, used] @ flat[used]
            yield from parts.reshape(len(rows), self.n_bundles, self.d)

    def degrees(self, C: np.ndarray) -> np.ndarray:
        """``(C,)`` degrees of freedom of each cell's part of the covariance of ``C theta``.

        Those of the residuals, times the share of the groups that the weights leave: ``(sum w^2)^2 / (n sum w^4)`` over
        the bundles of the cell.
        """
        square = ((self.scale @ self._checked(C).T) ** 2).sum(axis=1)
        cell, bundles = self._bundle_cells(), np.bincount(self.bundle, square, self.n_bundles)
        n_cells = len(self.df)
        total, fourth = (np.bincount(cell, bundles**power, n_cells) for power in (1, 2))
        used = np.unique(self.bundle)
        held, groups = np.bincount(cell[used], minlength=n_cells), np.bincount(self.cell, minlength=n_cells)
        share = np.where(fourth > 0.0, total**2 / np.maximum(held * fourth, TINY), 1.0)
        lost = np.maximum(groups - self.df, 0.0)
        return np.asarray(np.maximum((held - lost * held / np.maximum(groups, 1)) * share, LEAST_DF))

    def contrast(self, C: np.ndarray) -> ContrastTable:
        """Estimate contrasts of the quantities, outcome by outcome.

        Parameters
        ----------
        C
            ``(K, J)`` contrasts.

        Returns
        -------
        ContrastTable
            Estimates, standard errors and Satterthwaite degrees of freedom, each ``(K, d)``.
        """
        C = np.atleast_2d(np.asarray(C, dtype=float))
        cell = self._bundle_cells()
        n_cells = len(self.df)
        onehot = sparse.csr_array((np.ones(len(cell)), (cell, np.arange(len(cell)))), shape=(n_cells, len(cell)))
        variance, df = np.empty((len(C), self.d)), np.empty((len(C), self.d))
        for k, part in enumerate(self.contributions(C)):
            per_cell = np.asarray(onehot @ part.astype(np.float64) ** 2)
            variance[k] = per_cell.sum(axis=0)
            spread = (per_cell**2 / self.degrees(C[k])[:, None]).sum(axis=0)
            df[k] = variance[k] ** 2 / np.maximum(spread, TINY)
        return ContrastTable(C @ self.theta, np.sqrt(variance), np.maximum(df, 1.0))

    def traces(self, C: np.ndarray) -> np.ndarray:
        """``(K, K)`` traces of the covariances between contrasts ``C (K, J)``: the noise in ``(C theta)(C theta)'``."""
        C = self._checked(C)
        each = np.zeros((len(self.names), len(self.names)))
        for b in range(self.n_bundles):
            part = self._bundled[:, b].astype(np.float64)
            each += part @ part.T
        return np.asarray(C @ each @ C.T)

    def norm(self, C: np.ndarray, scale: float = 1.0) -> GramNorm:
        """Estimate ``scale * |C theta|^2``, signed and debiased, with everything its intervals need.

        Parameters
        ----------
        C
            ``(K, J)`` contrasts.
        scale
            Positive factor.
        """
        C = np.atleast_2d(np.asarray(C, dtype=float))
        return gram_norm(C @ self.theta, self.contributions(C), self._bundle_cells(), self.degrees(C), scale=scale)

    def max_t(self, C: np.ndarray, n_draws: int = 999, random_state: int = 0) -> Simultaneous:
        """Test all contrasts and outcomes at once by the wild bootstrap of the largest t.

        Parameters
        ----------
        C
            ``(K, J)`` contrasts.
        n_draws, random_state
            Bootstrap draws and their seed.

        Returns
        -------
        Simultaneous
            Adjusted p-values and simultaneous 95 % intervals, ``(K, d)``.

        Notes
        -----
        Groups are multiplied as a whole, so that the dependence between outcomes and levels is kept. The bootstrap's
        statistic is studentised anew in every draw, around its own mean, as the estimate's is; Webb's six points
        replace signs where a level has fewer than a dozen groups.

        References
        ----------
        Chernozhukov, Chetverikov and Kato, Ann. Statist. 41 (2013) 2786-2819; Cameron, Gelbach and Miller, Rev. Econ.
        Statist. 90 (2008) 414-427; Webb, Can. J. Econ. 56 (2023) 839-858.
        """
        C = np.atleast_2d(np.asarray(C, dtype=float))
        found = self.contrast(C)
        fewest = int(np.bincount(self.level, minlength=int(self.level.max()) + 1).min())
        kind: Multiplier = "webb" if fewest < FEW else "rademacher"
        sums = np.concatenate(list(self.contributions(C)), axis=1).astype(np.float64)
        null = multiplier_maxima(sums, n_draws, random_state, kind=kind)
        effective = float(np.median(found.df, axis=1).min()) + 1.0
        null = null * np.sqrt((effective - 1.0) / np.maximum(effective - null**2, LEAST))
        t = np.abs(found.estimate) / np.maximum(found.se, TINY)
        null.sort()
        above = n_draws - np.searchsorted(null, t - 1e-12 * t, side="left")
        critical = float(null[min(int(np.ceil(level_in_force() * (n_draws + 1))) - 1, n_draws - 1)])
        half = critical * found.se
        return Simultaneous(
            found.estimate, found.estimate - half, found.estimate + half, (1.0 + above) / (1.0 + n_draws), kind
        )

    def _bundle_cells(self) -> np.ndarray:
        out = np.zeros(self.n_bundles, dtype=np.int64)
        out[self.bundle] = self.cell
        return out

    def _checked(self, C: np.ndarray) -> np.ndarray:
        C = np.atleast_2d(np.asarray(C, dtype=float))
        if C.shape[1] != len(self.names):
            raise DataError(f"contrasts have {C.shape[1]} columns and there are {len(self.names)} quantities.")
        if not self.absolute and len(self.names) > 1 and np.abs(C.sum(axis=1)).max() > 1e-9:
            raise DataError("this estimator knows differences between levels only: each contrast must sum to 0.")
        return C


@dataclass(frozen=True, eq=False)
class ContrastTable:
    """Contrasts outcome by outcome.

    Attributes
    ----------
    estimate, se, df
        ``(K, d)`` estimates, clustered standard errors, Satterthwaite degrees of freedom.
    """

    estimate: np.ndarray
    se: np.ndarray
    df: np.ndarray

    def interval(self, level: float | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Two-sided t intervals ``(K, d)``, one outcome at a time."""
        half = stats.t.ppf(0.5 + level_in_force(level) / 2.0, self.df) * self.se
        return self.estimate - half, self.estimate + half

    def p_values(self) -> np.ndarray:
        """``(K, d)`` two-sided p-values, one outcome at a time."""
        t = np.abs(self.estimate) / np.maximum(self.se, TINY)
        return np.asarray(2.0 * stats.t.sf(t, self.df))


@dataclass(frozen=True, eq=False)
class Simultaneous:
    """Contrasts tested together.

    Attributes
    ----------
    estimate, low, high, p_value
        ``(K, d)`` estimates, simultaneous 95 % intervals, adjusted p-values.
    multiplier
        Law of the bootstrap's multipliers.
    """

    estimate: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p_value: np.ndarray
    multiplier: str
