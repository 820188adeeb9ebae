"""Standardised contrasts between the levels of a factor: which cells can be compared, and with which weights.

A contrast of two levels is the mean over strata of their within-stratum difference, weighted by the patients of the
strata. Everything is linear in the patients, so an effect is a matrix of weights (see :mod:`causalfm.norms`).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from causalfm.errors import DataError
from causalfm.norms import CellCovariances, SquaredNorm, cell_covariances, squared_norm
from causalfm.units import Units

MAX_SUBSETS = 4096


@dataclass(frozen=True, eq=False)
class CompleteTable:
    """A set of levels and strata in which every cell holds enough patients.

    Attributes
    ----------
    levels, strata
        Positions of the kept levels and strata, ascending.
    patients
        Patients in the table.
    """

    levels: tuple[int, ...]
    strata: tuple[int, ...]
    patients: int


def complete_table(counts: np.ndarray, minimum: int) -> CompleteTable | None:
    """Find the complete sub-table that holds the most patients, keeping as many levels as possible at equal size.

    Parameters
    ----------
    counts
        ``(W, L)`` patients per stratum and level.
    minimum
        Least patients per cell.

    Returns
    -------
    CompleteTable or None
        None if no stratum holds two levels with enough patients.

    Notes
    -----
    The best table is closed: its strata are all those in which its levels suffice. With up to 4,096 sets of levels all
    are tried; with more, the sets tried are those of the strata themselves and their pairwise intersections.
    """
    usable = counts >= minimum
    n_levels = counts.shape[1]
    if 2**n_levels <= MAX_SUBSETS:
        sets = [s for r in range(2, n_levels + 1) for s in itertools.combinations(range(n_levels), r)]
    else:
        rows = {tuple(np.flatnonzero(row)) for row in usable}
        pairs = {tuple(sorted(set(a) & set(b))) for a, b in itertools.combinations(sorted(rows), 2)}
        sets = sorted(s for s in rows | pairs if len(s) >= 2)
    best: CompleteTable | None = None
    for levels in sets:
        strata = np.flatnonzero(usable[:, levels].all(axis=1))
        patients = int(counts[np.ix_(strata, levels)].sum())
        if len(strata) and (best is None or (patients, len(levels)) > (best.patients, len(best.levels))):
            best = CompleteTable(tuple(int(v) for v in levels), tuple(int(w) for w in strata), patients)
    return best


@dataclass(frozen=True, eq=False)
class Design:
    """Patients of a comparable table, with cell residuals and their covariances.

    Attributes
    ----------
    Z
        ``(G, d)`` patients kept, minus a common centre.
    rows
        Positions of these patients among the units.
    level, stratum
        ``(G,)`` codes among all levels and strata of the units.
    projector
        ``(G, G)`` or None: maps a cell contrast to one that is orthogonal to the covariates.
    cells
        Covariances within stratum x level cells.
    """

    Z: np.ndarray
    rows: np.ndarray
    level: np.ndarray
    stratum: np.ndarray
    basis: np.ndarray
    cells: CellCovariances

    def adjust(self, weights: np.ndarray) -> np.ndarray:
        """Make cell contrasts ``(J, G)`` free of the covariates: subtract what the regression slope would carry."""
        if self.basis.shape[1] == 0:
            return weights
        return np.asarray(weights - (weights @ self.full_basis) @ self.basis.T)

    @property
    def full_basis(self) -> np.ndarray:
        """Covariates in the coordinates in which ``basis`` is orthonormal within cells, ``(G, q)``."""
        return self._full

    _full: np.ndarray


def build_design(units: Units, keep: np.ndarray) -> Design:
    """Prepare the patients of ``keep`` (a mask over units) for contrasts between cells of at least three patients.

    Parameters
    ----------
    units
        All patients.
    keep
        ``(G,)`` patients of usable cells.

    Returns
    -------
    Design
        With residuals from cell means and the covariate regression (common slopes).

    Raises
    ------
    DataError
        More regression terms than the cells leave degrees of freedom.
    """
    rows = np.flatnonzero(keep)
    Z = units.Z[rows] - units.Z[rows].mean(axis=0)
    level, stratum = units.level.codes[rows], units.stratum[rows]
    _, codes = np.unique(stratum * units.level.n_levels + level, return_inverse=True)
    n_cells = int(codes.max()) + 1
    centred_Z, centred_B = _centre(Z, codes, n_cells), _centre(units.covariates[rows], codes, n_cells)
    rank = 0
    basis = full = np.zeros((len(rows), 0))
    if units.covariates.shape[1]:
        u, s, vt = np.linalg.svd(centred_B, full_matrices=False)
        rank = int((s > 1e-9 * s[0]).sum()) if s[0] > 0 else 0
        basis = u[:, :rank]
        full = units.covariates[rows] @ (vt[:rank].T / s[:rank])
        centred_Z = centred_Z - basis @ (basis.T @ centred_Z)
    if len(rows) - n_cells - rank < 2:
        raise DataError(
            f"{len(rows)} {units.unit}s in {n_cells} cells leave no degrees of freedom for {rank} covariate terms: "
            "declare fewer covariates."
        )
    return Design(Z, rows, level, stratum, basis, cell_covariances(centred_Z, codes, n_cells, rank), full)


def level_means(design: Design, levels: tuple[int, ...], strata: tuple[int, ...], *, by: str = "level") -> np.ndarray:
    """Weights of the standardised mean of each level, ``(len(levels), G)``.

    Parameters
    ----------
    design
        The patients.
    levels, strata
        A complete table: positions of levels and strata.
    by
        ``"level"`` compares levels of the factor over strata.

    Returns
    -------
    numpy.ndarray
        Row ``l`` times ``Z`` is ``sum_w p_w mean(Z | l, w)``; ``p_w`` is the share of the table's patients in stratum ``w``.
    """
    return standardised_means(design, design.level, levels, design.stratum, strata)


def standardised_means(
    design: Design, level: np.ndarray, levels: tuple[int, ...], stratum: np.ndarray, strata: tuple[int, ...]
) -> np.ndarray:
    """Weights of ``sum_w p_w mean(Z | l, w)`` for any two codings of the patients (see :func:`level_means`)."""
    inside = np.isin(level, levels) & np.isin(stratum, strata)
    weights = np.zeros((len(levels), len(level)))
    for w in strata:
        in_stratum = inside & (stratum == w)
        share = in_stratum.sum() / inside.sum()
        for i, l in enumerate(levels):
            members = in_stratum & (level == l)
            weights[i, members] = share / members.sum()
    return weights


def pair_norm(design: Design, means: np.ndarray, a: int, b: int) -> SquaredNorm:
    """Squared distance between two standardised level means (rows ``a`` and ``b`` of ``means``)."""
    return squared_norm(design.Z, design.adjust(means[a : a + 1] - means[b : b + 1]), design.cells)


def joint_norm(design: Design, means: np.ndarray) -> SquaredNorm:
    """Mean squared distance over all pairs of the standardised level means."""
    L = len(means)
    helmert = np.linalg.svd(np.eye(L) - 1.0 / L)[0][:, : L - 1].T  # orthonormal contrasts
    return squared_norm(design.Z, design.adjust(helmert @ means), design.cells, scale=2.0 / (L - 1))


def _centre(values: np.ndarray, codes: np.ndarray, n_cells: int) -> np.ndarray:
    total = np.zeros((n_cells, values.shape[1]))
    np.add.at(total, codes, values)
    return np.asarray(values - (total / np.bincount(codes, minlength=n_cells)[:, None])[codes])
