"""Squared norms of effects whose covariance is a sum over units of ``phi_g phi_g'``: one Gram matrix of the units.

:mod:`causalfm.norms` weighs units of equal covariance within a cell. Here every unit brings its own contribution
``phi_g (K, d)`` to the error of ``K`` contrasts, as influence functions do; the covariance
``Gamma = sum_g phi_g phi_g'`` has ``K d`` rows and is needed through inner products of units only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from causalfm.covariances import unbiased_squares
from causalfm.norms import SquaredNorm, norm_moments

LEAST_DF = 1.2  # an unbiased tr(S^2) needs more than one


@dataclass(frozen=True, eq=False)
class GramNorm(SquaredNorm):
    """A squared norm with what its covariance with another one of the same units needs.

    Attributes
    ----------
    gram
        ``(G, G)`` inner products of the units' contributions.
    along_units
        ``(G,)`` inner products of the contributions with the effect.
    noise_error
        Variance of ``noise``.
    """

    gram: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)), repr=False)
    along_units: np.ndarray = field(default_factory=lambda: np.zeros(0), repr=False)
    noise_error: float = 0.0


def gram_norm(
    gamma: np.ndarray, contributions: Iterable[np.ndarray], codes: np.ndarray, df: np.ndarray, *, scale: float = 1.0
) -> GramNorm:
    """Estimate ``scale * |gamma|^2`` from the units' contributions to its error.

    Parameters
    ----------
    gamma
        ``(K, d)`` estimated contrasts.
    contributions
        ``K`` matrices ``(G, d)``, one at a time: ``sum_g phi_g phi_g'``, with ``phi_g`` the rows of group ``g`` in all
        of them, estimates the covariance of ``gamma`` without bias.
    codes
        ``(G,)`` cell of each unit.
    df
        ``(C,)`` degrees of freedom of each cell's part of the covariance.
    scale
        Positive factor of the squared norm.

    Returns
    -------
    GramNorm
        Signed estimate and moments.

    Notes
    -----
    The moments are those of :func:`causalfm.norms.squared_norm`, with ``Gamma_c = sum_{g in c} phi_g phi_g'``:
    ``tr(Gamma_c Gamma_e)`` is the sum of squared inner products between the units of two cells. Where contributions are
    residuals of equal weight within cells, both functions give the same numbers.
    """
    gram, v = np.zeros((len(codes), len(codes))), np.zeros(len(codes))
    for part, effect in zip(contributions, gamma, strict=True):
        gram += part @ part.T
        v += part @ effect
    return norm_of_products(gamma, scale * gram, scale * v, codes, df, scale=scale)


def norm_of_products(
    gamma: np.ndarray, gram: np.ndarray, v: np.ndarray, codes: np.ndarray, df: np.ndarray, *, scale: float = 1.0
) -> GramNorm:
    """Estimate ``scale * |gamma|^2`` from inner products of the units' contributions, see :func:`gram_norm`.

    Parameters
    ----------
    gamma, codes, df, scale
        As there.
    gram, v
        ``(G, G)`` and ``(G,)`` inner products with each other and with ``gamma``, times ``scale``.
    """
    df = np.maximum(df, LEAST_DF)
    onehot = np.eye(len(df))[codes]
    traces, along = onehot.T @ np.diag(gram), onehot.T @ v**2
    product = onehot.T @ (gram**2 @ onehot)
    np.fill_diagonal(product, unbiased_squares(np.diag(product), traces, df, gamma.size))
    noise, noise_square = float(traces.sum()), float(product.sum())
    observed = float(scale * (gamma**2).sum())
    bend = float(v @ gram @ v) - float((traces * along / df).sum())
    noise_error = float((2.0 * np.diag(product) / df).sum())
    return GramNorm(
        **norm_moments(observed, noise, noise_square, along, df, bend=bend, noise_error=noise_error),
        weights=np.zeros((0, 0)),
        gamma=np.sqrt(scale) * gamma,
        gram=gram,
        along_units=v,
        noise_error=noise_error,
    )


def gram_covariance(a: GramNorm, b: GramNorm) -> float:
    """Covariance of two squared norms made from the same units, in the same order.

    Returns
    -------
    float
        ``4 gamma_a Gamma_ab gamma_b - 2 tr(Gamma_ab Gamma_ba)`` plus the shared error of the two noise traces. That
        error, and what a product of estimated covariances overshoots by, are known for each norm; what two norms share
        of them follows the squares of the units' contributions.
    """
    linear = float(a.along_units @ b.along_units)
    own_a, own_b = np.diag(a.gram), np.diag(b.gram)
    spread = np.sqrt(max(float(own_a @ own_a) * float(own_b @ own_b), np.finfo(float).tiny))
    common = float(own_a @ own_b) / float(spread)
    excess = [max(float((norm.gram**2).sum()) - norm.noise_square, 0.0) for norm in (a, b)]
    square = float((a.gram * b.gram).sum()) - common * np.sqrt(excess[0] * excess[1])
    return float(4.0 * linear - 2.0 * square + common * np.sqrt(a.noise_error * b.noise_error))
