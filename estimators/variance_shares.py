"""Shares of the variance of the outcomes that a factor, and biology, cause; and the directions they move along."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from causalfm.confidence import level_in_force
from causalfm.estimators.influence.group_influence import GroupInfluence
from causalfm.gram_norms import GramNorm, gram_covariance
from causalfm.norm_contrasts import fieller_of
from causalfm.units import helmert


@dataclass(frozen=True, eq=False)
class TotalVariance:
    """``tr Cov(Z)`` over groups.

    Attributes
    ----------
    value
        Unbiased estimate.
    units
        ``(B,)`` what the groups of each bundle add to its error.
    df
        Degrees of freedom of the error's variance.
    """

    value: float
    units: np.ndarray
    df: float

    def bound(self, probability: float) -> float:
        """Bound on the scale of logarithms, where a variance's error is nearly symmetric."""
        if self.value <= 0.0:
            return 0.0
        spread = float(np.sqrt((self.units**2).sum())) / self.value
        return float(self.value * np.exp(stats.t.ppf(1.0 - probability, self.df) * spread))


def total_variance(Z: np.ndarray, bundle: np.ndarray, n_bundles: int) -> TotalVariance:
    """Estimate the trace of the covariance of the groups' means ``Z (G, d)``."""
    G = len(Z)
    mean = Z.mean(axis=0)
    square = np.empty(G)
    step = max(1, 2**22 // Z.shape[1])
    for start in range(0, G, step):
        rows = slice(start, start + step)
        square[rows] = ((Z[rows] - mean) ** 2).sum(axis=1)
    value = float(square.sum()) / (G - 1)
    return TotalVariance(value, np.bincount(bundle, (square - square.mean()) / (G - 1), n_bundles), G - 1.0)


def level_spread(influence: GroupInfluence, shares: np.ndarray) -> np.ndarray:
    """Contrasts ``(L, L)`` with ``|C theta|^2 = tr Cov`` of the level effects when levels come in these ``shares``."""
    L = len(influence.names)
    return np.asarray(np.sqrt(shares)[:, None] * (np.eye(L) - shares))


def share_interval(norm: GramNorm, total: TotalVariance, level: float | None = None) -> tuple[float, float, float]:
    """Share ``norm / total`` with a two-sided interval.

    Parameters
    ----------
    norm
        Signed variance caused, with its bounds by inversion.
    total
        Variance of the same groups.
    level
        Confidence; None for the level in force.

    Returns
    -------
    value, low, high : float
        The interval is truncated at 0.

    Notes
    -----
    A share ``r`` is inside if the interval of ``norm - r * total`` holds zero; that interval is put together from those
    of both by the method of variance estimates recovery, with their correlation.

    References
    ----------
    A. Donner and G. Y. Zou, Statist. Methods Med. Res. 21 (2012) 347-359.
    """
    if total.value <= 0.0:
        return (float("nan"),) * 3
    tail = (1.0 - level_in_force(level)) / 2.0
    x, y = max(norm.value, 0.0), total.value
    low, high = norm.bound(1.0 - tail), norm.bound(tail)
    y_low, y_high = total.bound(1.0 - tail), total.bound(tail)
    shared = 2.0 * float(norm.along_units @ total.units)
    spread = np.sqrt(max(norm.variance, 0.0) * float((total.units**2).sum()))
    rho = float(np.clip(shared / spread, -1.0, 1.0)) if spread > 0.0 else 0.0
    return norm.value / y, _root(x, y, x - low, y_high - y, rho, -1.0), _root(x, y, high - x, y - y_low, rho, 1.0)


def _root(x: float, y: float, p: float, q: float, rho: float, sign: float) -> float:
    """Solve ``(x - r y)^2 = p^2 + r^2 q^2 - 2 rho p q r`` for the share below (``sign=-1``) or above ``x / y``."""
    p, q = max(p, 0.0), max(q, 0.0)
    head, middle, tail = y**2 - q**2, x * y - rho * p * q, x**2 - p**2
    if head <= 0.0:
        return 0.0 if sign < 0 else float("inf")
    root = np.sqrt(max(middle**2 - head * tail, 0.0))
    return float(max((middle + sign * root) / head, 0.0))


def share_ratio(a: GramNorm, b: GramNorm) -> tuple[float, float, float]:
    """Ratio of two variances caused, on the same groups, with Fieller's interval; ``nan`` if ``b`` may be zero."""
    return fieller_of(a, b, gram_covariance(a, b))


def joint_norm(influence: GroupInfluence) -> GramNorm:
    """Mean squared distance over all pairs of levels; for a slope, its squared length."""
    L = len(influence.names)
    return influence.norm(np.ones((1, 1))) if L == 1 else influence.norm(helmert(L), 2.0 / (L - 1))


def spread_norm(influence: GroupInfluence, shares: np.ndarray) -> GramNorm:
    """Variance caused by the levels, when they come in these shares; for a slope, by its standard deviation."""
    return influence.norm(np.ones((1, 1)) if len(shares) == 1 else level_spread(influence, shares))


def leading_directions(influence: GroupInfluence, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Directions along which the levels differ most, debiased.

    Parameters
    ----------
    influence
        Level means.
    shares
        ``(L,)`` distribution of the levels.

    Returns
    -------
    variance
        ``(L - 1,)`` debiased variance along each direction, descending; directions that are noise may be negative.
    directions
        ``(L - 1, d)`` unit vectors; the largest entry of each is positive.

    Notes
    -----
    The products of the levels' deviations ``(L, L)`` carry the noise ``tr(Gamma_kl)``, which is taken off before the
    eigenvectors are found; the ``d x d`` covariance has the same non-zero eigenvalues.
    """
    slope = len(shares) == 1
    C = np.ones((1, 1)) if slope else level_spread(influence, shares)
    deviations = C @ influence.theta
    values, vectors = np.linalg.eigh(deviations @ deviations.T - influence.traces(C))
    root = np.sqrt(shares) / np.linalg.norm(np.sqrt(shares))
    order = [i for i in np.argsort(values)[::-1] if slope or abs(vectors[:, i] @ root) < 1.0 - 1e-6]
    directions = vectors[:, order].T @ deviations
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), np.finfo(float).tiny)
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=1)[:, None], axis=1)
    return values[order], directions * np.where(largest < 0.0, -1.0, 1.0)
