"""Partially linear model: residuals of the outcomes on residuals of the factor, for many outcomes at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalfm.dose_units import STEP
from causalfm.errors import DataError
from causalfm.estimators.influence.bundles import pieces
from causalfm.estimators.influence.comparison_groups import Compared
from causalfm.estimators.influence.crossfitting import check_training
from causalfm.estimators.influence.group_influence import GroupInfluence
from causalfm.estimators.influence.level_ridge import FREE, PENALTY, products
from causalfm.estimators.influence.nuisances import Nuisances, cross_propensities, predicted


def partially_linear(
    compared: Compared, fold: np.ndarray, nuisances: Nuisances, *, overwrite: bool = False
) -> tuple[GroupInfluence, Mapping[str, Any]]:
    """Estimate the levels' effects by double machine learning, cross-fitted by group.

    Parameters
    ----------
    compared
        The groups.
    fold
        ``(G,)`` fold of each group.
    nuisances
        Models in place of the built-in ones.
    overwrite
        Whether ``compared.Z`` may be overwritten: saves a matrix of its size.

    Returns
    -------
    GroupInfluence
        One quantity per level: its effect less the mean over the groups' levels, so that contrasts must sum to 0.
    details : dict
        Smallest propensity.

    Raises
    ------
    DataError
        A level without groups to learn from in some fold; nothing is left of the factor.

    Notes
    -----
    ``Z - m(W)`` is regressed on the level indicators less their propensities. With the same folds and nuisances the
    numbers are those of EconML's ``LinearDML`` without effect modifiers. If effects differ between the rows of ``W``
    the estimate is their mean weighted by how open the choice of level is there.

    Assumption: levels act alike at all ``W``, or that mean is what is asked for.

    References
    ----------
    Chernozhukov et al., Econometrics J. 21 (2018) C1-C68; Robinson, Econometrica 56 (1988) 931-954.
    """
    check_training(fold, compared.level, compared.levels, compared.factor, compared.unit)
    L = len(compared.levels)
    e = cross_propensities(compared, fold, nuisances.propensity)
    R = (np.eye(L)[compared.level] - e)[:, 1:]
    fitted = _residual_on_residual(compared, fold, R, nuisances.outcome, overwrite)
    # reference coding to deviations from the mean over the groups' levels
    centre = np.concatenate([np.zeros((1, L - 1)), np.eye(L - 1)]) - compared.shares[1:]
    details = {"smallest_propensity": float(e[np.arange(len(e)), compared.level].min()), "folds": int(fold.max()) + 1}
    return fitted.influence(compared, compared.levels, centre), details


def partially_linear_slope(
    compared: Compared, dose: np.ndarray, fold: np.ndarray, nuisances: Nuisances, *, overwrite: bool = False
) -> tuple[GroupInfluence, Mapping[str, Any]]:
    """Estimate the slope on a continuous factor: see :func:`partially_linear`.

    Parameters
    ----------
    compared
        The groups, at one level.
    dose
        ``(G,)`` values of the factor in standard deviations.
    fold, nuisances, overwrite
        As there; ``nuisances.propensity`` is a regressor.
    """
    R = _dose_left(compared, dose, fold, nuisances.propensity)
    fitted = _residual_on_residual(compared, fold, R, nuisances.outcome, overwrite)
    return fitted.influence(compared, STEP[1:], np.eye(1)), {"folds": int(fold.max()) + 1}


@dataclass(frozen=True, eq=False)
class _Fitted:
    """``theta = omega' Z``: weights ``(G, J)``, estimates ``(J, d)``, residuals ``(G, d)``, their lost variance."""

    omega: np.ndarray
    theta: np.ndarray
    residual: np.ndarray
    correction: np.ndarray
    lost: np.ndarray

    def influence(self, compared: Compared, names: tuple[str, ...], centre: np.ndarray) -> GroupInfluence:
        cell = compared.cell
        return GroupInfluence(
            names=names,
            theta=centre @ self.theta,
            groups=compared.groups,
            scale=(self.omega @ centre.T) * len(compared),
            residual=self.residual,
            correction=self.correction,
            cell=cell,
            df=np.maximum(np.bincount(cell) - np.bincount(cell, self.lost), 1.0),
            bundle=compared.bundle,
            n_bundles=compared.n_bundles,
            level=compared.level,
            absolute=False,
        )


def _residual_on_residual(compared: Compared, fold: np.ndarray, R: np.ndarray, model: Any, overwrite: bool) -> _Fitted:
    G, F = len(compared), int(fold.max()) + 1
    gram = R.T @ R
    if np.linalg.eigvalsh(gram)[0] <= 1e-9 * max(float(np.trace(gram)), 1e-300):
        raise DataError(f"nothing is left of {compared.factor} given the conditioning columns: it follows from them.")
    A, X, outside = R @ np.linalg.inv(gram), compared.features, np.zeros(G)
    omega, residual = A.copy(), compared.Z if overwrite and model is None else np.empty(compared.Z.shape)
    folds = [np.flatnonzero(fold == f) for f in range(F)]
    sums = [products(X, compared.Z, test) for test in folds] if model is None else []
    for f, test in enumerate(folds):
        train = np.flatnonzero(fold != f)
        if model is None:
            own, cross = (sum(part[i] for g, part in enumerate(sums) if g != f) for i in (0, 1))
            inverse = np.linalg.inv(own + np.diag(np.r_[FREE, np.full(X.shape[1] - 1, PENALTY)]))
            coefficients = inverse @ cross
            for rows in pieces(test, compared.Z.shape[1]):
                residual[rows] = compared.Z[rows] - X[rows] @ coefficients
            outside[test] = ((X[test] @ (inverse @ own @ inverse)) * X[test]).sum(axis=1)
            omega[train] -= X[train] @ (inverse @ (X[test].T @ A[test]))
        else:
            residual[test] = compared.Z[test] - predicted(compared.Z[train], compared.W[train], compared.W[test], model)
    theta = A.T @ residual
    step = max(1, 2**22 // compared.Z.shape[1])
    for start in range(0, G, step):
        block = slice(start, start + step)
        residual[block] -= R[block] @ theta
    inside = np.minimum((A * R).sum(axis=1), 0.99)
    correction = 1.0 / np.sqrt((1.0 - inside) * (1.0 + outside))
    return _Fitted(omega, theta, residual, correction, inside + outside * (F - 1) / F)


def _dose_left(compared: Compared, dose: np.ndarray, fold: np.ndarray, model: Any) -> np.ndarray:
    """Return what the conditioning columns leave of the dose ``(G, 1)``, each group predicted from the other folds."""
    R = np.empty((len(dose), 1))
    for f in range(int(fold.max()) + 1):
        test, train = fold == f, fold != f
        R[test] = dose[test, None] - predicted(dose[train, None], compared.W[train], compared.W[test], model)
    return R
