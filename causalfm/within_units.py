"""Contrasts between levels within units: each unit is its own control.

A unit enters with ``U_g (L, d)``, the mean over its blocks of (cell means minus their block mean), and with the design
``A_g (L, L)`` that makes ``E[U_g] = A_g beta``. Units that miss some levels differ in ``A_g`` only. The effect is
``beta = M sum_g U_g``, ``M`` the pseudo-inverse of ``sum_g A_g``: least squares with a mean of its own for each block.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from causalfm.cohort import Cohort
from causalfm.covariances import CellCovariances, cell_covariances
from causalfm.errors import DataError
from causalfm.norms import SquaredNorm, squared_norm
from causalfm.pairing import Pairing
from causalfm.units import refuse_scale

Features = Callable[[np.ndarray], np.ndarray]
TOLERANCE = 1e-9  # relative: below it an eigenvalue of a design is rounding


@dataclass(frozen=True, eq=False)
class WithinUnits:
    """Contrasts of the units that show two or more of the compared levels in one block.

    Attributes
    ----------
    levels
        Positions of the ``L`` compared levels.
    U
        ``(P, L, d)`` mean over the unit's blocks of cell means minus block mean; rows count equally within a cell,
        cells within a block, blocks within a unit, units overall.
    A
        ``(P, L, L)`` mean over the unit's blocks of the centring matrix of the levels seen.
    units
        ``(P,)`` which units these are.
    """

    levels: tuple[int, ...]
    U: np.ndarray
    A: np.ndarray
    units: np.ndarray

    def __len__(self) -> int:
        return len(self.U)

    def mapped(self, matrix: np.ndarray) -> WithinUnits:
        """Return the units after a linear map ``(d, r)`` of the embedding."""
        return dataclasses.replace(self, U=self.U @ matrix)

    @property
    def inverse(self) -> np.ndarray:
        """``M (L, L)``, the pseudo-inverse of the summed designs."""
        return np.asarray(np.linalg.pinv(self.A.sum(axis=0), rcond=TOLERANCE, hermitian=True))

    def effects(self) -> np.ndarray:
        """Least-squares effects of the levels ``(L, d)``; they sum to zero."""
        return np.asarray(self.inverse @ self.U.sum(axis=0))

    def residuals(self) -> np.ndarray:
        """``(P, L, d)`` contrasts minus what the effects predict, with their variance restored.

        Fitting ``beta`` takes part of each unit's variance away, most where few units know a level. The CR2 matrices
        give back the variance that homoscedastic cells would have.

        References
        ----------
        Bell and McCaffrey, Survey Methodology 28 (2002) 169-181; Pustejovsky and Tipton, J. Bus. Econ. Statist. 36
        (2018) 672-683.
        """
        return np.asarray(self._restoring() @ (self.U - self.A @ self.effects()))

    def _restoring(self) -> np.ndarray:
        """``B_g (P, L, L)`` with ``B_g cov(residual_g) B_g' = A_g`` if ``cov(U_g) = A_g``."""
        shape = self.A.shape
        designs, of_unit = np.unique(self.A.reshape(len(self), -1).round(12), axis=0, return_inverse=True)
        A = designs.reshape(-1, *shape[1:])
        root = _power(A, 0.5)
        B = root @ _power(root @ (A - A @ self.inverse @ A) @ root, -0.5) @ root
        return np.asarray(B[of_unit.reshape(-1)])

    def norm(self, contrasts: np.ndarray, scale: float = 1.0) -> SquaredNorm:
        """Estimate ``scale * |contrasts beta|^2`` with the covariance of the units' contributions.

        Parameters
        ----------
        contrasts
            ``(J, L)`` contrasts of the levels.
        scale
            Positive factor.

        Returns
        -------
        SquaredNorm
            In the stacked space of ``J d`` dimensions, every unit with weight 1.

        Raises
        ------
        DataError
            The units leave one degree of freedom or less.
        """
        C = np.atleast_2d(contrasts) @ self.inverse
        parts = (C @ self.U).reshape(len(self), -1)
        residuals = (C @ self.residuals()).reshape(len(self), -1)
        df = self._df(C)
        if df < 1.0 + TOLERANCE:
            raise DataError(
                f"{len(self)} units that show several levels leave {df:.1f} degrees of freedom, not more than one. "
                "Collect units that show the rarer levels, or leave these levels out."
            )
        return squared_norm(parts, np.ones((1, len(self))), _one_cell(residuals, df), scale=scale)

    def _df(self, C: np.ndarray) -> float:
        """Satterthwaite degrees of freedom of the covariance of ``C U`` under equal variances of all cells.

        ``tr(P)^2 / tr(P^2)`` for the covariance ``P`` of all units' residual contrasts, over ``tr(Q)^2 / tr(Q^2)``, the
        dimensions that their sum ``Q`` fills: the units less one where all show all levels.
        """
        B = C @ self._restoring()
        own = B @ self.A @ np.swapaxes(B, 1, 2)
        shared = B @ self.A @ _power(self.inverse, 0.5)
        lost = shared @ np.swapaxes(shared, 1, 2)
        each = own - lost
        cross = np.einsum("gjl,gjm->lm", shared, shared)
        square = float((each**2).sum() - (lost**2).sum() + (cross**2).sum())
        whole = each.sum(axis=0)
        return float((whole**2).sum()) / square


def within_units(
    cohort: Cohort, pairing: Pairing, levels: tuple[int, ...], features: Features | None = None
) -> WithinUnits:
    """Contrast the levels within the units of a paired design, in one pass over the rows.

    Parameters
    ----------
    cohort
        Embeddings ``(n, d)``.
    pairing
        Levels, units and blocks of the rows.
    levels
        Positions of the levels to compare.
    features
        Map of a block of rows to the features that are compared in place of the embeddings.

    Returns
    -------
    WithinUnits
        The units with a block that shows two or more of the levels.
    """
    shown, owner = pairing.seen()[:, list(levels)].toarray(), pairing.owner()
    several = shown.sum(axis=1) > 1
    units, unit = np.unique(owner[several], return_inverse=True)
    place = np.full(len(several), -1)  # position of each block among those used
    place[several] = np.arange(several.sum())
    shown = shown[several] / np.bincount(unit)[unit][:, None]  # a unit's blocks share its weight
    column = np.full(pairing.level.n_levels, -1)
    column[list(levels)] = np.arange(len(levels))
    used = np.flatnonzero((column[pairing.level.codes] >= 0) & several[pairing.block])
    block, own = place[pairing.block[used]], column[pairing.level.codes[used]]
    n_seen = (shown > 0).sum(axis=1)
    cell = block * len(levels) + own
    weight = shown[block, own] / np.bincount(cell)[cell]
    W = _row_weights(weight, used, unit[block], own, (shown[block] > 0) / n_seen[block][:, None], len(cohort))
    parts = (W[:, rows] @ np.asarray(features(X) if features else X, dtype=np.float64) for rows, X in cohort.blocks())
    U = functools.reduce(operator.iadd, parts)
    refuse_scale(U)
    A = np.zeros((len(units), len(levels), len(levels)))
    np.add.at(A, unit, shown[:, :, None] * (np.eye(len(levels)) - ((shown > 0) / n_seen[:, None])[:, None, :]))
    return WithinUnits(levels, U.reshape(len(units), len(levels), -1), A, units)


def _row_weights(
    weight: np.ndarray, used: np.ndarray, unit: np.ndarray, own: np.ndarray, shares: np.ndarray, n: int
) -> sparse.csc_array:
    """``(P L, n)``: what each row adds to its unit's contrasts: to its level, less the mean over its block's levels."""
    L = shares.shape[1]
    centred = np.eye(L)[own] - shares
    values = weight[:, None] * np.where(shares > 0, centred, 0.0)
    target = unit[:, None] * L + np.arange(L)
    where = np.broadcast_to(used[:, None], target.shape)
    shape = ((int(unit.max()) + 1) * L, n)
    return sparse.csc_array((values.ravel(), (target.ravel(), where.ravel())), shape=shape)


def _power(matrices: np.ndarray, exponent: float) -> np.ndarray:
    """Symmetric powers of positive semi-definite matrices ``(..., L, L)``; null directions stay null."""
    values, vectors = np.linalg.eigh(matrices)
    largest = np.maximum(values[..., -1:], np.finfo(float).tiny)
    powers = np.where(values > TOLERANCE * largest, np.maximum(values, np.finfo(float).tiny) ** exponent, 0.0)
    return np.asarray((vectors * powers[..., None, :]) @ np.swapaxes(vectors, -1, -2))


def _one_cell(residuals: np.ndarray, df: float) -> CellCovariances:
    """Covariances of units that share one cell, whose products summed over the units are ``residuals' residuals``."""
    codes = np.zeros(len(residuals), dtype=np.int64)
    return cell_covariances(residuals * np.sqrt(df / len(residuals)), codes, 1, df=np.array([df]))
