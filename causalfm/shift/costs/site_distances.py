"""How far a site's embeddings lie from those of the other sites, in units of what sites differ by among themselves."""

from __future__ import annotations

import numpy as np
from scipy import linalg, stats

from causalfm.cohort import Cohort
from causalfm.metrics.distances import safe_scale
from causalfm.moments import cell_sums
from causalfm.shift.domains import Domains

AXES = 32  # principal directions of the reference
ROWS = 10_000  # rows that show them


def distance_beyond(domains: Domains, judged: list[str], error: float) -> tuple[float, float]:
    """Compare the new site's distance from the reference's sites with those that sites have that are held out.

    Parameters
    ----------
    domains
        Reference and deployment.
    judged
        Names of the reference sites to compare with, 4 or more.
    error
        Chance that a site of the reference's kind lies beyond the limit.

    Returns
    -------
    value, limit : float
        The distance, and the one that a site of the reference's kind exceeds with that chance.

    Notes
    -----
    In each of the reference's 32 leading principal directions (found on at most 10,000 of its rows, patients
    weighing the same) the squared distance of a site's mean patient from the mean of the other sites is divided by its
    variance, between those sites and by chance; the value is the root of the mean over directions. The limit is the
    prediction limit of the logarithm over the sites held out.
    """
    reference, deployment = domains.reference, domains.deployment
    axes = _axes(reference.cohort, reference.weights(), domains.random_state)
    wanted = [domains.sites.index(name) for name in judged]
    pairs, codes = np.unique(np.stack([reference.sites, reference.units]), axis=1, return_inverse=True)
    patients = _projected(reference.cohort, codes.reshape(-1), axes)
    parts = [patients[pairs[0] == site] for site in wanted]
    new = _projected(deployment.cohort, deployment.units, axes)
    within = np.sum([((part - part.mean(axis=0)) ** 2).sum(axis=0) for part in parts], axis=0)
    within = within / max(sum(len(part) - 1 for part in parts), 1) + 1e-300
    means, counts = np.stack([part.mean(axis=0) for part in parts]), np.array([len(part) for part in parts])
    away = [
        _distance(means[i], counts[i], np.delete(means, i, axis=0), np.delete(counts, i), within)
        for i in range(len(parts))
    ]
    logs = np.log(away)
    quantile = float(stats.t.ppf(1.0 - error, len(logs) - 1))
    limit = float(logs.mean()) + quantile * float(logs.std(ddof=1)) * (1.0 + 1.0 / len(logs)) ** 0.5
    return _distance(new.mean(axis=0), len(new), means, counts, within) ** 0.5, float(np.exp(limit / 2.0))


def _axes(cohort: Cohort, weights: np.ndarray, random_state: int) -> np.ndarray:
    rows = np.arange(len(cohort))
    if len(rows) > ROWS:
        rows = np.sort(np.random.default_rng(random_state).choice(len(cohort), ROWS, replace=False))
    X = np.asarray(cohort.X[rows], dtype=np.float64)
    share = weights[rows] / weights[rows].sum()
    X = np.ldexp(X - share @ X, safe_scale(X)) * np.sqrt(share)[:, None]
    wide = X.shape[1] > len(X)
    square = X @ X.T if wide else X.T @ X
    most = min(AXES, len(square))
    values, vectors = linalg.eigh(square, subset_by_index=[len(square) - most, len(square) - 1])
    vectors = vectors[:, values > 1e-12 * max(float(values[-1]), 1e-300)]
    axes = X.T @ vectors if wide else vectors
    return np.asarray(axes / np.linalg.norm(axes, axis=0))


def _projected(cohort: Cohort, codes: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Return mean rows of cells in these directions, ``(cells, axes)``."""
    sums = cell_sums(cohort.X, codes, int(codes.max()) + 1, features=lambda block, _: block @ axes)
    return np.asarray(sums.total / sums.count[:, None])


def _distance(mean: np.ndarray, count: int, others: np.ndarray, counts: np.ndarray, within: np.ndarray) -> float:
    chance = within / count
    between = others.var(axis=0, ddof=1) - within * float((1.0 / counts).mean())
    variance = np.maximum(between, 0.0) + chance + others.var(axis=0, ddof=1) / len(others)
    return float(np.mean((mean - others.mean(axis=0)) ** 2 / variance))
