"""How much more a sum of squares between levels varies than permutations show, where covariances differ in direction.

A permuted cell holds patients of all levels, so that its covariance is the stratum's: flatter than the cells' own where
their loud directions differ. The permuted sums of squares then vary less than the observed one.
"""

from __future__ import annotations

import numpy as np

from causalfm.covariances import squared_products

LEAST_DF = 3.0  # an unbiased tr(S^2) takes four patients, whatever their distribution


def excess_variance(
    residuals: np.ndarray, onehot: np.ndarray, strata: np.ndarray, P: np.ndarray, basis: np.ndarray
) -> float:
    """Variance of the observed statistic over that of the permuted ones, at least 1.

    Parameters
    ----------
    residuals
        ``(K, d)`` patients minus the mean of their cell (and covariate term).
    onehot, strata
        ``(K, C)`` and ``(K, W)`` indicators of cells and strata.
    P
        ``(C, C)``: the sum of squares is ``Q = tr(m' P m)`` for cell means ``m``.
    basis
        ``(K, q)`` orthonormal covariates within cells, which the residuals have lost.

    Returns
    -------
    float
        1 where the cells' covariances differ by factors only, up to the error of the estimate.

    Notes
    -----
    Less its estimated expectation, ``Q`` is a sum over pairs of patients, with variance ``2 sum_ab w_ab tr(S_a S_b)``:
    ``w_ab = P_ab^2 / (n_a n_b)``, and ``P_aa^2 / (n_a (n_a - 1))`` for ``a = b``. Relative to the squared traces this
    is ``v = sum w_ab tr(S_a S_b) / sum w_ab tr(S_a) tr(S_b)``. Permuted, every covariance is the mean over the patients
    of the stratum; the result is ``v`` over its value there. Estimates below 1 count as 1: a test that errs on the safe
    side is left as it is.

    References
    ----------
    Chen and Qin, Ann. Statist. 38 (2010) 808-835; Himeno and Yamada, J. Multivariate Anal. 130 (2014) 27-44.
    """
    n = onehot.sum(axis=0)
    trace, product = trace_products(residuals, onehot, basis)
    weights = P**2 / np.outer(n, n)
    np.fill_diagonal(weights, np.diag(P) ** 2 / (n * (n - 1.0)))
    together = (onehot.T @ strata) @ (onehot.T @ strata / n[:, None]).T  # n_a where a and c share a stratum
    share = together.T / together.sum(axis=0)[:, None]
    mixed, mean = share @ product @ share.T, share @ trace
    own, permuted = float((weights * product).sum()), float((weights * mixed).sum())
    if min(own, permuted) <= 0.0:
        return 1.0
    relative = own * float((weights * np.outer(mean, mean)).sum())
    return max(1.0, relative / (permuted * float((weights * np.outer(trace, trace)).sum())))


def trace_products(residuals: np.ndarray, onehot: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Estimate what is needed of the cells' covariances.

    Parameters
    ----------
    residuals, onehot, basis
        See :func:`excess_variance`.

    Returns
    -------
    trace, product : numpy.ndarray
        ``tr(S_a) (C,)`` and ``tr(S_a S_b) (C, C)``.

    Notes
    -----
    Without covariates both are unbiased, whatever the distribution: those of one cell are the averages over its
    patients that are all distinct. Cells of fewer than four are given ``tr(S_a)^2`` times the mean of all others. A
    covariate ties patients of two cells by ``M_gh``, which adds ``M_gh^2 tr(S_a) tr(S_b)`` to their squared products,
    and takes as much from those within cells.
    """
    n = onehot.sum(axis=0)
    kept = 1.0 - onehot @ (1.0 / n) - (basis**2).sum(axis=1)  # M_gg of the residuals M Y
    df = np.maximum(onehot.T @ kept, 1e-9 * n)
    lengths = (residuals**2).sum(axis=1)
    trace = onehot.T @ lengths / df
    product = squared_products(residuals, onehot)
    product = (product - _tied(onehot, basis) * np.outer(trace, trace)) / np.outer(df, df)
    known = df >= LEAST_DF
    f = np.where(known, df, LEAST_DF)  # Himeno and Yamada, with df + 1 patients
    spread = f / np.maximum(onehot.T @ kept**2, 1e-9 * n) * (onehot.T @ lengths**2)
    within = f * (f - 1.0) * np.diag(product) + trace**2 - spread
    np.fill_diagonal(product, f / ((f + 1.0) * (f - 1.0) * (f - 2.0)) * within)
    product = np.clip(product, 0.0, np.outer(trace, trace))
    counted = np.outer(n, n)
    np.fill_diagonal(counted, np.where(known, n**2, 0.0))
    squares = float((counted * np.outer(trace, trace)).sum())
    common = float((counted * product).sum()) / squares if squares > 0.0 else 0.0
    np.fill_diagonal(product, np.where(known, np.diag(product), common * trace**2))
    return trace, product


def _tied(onehot: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Add ``M_gh^2`` up over the pairs of two cells, ``(C, C)``; on the diagonal, minus those with all others."""
    moments = np.stack([(basis * cell[:, None]).T @ basis for cell in onehot.T]).reshape(onehot.shape[1], -1)
    tied = moments @ moments.T
    np.fill_diagonal(tied, np.diag(tied) - tied.sum(axis=1))
    return np.asarray(tied)
