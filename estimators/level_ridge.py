"""Linear outcome models of all levels at once: common slopes first, shrunken deviations of each level second."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PENALTY = 1.0  # in groups: the slope of a stratum with one group is halved
FREE = 1e-9  # penalty of intercepts: none, but for rounding


@dataclass(frozen=True, eq=False)
class LevelRidge:
    """One linear model per level.

    Attributes
    ----------
    coefficients
        ``(L, 1 + p, d)``, intercept first.
    common
        ``(L + p, L + p)`` inverse of the common step's normal equations; ``spread`` its sandwich.
    own, grams, mixed
        Per level: inverse of its normal equations ``(1 + p, 1 + p)``, their unpenalised matrix, and its products
        ``(L + p, 1 + p)`` with the common step's regressors.

    Notes
    -----
    Ridge regression on level indicators and common slopes, then, on its residuals, one ridge regression per level.
    Intercepts are free, slopes have a penalty of one group. Rare levels borrow slopes from the others; levels with many
    groups keep their own. A prediction is a weighted sum of the training outcomes; the squared length of its weights is
    what the fit's error adds to the squared residual of a new group.
    """

    coefficients: np.ndarray
    common: np.ndarray
    spread: np.ndarray
    own: list[np.ndarray]
    grams: list[np.ndarray]
    mixed: list[np.ndarray]

    def leverage(self, X: np.ndarray, level: np.ndarray) -> np.ndarray:
        """``(n,)`` squared length of the weights of the predictions at features ``X (n, 1 + p)``."""
        out = np.zeros(len(X))
        for code in np.unique(level):
            rows = level == code
            r, u = self._pieces(X[rows], code)
            cross = (u @ self.common @ self.mixed[code]) * r
            out[rows] = ((u @ self.spread) * u).sum(axis=1) + ((r @ self.grams[code]) * r + 2.0 * cross).sum(axis=1)
        return out

    def weights(self, x: np.ndarray, code: int, X: np.ndarray, level: np.ndarray) -> np.ndarray:
        """``(n,)`` weights of the training outcomes in ``x (1 + p,)`` times the coefficients of one level."""
        r, u = self._pieces(x[None], code)
        out = _regressors(X, level, len(self.own)) @ (self.common @ u[0])
        rows = level == code
        out[rows] += X[rows] @ r[0]
        return np.asarray(out)

    def own_weights(self, X: np.ndarray, level: np.ndarray) -> np.ndarray:
        """``(n,)`` weight of each training outcome in its own prediction."""
        out, D = np.zeros(len(X)), _regressors(X, level, len(self.own))
        for code in range(len(self.own)):
            rows = level == code
            r, u = self._pieces(X[rows], code)
            out[rows] = ((u @ self.common) * D[rows]).sum(axis=1) + (r * X[rows]).sum(axis=1)
        return out

    def _pieces(self, x: np.ndarray, code: int) -> tuple[np.ndarray, np.ndarray]:
        r = x @ self.own[code]
        a = np.zeros((len(x), len(self.common)))
        a[:, code], a[:, len(self.own) :] = x[:, 0], x[:, 1:]
        return r, a - r @ self.mixed[code].T


def fit_levels(Z: np.ndarray, level: np.ndarray, X: np.ndarray, n_levels: int) -> LevelRidge:
    """Fit the models.

    Parameters
    ----------
    Z
        ``(n, d)`` outcomes.
    level
        ``(n,)`` codes; every level occurs.
    X
        ``(n, 1 + p)`` features, ones first.
    n_levels
        Number of levels.
    """
    p = X.shape[1] - 1
    D = _regressors(X, level, n_levels)
    S = D.T @ D
    inverse = np.linalg.inv(S + np.diag(np.r_[np.full(n_levels, FREE), np.full(p, PENALTY)]))
    common = inverse @ (D.T @ Z)
    coefficients = np.empty((n_levels, 1 + p, Z.shape[1]))
    own, grams, mixed = [], [], []
    penalty = np.diag(np.r_[FREE, np.full(p, PENALTY)])
    for code in range(n_levels):
        rows = level == code
        X_l = X[rows]
        grams.append(X_l.T @ X_l)
        mixed.append(D[rows].T @ X_l)
        own.append(np.linalg.inv(grams[-1] + penalty))
        coefficients[code] = own[-1] @ (X_l.T @ Z[rows] - mixed[-1].T @ common)
        coefficients[code, 0] += common[code]
        coefficients[code, 1:] += common[n_levels:]
    return LevelRidge(coefficients, inverse, inverse @ S @ inverse, own, grams, mixed)


def _regressors(X: np.ndarray, level: np.ndarray, n_levels: int) -> np.ndarray:
    return np.concatenate([np.eye(n_levels)[level], X[:, 1:]], axis=1)
