"""Learn what a new hospital does from a small batch of its rows, shrunk to the population of hospitals."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from causalfm.cohort import Cohort
from causalfm.moments import cell_sums
from causalfm.scm.fitted import Fitted
from causalfm.scm.level_prior import LevelPrior, block_of, patient_variance
from causalfm.scm.location_scale import ScaledNoise
from causalfm.scm.parents import Values, known_codes
from causalfm.scm.wider_model import with_patients
from causalfm.scm.wider_noise import stretch

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph

New = tuple[np.ndarray, Sequence[LevelPrior]]  # (u,) columns of the new levels among the regressors, and their priors


def learn(
    wider: Fitted, base: Fitted, graph: CausalGraph, cohort: Cohort, new: New, *, labelled: bool
) -> tuple[Fitted, int]:
    """Learn the effects of new levels: posterior means of random effects, with their errors.

    Parameters
    ----------
    wider, base
        The model with the new levels at their prior mean, and as it was fitted.
    graph, cohort
        The graph, and rows, those at new levels among them.
    new
        Regressors of the new levels and their priors.
    labelled
        Whether the biology of the rows is known; else they are taken to have the mix of the fit.

    Returns
    -------
    fitted : Fitted
        The model.
    patients : int
        How many it learned from.

    Notes
    -----
    Patients' mean residuals about the prior mean are ``r = X u + e``, ``u`` the effects in units of a patient's
    variance, with prior variances ``K``: ``u = K X' (X K X' + v)^-1 r``, ``v`` the variance of these patients in the
    same units, at least that of the fit. One ``K`` and ``v`` serve all dimensions, so that rotations do not matter.
    """
    at, priors = new
    values, units = wider.mean.parents.read(cohort), cohort.factor(graph.group, private=True)
    sizes = np.array(base.mean.parents.sizes)
    rows = np.flatnonzero((values.levels >= sizes).any(axis=1))
    _, patient = np.unique(units.codes[rows], return_inverse=True)
    n = int(patient.max(initial=-1)) + 1
    if not n:  # the new levels are no cause of Z
        return _seen_too(wider, base, cohort, units.codes) if labelled else wider, 0
    design = wider.mean.parents.rows(values[rows])
    unit = patient_variance(base)
    spread = unit
    if not labelled:
        spread = unit + _mix(wider, base, graph, design)
    F = cell_sums(design, patient, n).means()
    r = cell_sums(cohort.X[rows], patient, n).means() - F @ wider.mean.coefficients
    X, K = F[:, at], np.array([p.ratio for p in priors])
    v = _noise(r, X, spread, unit)
    M = (K[:, None] * X.T) @ np.linalg.inv((X * K) @ X.T + v * np.eye(n))
    coefficients = wider.mean.coefficients.copy()
    coefficients[at] += M @ r
    p, u = wider.mean.parents.width, len(at)
    change = np.eye(p)
    change[at] -= M @ F
    left, random = np.zeros((u, p)), np.zeros((u, p))
    left[:, at] = (np.eye(u) - M @ X).T
    values_, vectors = np.linalg.eigh(M @ M.T)
    random[:, at] = (vectors * np.sqrt(np.maximum(values_, 0.0))).T
    total = max(float(spread.sum()), 1e-300)
    variance = np.tile(spread * (v * float(unit.sum()) / total), (u, 1))
    ratios = [(prior.ratio, prior.df) for prior in priors] + [(v, float(base.n_groups))] * u
    out = dataclasses.replace(
        wider, mean=dataclasses.replace(wider.mean, coefficients=coefficients), error=wider.error.after(change)
    )
    effects = np.concatenate([np.stack([prior.variance for prior in priors]), variance])
    out = with_effects(out, np.concatenate([left, random]), effects, ratios)
    if isinstance(out.noise, ScaledNoise):
        used = n / max(n - float(np.trace(M @ X)), 1.0)
        out = _stretched(out, cohort.X[rows], values[rows], patient, sizes, used)
    return (_seen_too(out, base, cohort, units.codes) if labelled else out), n


def with_effects(
    fitted: Fitted, loadings: np.ndarray, variance: np.ndarray, ratios: Sequence[tuple[float, float]]
) -> Fitted:
    """Add independent errors: ``loadings (m, p)`` with variances ``(m, d)``; ratios to a patient's, and their df."""
    error = fitted.error.plus(loadings, variance)
    second = np.array([ratio for ratio, _ in ratios])
    fourth = np.array([ratio**2 / df for ratio, df in ratios])
    error = dataclasses.replace(
        error,
        cells=np.concatenate([error.cells, loadings]),
        second=np.concatenate([error.second, second]),
        fourth=np.concatenate([error.fourth, fourth]),
    )
    return dataclasses.replace(fitted, error=error)


def _mix(wider: Fitted, base: Fitted, graph: CausalGraph, design: np.ndarray) -> np.ndarray:
    """Give ``design`` the mix of classes of the fit, in place, and return the variance ``(d,)`` between classes."""
    parents = wider.mean.parents
    if graph.biology not in parents.categorical:
        return np.zeros(wider.mean.coefficients.shape[1])
    block = block_of(parents, parents.categorical.index(graph.biology))
    at = base.columns.index(graph.biology)
    shares = np.bincount(base.joint[:, at], base.patients, block.stop - block.start) / base.patients.sum()
    design[:, block] = shares
    effects = wider.mean.coefficients[block]
    return np.asarray(shares @ (effects - shares @ effects) ** 2)


def _noise(r: np.ndarray, X: np.ndarray, spread: np.ndarray, unit: np.ndarray) -> float:
    """Variance of the batch's patients in units of one of the fit: never less than expected."""
    expected = float(spread.sum()) / max(float(unit.sum()), 1e-300)
    free = len(r) - int(np.linalg.matrix_rank(X))
    if free < 1:
        return expected
    left = r - X @ np.linalg.lstsq(X, r, rcond=None)[0]
    return max(expected, float((left**2).sum()) / free / max(float(unit.sum()), 1e-300))


def _stretched(
    fitted: Fitted, X: np.ndarray, values: Values, patient: np.ndarray, sizes: np.ndarray, used: float
) -> Fitted:
    """Learn scales of new levels from squared residuals; ``used`` makes up for the means that were fitted."""
    parents, noise, density = fitted.mean.parents, fitted.noise, fitted.density
    assert isinstance(noise, ScaledNoise)
    inner = density.basis**2
    expected = inner @ density.inside + density.outside * (1.0 - inner.sum(axis=1))
    logs = sum((log[values.levels[:, f]] for f, log in enumerate(noise.logs)), np.zeros((len(X), 1)))
    residual = X.astype(np.float64) - parents.rows(values) @ fitted.mean.coefficients
    squares = (residual**2 / (expected * np.exp(logs))).mean(axis=1) * used
    for f, size in enumerate(sizes):
        for level in range(size, parents.sizes[f]):
            here = values.levels[:, f] == level
            of, local = np.unique(patient[here], return_inverse=True)
            means = np.bincount(local, squares[here], len(of)) / np.maximum(np.bincount(local, minlength=len(of)), 1)
            noise = stretch(noise, f, level, means, int(size))
    return dataclasses.replace(fitted, noise=noise)


def _seen_too(fitted: Fitted, base: Fitted, cohort: Cohort, units: np.ndarray) -> Fitted:
    """Count the batch's patients in: what they were seen with at the new levels."""
    codes = np.stack([known_codes(cohort, n, fitted.known(n) or ()) for n in fitted.columns], axis=1)
    old = np.array([len(levels) for levels in base.levels])
    rows = np.flatnonzero((codes >= old).any(axis=1))
    joint, cell = np.unique(codes[rows], axis=0, return_inverse=True)
    weight = 1.0 / np.bincount(units)[units[rows]]
    patients = np.bincount(cell.reshape(-1), weight, len(joint))
    return with_patients(fitted, base, joint, patients, np.zeros(len(joint), dtype=np.int64))
