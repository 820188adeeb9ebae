"""Mean of ``Z`` given its parents: weighted least squares in one pass, patients with equal weight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from causalfm.moments import weighted_products
from causalfm.scm.parents import Parents, Values

RANK = 1e-9  # eigenvalues of the scaled Gram matrix below this share of the largest are zero


@dataclass(frozen=True, eq=False)
class MeanModel:
    """Coefficients of the mean and what their error needs.

    Attributes
    ----------
    parents
        The regressors.
    coefficients
        ``(p, d)``.
    inverse
        ``(p, p)`` map from scores to errors of the coefficients.
    estimable
        ``(p, p)`` projection onto what the design determines (of the scaled regressors).
    scale
        ``(p,)`` scale of the regressors in ``estimable``.
    """

    parents: Parents
    coefficients: np.ndarray
    inverse: np.ndarray
    estimable: np.ndarray
    scale: np.ndarray

    def at(self, values: Values) -> np.ndarray:
        """Means ``(n, d)`` of rows with these parents; regressors are laid out for distinct levels only."""
        distinct, where = np.unique(values.levels, axis=0, return_inverse=True)
        levels = Values(distinct, np.zeros((len(distinct), 0)))
        out = (self.parents.rows(levels, splines=False) @ self.coefficients)[where.reshape(-1)]
        q = self.parents.n_splines
        return np.asarray(out + self.parents.splines(values.numbers) @ self.coefficients[1 : 1 + q])

    def undetermined(self, contrasts: np.ndarray) -> np.ndarray:
        """Tell which ``contrasts (r, p)`` of regressors the design leaves open, as a mask ``(r,)``."""
        main = self.parents.n_main
        scaled = contrasts[:, :main] / self.scale
        left = np.abs(scaled - scaled @ self.estimable).max(axis=1, initial=0.0)
        return np.asarray(left > 1e-6 * np.maximum(1.0, np.abs(scaled).max(axis=1, initial=0.0)))


def fit_mean(X: np.ndarray, parents: Parents, values: Values, weights: np.ndarray) -> tuple[MeanModel, np.ndarray]:
    """Regress ``Z`` on its parents.

    Parameters
    ----------
    X
        ``(n, d)`` floating, may be a memory map.
    parents, values
        Regressors, and the rows' parents.
    weights
        ``(n,)``; those of a patient add up to 1.

    Returns
    -------
    model : MeanModel
        Least squares; crossed columns take what the main columns leave, without shrinkage.
    gram : numpy.ndarray
        ``(p, p)``.
    """
    gram, cross = weighted_products(X, regressors(parents, values), weights)
    return solve_mean(parents, gram, cross), gram


def solve_mean(parents: Parents, gram: np.ndarray, cross: np.ndarray) -> MeanModel:
    """Solve the normal equations: ``gram (p, p)`` of the regressors, ``cross (p, d)`` with ``Z``."""
    inverse = pseudo_inverse(gram)[0]
    main = parents.n_main
    _, projection, scale = pseudo_inverse(gram[:main, :main])
    return MeanModel(parents, inverse @ cross, inverse, projection, scale)


def regressors(parents: Parents, values: Values) -> Callable[[slice | np.ndarray], np.ndarray]:
    """Return the map from rows to their regressors ``(rows, p)``."""
    return lambda rows: parents.rows(values[rows])


def pseudo_inverse(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Invert a Gram matrix on what it determines.

    Parameters
    ----------
    gram
        ``(p, p)``.

    Returns
    -------
    inverse, projection, scale
        Pseudo-inverse; projection onto the determined part of the scaled regressors; their scale ``(p,)``.
    """
    scale = np.sqrt(np.where(np.diag(gram) > 0, np.diag(gram), 1.0))
    eigenvalues, vectors = np.linalg.eigh(gram / np.outer(scale, scale))
    kept = eigenvalues > RANK * eigenvalues[-1]
    used = vectors[:, kept]
    inverse = (used / eigenvalues[kept]) @ used.T / np.outer(scale, scale)
    return inverse, used @ used.T, scale
