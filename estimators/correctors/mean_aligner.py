"""Site means, given biology and covariates, taken off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from causalfm.errors import DataError
from causalfm.estimators.correctors.adjusted import Adjusted, regressor_covariance, residual_squares
from causalfm.estimators.correctors.site_wise import SiteWise
from causalfm.level_moments import LevelMoments, Second
from causalfm.scm.scales import reliability


class MeanAligner(SiteWise):
    """Take each level's additive effect on the mean off its rows.

    Parameters
    ----------
    shrinkage
        ``"none"``; ``"empirical-bayes"``: effects shrunk to no effect, by the share of them that is signal.
    reference
        Level to which the others are moved; None: the mean of all rows.
    unseen
        Rows at levels that the fit never saw: ``"refuse"``; ``"shrink"``: moved as the average level; ``"adapt"``:
        their effect learned from the rows passed together, under the mix of biology and covariates of the fit.
    on_violation
        Levels that cannot be told from biology: ``"refuse"``, or ``"trim"`` to what can be compared.

    Attributes
    ----------
    levels_, report_
        Levels of the fit; what was fitted, with assumptions.

    Notes
    -----
    Assumption: the effects of level, biology and covariates on the mean add up. The mean of every class then keeps its
    distance from every other. Without ``groups`` rows are taken as independent: shrinkage is then too weak.

    References
    ----------
    Morris, J. Amer. Statist. Assoc. 78 (1983) 47-55.
    """

    def __init__(
        self,
        *,
        shrinkage: Literal["none", "empirical-bayes"] = "none",
        reference: Any = None,
        unseen: Literal["refuse", "shrink", "adapt"] = "refuse",
        on_violation: Literal["refuse", "trim"] = "refuse",
    ) -> None:
        self.shrinkage = shrinkage
        self.reference = reference
        self.unseen = unseen
        self.on_violation = on_violation

    def _check_settings(self) -> None:
        super()._check_settings()
        if self.shrinkage not in ("none", "empirical-bayes"):
            raise DataError(f"shrinkage={self.shrinkage!r}: choose 'none' or 'empirical-bayes'.")

    def _second(self) -> Second:
        return "diagonal"

    def _assumptions(self) -> str:
        return "effects of the factor, biology and covariates on the mean add up"

    def _solve(self, moments: LevelMoments, fit: Adjusted) -> dict[str, np.ndarray]:
        out = common_parts(moments, fit, self._reference())
        out["signal"] = np.array(np.inf)
        if self.shrinkage == "empirical-bayes":
            effects, within = fit.effects(None), out["within"]
            varies = within > 0
            square = (effects[:, varies] ** 2 / within[varies]).mean(axis=1) if varies.any() else fit.unit_error
            share = reliability(square, fit.unit_error, fit.count)
            out["signal"] = np.array(share[0] / max(1.0 - share[0], 1e-12) * fit.unit_error[0])
            shrunk = share[:, None] * effects
            reference = self._reference()
            out["shift"] = shrunk - (0.0 if reference is None else shrunk[reference])
        return out

    def _learn(
        self, moments: LevelMoments, solution: Mapping[str, np.ndarray], inside: np.ndarray
    ) -> dict[str, np.ndarray]:
        n, signal = float(moments.count[0]), float(solution["signal"])
        share = 1.0 if np.isinf(signal) else signal / (signal + 1.0 / n)
        base = solution["shift"].mean(axis=0)
        return {"shift": base + share * (moments.cross[0, 0] / n - base)}


def common_parts(moments: LevelMoments, fit: Adjusted, reference: int | None) -> dict[str, np.ndarray]:
    """Arrays that all site-wise correctors apply.

    Returns
    -------
    dict
        ``shift (L, d)`` from the target, ``centre (d,)`` the target at the mean regressors, ``means``, ``beta``,
        ``within`` and ``mix``: variances ``(d,)``, or covariances from full moments, of the residual and of what the
        regressors predict.
    """
    effects = fit.effects(reference)
    square, spread = residual_squares(moments, fit), regressor_covariance(moments)
    mix = fit.beta.T @ spread @ fit.beta if moments.second == "full" else (fit.beta * (spread @ fit.beta)).sum(axis=0)
    return {
        "shift": effects,
        "centre": fit.centre if reference is None else fit.levels[reference],
        "means": fit.means,
        "beta": fit.beta,
        "within": square.sum(axis=0) / fit.count.sum(),
        "mix": mix,
    }
