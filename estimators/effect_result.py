"""The result of ``effect()``."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from causalfm.errors import DataError
from causalfm.estimators.influence.group_influence import GroupInfluence
from causalfm.estimators.refuting.refutation import Refutation
from causalfm.estimators.robustness.benchmarks import TIMES, Sensitivity
from causalfm.estimators.variance_shares import leading_directions
from causalfm.factor_contrasts import Contrasts
from causalfm.norms import signed_root
from causalfm.paired_units import PairedUnits
from causalfm.positivity import Overlap
from causalfm.results import Estimate, Result
from causalfm.units import Units


@dataclass(frozen=True)
class Effect(Result):
    """Causal contrasts of a factor on an outcome, under the declared graph.

    Attributes
    ----------
    treatment, reference, outcome, estimator
        What was estimated; ``reference`` is what the rows compare with: a level, or the mean of the levels.
    levels
        One row per compared level other than the reference. For ``Z``: signed squared distance with interval, and the
        distance. For other outcomes: the difference, its clustered standard error, interval and p-value.
    joint
        Mean squared distance over all pairs of compared levels, signed and debiased.
    biology
        The same for the classes of biology on the same patients; None if it cannot be estimated.
    ratio
        Ratio of the two *distances* (roots of the joint values) with Fieller's interval; ``nan`` if biology is not told
        from zero.
    overlap
        What could be compared and what was left out.
    details
        Conditioning set, DoWhy's opinion on it, weights, folds, propensities, reasons.
    share, biology_share
        Share of the variance between groups that the factor, and biology, cause; their levels come as in these groups.
        None where there is none, as within patients. Shares need not sum to 1.
    variance_ratio
        Ratio of the two variances with Fieller's interval; None without shares.
    influence
        What each group adds to the levels' means: see :class:`causalfm.estimators.GroupInfluence`; not exported.
    """

    treatment: str
    reference: str
    outcome: str
    estimator: str
    levels: tuple[Mapping[str, Any], ...]
    joint: Estimate
    biology: Estimate | None
    ratio: Estimate
    overlap: Overlap
    details: Mapping[str, Any] = field(default_factory=dict)
    share: Estimate | None = None
    biology_share: Estimate | None = None
    variance_ratio: Estimate | None = None
    influence: GroupInfluence | None = field(default=None, repr=False, compare=False)
    _shares: np.ndarray | None = field(default=None, repr=False, compare=False)
    _outcomes: tuple[str, ...] = field(default=(), repr=False, compare=False)
    _contrasts: np.ndarray | None = field(default=None, repr=False, compare=False)
    _source: tuple[Contrasts, Units | PairedUnits] | None = field(default=None, repr=False, compare=False)
    _call: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per compared level other than the reference, and outcome."""
        return [dict(row) for row in self.levels]

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the patients behind it."""
        return {k: v for k, v in super().to_dict().items() if not k.startswith("_")}

    def sensitivity(
        self,
        *,
        level: str | None = None,
        outcome: str | None = None,
        times: Sequence[float] = TIMES,
        q: float = 1.0,
        alpha: float | None = None,
    ) -> Sensitivity:
        """Say how strong an undeclared common cause would have to be to explain a contrast away.

        Parameters
        ----------
        level, outcome
            Row examined, of a scalar effect; by default the one with the largest t. Of Z: the pair furthest apart.
        times
            How many times as strong as each declared column the benchmarks are.
        q, alpha
            Of a scalar effect: share of the estimate to be explained away, and one minus the confidence; None for the
            level in force (0.05).

        Returns
        -------
        Sensitivity
            Robustness values, benchmarks by every declared column, E-values of scalars. Draw it with
            :func:`causalfm.plot_sensitivity`.

        Raises
        ------
        DataError
            Nothing was estimated, or no such row.

        Notes
        -----
        Errors and degrees of freedom are those of independent units (patients), never of rows. Formulas:
        :func:`causalfm.estimators.robustness.sensitivity.vector_sensitivity` and
        :func:`causalfm.estimators.robustness.scalar_robustness.scalar_sensitivity`.
        """
        from causalfm.estimators.robustness.effect_sensitivity import sensitivity_of

        return sensitivity_of(self, level=level, outcome=outcome, times=times, q=q, alpha=alpha)

    def refute(self, **settings: Any) -> Refutation:
        """Try to overturn the effect: see :func:`causalfm.estimators.refuting.refuters.refute` for the settings."""
        from causalfm.estimators.refuting.refuters import refute

        return refute(self, **settings)

    def simultaneous(self, *, n_draws: int = 999, random_state: int = 0) -> pd.DataFrame:
        """Test all levels and all dimensions at once by the wild bootstrap of the largest t.

        Parameters
        ----------
        n_draws, random_state
            Bootstrap draws and their seed.

        Returns
        -------
        pandas.DataFrame
            One row per contrast and dimension (or outcome): ``level``, ``outcome``, ``value``, simultaneous 95 %
            ``low`` and ``high``, ``p_value`` adjusted for all of them.

        Raises
        ------
        DataError
            Nothing was estimated, or levels are compared within patients.
        """
        influence = self._estimated()
        assert self._contrasts is not None
        found = influence.max_t(self._contrasts, n_draws, random_state)
        rows = list(dict.fromkeys(row["level"] for row in self.levels))
        outcomes = self._outcomes or tuple(f"{self.outcome}[{j}]" for j in range(influence.d))
        index = list(itertools.product(rows, outcomes))
        columns = {"value": found.estimate, "low": found.low, "high": found.high, "p_value": found.p_value}
        table = pd.DataFrame(index, columns=["level", "outcome"])
        return table.assign(**{name: values.ravel() for name, values in columns.items()})

    def directions(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the leading directions of the factor's effect.

        Returns
        -------
        shares
            ``(L - 1,)`` part of the variance caused along each, debiased; noise may make the last ones negative.
            ``nan`` where no variance is left after debiasing.
        directions
            ``(L - 1, d)`` unit vectors, in the same order; of a slope its own.

        Raises
        ------
        DataError
            Nothing was estimated, or levels are compared within patients.
        """
        influence = self._estimated()
        assert self._shares is not None
        variance, vectors = leading_directions(influence, self._shares)
        return variance / total if (total := variance.sum()) > 0.0 else np.full_like(variance, np.nan), vectors

    def _estimated(self) -> GroupInfluence:
        if self.influence is None:
            why = "levels are compared within patients" if self.overlap.paired else f"{self.estimator} gives none"
            why = why if self.levels else self.overlap.sentence.rstrip(".")
            raise DataError(f"there are no group influences to work with: {why}.")
        return self.influence


def largest_pair(effect: Effect) -> tuple[str, str, float]:
    """Return the two levels furthest apart and their distance.

    Raises
    ------
    DataError
        Nothing was estimated.
    """
    if effect._source is not None:
        contrasts, units = effect._source
        (a, b), norm = max(contrasts.pairs.items(), key=lambda item: item[1].value)
        return units.level.levels[a], units.level.levels[b], signed_root(norm.value)
    if effect.influence is None:
        raise DataError(f"there is no effect to examine: {effect.overlap.sentence}")
    influence, L = effect.influence, len(effect.influence.names)
    pairs = list(itertools.combinations(range(L), 2))
    norms = [influence.norm(np.eye(L)[a] - np.eye(L)[b]) for a, b in pairs]
    best = max(range(len(pairs)), key=lambda i: norms[i].value)
    a, b = pairs[best]
    return influence.names[a], influence.names[b], signed_root(norms[best].value)
