"""Linear outcome models of all levels at once: common slopes first, shrunken deviations of each level second."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalfm.estimators.influence.bundles import pieces

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


@dataclass(frozen=True, eq=False)
class LevelProducts:
    """Products of features and outcomes per level; those of parts of the groups add up.

    Attributes
    ----------
    grams, crosses
        ``(L, 1 + p, 1 + p)`` and ``(L, 1 + p, d)``.
    """

    grams: np.ndarray
    crosses: np.ndarray

    def __add__(self, other: LevelProducts) -> LevelProducts:
        return LevelProducts(self.grams + other.grams, self.crosses + other.crosses)


def level_products(Z: np.ndarray, level: np.ndarray, X: np.ndarray, n_levels: int) -> LevelProducts:
    """Return the products of features ``X (n, 1 + p)``, ones first, with themselves and with ``Z (n, d)``.

    Rows of another code, such as -1, take no part.
    """
    q = X.shape[1]
    grams, crosses = np.zeros((n_levels, q, q)), np.zeros((n_levels, q, Z.shape[1]))
    for code in range(n_levels):
        grams[code], crosses[code] = products(X, Z, np.flatnonzero(level == code))
    return LevelProducts(grams, crosses)


def products(X: np.ndarray, Z: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``X'X`` and ``X'Z`` over some rows."""
    cross = np.zeros((X.shape[1], Z.shape[1]))
    for part in pieces(rows, Z.shape[1]):
        cross += X[part].T @ Z[part]
    return X[rows].T @ X[rows], cross


def fit_levels(sums: LevelProducts) -> LevelRidge:
    """Fit the models to the products of the training groups; every level occurs."""
    grams, crosses = sums.grams, sums.crosses
    L, p = len(grams), grams.shape[1] - 1
    S, target = np.zeros((L + p, L + p)), np.zeros((L + p, crosses.shape[2]))
    S[:L, :L] = np.diag(grams[:, 0, 0])
    S[:L, L:], S[L:, :L] = grams[:, 0, 1:], grams[:, 0, 1:].T
    S[L:, L:] = grams[:, 1:, 1:].sum(axis=0)
    target[:L], target[L:] = crosses[:, 0], crosses[:, 1:].sum(axis=0)
    inverse = np.linalg.inv(S + np.diag(np.r_[np.full(L, FREE), np.full(p, PENALTY)]))
    common = inverse @ target
    coefficients = np.empty_like(crosses)
    own, mixed = [], []
    penalty = np.diag(np.r_[FREE, np.full(p, PENALTY)])
    for code in range(L):
        cross = np.zeros((L + p, 1 + p))  # products of the common step's regressors with the level's features
        cross[code], cross[L:] = grams[code, 0], grams[code, 1:]
        mixed.append(cross)
        own.append(np.linalg.inv(grams[code] + penalty))
        coefficients[code] = own[-1] @ (crosses[code] - cross.T @ common)
        coefficients[code, 0] += common[code]
        coefficients[code, 1:] += common[L:]
    return LevelRidge(coefficients, inverse, inverse @ S @ inverse, own, list(grams), mixed)


def _regressors(X: np.ndarray, level: np.ndarray, n_levels: int) -> np.ndarray:
    return np.concatenate([np.eye(n_levels)[level], X[:, 1:]], axis=1)
