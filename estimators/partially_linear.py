"""Partially linear model: residuals of the outcomes on residuals of the factor, for many outcomes at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from causalfm.errors import DataError
from causalfm.estimators.comparison_groups import Compared
from causalfm.estimators.crossfitting import check_training
from causalfm.estimators.group_influence import GroupInfluence
from causalfm.estimators.level_ridge import FREE, PENALTY
from causalfm.estimators.nuisances import Nuisances, cross_propensities

STEP = "one standard deviation more"


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
    A, theta, residual, correction, lost = _residual_on_residual(compared, fold, R, nuisances)
    shares = compared.shares
    centre = np.concatenate([np.zeros((1, L - 1)), np.eye(L - 1)]) - shares[1:]  # reference coding to deviations
    cell = compared.cell
    influence = _influence(compared, compared.levels, centre @ theta, (A @ centre.T) * len(compared), residual)
    details = {"smallest_propensity": float(e[np.arange(len(e)), compared.level].min()), "folds": int(fold.max()) + 1}
    df = np.maximum(np.bincount(cell) - np.bincount(cell, lost), 1.0)
    return _with(influence, correction, cell, df, compared.level), details


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
    A, theta, residual, correction, lost = _residual_on_residual(compared, fold, R, nuisances)
    cell = np.zeros(len(dose), dtype=np.int64)
    influence = _influence(compared, (STEP,), theta, A * len(dose), residual)
    df = np.array([max(len(dose) - float(lost.sum()), 1.0)])
    return _with(influence, correction, cell, df, cell), {"folds": int(fold.max()) + 1}


def _residual_on_residual(
    compared: Compared, fold: np.ndarray, R: np.ndarray, nuisances: Nuisances
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Weights ``A (G, J)`` with ``theta = A' residuals``, estimates, final residuals, corrections, lost degrees."""
    residual, outside = np.empty(compared.Z.shape), np.zeros(len(compared))
    n_folds = int(fold.max()) + 1
    for f in range(n_folds):
        test, train = fold == f, fold != f
        fitted, outside[test] = _predict(compared.Z[train], compared, train, test, nuisances.outcome)
        np.subtract(compared.Z[test], fitted, out=fitted)
        residual[test] = fitted
    gram = R.T @ R
    if np.linalg.eigvalsh(gram)[0] <= 1e-9 * max(float(np.trace(gram)), 1e-300):
        raise DataError(f"nothing is left of {compared.factor} given the conditioning columns: it follows from them.")
    A = R @ np.linalg.inv(gram)
    theta = A.T @ residual
    step = max(1, 2**22 // compared.Z.shape[1])
    for start in range(0, len(R), step):
        rows = slice(start, start + step)
        residual[rows] -= R[rows] @ theta
    inside = np.minimum((A * R).sum(axis=1), 0.99)
    correction = 1.0 / np.sqrt((1.0 - inside) * (1.0 + outside))
    return A, theta, residual, correction, inside + outside * (n_folds - 1) / n_folds


def _predict(
    values: np.ndarray, compared: Compared, train: np.ndarray, test: np.ndarray, model: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Predict ``values`` of the training groups for the test groups ``(n, d)``; squared weights of the predictions."""
    W, W_new = compared.W[train], compared.W[test]
    if model is not None:
        from sklearn.base import clone

        W, W_new = (W, W_new) if W.shape[1] else (np.ones((len(W), 1)), np.ones((len(W_new), 1)))
        target = values[:, 0] if values.shape[1] == 1 else values
        fitted = clone(model).fit(W, target)
        return np.asarray(fitted.predict(W_new), dtype=float).reshape(len(W_new), -1), np.zeros(len(W_new))
    X, X_new = compared.features[train], compared.features[test]
    gram = X.T @ X
    inverse = np.linalg.inv(gram + np.diag(np.r_[FREE, np.full(X.shape[1] - 1, PENALTY)]))
    spread = inverse @ gram @ inverse
    return X_new @ (inverse @ (X.T @ values)), ((X_new @ spread) * X_new).sum(axis=1)


def _influence(
    compared: Compared, names: tuple[str, ...], theta: np.ndarray, scale: np.ndarray, residual: np.ndarray
) -> dict[str, Any]:
    return {
        "names": names,
        "theta": theta,
        "groups": compared.groups,
        "scale": scale,
        "residual": residual,
        "features": np.ones((len(compared), 1)),
        "coefficients": theta[:, None, None, :],
        "fold": np.zeros(len(compared), dtype=np.int64),
        "bundle": compared.bundle,
        "n_bundles": compared.n_bundles,
        "absolute": False,
    }


def _with(
    fields: dict[str, Any], correction: np.ndarray, cell: np.ndarray, df: np.ndarray, level: np.ndarray
) -> GroupInfluence:
    return GroupInfluence(**fields, correction=correction, cell=cell, df=df, level=level)
