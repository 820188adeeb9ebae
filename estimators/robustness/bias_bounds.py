"""How far an undeclared common cause can move an estimate: omitted-variable bias in partial R2, and E-values.

Everything is a function of numbers that any regression prints, so that published tables can be checked by hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from causalfm.errors import DataError

PER_DEVIATION = 0.91  # log risk ratio of one standard deviation (Chinn 2000; VanderWeele and Ding 2017)


def robustness_value(partial_f2: float) -> float:
    """Equal shares ``R2`` of treatment and outcome that would explain a partial ``f^2`` away.

    Parameters
    ----------
    partial_f2
        Squared partial f: ``t^2 / df`` for a scalar outcome; for a vector see :func:`vector_f2`.

    Returns
    -------
    float
        ``(sqrt(f^4 + 4 f^2) - f^2) / 2``, in [0, 1).

    References
    ----------
    Cinelli and Hazlett, J. R. Statist. Soc. B 82 (2020) 39-67. For a vector the bias is bounded by the same expression
    with the trace in place of the variance (Cauchy-Schwarz over dimensions).
    """
    f2 = max(partial_f2, 0.0)
    return float((np.sqrt(f2**2 + 4.0 * f2) - f2) / 2.0)


def scalar_robustness_value(t: float, df: float, *, q: float = 1.0, alpha: float | None = None) -> float:
    """Robustness value of one coefficient.

    Parameters
    ----------
    t, df
        Student's t of the estimate and residual degrees of freedom, both of independent units.
    q
        Share of the estimate to be explained away; 1: all of it.
    alpha
        None: until the estimate is ``1 - q`` of what it is. Else until that cannot be told at level ``alpha``.

    Returns
    -------
    float
        ``RV_q`` or ``RV_{q,alpha}``, in [0, 1).

    Raises
    ------
    DataError
        Fewer than two degrees of freedom, ``q`` not above 0, ``alpha`` outside (0, 1).

    References
    ----------
    Cinelli and Hazlett (2020), section 4.2, and their erratum for effects beyond ``f > 1 / f*``.
    """
    if not df > 1.0 or not q > 0.0 or not (alpha is None or 0.0 < alpha < 1.0):
        raise DataError(f"df={df!r}, q={q!r}, alpha={alpha!r}: choose df above 1, q above 0 and alpha in (0, 1).")
    f = q * abs(t) / np.sqrt(df)
    if alpha is None:
        return robustness_value(f**2)
    critical = float(stats.t.isf(alpha / 2.0, df - 1.0) / np.sqrt(df - 1.0))
    if f <= critical:
        return 0.0
    if f > 1.0 / critical:  # the hidden cause also narrows the interval: its share of the outcome is no longer free
        return float((f**2 - critical**2) / (1.0 + f**2))
    return robustness_value((f - critical) ** 2)


def bias_factor(r2_treatment: Any, r2_outcome: Any) -> np.ndarray:
    """``sqrt(R2_Y R2_D / (1 - R2_D))``: the bias in units of ``sqrt(residual variance of Y / that of D)``.

    Parameters
    ----------
    r2_treatment, r2_outcome
        Shares in [0, 1] of what is left of the treatment given the set, and of the outcome given treatment and set,
        that the hidden cause explains.

    Returns
    -------
    numpy.ndarray
        Infinite where ``r2_treatment`` is 1 and ``r2_outcome`` above 0.

    Raises
    ------
    DataError
        A share outside [0, 1].
    """
    d, y = np.broadcast_arrays(np.asarray(r2_treatment, dtype=float), np.asarray(r2_outcome, dtype=float))
    if not ((d >= 0) & (d <= 1) & (y >= 0) & (y <= 1)).all():
        raise DataError("partial R2 are shares: choose r2_treatment and r2_outcome between 0 and 1.")
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(y * d > 0.0, np.sqrt(y * d / (1.0 - d)), 0.0)


def adjusted(
    value: float, error: float, df: float, r2_treatment: float, r2_outcome: float, *, alpha: float = 0.05
) -> dict[str, float]:
    """Estimate, error and interval that the worst hidden cause of given strength would leave.

    Parameters
    ----------
    value, error, df
        Estimate, standard error and residual degrees of freedom.
    r2_treatment, r2_outcome
        Strength of the hidden cause.
    alpha
        One minus the confidence.

    Returns
    -------
    dict
        ``bias`` (largest), ``value`` (moved by it towards and beyond zero), ``error``, ``low``, ``high``;
        ``nan`` between infinite ends if the hidden cause explains all of the treatment.
    """
    bias = float(error * np.sqrt(df) * bias_factor(r2_treatment, r2_outcome))
    if r2_treatment == 1.0:  # nothing is left of the treatment: nothing can be told
        return {"bias": bias, "value": float("nan"), "error": float("inf"), "low": -float("inf"), "high": float("inf")}
    left = float(error * np.sqrt((1.0 - r2_outcome) / (1.0 - r2_treatment) * df / (df - 1.0)))
    moved = float(np.copysign(1.0, value) * (abs(value) - bias))
    reach = float(stats.t.isf(alpha / 2.0, df - 1.0)) * left
    return {"bias": bias, "value": moved, "error": left, "low": moved - reach, "high": moved + reach}


@dataclass(frozen=True)
class Strength:
    """What one declared column explains, the others held fixed.

    Attributes
    ----------
    r2_treatment
        Its share of the treatment that the other columns leave.
    odds_outcome
        ``R2 / (1 - R2)`` of the outcome that treatment and other columns leave; for a vector of traces.
    """

    r2_treatment: float
    odds_outcome: float

    def times(self, k: float) -> tuple[float, float]:
        """Shares ``(R2_D, R2_Y)`` of a hidden cause at most ``k`` times as strong as the column.

        Parameters
        ----------
        k
            Factor on both odds.

        Returns
        -------
        tuple of float
            ``R2_D`` is 1 where a cause so strong would have to explain all of the treatment or more; shares end at 1.

        References
        ----------
        Cinelli and Hazlett (2020), section 4.4. The collider term ``eta`` depends on the treatment only, and the
        outcome's part is additive over dimensions, so that the bound holds for a vector with traces in place of
        variances.
        """
        d = self.r2_treatment
        odds = d / (1.0 - d) if d < 1.0 else np.inf
        if k * odds >= 1.0:
            return 1.0, 1.0
        overlap = k * odds * d / (1.0 - k * d)  # R2 of hidden cause with the column given the treatment
        if overlap >= 1.0:
            return float(k * odds), 1.0
        eta = (np.sqrt(k) + np.sqrt(overlap)) / np.sqrt(1.0 - overlap)
        return float(k * odds), float(min(eta**2 * self.odds_outcome, 1.0))


def e_value(risk_ratio: float) -> float:
    """Risk ratio that a hidden cause must have with treatment and outcome to explain ``risk_ratio`` away.

    Parameters
    ----------
    risk_ratio
        Above 0; below 1 it is inverted.

    Returns
    -------
    float
        ``RR + sqrt(RR (RR - 1))``, at least 1.

    Raises
    ------
    DataError
        Not above 0.

    References
    ----------
    VanderWeele and Ding, Ann. Intern. Med. 167 (2017) 268-274.
    """
    if not risk_ratio > 0.0:
        raise DataError(f"risk_ratio={risk_ratio!r}: a ratio of risks is above 0.")
    rr = max(risk_ratio, 1.0 / risk_ratio)
    return float(rr + np.sqrt(rr * (rr - 1.0)))


def e_values(
    value: float, low: float, high: float, *, deviation: float | None = None, baseline: float | None = None
) -> tuple[float, float]:
    """Return E-values of a difference and of the end of its interval nearest to no effect.

    Parameters
    ----------
    value, low, high
        Difference and interval, in the outcome's unit.
    deviation
        Standard deviation of a continuous outcome over independent units.
    baseline
        Of a two-valued outcome in its place: the risk at the reference, above 0.

    Returns
    -------
    tuple of float
        The second is 1 if the interval holds 0; infinite where a risk falls to 0.

    Raises
    ------
    DataError
        Neither ``deviation`` nor ``baseline``.

    Notes
    -----
    A difference of ``d`` standard deviations is read as a risk ratio of ``exp(0.91 d)``: an approximation that assumes
    a normal outcome cut anywhere. Risks need no such reading: their ratio is ``1 + difference / baseline``, and the
    interval's ends are those of the difference at the baseline as estimated.

    References
    ----------
    VanderWeele and Ding (2017), table 2; Chinn, Statist. Med. 19 (2000) 3127-3131.
    """
    if baseline is None and deviation is None:
        raise DataError("an E-value needs the outcome's standard deviation, or the risk at the reference.")
    limit = 0.0 if low <= 0.0 <= high else low if value > 0.0 else high
    out = []
    for x in (value, limit):
        ratio = max(1.0 + x / baseline, 0.0) if baseline else np.exp(PER_DEVIATION * x / (deviation or np.inf))
        out.append(e_value(float(ratio)) if ratio > 0.0 else float("inf"))
    return out[0], out[1]
