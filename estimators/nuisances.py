"""Nuisance models: outcomes and levels given the conditioning columns, fitted on other folds than they are used for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from causalfm.errors import DataError
from causalfm.estimators.comparison_groups import Compared


@dataclass(frozen=True)
class Nuisances:
    """Models in place of the built-in ones, as scikit-learn has them; they are cloned before each fit.

    Attributes
    ----------
    outcome
        Regressor of many outputs, for instance ``Ridge()`` or ``DummyRegressor()``. Its predictions must be linear in
        the columns for AIPW. None: ridge regression with common slopes, and with deviations of each level from them
        that are shrunken too.
    propensity
        Classifier with ``predict_proba`` (a regressor for a continuous factor). None: multinomial logistic regression
        with ``C=1`` (ridge regression).
    """

    outcome: Any = None
    propensity: Any = None


def linear_models(Z: np.ndarray, level: np.ndarray, X: np.ndarray, n_levels: int, model: Any) -> np.ndarray:
    """Fit a model level by level and read off its coefficients ``(L, 1 + p, d)``, intercept first.

    Parameters
    ----------
    Z, level, X, n_levels
        See :func:`causalfm.estimators.level_ridge.fit_levels`.
    model
        Regressor with linear predictions.

    Raises
    ------
    DataError
        Predictions that are not linear in the columns.
    """
    from sklearn.base import clone

    W = X[:, 1:] if X.shape[1] > 1 else X
    probes = np.concatenate([np.zeros((1, W.shape[1])), np.eye(W.shape[1])])
    coefficients = np.zeros((n_levels, X.shape[1], Z.shape[1]))
    for code in range(n_levels):
        rows = level == code
        fitted = clone(model).fit(W[rows], Z[rows])
        at = np.asarray(fitted.predict(probes), dtype=float).reshape(len(probes), -1)
        if X.shape[1] > 1:
            coefficients[code, 0], coefficients[code, 1:] = at[0], at[1:] - at[0]
        else:
            coefficients[code, 0] = at[1]
        seen = np.asarray(fitted.predict(W[rows]), dtype=float).reshape(rows.sum(), -1)
        off = np.abs(X[rows] @ coefficients[code] - seen).max()
        if off > 1e-6 * (1.0 + np.abs(seen).max()):
            raise DataError(
                f"nuisances.outcome={type(model).__name__} is not linear in the conditioning columns: give a linear "
                "regressor such as Ridge(), or use estimator='partially-linear', which takes any."
            )
    return coefficients


def propensities(
    level: np.ndarray,
    W: np.ndarray,
    W_new: np.ndarray,
    n_levels: int,
    model: Any = None,
    pattern: np.ndarray | None = None,
) -> np.ndarray:
    """Probability of each level given the conditioning columns, ``(n_new, L)``.

    Parameters
    ----------
    level, W
        Training groups, ``(n,)`` and ``(n, p)``.
    W_new
        ``(n_new, p)``.
    n_levels
        Number of levels; each occurs among the training groups.
    model
        Classifier; None: logistic regression with ``C=1``.
    pattern
        ``(n,)`` code of each row of ``W``, if few different ones occur: the built-in model is then fitted to counts.
    """
    if not W.shape[1] and model is None:
        share = np.bincount(level, minlength=n_levels) / len(level)
        return np.tile(share, (len(W_new), 1))
    from sklearn.base import clone

    weight = None
    if model is None:
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(C=1.0, max_iter=2000)
        if pattern is not None:
            _, first, counts = np.unique(pattern * n_levels + level, return_index=True, return_counts=True)
            level, W, weight = level[first], W[first], counts.astype(float)
    fitted = clone(model)
    W, W_new = (W, W_new) if W.shape[1] else (np.ones((len(W), 1)), np.ones((len(W_new), 1)))
    fitted = fitted.fit(W, level) if weight is None else fitted.fit(W, level, sample_weight=weight)
    out = np.zeros((len(W_new), n_levels))
    out[:, fitted.classes_] = fitted.predict_proba(W_new)
    return out


def cross_propensities(compared: Compared, fold: np.ndarray, model: Any = None) -> np.ndarray:
    """``(G, L)`` probabilities of the levels, each group's from the other folds."""
    out = np.empty((len(compared), len(compared.levels)))
    for f in range(int(fold.max()) + 1):
        test, train = fold == f, fold != f
        pattern = None if compared.continuous else compared.stratum[train]
        out[test] = propensities(
            compared.level[train], compared.W[train], compared.W[test], out.shape[1], model, pattern
        )
    return out


def predicted(values: np.ndarray, W: np.ndarray, W_new: np.ndarray, model: Any = None) -> np.ndarray:
    """Predict ``values (n, d)`` at ``W_new (m, p)``: ``(m, d)``; without a model by ridge regression."""
    from sklearn.base import clone

    if model is None:
        from sklearn.linear_model import Ridge

        model = Ridge()
    W, W_new = (W, W_new) if W.shape[1] else (np.ones((len(W), 1)), np.ones((len(W_new), 1)))
    fitted = clone(model).fit(W, values[:, 0] if values.shape[1] == 1 else values)
    return np.asarray(fitted.predict(W_new), dtype=float).reshape(len(W_new), -1)
