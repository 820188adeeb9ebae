"""Standardised contrasts between the levels of a factor, and the biology to measure them against.

A contrast of two levels is the mean over strata of their within-stratum difference, weighted by the patients of the
strata. Everything is linear in the patients, so an effect is a matrix of weights (see :mod:`causalfm.norms`).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from causalfm.covariances import CellCovariances, cell_covariances
from causalfm.errors import DataError
from causalfm.factor_contrasts import Contrasts
from causalfm.moments import centred
from causalfm.norms import SquaredNorm, squared_norm
from causalfm.positivity import MIN_GROUPS, CompleteTable, complete_table, inside
from causalfm.singular_values import thin_svd
from causalfm.strata import table
from causalfm.units import Units, helmert


@dataclass(frozen=True, eq=False)
class Design:
    """The patients of a comparable table, with what contrasts between its cells need.

    Attributes
    ----------
    Z
        ``(G, d)`` patients kept, minus a common centre.
    level, stratum
        ``(G,)`` codes among all levels and strata of the units.
    cells
        Covariances within stratum x level cells.
    basis, full_basis
        ``(G, q)`` covariates after and before centring within cells, in coordinates in which ``basis`` is orthonormal.
    rows
        ``(G,)`` position of each patient kept among all patients of the units.
    """

    Z: np.ndarray
    level: np.ndarray
    stratum: np.ndarray
    cells: CellCovariances
    basis: np.ndarray
    full_basis: np.ndarray
    rows: np.ndarray

    def adjust(self, weights: np.ndarray) -> np.ndarray:
        """Make contrasts ``(J, G)`` of cell means free of the covariates: take off what the common slopes carry."""
        return np.asarray(weights - (weights @ self.full_basis) @ self.basis.T)


@dataclass(frozen=True, eq=False)
class Standardised(Contrasts):
    """Contrasts between patients over one complete table.

    Attributes
    ----------
    design
        The patients.
    """

    design: Design


def contrast_levels(units: Units, biology: str, minimum: int = MIN_GROUPS) -> Standardised:
    """Estimate all contrasts of a factor over the largest complete table.

    Parameters
    ----------
    units
        Patients of the question.
    biology
        Name of the biology column.
    minimum
        Least patients per cell.

    Returns
    -------
    Standardised
        Joint and pairwise squared distances, and the biology's.

    Raises
    ------
    DataError
        No complete table (ask :func:`causalfm.positivity.overlap` first), or too many covariates.
    """
    best = complete_table(units.counts(), minimum)
    if best is None:
        raise DataError(f"no two levels of {units.level.name} can be compared: see the overlap check.")
    design = build_design(units, best)
    means = standardised_means(design.level, best.levels, design.stratum, best.strata)
    pairs = {
        (best.levels[i], best.levels[j]): squared_norm(
            design.Z, design.adjust(means[i : i + 1] - means[j : j + 1]), design.cells
        )
        for i, j in itertools.combinations(range(len(means)), 2)
    }
    within = units.contrasts is not None
    norm, why = within_norm(units) if within else biology_norm(units, design, biology, minimum)
    return Standardised(
        levels=best.levels,
        joint=joint_norm(design, means),
        pairs=pairs,
        biology=norm,
        no_biology=why,
        cells=None if within else design.cells,
        groups=design.rows,
        in_pair={pair: int(np.isin(design.level, pair).sum()) for pair in pairs},
        design=design,
    )


def build_design(units: Units, kept: CompleteTable) -> Design:
    """Prepare the patients of a complete table: residuals from cell means and from the covariates' common slopes.

    Parameters
    ----------
    units
        All patients.
    kept
        The table; cells of at least three patients.

    Returns
    -------
    Design
        The patients of the table.

    Raises
    ------
    DataError
        More regression terms than the cells leave degrees of freedom.
    """
    return design_of_rows(units, np.flatnonzero(inside(units, kept)))


def design_of_rows(units: Units, rows: np.ndarray) -> Design:
    """Prepare the patients at ``rows``, whose stratum x level cells hold at least three each: see build_design."""
    Z = units.Z[rows] - units.Z[rows].mean(axis=0)
    level, stratum = units.level.codes[rows], units.stratum[rows]
    _, codes = np.unique(stratum * units.level.n_levels + level, return_inverse=True)
    n_cells = int(codes.max()) + 1
    residuals, covariates = centred(Z, codes, n_cells), units.covariates[rows]
    basis = full = np.zeros((len(rows), 0))
    if covariates.shape[1]:
        u, s, vt = thin_svd(centred(covariates, codes, n_cells))
        rank = int((s > 1e-9 * max(s[0], 1e-300)).sum())
        basis, full = u[:, :rank], covariates @ (vt[:rank].T / s[:rank])
        residuals = residuals - basis @ (basis.T @ residuals)
    spare = 1.0 - basis.shape[1] / (len(rows) - n_cells)
    if (np.bincount(codes).min() - 1.0) * spare <= 1.0:  # an unbiased tr(S^2) needs more than one degree of freedom
        raise DataError(
            f"{len(rows)} {units.unit}s in {n_cells} cells leave too few degrees of freedom for {basis.shape[1]} "
            "covariate terms: declare fewer covariates."
        )
    cells = cell_covariances(residuals, codes, n_cells, basis.shape[1])
    return Design(Z, level, stratum, cells, basis, full, rows)


def standardised_means(
    level: np.ndarray, levels: tuple[int, ...], stratum: np.ndarray, strata: tuple[int, ...]
) -> np.ndarray:
    """Weights of the standardised mean of each level.

    Parameters
    ----------
    level, stratum
        ``(G,)`` codes of the patients.
    levels, strata
        A complete table: every cell holds patients.

    Returns
    -------
    numpy.ndarray
        ``(len(levels), G)``; row ``l`` times ``Z`` is ``sum_w p_w mean(Z | l, w)``, ``p_w`` the share of the table's
        patients.
    """
    inside = np.isin(level, levels) & np.isin(stratum, strata)
    weights = np.zeros((len(levels), len(level)))
    for w in strata:
        in_stratum = inside & (stratum == w)
        share = in_stratum.sum() / inside.sum()
        for row, code in zip(weights, levels, strict=True):
            members = in_stratum & (level == code)
            row[members] = share / members.sum()
    return weights


def joint_norm(design: Design, means: np.ndarray) -> SquaredNorm:
    """Mean squared distance over all pairs of the standardised means ``(L, G)``."""
    levels = len(means)
    return squared_norm(design.Z, design.adjust(helmert(levels) @ means), design.cells, scale=2.0 / (levels - 1))


def biology_norm(units: Units, design: Design, biology: str, minimum: int) -> tuple[SquaredNorm | None, str]:
    """Mean squared distance between classes on the same patients, standardised over the other columns of the table.

    Parameters
    ----------
    units, design
        All patients, and those of the table.
    biology
        Name of the biology column; constant within patients.
    minimum
        Least patients per cell.

    Returns
    -------
    norm : SquaredNorm or None
        None if there is nothing to measure against.
    why : str
        The reason, else empty.
    """
    names = [f.name for f in units.conditioning]
    if biology not in names:
        return None, f"{biology} is not among the conditioning columns"
    at = names.index(biology)
    classes = units.stratum_columns[design.stratum, at]
    others = np.concatenate(
        [design.level[:, None], np.delete(units.stratum_columns[design.stratum], at, axis=1)], axis=1
    )
    rest, codes = np.unique(others, axis=0, return_inverse=True)
    n_classes = units.conditioning[at].n_levels
    best = complete_table(table(codes.reshape(-1), classes, (len(rest), n_classes)), minimum)
    if best is None:
        why = f"no level of {units.level.name} holds two levels of {biology} with {minimum} {units.unit}s each"
        return None, why
    means = standardised_means(classes, best.levels, codes.reshape(-1), best.strata)
    return joint_norm(design, means), ""


def within_norm(units: Units) -> tuple[SquaredNorm | None, str]:
    """Mean squared distance between classes from within-patient contrasts, or None and why there is none."""
    contrasts = np.asarray(units.contrasts)
    if len(contrasts) < MIN_GROUPS or units.within is None:
        return None, f"fewer than {MIN_GROUPS} {units.unit}s hold rows of every class"
    codes = np.zeros(len(contrasts), dtype=np.int64)
    cells = cell_covariances(contrasts - contrasts.mean(axis=0), codes, 1)
    weights = np.full((1, len(contrasts)), 1.0 / len(contrasts))
    return squared_norm(contrasts, weights, cells, scale=2.0 / (units.within.n_levels - 1)), ""
