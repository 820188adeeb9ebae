"""Scales of the residual per level, shrunken towards the pooled scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

STEPS = 50
TOLERANCE = 1e-8


def level_scales(square: np.ndarray, count: np.ndarray, levels: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
    """Fit variances that multiply over factors.

    Parameters
    ----------
    square
        ``(C, d)`` sums of squared residuals per cell.
    count
        ``(C,)`` patients.
    levels
        ``(C, k)`` codes of the cells.
    sizes
        Levels of each of the ``k`` factors.

    Returns
    -------
    list of numpy.ndarray
        ``(L, d)`` log variance of each level relative to the pooled one, per factor.

    Notes
    -----
    Proportional fitting: the estimating equations of a gamma model with log link. The levels of a factor have log
    variances that average to 0, patients weighing equally.
    """
    total = square.sum(axis=0)
    base = np.where(total > 0, total, 1.0) / count.sum()
    logs = [np.zeros((size, square.shape[1])) for size in sizes]
    for _ in range(STEPS):
        moved = 0.0
        for f, size in enumerate(sizes):
            others = sum((logs[g][levels[:, g]] for g in range(len(sizes)) if g != f), np.zeros(square.shape))
            onehot = np.eye(size)[:, levels[:, f]]
            patients = onehot @ count
            seen = onehot @ (square / np.exp(others) / base) / np.maximum(patients, 1e-300)[:, None]
            new = np.log(np.maximum(seen, 1e-12))
            new -= patients @ new / patients.sum()
            moved = max(moved, float(np.abs(new - logs[f]).max(initial=0.0)))
            logs[f] = new
        if moved < TOLERANCE or len(sizes) == 1:
            break
    return logs


def unit_noise(count: np.ndarray, levels: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
    """Variance of each level's deviation from the mean over patients, per unit variance of one patient.

    Parameters
    ----------
    count, levels, sizes
        As for :func:`level_scales`.

    Returns
    -------
    list of numpy.ndarray
        ``(L,)`` per factor. With one factor ``1 / n - 1 / N``; more where factors are confounded: a hospital that sees
        one class has a spread of its own only as far as the classes elsewhere tell theirs.
    """
    design = np.concatenate([np.eye(size)[levels[:, f]] for f, size in enumerate(sizes)], axis=1)
    inverse, start, out = np.linalg.pinv((design * count[:, None]).T @ design, hermitian=True), 0, []
    for f, size in enumerate(sizes):
        patients = np.bincount(levels[:, f], count, size)
        contrasts = np.zeros((size, design.shape[1]))
        contrasts[:, start : start + size] = np.eye(size) - patients / patients.sum()
        out.append(np.maximum(np.einsum("lp,pq,lq->l", contrasts, inverse, contrasts), 1e-12))
        start += size
    return out


def shrink_logs(
    logs: np.ndarray, patients: np.ndarray, noise: np.ndarray, spread: float, spread_all: float
) -> tuple[np.ndarray, np.ndarray]:
    """Shrink log variances: each level's mean over dimensions towards 0, each dimension towards its level's mean.

    Parameters
    ----------
    logs
        ``(L, d)`` log variances relative to the pooled ones.
    patients, noise
        ``(L,)`` patients of each level, and its :func:`unit_noise`.
    spread, spread_all
        Squared coefficients of variation of a patient's mean square, in one dimension and averaged over dimensions.

    Returns
    -------
    shrunken : numpy.ndarray
        ``(L, d)`` posterior means.
    variance : numpy.ndarray
        ``(L, d)`` posterior variances, such that those of two levels add up to that of their difference.
    """
    level = logs.mean(axis=1)
    own = logs - level[:, None]
    share_all = reliability(level**2, spread_all * noise, patients)
    share = reliability((own**2).mean(axis=1), spread * noise, patients)
    shrunken = (share_all * level)[:, None] + share[:, None] * own
    # deviations of two levels are correlated by -1 / N: with it added to both, differences have their own variance
    error = noise + 1.0 / patients.sum()
    variance = (error * (share_all * spread_all + share * spread))[:, None] + np.zeros_like(logs)
    return shrunken, variance


def reliability(square: np.ndarray, noise: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """Share of each level's deviation that is signal, by the method of moments over levels.

    Parameters
    ----------
    square
        ``(L,)`` squared deviation of each level from the mean over patients.
    noise
        ``(L,)`` what error adds to it.
    patients
        ``(L,)``.

    Returns
    -------
    numpy.ndarray
        ``(L,)`` signal over signal and noise.

    Notes
    -----
    Deviations ``x_l - sum_m p_m x_m`` of independent effects, ``p`` the shares of patients, have summed squares of
    expectation ``signal sum_l (1 - 2 p_l + L p_l**2)``.
    """
    share = patients / patients.sum()
    weight = float((1.0 - 2.0 * share + len(share) * share**2).sum())
    if len(share) < 2 or weight <= 0:
        return np.zeros(len(share))
    signal = max(0.0, float(square.sum() - noise.sum())) / weight
    return np.asarray(signal / np.maximum(signal + noise, 1e-300))
