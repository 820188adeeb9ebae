"""Scores of a model as probabilities of the classes, or refused."""

from __future__ import annotations

import numpy as np

from causalfm.errors import DataError, positions
from causalfm.scm.scores import Scorer

SUMS = 1e-3  # probabilities of a row may miss one by this much


def in_class_order(table: np.ndarray, scorer: Scorer, classes: tuple[str, ...], name: str) -> np.ndarray:
    """Return what a model gave in the order of the classes, or refuse what are no probabilities of these.

    Parameters
    ----------
    table
        ``(n, classes)`` scores.
    scorer
        The model that gave them.
    classes
        Levels of the biology in the reference.
    name
        What the rows are called in a message.
    """
    named = [known for known in scorer.classes if known in classes]
    if named and set(named) != set(classes):
        raise DataError(
            f"model gives the classes {', '.join(scorer.classes)}, and the reference has {', '.join(classes)}: "
            "they must be the same."
        )
    _check_probabilities(table, classes, name)
    order = [scorer.classes.index(known) for known in classes] if named else list(range(len(classes)))
    return np.asarray(table[:, order])


def _check_probabilities(table: np.ndarray, classes: tuple[str, ...], name: str) -> None:
    if table.shape[1] != len(classes):
        raise DataError(
            f"model gives {table.shape[1]} columns and the reference has {len(classes)} classes "
            f"({', '.join(classes)}): give one column of probabilities for each."
        )
    off = np.flatnonzero((table < 0.0).any(axis=1) | (np.abs(table.sum(axis=1) - 1.0) >= SUMS)).tolist()
    if off:
        raise DataError(
            f"model gives values that are no probabilities in {len(off)} rows of the {name} ({positions(off)}): pass "
            "predict_proba, or a softmax of the scores."
        )
