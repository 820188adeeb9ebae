"""Partially linear model: residuals of the outcomes on residuals of the factor, for many outcomes at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalfm.dose_units import STEP
from causalfm.errors import DataError
from causalfm.estimators.comparison_groups import Compared
from causalfm.estimators.crossfitting import check_training
from causalfm.estimators.group_influence import GroupInfluence
from causalfm.estimators.level_ridge import FREE, PENALTY
from causalfm.estimators.nuisances import Nuisances, cross_propensities


def partially_linear(
    compared: Compared, fold: np.ndarray, nuisances: Nuisances
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
    fitted = _residual_on_residual(compared, fold, R, nuisances)
    # reference coding to deviations from the mean over the groups' levels
    centre = np.concatenate([np.zeros((1, L - 1)), np.eye(L - 1)]) - compared.shares[1:]
    details = {"smallest_propensity": float(e[np.arange(len(e)), compared.level].min()), "folds": int(fold.max()) + 1}
    return fitted.influence(compared, compared.levels, centre), details


def partially_linear_slope(
    compared: Compared, dose: np.ndarray, fold: np.ndarray, nuisances: Nuisances
) -> tuple[GroupInfluence, Mapping[str, Any]]:
    """Estimate the slope on a continuous factor: see :func:`partially_linear`.

    Parameters
    ----------
    compared
        The groups, at one level.
    dose
        ``(G,)`` values of the factor in standard deviations.
    fold, nuisances
        As there; ``nuisances.propensity`` is a regressor.
    """
    R = np.empty((len(dose), 1))
    for f in range(int(fold.max()) + 1):
        test, train = fold == f, fold != f
        R[test] = dose[test, None] - _predict(dose[train, None], compared, train, test, nuisances.propensity)[0]
    fitted = _residual_on_residual(compared, fold, R, nuisances)
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


def _residual_on_residual(compared: Compared, fold: np.ndarray, R: np.ndarray, nuisances: Nuisances) -> _Fitted:
    G, F = len(compared), int(fold.max()) + 1
    gram = R.T @ R
    if np.linalg.eigvalsh(gram)[0] <= 1e-9 * max(float(np.trace(gram)), 1e-300):
        raise DataError(f"nothing is left of {compared.factor} given the conditioning columns: it follows from them.")
    A = R @ np.linalg.inv(gram)
    omega, residual, outside = A.copy(), np.empty(compared.Z.shape), np.zeros(G)
    X = compared.features
    for f in range(F):
        test, train = fold == f, fold != f
        fitted, outside[test], inverse = _predict(compared.Z[train], compared, train, test, nuisances.outcome)
        np.subtract(compared.Z[test], fitted, out=fitted)
        residual[test] = fitted
        if inverse is not None:
            omega[train] -= X[train] @ (inverse @ (X[test].T @ A[test]))
    theta = A.T @ residual
    step = max(1, 2**22 // compared.Z.shape[1])
    for start in range(0, G, step):
        rows = slice(start, start + step)
        residual[rows] -= R[rows] @ theta
    inside = np.minimum((A * R).sum(axis=1), 0.99)
    correction = 1.0 / np.sqrt((1.0 - inside) * (1.0 + outside))
    return _Fitted(omega, theta, residual, correction, inside + outside * (F - 1) / F)


def _predict(
    values: np.ndarray, compared: Compared, train: np.ndarray, test: np.ndarray, model: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Predictions for the test groups ``(n, d)``, their squared weights, and the inverse normal equations if known."""
    if model is not None:
        from sklearn.base import clone

        W, W_new = compared.W[train], compared.W[test]
        W, W_new = (W, W_new) if W.shape[1] else (np.ones((len(W), 1)), np.ones((len(W_new), 1)))
        fitted = clone(model).fit(W, values[:, 0] if values.shape[1] == 1 else values)
        out = np.asarray(fitted.predict(W_new), dtype=float).reshape(len(W_new), -1)
        return np.array(out), np.zeros(len(W_new)), None
    X, X_new = compared.features[train], compared.features[test]
    gram = X.T @ X
    inverse = np.linalg.inv(gram + np.diag(np.r_[FREE, np.full(X.shape[1] - 1, PENALTY)]))
    spread = inverse @ gram @ inverse
    return X_new @ (inverse @ (X.T @ values)), ((X_new @ spread) * X_new).sum(axis=1), inverse
