"""Sensitivity of a scalar contrast: robustness value, partial R2, benchmarks, E-value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from causalfm.arguments import check_positive
from causalfm.confidence import alpha_in_force
from causalfm.errors import DataError
from causalfm.estimators.robustness.benchmarks import TIMES, Sensitivity, with_benchmarks, worded
from causalfm.estimators.robustness.bias_bounds import Strength, e_values


def scalar_sensitivity(
    value: float,
    error: float,
    df: float,
    *,
    pair: tuple[str, str],
    outcome: str,
    interval: tuple[float, float] | None = None,
    deviation: float | None = None,
    baseline: float | None = None,
    strengths: Mapping[str, Strength] | None = None,
    times: Sequence[float] = TIMES,
    q: float = 1.0,
    alpha: float | None = None,
    unit: str = "unit",
) -> Sensitivity:
    """Robustness value, partial R2, benchmarks and E-value of one scalar contrast.

    Parameters
    ----------
    value, error, df
        Estimate, standard error and degrees of freedom left, all of independent units (patients): rows of one patient
        share their causes, and a t of rows would make any effect look robust.
    pair, outcome, unit
        Names: levels compared (or the factor and its step), the outcome, the independent unit.
    interval
        The estimate's own interval, if it is not Student's with ``df``.
    deviation
        Standard deviation of the outcome over units, for the E-value; None leaves it out.
    baseline
        Of a two-valued outcome: the risk at the reference level, for the E-value of the ratio of risks.
    strengths
        From :func:`causalfm.estimators.robustness.observed_strength.observed_strengths`.
    times
        How many times as strong as each column the benchmarks are.
    q, alpha
        Share of the estimate to be explained away, and one minus the confidence; None for the level in force (0.05).

    Returns
    -------
    Sensitivity
        ``robustness_value`` is ``RV_q``, ``robustness_value_low`` ``RV_{q,alpha}``.

    Raises
    ------
    DataError
        No standard error, or fewer than two degrees of freedom.

    References
    ----------
    Cinelli and Hazlett (2020); VanderWeele and Ding, Ann. Intern. Med. 167 (2017) 268-274.
    """
    check_positive(error, "error", "without a standard error there is nothing to set a bias against")
    if not np.isfinite(value) or not df > 1.0:
        raise DataError(f"value={value!r}, df={df!r}: an estimate with at least two degrees of freedom is needed.")
    t, alpha = value / error, alpha_in_force() if alpha is None else alpha
    reach = float(stats.t.isf(alpha / 2.0, df)) * error
    low, high = interval or (value - reach, value + reach)
    details = {"error": error, "df": df, "partial_r2": t**2 / (t**2 + df), "q": q, "alpha": alpha, "unit": unit}
    if (baseline or deviation or 0.0) > 0.0:
        pair_of = e_values(value, low, high, deviation=deviation, baseline=baseline or None)
        details["e_value"], details["e_value_limit"] = pair_of
        details["e_value_of"] = "ratio of risks" if baseline else "difference, read as a ratio of risks"
    scale = error * float(np.sqrt(df))
    found = with_benchmarks(pair, outcome, (value, low, high), scale, strengths or {}, times, details)
    share = "the whole" if q == 1.0 else f"{q:.0%} of the"
    sentence = (
        f"An undeclared cause would have to explain {found.robustness_value:.0%} of what is left of both {pair[0]} "
        f"against {pair[1]} and {outcome}, {unit} by {unit}, to account for {share} effect; "
        f"{found.robustness_value_low:.0%} for an interval that holds {'0' if q == 1.0 else 'that'}."
    )
    return worded(found, sentence)
