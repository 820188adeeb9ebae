"""Fieller's interval of a ratio of two estimates with a known covariance."""

from __future__ import annotations

import numpy as np


def fieller_interval(
    top: float, bottom: float, covariance: tuple[float, float, float], quantile: float
) -> tuple[float, float, float]:
    """Return a ratio and the ends of Fieller's interval.

    Parameters
    ----------
    top, bottom
        Numerator and denominator, each an unbiased estimate.
    covariance
        Variance of the numerator, covariance of the two, variance of the denominator.
    quantile
        Two-sided quantile, of the normal or of Student's t.

    Returns
    -------
    ratio, low, high : float
        ``nan`` three times if the denominator is not told from 0: the interval would not be bounded.

    References
    ----------
    E. C. Fieller, J. R. Statist. Soc. B 16 (1954) 175-185.
    """
    of_top, shared, of_bottom = covariance
    q2 = quantile**2
    head = bottom**2 - q2 * of_bottom
    if head <= 0.0:
        return (float("nan"),) * 3
    middle, tail = top * bottom - q2 * shared, top**2 - q2 * of_top
    root = np.sqrt(max(middle**2 - head * tail, 0.0))
    return top / bottom, float((middle - root) / head), float((middle + root) / head)
