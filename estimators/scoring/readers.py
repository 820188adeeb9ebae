"""Readers: what a linear probe, neighbours and a forest tell of rows that they were not trained on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from causalfm.metrics.learners import choose_strength, fit_logistic
from causalfm.metrics.recall import cell_balance

NEIGHBOURS = 11
TREES = 64

Sample = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # rows, levels, weights, units


def read_out(
    reader: str,
    X: np.ndarray,
    y: np.ndarray,
    context: np.ndarray,
    groups: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    random_state: int,
) -> np.ndarray:
    """Train on some rows, levels balanced within contexts and units weighing the same, and guess others.

    Parameters
    ----------
    reader
        One of ``READERS``.
    X
        ``(n, d)``.
    y, context, groups
        ``(n,)`` codes; those of test rows are not looked at.
    train, test
        ``(n,)`` masks.
    random_state
        Seed of the forest and of the choice of the penalty.

    Returns
    -------
    numpy.ndarray
        Levels of the test rows.
    """
    from threadpoolctl import threadpool_limits

    rows = np.asarray(X[train], dtype=np.float64), np.asarray(X[test], dtype=np.float64)
    units = np.unique(groups[train], return_inverse=True)[1]
    weights = cell_balance(y[train], context[train], 1.0 / np.bincount(units)[units])
    weights *= (int(units.max()) + 1) / weights.sum()
    names, labels = np.unique(y[train], return_inverse=True)
    with threadpool_limits(1, user_api="blas"):
        return np.asarray(names[READERS[reader]((rows[0], labels, weights, units), rows[1], random_state)])


def _linear(sample: Sample, test: np.ndarray, random_state: int) -> np.ndarray:
    X, y, weights, units = sample
    strength = choose_strength(X, y, units, weights, random_state)
    return np.asarray(fit_logistic(X, y, weights, test, [strength], int(y.max()) + 1)[0].argmax(axis=1))


def _nearest(sample: Sample, test: np.ndarray, random_state: int) -> np.ndarray:
    X, y, weights, _ = sample
    unit = [rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300) for rows in (X, test)]
    near = np.argsort(-(unit[1] @ unit[0].T), axis=1, kind="stable")[:, :NEIGHBOURS]
    votes = (np.eye(int(y.max()) + 1)[y] * weights[:, None])[near].sum(axis=1)
    return np.asarray(votes.argmax(axis=1))


def _forest(sample: Sample, test: np.ndarray, random_state: int) -> np.ndarray:
    from sklearn.ensemble import RandomForestClassifier

    X, y, weights, _ = sample
    forest = RandomForestClassifier(TREES, random_state=random_state, n_jobs=1)
    return np.asarray(forest.fit(X, y, sample_weight=weights).predict(test))


READERS: dict[str, Callable[[Sample, np.ndarray, int], np.ndarray]] = {
    "linear": _linear,
    "knn": _nearest,
    "forest": _forest,
}
