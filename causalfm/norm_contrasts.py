"""Two squared norms from the same patients: their covariance, a linear contrast and their ratio."""

from __future__ import annotations

import numpy as np
from scipy import stats

from causalfm.confidence import level_in_force
from causalfm.covariances import CellCovariances
from causalfm.fieller import fieller_interval
from causalfm.norms import SquaredNorm


def covariance(a: SquaredNorm, b: SquaredNorm, cells: CellCovariances) -> float:
    """Covariance of two squared-norm estimates made from the same patients.

    Parameters
    ----------
    a, b
        The estimates.
    cells
        The covariances both were made with.

    Returns
    -------
    float
        ``4 gamma_a Gamma_ab gamma_b - 2 tr(Gamma_ab Gamma_ba)``, of estimated contrasts, plus the shared error of the
        two noise traces.
    """
    M = cells.weight_products(a.weights, b.weights)
    total = float(np.einsum("cjk,cjk->", M, cells.along(a.gamma, b.gamma)))
    square = float(np.einsum("cjk,ejk,ce->", M, M, cells.product))
    trace_a = np.einsum("cjj->c", cells.weight_products(a.weights, a.weights))
    trace_b = np.einsum("cjj->c", cells.weight_products(b.weights, b.weights))
    shared = float((trace_a * trace_b * 2.0 * np.diag(cells.product) / cells.df).sum())
    return 4.0 * total - 2.0 * square + shared


def linear_bounds(
    a: SquaredNorm, b: SquaredNorm, factor: float, cells: CellCovariances | None, level: float
) -> tuple[float, float, float]:
    """Estimate ``a - factor * b`` with its two one-sided bounds.

    Parameters
    ----------
    a, b
        Squared norms, for instance of the site and of the biology.
    factor
        Squared margin.
    cells
        The covariances both were made with; None if they were made from different means of the same patients, whose
        covariance is not known: the worst correlation is taken.
    level
        Confidence of each bound.

    Returns
    -------
    value, low, high : float
        The contrast and its one-sided bounds.

    Notes
    -----
    The bounds of the two norms, each found by inversion and therefore skewed as it should be, are combined by the
    method of variance estimates recovery with the estimates' correlation. Symmetric bounds failed a true null in
    8-10 % instead of 5 %.

    References
    ----------
    G. Y. Zou and A. Donner, Statistics in Medicine 27 (2008) 1693-1702.
    """
    x, y = max(a.value, 0.0), factor * max(b.value, 0.0)
    low = x - y - _reach(x - a.bound(level), factor * b.bound(1.0 - level) - y, _correlation(a, b, cells))
    return x - y, low, upper_bound(a, b, factor, cells, level)


def upper_bound(a: SquaredNorm, b: SquaredNorm, factor: float, cells: CellCovariances | None, level: float) -> float:
    """Return the upper bound of ``a - factor * b`` alone: see :func:`linear_bounds`."""
    x, y = max(a.value, 0.0), factor * max(b.value, 0.0)
    return x - y + _reach(a.bound(1.0 - level) - x, y - factor * b.bound(level), _correlation(a, b, cells))


def _correlation(a: SquaredNorm, b: SquaredNorm, cells: CellCovariances | None) -> float:
    spread = np.sqrt(a.variance * b.variance)
    return -1.0 if cells is None or spread <= 0.0 else float(np.clip(covariance(a, b, cells) / spread, -1.0, 1.0))


def _reach(p: float, q: float, correlation: float) -> float:
    """Combine two distances from estimate to bound by the estimates' correlation."""
    p, q = max(p, 0.0), max(q, 0.0)
    return float(np.sqrt(max(p**2 + q**2 - 2.0 * correlation * p * q, 0.0)))


def fieller(
    a: SquaredNorm, b: SquaredNorm, cells: CellCovariances, level: float | None = None
) -> tuple[float, float, float]:
    """Ratio of two squared norms with Fieller's interval, truncated at 0.

    Parameters
    ----------
    a, b
        Numerator and denominator.
    cells
        The covariances both were made with.
    level
        Two-sided confidence; None for the level in force.

    Returns
    -------
    ratio, low, high : float
        ``nan`` three times if the denominator is not told from zero (its own interval, or Fieller's criterion).

    References
    ----------
    E. C. Fieller, J. R. Statist. Soc. B 16 (1954) 175-185.
    """
    return fieller_of(a, b, covariance(a, b, cells), level)


def fieller_of(a: SquaredNorm, b: SquaredNorm, shared: float, level: float | None = None) -> tuple[float, float, float]:
    """Return the same for two norms of a known covariance ``shared``."""
    level = level_in_force(level)
    if b.interval(level)[0] <= 0.0:
        return (float("nan"),) * 3
    quantile = stats.t.ppf(0.5 + level / 2.0, min(a.df_directional, b.df_directional))
    ratio, low, high = fieller_interval(a.value, b.value, (a.variance, shared, b.variance), quantile)
    return ratio, float(np.maximum(low, 0.0)), float(np.maximum(high, 0.0))  # nan stays nan
