"""Standardised level means as group influences: saturated in the strata, or from ridge regressions per level."""

from __future__ import annotations

import numpy as np

from causalfm.dose_units import STEP, DoseUnits, slope_design, spare_parts
from causalfm.estimators.influence.comparison_groups import Compared
from causalfm.estimators.influence.group_influence import GroupInfluence
from causalfm.estimators.influence.level_ridge import fit_levels, level_products
from causalfm.standardisation import Design, standardised_means


def saturated(compared: Compared, design: Design, classes: Compared | None = None) -> GroupInfluence:
    """Weigh the cell means of each level by the strata's shares.

    Parameters
    ----------
    compared, design
        The same groups, laid out twice: ``design`` by :func:`causalfm.standardisation.build_design`.
    classes
        The levels to estimate in place of the factor's, on some of these groups; residuals stay those of ``design``.

    Returns
    -------
    GroupInfluence
        One quantity per level; the strata and their shares are fixed. Residuals are from cell means and common slopes.
    """
    asked, G = classes or compared, len(compared)
    at = np.searchsorted(compared.groups, asked.groups)
    level, stratum = np.full(G, -1), np.full(G, -1)
    level[at], stratum[at] = asked.level, asked.stratum
    levels, strata = tuple(range(len(asked.levels))), tuple(range(int(asked.stratum.max()) + 1))
    A = design.adjust(standardised_means(level, levels, stratum, strata))
    count = np.bincount(design.cells.codes, minlength=design.cells.n_cells)
    left = (design.cells.df / count)[design.cells.codes]  # degrees of freedom that each group keeps
    return linear_in_groups(compared, asked.levels, A, left, design, np.maximum(level, 0))


def slope(compared: Compared, units: DoseUnits) -> GroupInfluence:
    """Estimate the slope per standard deviation of a continuous factor, given strata and covariates."""
    design, weights = slope_design(units)
    return linear_in_groups(compared, STEP[1:], weights[None], spare_parts(design), design, compared.level)


def linear_in_groups(
    compared: Compared, names: tuple[str, ...], A: np.ndarray, left: np.ndarray, design: Design, level: np.ndarray
) -> GroupInfluence:
    """Quantities ``A Z`` with fixed weights ``A (J, G)``; ``left (G,)`` is the share of variance in each residual."""
    theta = A @ compared.Z
    cell = compared.cell
    return GroupInfluence(
        names=names,
        theta=theta,
        groups=compared.groups,
        scale=A.T * len(compared),
        residual=design.cells.residuals,
        correction=1.0 / np.sqrt(left),
        cell=cell,
        df=np.bincount(cell, left),
        bundle=compared.bundle,
        n_bundles=compared.n_bundles,
        level=level,
        absolute=len(names) > 1,
    )


def ridge(compared: Compared) -> GroupInfluence:
    """Average the predictions of one linear outcome model per level over all groups compared.

    Parameters
    ----------
    compared
        The groups.

    Returns
    -------
    GroupInfluence
        One quantity per level.

    Notes
    -----
    Assumption: each level's mean outcome is linear in the conditioning columns. There is no second guard, as AIPW has.
    """
    level, X, G, L = compared.level, compared.features, len(compared), len(compared.levels)
    fit = fit_levels(level_products(compared.Z, level, X, L))
    mean = X.mean(axis=0)
    scale = np.column_stack([fit.weights(mean, code, X, level) for code in range(L)]) * G
    residual = np.empty_like(compared.Z, dtype=float)
    for code in range(L):
        rows = level == code
        residual[rows] = compared.Z[rows] - X[rows] @ fit.coefficients[code]
    theta = np.einsum("p,jpd->jd", mean, fit.coefficients)
    cell = compared.cell
    left = np.maximum(1.0 - 2.0 * fit.own_weights(X, level) + fit.leverage(X, level), 0.05)
    return GroupInfluence(
        names=compared.levels,
        theta=theta,
        groups=compared.groups,
        scale=scale,
        residual=residual,
        correction=1.0 / np.sqrt(left),
        cell=cell,
        df=np.maximum(np.bincount(cell, left), 1.0),
        bundle=compared.bundle,
        n_bundles=compared.n_bundles,
        level=level,
    )
