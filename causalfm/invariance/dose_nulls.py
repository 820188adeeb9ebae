"""Null cohorts for tests of a continuous factor on the user's own design, and slopes to be seen in them.

Residuals of the fit that includes the factor, signs of whole clusters flipped: every cluster keeps its value, its
spread and everything that makes its patients alike.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from causalfm.dose_units import DoseUnits, slope_design
from causalfm.invariance.doses import Pairs, dose_gcm_test
from causalfm.invariance.flipped_residuals import DIRECTIONS, draw_shifts, null_rows, random_signs
from causalfm.invariance.null_models import PValues, exceeding_share
from causalfm.resampling import permutations_within


def dose_nulls(
    units: DoseUnits, pairs: Pairs, clusters: np.ndarray, n_nulls: int, n_permutations: int, random_state: int
) -> PValues:
    """Draw null cohorts for a test that adds up over pairs of patients, and shift them by a slope.

    Parameters
    ----------
    units, pairs
        Patients and design of the test.
    clusters
        ``(G,)`` cluster of each patient: what is independent.
    n_nulls, n_permutations, random_state
        Null cohorts, permutations of each, seed.

    Returns
    -------
    callable
        From a direction and the length of the slope per standard deviation of the factor to p-values: both parts of
        the statistic are quadratic in that length, so that one pass serves all.

    Notes
    -----
    Only inner products of patients matter. Those of residuals ``(I - H) e`` are biased, ``(I - H) D (I - H)`` for
    independent clusters with inner products ``D``: along the very factor, which permutation to other values breaks.
    ``D``, estimated by each cluster's own residuals over what the fit leaves of them, minus that is added.
    """
    design, _ = slope_design(units)
    fitted = np.column_stack([_unit_columns(design.cells.codes), design.basis])
    clusters = np.unique(clusters[design.rows], return_inverse=True)[1]
    grown = design.cells.residuals / np.sqrt(np.maximum(1.0 - (fitted**2).sum(axis=1), 1e-9))[:, None]
    K = independent_products(design.cells.residuals, grown, fitted, clusters)
    shifts = {name: v[:, 1] - v[:, 0] for name, v in draw_shifts(grown, n_nulls, 2, random_state).items()}
    dose = _off(pairs, (units.dose[design.rows] - units.dose[design.rows].mean()) / units.spread)
    moved_by = np.outer(dose, dose)
    rng = np.random.default_rng([random_state, 1])
    found: dict[str, list[np.ndarray]] = {name: [] for name in DIRECTIONS}
    for i, seed in enumerate(rng.integers(2**32, size=n_nulls).tolist()):
        signs = random_signs(rng, clusters)
        own = _off(pairs, _off(pairs, signs[:, None] * K * signs).T)
        cross = {name: _off(pairs, signs * (grown @ v[i])) for name, v in shifts.items()}
        grams = [own, moved_by, *(np.outer(dose, c) + np.outer(c, dose) for c in cross.values())]
        batches = permutations_within(pairs.stratum, n_permutations, seed, batch=pairs.batch())
        parts = [_squares(pairs, grams, moved) for moved in (np.arange(len(K))[None], *batches)]
        none, square, *linear = np.concatenate(parts, axis=2)
        for name, part in zip(cross, linear, strict=True):
            found[name].append(np.stack([none, part, square], axis=2))
    coefficients = {name: np.stack(parts) for name, parts in found.items()}

    def p_values(direction: str, distance: float) -> np.ndarray:
        squares = coefficients[direction] @ np.array([1.0, distance, distance**2])
        return exceeding_share(squares[:, 0] / np.maximum(squares[:, 1], 1e-300))

    return p_values


def dose_gcm_nulls(units: DoseUnits, clusters: np.ndarray, n_nulls: int, n_draws: int, random_state: int) -> PValues:
    """Draw null cohorts for the largest generalised covariance with a continuous factor: see :func:`dose_nulls`.

    The test is run anew on each; a product in one dimension does not notice the sign of the residuals' correlation.
    """
    inside = units.inside
    dose = (units.dose[inside] - units.dose[inside].mean()) / units.spread
    cells, clusters = (np.unique(codes[inside], return_inverse=True)[1] for codes in (units.stratum, clusters))
    rows = null_rows(units.Z[inside], cells, clusters, np.column_stack([units.covariates[inside], dose]))
    shifts = {name: v[:, 1] - v[:, 0] for name, v in draw_shifts(rows.residuals, n_nulls, 2, random_state).items()}
    seeds = np.random.default_rng([random_state, 1]).integers(2**32, size=n_nulls).tolist()

    def p_values(direction: str, distance: float) -> np.ndarray:
        out = []
        for seed, shift in zip(seeds, shifts[direction], strict=True):
            Z = units.Z.copy()
            Z[inside] = rows.draw(np.random.default_rng(seed)) + distance * np.outer(dose, shift)
            out.append(dose_gcm_test(dataclasses.replace(units, Z=Z), n_draws=n_draws, random_state=seed).p_value)
        return np.array(out)

    return p_values


def independent_products(R: np.ndarray, grown: np.ndarray, fitted: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Inner products ``(K, K)`` of residuals, corrected to have the expectation of independent clusters.

    Parameters
    ----------
    R, grown
        ``(K, d)`` residuals, and the same over the root of what the fit leaves of each.
    fitted
        ``(K, p)`` orthonormal columns that the residuals have lost.
    clusters
        ``(K,)`` codes.

    Returns
    -------
    numpy.ndarray
        ``R R' + D - (I - H) D (I - H)``, ``D`` the products of ``grown`` within clusters.
    """
    D = np.where(clusters[:, None] == clusters, grown @ grown.T, 0.0)
    lost = fitted @ (fitted.T @ D)
    return np.asarray(R @ R.T + lost + lost.T - (lost @ fitted) @ fitted.T)


def _squares(pairs: Pairs, grams: list[np.ndarray], moved: np.ndarray) -> np.ndarray:
    """``(grams, 2, B)``."""
    return np.array([pairs.squares(K, moved) for K in grams])


def _off(pairs: Pairs, values: np.ndarray) -> np.ndarray:
    """Take strata and covariates off ``(K,)`` or ``(K, m)``."""
    return np.asarray(values - pairs.columns @ (pairs.columns.T @ values))


def _unit_columns(codes: np.ndarray) -> np.ndarray:
    """Return indicators ``(K, C)`` of length one."""
    onehot = np.eye(int(codes.max()) + 1)[codes]
    return np.asarray(onehot / np.sqrt(onehot.sum(axis=0)))
