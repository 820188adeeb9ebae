"""Readers: what a linear probe, neighbours and a forest tell of rows that they were not trained on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from causalfm.estimators.scoring.discriminant import read_linear
from causalfm.metrics.recall import cell_balance

NEIGHBOURS = 11
TREES, FEW_TREES = 64, 16  # of a forest on all patients, and in halves, where forests are grown by the thousand
SAMPLE = 256  # rows that a tree is grown on at most
BLOCK = 2**23  # similarities held at once

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
    trees: int = TREES,
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
    trees
        Of the forest.

    Returns
    -------
    numpy.ndarray
        Levels of the test rows.
    """
    rows = np.asarray(X[train], dtype=np.float64), np.asarray(X[test], dtype=np.float64)
    scale = -int(np.frexp(max(np.abs(part).max(initial=0.0) for part in rows))[1])
    rows = np.ldexp(rows[0], scale), np.ldexp(rows[1], scale)  # exact; squares of 1e200 would overflow
    units = np.unique(groups[train], return_inverse=True)[1]
    weights = cell_balance(y[train], context[train], 1.0 / np.bincount(units)[units])
    weights *= (int(units.max()) + 1) / weights.sum()
    names, labels = np.unique(y[train], return_inverse=True)
    return np.asarray(names[READERS[reader]((rows[0], labels, weights, units), rows[1], random_state, trees)])


def _linear(sample: Sample, test: np.ndarray, random_state: int, trees: int) -> np.ndarray:
    X, y, weights, units = sample
    return read_linear(X, y, weights, units, test, random_state)


def _nearest(sample: Sample, test: np.ndarray, random_state: int, trees: int) -> np.ndarray:
    X, y, weights, _ = sample
    unit = [rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300) for rows in (X, test)]
    votes = np.eye(int(y.max()) + 1)[y] * weights[:, None]
    step = max(1, BLOCK // len(X))
    out = [np.zeros(0, dtype=np.int64)]
    for start in range(0, len(test), step):
        near = np.argsort(-(unit[1][start : start + step] @ unit[0].T), axis=1, kind="stable")[:, :NEIGHBOURS]
        out.append(votes[near].sum(axis=1).argmax(axis=1))
    return np.concatenate(out)


def _forest(sample: Sample, test: np.ndarray, random_state: int, trees: int) -> np.ndarray:
    from sklearn.ensemble import RandomForestClassifier

    X, y, weights, _ = sample
    grown = SAMPLE if len(X) > SAMPLE else None
    forest = RandomForestClassifier(trees, max_samples=grown, random_state=random_state, n_jobs=1)
    return np.asarray(forest.fit(X, y, sample_weight=weights).predict(test))


READERS: dict[str, Callable[[Sample, np.ndarray, int, int], np.ndarray]] = {
    "linear": _linear,
    "knn": _nearest,
    "forest": _forest,
}
