"""The linear reader: a discriminant with a shrunken covariance, whose whole path of penalties costs few products."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from causalfm.metrics.learners import grouped_folds
from causalfm.strata import groups_per_level

PENALTIES = (0.03, 0.3, 3.0, 30.0)  # times the mean variance within levels; the last reads nearly class means alone
THIRDS = 3


def read_linear(
    X: np.ndarray, y: np.ndarray, weights: np.ndarray, units: np.ndarray, test: np.ndarray, random_state: int
) -> np.ndarray:
    """Guess levels at the penalty that does best on left-out thirds of the training patients; the larger at a tie.

    Parameters
    ----------
    X, test
        ``(n, d)`` rows to learn from and ``(m, d)`` rows to read.
    y, weights, units
        ``(n,)`` codes of level without gaps, weights, and codes of the patients.
    random_state
        Seed of the thirds.

    Returns
    -------
    numpy.ndarray
        ``(m,)`` levels.
    """
    chosen = PENALTIES[-2]
    held = groups_per_level(y, units)
    if len(held) > 1 and held.min() >= 2:
        third = grouped_folds(y, units, min(THIRDS, int(held.min())), random_state)
        scores = np.zeros(len(PENALTIES))
        for number in range(int(third.max()) + 1):
            new = third == number
            guesses = discriminant_path(X[~new], y[~new], weights[~new], X[new], PENALTIES)
            total = np.bincount(y[new], weights[new], len(held))
            hits = np.array([np.bincount(y[new], weights[new] * (guess == y[new]), len(held)) for guess in guesses])
            scores += (hits / np.maximum(total, 1e-300))[:, total > 0].mean(axis=1)
        chosen = PENALTIES[::-1][int(np.argmax(scores[::-1].round(12)))]
    return discriminant_path(X, y, weights, test, [chosen])[0]


def discriminant_path(
    X: np.ndarray, y: np.ndarray, weights: np.ndarray, test: np.ndarray, penalties: Sequence[float]
) -> list[np.ndarray]:
    """Guess the levels of test rows by linear discriminants at several penalties.

    Rows are standardised by the weighted moments of the training rows, levels weigh the same. Unlike a regression on
    indicators of the levels it masks no level that lies between others. Logistic regression takes twenty times as long
    on small samples. At hospitals that were left out it can read better (TCGA's kidneys: .92 against .87 without
    correction), which is why it is asked about what is to be recommended.

    Returns
    -------
    list of numpy.ndarray
        ``(m,)`` levels for each penalty.

    References
    ----------
    Friedman, Regularized discriminant analysis, JASA 84:165 (1989).
    """
    share = np.eye(int(y.max()) + 1)[y] * weights[:, None]
    present = np.flatnonzero(share.any(axis=0))
    share = share[:, present] / share[:, present].sum(axis=0)  # columns add up to 1
    balanced = share.mean(axis=1)
    centre = balanced @ X
    spread = np.sqrt(balanced @ (X - centre) ** 2)
    spread[spread <= 1e-12 * max(float(spread.max()), 1e-300)] = 1.0
    X, test, d = (X - centre) / spread, (test - centre) / spread, X.shape[1]
    if d > len(X):  # within the span of the training rows: what is orthogonal to it moves no score
        axes = np.linalg.qr(X.T)[0]
        X, test = X @ axes, test @ axes
    means = share.T @ X
    within = (X - means[np.searchsorted(present, y)]) * np.sqrt(balanced)[:, None]
    covariance = within.T @ within
    # total variances are 1: the floor is for levels without any spread
    ridges = np.array(penalties) * float(np.trace(covariance)) / d + 1e-9
    slopes = np.linalg.solve(covariance + ridges[:, None, None] * np.eye(len(covariance)), means.T)
    scores = test @ slopes - 0.5 * (means.T * slopes).sum(axis=1)[:, None]
    return list(present[scores.argmax(axis=2)])
