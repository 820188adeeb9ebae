"""Shares of patients: their intervals, and what one more hospital would have."""

from __future__ import annotations

import numpy as np

from causalfm.confidence import CHECK_ALPHA, alpha_in_force
from causalfm.results import Estimate
from causalfm.shift.changes.drift_distances import MIN_SITES

NAN = float("nan")


def share_estimate(shares: np.ndarray, name: str, unit: str, n: int) -> Estimate:
    """Mean of the patients' shares ``(G,)`` with Korn and Graubard's interval.

    Clopper and Pearson's with the number of patients that would give the variance seen; the patients themselves where
    shares do not vary. Where patients are all of one kind each is one trial, else the variance is an estimate, and the
    normal quantile stands for that of the rows: rows given twice change nothing.

    References
    ----------
    Korn and Graubard, Survey Methodology 24 (1998) 193-201.
    """
    from scipy import stats

    G, p, tail = len(shares), float(shares.mean()), alpha_in_force() / 2.0
    variance = float(shares.var(ddof=1)) / G if G > 1 else 0.0
    size = p * (1.0 - p) / variance if variance > 0.0 else float(G)
    if G > 1 and ((shares > 0.0) & (shares < 1.0)).any():
        size *= (stats.norm.ppf(1.0 - tail) / stats.t.ppf(1.0 - tail, G - 1)) ** 2
    x = p * size
    low = float(stats.beta.ppf(tail, x, size - x + 1.0)) if x > 0.0 else 0.0
    high = float(stats.beta.ppf(1.0 - tail, x + 1.0, size - x)) if x < size else 1.0
    return Estimate(name, p, low, high, NAN, n, G, unit, {"target": "these sites"})


def one_more_share(among: np.ndarray, variance: float, counts: np.ndarray, new: Estimate) -> tuple[float, float]:
    """Predict the share of one more hospital from those of others, on the scale of the arcsine of the root.

    Parameters
    ----------
    among
        ``(S,)`` share at each hospital; ``nan`` where it was not measured.
    variance
        Of a patient's share within hospitals.
    counts
        ``(S,)`` patients of each hospital.
    new
        The share of the new one.

    Returns
    -------
    limit, p_value : float
        95 % prediction limit, and the probability of a share as large; ``nan`` under five hospitals.

    Notes
    -----
    The spread of the angles is that of the hospitals and of their patients; the patients' part is taken off and that of
    the new hospital put in its place. Student's t with the hospitals' degrees of freedom.
    """
    from scipy import stats

    told = np.isfinite(among)
    if told.sum() < MIN_SITES:
        return NAN, NAN
    angle, n = np.arcsin(np.sqrt(among[told])), int(told.sum())
    middle = float(among[told].mean())
    slope = 1.0 / (4.0 * max(middle * (1.0 - middle), 1e-6))  # variance of the angle per variance of the share
    patients = max(variance, middle * (1.0 - middle) / float(counts[told].sum())) * slope
    spread = float(angle.var(ddof=1))
    between = max(spread - patients * float((1.0 / counts[told]).mean()), 0.0)
    scale = np.sqrt(between + patients / new.n_groups + spread / n)
    if not scale > 0.0:
        return NAN, NAN
    limit = float(angle.mean()) + float(stats.t.ppf(1.0 - CHECK_ALPHA, n - 1)) * scale
    p_value = float(stats.t.sf((np.arcsin(np.sqrt(new.value)) - angle.mean()) / scale, n - 1))
    return float(np.sin(min(limit, np.pi / 2.0)) ** 2), p_value
