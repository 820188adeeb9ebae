"""Nuisance models: outcomes and levels given the conditioning columns, fitted on other folds than they are used for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from causalfm.errors import DataError
from causalfm.estimators.influence.comparison_groups import Compared

STRENGTHS = (0.03, 0.3, 3.0)  # C of the logistic regressions
MANY = 5000  # groups beyond which the penalty makes no difference


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
        Classifier with ``predict_proba`` (a regressor for a continuous factor). None: multinomial logistic regression,
        its penalty chosen on the groups left out (ridge regression).
    """

    outcome: Any = None
    propensity: Any = None


def linear_models(Z: np.ndarray, level: np.ndarray, X: np.ndarray, n_levels: int, model: Any) -> np.ndarray:
    """Fit a model level by level and read off its coefficients ``(L, 1 + p, d)``, intercept first.

    Parameters
    ----------
    Z, level, X, n_levels
        See :func:`causalfm.estimators.influence.level_ridge.fit_levels`.
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


def cross_propensities(compared: Compared, fold: np.ndarray, model: Any = None) -> np.ndarray:
    """Probability of each level given the conditioning columns, each group's from the other folds.

    Parameters
    ----------
    compared
        The groups; each level occurs in the training groups of each fold.
    fold
        ``(G,)`` codes.
    model
        Classifier; None: multinomial logistic regression.

    Returns
    -------
    numpy.ndarray
        ``(G, L)``.

    Notes
    -----
    The strength of the built-in model's penalty is the one of a few with the best log-loss on the groups left out: with
    a weak one 300 patients of 8 sites with a continuous column got weights that left fewer than three effective groups
    in 23 % of cohorts. Beyond some thousand groups it makes no difference, and only the weak one is fitted.
    """
    if model is not None:
        return _crossed(compared, fold, model, None)
    if not compared.W.shape[1]:
        from sklearn.dummy import DummyClassifier

        return _crossed(compared, fold, DummyClassifier(strategy="prior"), None)
    from sklearn.linear_model import LogisticRegression

    strengths = STRENGTHS if len(compared) <= MANY else STRENGTHS[-1:]
    pattern = None if compared.continuous else compared.stratum  # few different rows are fitted as counts
    found = [_crossed(compared, fold, LogisticRegression(C=c, max_iter=2000), pattern) for c in strengths]
    rows = np.arange(len(compared))
    losses = [-float(np.log(np.maximum(e[rows, compared.level], 1e-300)).mean()) for e in found]
    return found[int(np.argmin(losses))]


def _crossed(compared: Compared, fold: np.ndarray, model: Any, pattern: np.ndarray | None) -> np.ndarray:
    from sklearn.base import clone

    L = len(compared.levels)
    out = np.zeros((len(compared), L))
    columns = compared.W if compared.W.shape[1] else np.ones((len(compared), 1))
    for f in range(int(fold.max()) + 1):
        test, train = fold == f, np.flatnonzero(fold != f)
        more = {}
        if pattern is not None:
            _, first, counts = np.unique(
                pattern[train] * L + compared.level[train], return_index=True, return_counts=True
            )
            train, more = train[first], {"sample_weight": counts.astype(float)}
        fitted = clone(model).fit(columns[train], compared.level[train], **more)
        out[np.ix_(test, fitted.classes_)] = fitted.predict_proba(columns[test])
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
