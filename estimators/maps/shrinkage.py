"""Shrinkage of many signed squared norms towards their mean: what is alike is told better together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from causalfm.confidence import alpha_in_force
from causalfm.norms import SquaredNorm

LEAST = 4  # cells


@dataclass(frozen=True, eq=False)
class Shrunk:
    """Squared norms of ``C`` cells after shrinkage.

    Attributes
    ----------
    mean, mean_error
        Common squared norm and its standard error.
    between
        Variance between the cells' true squared norms.
    values, lows, highs
        ``(C,)`` shrunk values with 95 % empirical-Bayes intervals (they hold on average over the cells).
    weights
        ``(C,)`` share of its own estimate in each value; the rest is the mean's.
    """

    mean: float
    mean_error: float
    between: float
    values: np.ndarray
    lows: np.ndarray
    highs: np.ndarray
    weights: np.ndarray


def shrink(norms: Sequence[SquaredNorm]) -> Shrunk:
    """Shrink signed squared norms of independent cells.

    Parameters
    ----------
    norms
        One per cell.

    Returns
    -------
    Shrunk
        A single cell stays as it is.

    Notes
    -----
    ``q_c ~ N(theta_c, v_c)``, ``theta_c ~ N(m, between)``: the value is ``m + B_c (q_c - m)`` with ``B_c = between /
    (between + v_c)``. The variance of a squared norm grows with it, so that cells that came out small by chance would
    claim to be precise and pull the mean down: ``v_c = 4 m u_c + 2 tr(Gamma_c^2)`` is therefore taken at the common
    mean, with ``u_c`` the variance along the effect. ``between`` by Paule and Mandel; intervals with Morris's allowance
    for its estimation, and with the variance at the cell's own value where that is larger. ``1 - B_c`` carries Morris's
    factor ``(C - 3) / (C - 1)``: four cells that are all alike move a third of the way to their mean, six 0.6 of it.
    Needs four cells: fewer cannot tell how far cells differ, and are left as they are.

    References
    ----------
    Morris, J. Am. Statist. Assoc. 78 (1983) 47-55; Paule and Mandel, J. Res. Natl. Bur. Stand. 87 (1982) 377-385.
    """
    q = np.array([norm.value for norm in norms])
    C = len(q)
    mean, v = _at_common_mean(norms, q, 0.0)
    if C < LEAST:
        ends = np.array([norm.interval() for norm in norms]).reshape(C, 2)
        error = float(1.0 / np.sqrt((1.0 / v).sum()))
        return Shrunk(mean, error, float("nan"), q, ends[:, 0], ends[:, 1], np.ones(C))
    between = _between(q, v)
    for _ in range(20):
        mean, v = _at_common_mean(norms, q, between)
        moved = _between(q, v)
        if abs(moved - between) <= 1e-9 * (between + v.min()):
            break
        between = moved
    precision = 1.0 / (v + between)
    error = float(1.0 / np.sqrt(precision.sum()))
    own = between / (v + between)
    factor = (C - 3.0) / (C - 1.0)
    B = 1.0 - factor * (1.0 - own)
    values = mean + B * (q - mean)
    own_v = np.array([_variance(norm, max(value, mean)) for norm, value in zip(norms, values, strict=True)])
    spread = (
        B * own_v + (1.0 - B) * precision / precision.sum() * own_v + 2.0 / (C - 3.0) * ((1.0 - B) * (q - mean)) ** 2
    )
    half = stats.norm.isf(alpha_in_force() / 2.0) * np.sqrt(spread)
    return Shrunk(mean, error, between, values, values - half, values + half, B)


def _at_common_mean(norms: Sequence[SquaredNorm], q: np.ndarray, between: float) -> tuple[float, np.ndarray]:
    """Mean of the squared norms, and their variances if each were that large."""
    v = np.array([_variance(norm, 0.0) for norm in norms])
    for _ in range(50):
        weight = 1.0 / (v + between)
        mean = float(weight @ q / weight.sum())
        moved = np.array([_variance(norm, mean) for norm in norms])
        if np.abs(moved - v).max() <= 1e-9 * v.max():
            break
        v = moved
    return mean, v


def _variance(norm: SquaredNorm, theta: float) -> float:
    """Variance of a squared norm whose truth is ``theta``."""
    theta = max(theta, 0.0)
    return max(2.0 * norm.noise_square + 4.0 * theta * norm.directional(theta), np.finfo(float).tiny)


def _between(q: np.ndarray, v: np.ndarray) -> float:
    """Variance at which the weighted squares about the mean are what they should be; 0 if they are less without it."""

    def excess(between: float) -> float:
        weight = 1.0 / (v + between)
        mean = weight @ q / weight.sum()
        return float(weight @ (q - mean) ** 2 - (len(q) - 1.0))

    if excess(0.0) <= 0.0:
        return 0.0
    high = float(np.ptp(q) ** 2 + v.max())
    while excess(high) > 0.0:
        high *= 2.0
    return float(optimize.brentq(excess, 0.0, high, xtol=1e-12 * high))
