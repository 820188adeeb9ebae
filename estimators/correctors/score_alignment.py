"""CovBat: principal scores of the corrected residuals, aligned in mean and scale, so that covariances agree too."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def align_scores(
    left: np.ndarray, inside: np.ndarray, count: np.ndarray, share: float, reference: int | None
) -> dict[str, np.ndarray]:
    """Find the principal directions of the corrected residuals and what each level's scores need.

    Parameters
    ----------
    left
        ``(L, d)`` means of the residuals that are left, in standardised units.
    inside
        ``(L, d, d)`` sums of their products within levels.
    count
        ``(L,)`` rows or groups.
    share
        Of variance that the directions hold.
    reference
        Level whose scores are the target; None: the scores of all rows.

    Returns
    -------
    dict
        ``axes (d, k)``; ``score_shift``, ``score_scale (L, k)``; targets ``score_mean``, ``score_sd (k,)``.

    Notes
    -----
    As published, the scores are those of residuals, biology and covariates taken off, and are not shrunk.
    """
    n = count.sum()
    mean = count @ left / n
    total = (inside.sum(axis=0) + (left * count[:, None]).T @ left) / n - np.outer(mean, mean)
    values, vectors = np.linalg.eigh(total)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    held = np.cumsum(values) / max(float(values.sum()), 1e-300)
    k = min(int(np.searchsorted(held, share * (1.0 - 1e-12)) + 1), int((values > 1e-12 * values[0]).sum()))
    axes = vectors[:, :k]
    scores = left @ axes
    variance = np.einsum("dk,lde,ek->lk", axes, inside, axes, optimize=True) / np.maximum(count - 1.0, 1.0)[:, None]
    if reference is None:
        target = mean @ axes
        sd = np.sqrt((variance * (count - 1.0)[:, None]).sum(axis=0) / (n - len(count)))
    else:
        target, sd = scores[reference], np.sqrt(variance[reference])
    spread = np.sqrt(variance)
    scale = np.where(spread > 1e-9 * sd, spread / np.where(sd > 0, sd, 1.0), 1.0)
    return {"axes": axes, "score_shift": scores, "score_scale": scale, "score_mean": target, "score_sd": sd}


def scores_of_level(
    left: np.ndarray, covariance: np.ndarray, solution: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return what the scores of a new level need: ``left (d,)`` and ``covariance (d, d)`` of its residuals."""
    axes, sd = solution["axes"], solution["score_sd"]
    spread = np.sqrt(np.maximum(np.einsum("dk,de,ek->k", axes, covariance, axes, optimize=True), 0.0))
    scale = np.where(spread > 1e-9 * sd, spread / np.where(sd > 0, sd, 1.0), 1.0)
    return {"score_shift": left @ axes, "score_scale": scale}


def apply_scores(rows: np.ndarray, code: int, parts: Mapping[str, np.ndarray]) -> np.ndarray:
    """Align the scores of rows ``(m, d)`` of one level, given less their centre and shift, over their scale."""
    axes, sd = parts["axes"], parts["sd"]
    scores = (rows / sd) @ axes
    aligned = (scores - parts["score_shift"][code]) / parts["score_scale"][code] + parts["score_mean"]
    return np.asarray(rows + ((aligned - scores) @ axes.T) * sd)
