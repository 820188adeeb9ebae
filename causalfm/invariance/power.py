"""Power curves, and the distance between levels that a test sees with 80 % power."""

from __future__ import annotations

import numpy as np

from causalfm.confidence import CHECK_ALPHA
from causalfm.invariance.null_models import PValues

POWER = 0.8
GRID = 24  # points of a curve


def power_curve(p_values: PValues, direction: str, scale: float, points: int = GRID) -> tuple[np.ndarray, np.ndarray]:
    """Power against the distance between levels, from none to where nearly all null cohorts are rejected.

    Parameters
    ----------
    p_values
        Of null cohorts with a shift.
    direction
        How levels move.
    scale
        First guess of the distance.
    points
        Points of the curve.

    Returns
    -------
    distance, power : numpy.ndarray
        Ascending; the power is made monotone.
    """

    def power(distance: float) -> float:
        return float((p_values(direction, distance) <= CHECK_ALPHA).mean())

    top = max(scale, 1e-12)
    for _ in range(20):  # to three thousand times the guess: beyond it nothing would be seen
        if power(top) >= 0.99:
            break
        top *= 1.5
    distance = np.linspace(0.0, top, points)
    return distance, np.maximum.accumulate([power(x) for x in distance])


def detectable_distance(distance: np.ndarray, power: np.ndarray, n: int) -> tuple[float, float, float]:
    """Distance seen with 80 % power, and where the curve is 1.96 binomial standard errors below and above that.

    Parameters
    ----------
    distance, power
        The curve, ascending.
    n
        Null cohorts behind each point.

    Returns
    -------
    value, low, high : float
        By linear interpolation; infinite where the curve does not get there.
    """
    error = 1.96 * np.sqrt(POWER * (1.0 - POWER) / n)

    def at(wanted: float) -> float:
        above = np.flatnonzero(power >= wanted)
        if not len(above):
            return float("inf")
        i = above[0]
        return float(distance[0] if i == 0 else np.interp(wanted, power[i - 1 : i + 1], distance[i - 1 : i + 1]))

    return at(POWER), at(POWER - error), at(min(POWER + error, 1.0))
