"""The regression behind every corrector: what a level of the factor adds to the mean, given biology and covariates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalfm.level_moments import LevelMoments

NULL = 1e-9  # eigenvalue of the scaled Gram matrix below which the design says nothing


@dataclass(frozen=True, eq=False)
class Adjusted:
    """Additive fit ``x = level + regressors + residual``.

    Attributes
    ----------
    levels
        ``(L, d)`` mean of each level at the regressors' mean over all rows.
    beta
        ``(q - 1, d)`` coefficients of the regressors other than 1.
    centre
        ``(d,)`` mean of all rows.
    means
        ``(q - 1,)`` means of the regressors.
    count
        ``(L,)`` sums of weights.
    unit_error
        ``(L,)`` variance of a level's distance from the mean of all levels, per unit of residual variance.
    coefficients
        ``(L, q, d)`` regression of the shifted rows at each level, the intercept first.
    located
        ``(L,)`` rows (groups) of equal weight that tell as much of a level's place as its rows do; here ``count``.
    undetermined
        True if the design leaves differences between levels open.
    """

    levels: np.ndarray
    beta: np.ndarray
    centre: np.ndarray
    means: np.ndarray
    count: np.ndarray
    unit_error: np.ndarray
    coefficients: np.ndarray
    located: np.ndarray
    undetermined: bool

    def effects(self, reference: int | None) -> np.ndarray:
        """``(L, d)`` distance of each level from the mean of all rows, or from a reference level."""
        return np.asarray(self.levels - (self.centre if reference is None else self.levels[reference]))


def adjusted(moments: LevelMoments) -> Adjusted:
    """Solve the normal equations.

    Parameters
    ----------
    moments
        Of the rows.

    Returns
    -------
    Adjusted
        Where the design leaves coefficients open, those of least norm; differences it determines are unaffected.
    """
    gram, cross, count = moments.gram, moments.cross, moments.count
    L, q = gram.shape[:2]
    normal = np.zeros((L + q - 1, L + q - 1))
    normal[:L, :L] = np.diag(count)
    normal[:L, L:] = gram[:, 0, 1:]
    normal[L:, :L] = gram[:, 0, 1:].T
    normal[L:, L:] = gram[:, 1:, 1:].sum(axis=0)
    right = np.concatenate([cross[:, 0], cross[:, 1:].sum(axis=0)])
    inverse, null = _inverse(normal)
    solved = inverse @ right
    share = count / count.sum()
    means = gram[:, 0, 1:].sum(axis=0) / count.sum()
    contrast = np.zeros((L, L + q - 1))
    contrast[:, :L] = np.eye(L) - share
    size = np.abs(null).max() if null.size else 1.0
    open_ = bool((np.abs(contrast @ null) > 1e-6 * size).any()) if null.size else False
    beta = solved[L:]
    centre = moments.shift + share @ solved[:L] + means @ beta
    levels = moments.shift + solved[:L] + means @ beta
    coefficients = np.concatenate([solved[:L, None], np.broadcast_to(beta, (L, *beta.shape))], axis=1)
    error = np.einsum("lp,pq,lq->l", contrast, inverse, contrast)
    return Adjusted(levels, beta, centre, means, count, np.maximum(error, 1e-300), coefficients, count, open_)


def residual_squares(moments: LevelMoments, fit: Adjusted) -> np.ndarray:
    """Return sums of squared residuals per level ``(L, d)``, or their products ``(L, d, d)`` from full moments."""
    B, gram, cross = fit.coefficients, moments.gram, moments.cross
    if moments.second == "full":
        mixed = np.einsum("lqd,lqe->lde", B, cross, optimize=True)
        fitted = np.einsum("lqd,lqr,lre->lde", B, gram, B, optimize=True)
        return np.asarray(moments.square - mixed - mixed.transpose(0, 2, 1) + fitted)
    mixed = (B * cross).sum(axis=1)
    fitted = (B * (gram @ B)).sum(axis=1)
    return np.asarray(np.maximum(moments.square - 2.0 * mixed + fitted, 0.0))


def regressor_covariance(moments: LevelMoments) -> np.ndarray:
    """Covariance ``(q - 1, q - 1)`` of the regressors over all rows: the mix of biology and covariates."""
    total = moments.gram.sum(axis=0) / moments.count.sum()
    return np.asarray(total[1:, 1:] - np.outer(total[0, 1:], total[0, 1:]))


@dataclass(frozen=True, eq=False)
class Partial:
    """Products per unit of weight, after regression on biology and covariates.

    Attributes
    ----------
    xz, xx
        ``(d, L)`` rows and level indicators, ``(d, d)`` rows, both regressed on the regressors.
    zz
        ``(L,)`` squares of the indicators, likewise.
    total
        ``(d, d)`` rows less their mean only.
    mean
        ``(d,)`` of all rows.
    """

    xz: np.ndarray
    xx: np.ndarray
    zz: np.ndarray
    total: np.ndarray
    mean: np.ndarray


def partial_products(moments: LevelMoments) -> Partial:
    """Regress rows and level indicators on the regressors, from pooled or full moments."""
    n = moments.count.sum()
    gram, cross = moments.gram.sum(axis=0), moments.cross.sum(axis=0)
    onto = moments.gram[:, 0].T  # (q, L)
    inverse, _ = _inverse(gram)
    solved = inverse @ cross
    mean = cross[0] / n
    square = moments.square if moments.second == "pooled" else moments.square.sum(axis=0)
    return Partial(
        (moments.cross[:, 0].T - solved.T @ onto) / n,
        (square - cross.T @ solved) / n,
        (moments.count - np.einsum("ql,qr,rl->l", onto, inverse, onto)) / n,
        square / n - np.outer(mean, mean),
        moments.shift + mean,
    )


def _inverse(normal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pseudo-inverse of a Gram matrix, units of the regressors aside, and the directions on which it is silent."""
    scale = np.sqrt(np.diag(normal))
    scale = np.where(scale > 0, scale, 1.0)
    values, vectors = np.linalg.eigh(normal / np.outer(scale, scale))
    kept = values > NULL * values[-1]
    inverse = (vectors[:, kept] / values[kept]) @ vectors[:, kept].T / np.outer(scale, scale)
    return np.asarray(inverse), np.asarray(vectors[:, ~kept] / scale[:, None])
