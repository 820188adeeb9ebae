"""Median, share not above 0 and lower tail of margins as means of scores: their intervals are those of means."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalfm.metrics.design import NO_SPREAD, no_spread, t_quantile, variance_of
from causalfm.metrics.list_ratios import Ratio, share
from causalfm.results import Influence

# Channels: not above 0, not above the median, the tail's influence, and the number of queries.
F0 = Ratio("croma_f0", share([0], [3]), (3,), lacks="no margin")
AT_MEDIAN = Ratio("croma", share([1], [3]), (3,), lacks="no margin")
TAIL = Ratio("croma_ltm", share([2], [3]), (3,), "margin", lacks="no margin")


@dataclass(frozen=True)
class Summary:
    """Median, share of margins not above 0, mean of those not above the alpha quantile, and that quantile."""

    median: float
    f0: float
    ltm: float
    quantile: float


def summary_of(values: np.ndarray, alpha: float, weights: np.ndarray | None = None) -> Summary:
    """Summarise margins ``(q,)``; one of exactly 0 counts as the confounder's, as in croma.

    Without weights the numbers are those of NumPy and croma to the last digit.
    """
    if weights is None:
        low = float(np.percentile(values, 100 * alpha))
        return Summary(float(np.median(values)), float((values <= 0).mean()), float(values[values <= low].mean()), low)
    low = quantile_at(values, weights, alpha)
    f0, _, tail = np.average(score_columns(values, 0.0, low, alpha), axis=0, weights=weights)
    return Summary(quantile_at(values, weights, 0.5), float(f0), float(tail), low)


def score_columns(values: np.ndarray, median: float, quantile: float, alpha: float) -> np.ndarray:
    """Return the scores whose means are F(0), F(median) and the lower-tail mean, ``(q, 3)``; ``nan`` stays.

    The lower-tail mean is ``q + mean(min(x - q, 0)) / alpha``; to first order it does not move with its quantile ``q``,
    which is therefore held fixed.
    """
    tail = quantile + np.minimum(values - quantile, 0.0) / alpha
    scores = np.stack([values <= 0, values <= median, tail], axis=1)
    scores[np.isnan(values)] = np.nan
    return scores


def quantile_at(values: np.ndarray, weights: np.ndarray, at: float) -> float:
    """Return the weighted quantile: between the two neighbouring values, -1 below the first and 1 above the last.

    Parameters
    ----------
    values, weights
        ``(q,)``; with equal weights ``at=0.5`` is the median.
    at
        Between 0 and 1; beyond, the end of the margin's range.
    """
    if not 0 < at < 1:
        return -1.0 if at <= 0 else 1.0
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    middle = (reached - weights[order] / 2) / reached[-1]
    return float(np.interp(at, middle, values[order]))


def median_interval(
    values: np.ndarray, weights: np.ndarray, influence: Influence | str, unit: str
) -> tuple[float, float, str, Influence | None]:
    """Return the interval of the median, how it was found, and what each unit adds to it.

    Woodruff's: the interval of the share of margins not above the median, read back through the distribution. The
    slope that turns effects on that share into effects on the median is the one over the interval.

    References
    ----------
    Woodruff, Confidence intervals for medians and other position measures, JASA 47:635 (1952).
    """
    nan = float("nan")
    if isinstance(influence, str):
        return nan, nan, influence, None
    variance, df = variance_of(influence)
    if not variance > NO_SPREAD:
        return nan, nan, no_spread(unit), None
    half = t_quantile(df) * variance**0.5
    low, high = (quantile_at(values, weights, at) for at in (0.5 - half, 0.5 + half))
    slope = -(high - low) / (2 * half)
    pairs = None if influence.pairs is None else influence.pairs * slope
    own = Influence(influence.effects * slope, influence.strata, pairs, influence.pairs_are_residuals)
    note = f"Woodruff: delete-one-{unit} jackknife of the share below the median, t with {df:.0f} degrees of freedom"
    return low, high, note, own
