"""Posterior means of ComBat: normal prior for locations, inverse gamma prior for variances, in standardised units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

STEPS = 1000
TOLERANCE = 1e-10
SMALLEST = 1e-8  # prior variance: where all estimates agree


@dataclass(frozen=True, eq=False)
class Prior:
    """Hyperparameters; scalars, or one per dimension.

    Attributes
    ----------
    mean, variance
        Of locations.
    shape, rate
        Of the inverse gamma of variances; None if all variances are 1.
    """

    mean: np.ndarray
    variance: np.ndarray
    shape: np.ndarray | None
    rate: np.ndarray | None


def prior_over(gamma: np.ndarray, delta: np.ndarray | None, axis: int) -> Prior:
    """Fit the prior by moments.

    Parameters
    ----------
    gamma, delta
        ``(L, d)`` locations and variances; no variances: they are 1.
    axis
        1: one prior per level, over its dimensions (Johnson et al.). 0: one per dimension, over the levels.

    Returns
    -------
    Prior
        Arrays that broadcast against ``(L, d)``.
    """
    mean = gamma.mean(axis=axis, keepdims=True)
    variance = np.maximum(gamma.var(axis=axis, ddof=1, keepdims=True), SMALLEST)
    if delta is None:
        return Prior(mean, variance, None, None)
    m = delta.mean(axis=axis, keepdims=True)
    s2 = np.maximum(delta.var(axis=axis, ddof=1, keepdims=True), SMALLEST)
    shape = m**2 / s2 + 2.0
    return Prior(mean, variance, shape, m * (shape - 1.0))


def posterior(
    gamma: np.ndarray, delta: np.ndarray | None, count: np.ndarray, prior: Prior, located: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Posterior locations and variances, each given the other, to convergence.

    Parameters
    ----------
    gamma, delta
        ``(L, d)`` estimates; no variances: they are 1.
    count
        ``(L,)`` rows or groups.
    prior
        See :class:`Prior`.
    located
        ``(L,)`` rows that tell as much of a location as the estimate does; None: ``count``.

    Returns
    -------
    gamma, delta
        ``(L, d)``.

    References
    ----------
    Johnson, Li and Rabinovic, Biostatistics 8 (2007) 118-127.
    """
    n = count[:, None]
    m = n if located is None else located[:, None]
    variance = np.ones_like(gamma) if delta is None else delta
    for _ in range(STEPS):
        weight = prior.variance * m
        location = (weight * gamma + variance * prior.mean) / (weight + variance)
        if delta is None or prior.shape is None or prior.rate is None:
            return location, variance
        squares = (n - 1.0) * delta + m * (gamma - location) ** 2
        new = (0.5 * squares + prior.rate) / (n / 2.0 + prior.shape - 1.0)
        moved, variance = float(np.abs(new / variance - 1.0).max()), new
        if moved < TOLERANCE:
            break
    return location, variance
