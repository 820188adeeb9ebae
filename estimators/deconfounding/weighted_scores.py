"""Scores of a classifier as smooth functions of row weights: each with its gradient, from which intervals follow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Scored:
    """What a model said of rows, and what was true.

    Attributes
    ----------
    probabilities
        ``(n, classes)``.
    y
        ``(n,)`` codes of the true class, positions in the columns.
    judged
        Classes that scores are averaged over.
    bins
        ``(n,)`` bin of each row's confidence.
    """

    probabilities: np.ndarray
    y: np.ndarray
    judged: tuple[int, ...]
    bins: np.ndarray

    @property
    def hit(self) -> np.ndarray:
        """Which rows are decided rightly, ``(n,)`` 0 or 1."""
        return np.asarray(self.probabilities.argmax(axis=1) == self.y, dtype=float)

    @property
    def square(self) -> np.ndarray:
        """Brier score of every row, ``(n,)`` from 0 to 2."""
        truth = np.eye(self.probabilities.shape[1])[self.y]
        return np.asarray(((self.probabilities - truth) ** 2).sum(axis=1))


def accuracy(s: Scored, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of weight decided rightly."""
    return _mean(s.hit, w)


def brier(s: Scored, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean Brier score, 0 to 2."""
    return _mean(s.square, w)


def _mean(values: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean = w @ values
    return np.array([mean]), (values - mean)[:, None]


def balanced_accuracy(s: Scored, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over classes of the share decided rightly."""
    mass = np.bincount(s.y, w, s.probabilities.shape[1])
    recall = np.bincount(s.y, w * s.hit, len(mass)) / np.where(mass > 0.0, mass, 1.0)
    slopes = (s.hit - recall[s.y]) / mass[s.y] / len(s.judged)
    return np.array([recall[list(s.judged)].mean()]), slopes[:, None]


def area(s: Scored, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Macro average of the areas under the curves of each class against the others; ties count half."""
    value, slopes = 0.0, np.zeros(len(w))
    for k in s.judged:
        own = s.y == k
        score = s.probabilities[:, k]
        order, place = np.unique(score, return_inverse=True)
        masses = [np.bincount(place, np.where(mask, w, 0.0), len(order)) for mask in (own, ~own)]
        totals = [float(mass.sum()) for mass in masses]
        below, above = ((np.cumsum(m) - m / 2.0)[place] / t for m, t in zip(masses[::-1], totals[::-1], strict=True))
        one = float((w * own) @ below) / totals[0]
        # a rival below counts for its own; for a rival, the share of its opponents that lie above
        slopes += np.where(own, (below - one) / totals[0], ((1.0 - above) - one) / totals[1])
        value += one
    return np.array([value / len(s.judged)]), (slopes / len(s.judged))[:, None]


def gaps(s: Scored, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Confidence minus accuracy in every bin, times the root of the bin's weight: their squares add up."""
    off = s.probabilities.max(axis=1) - s.hit
    n_bins = int(s.bins.max()) + 1
    mass = np.bincount(s.bins, w, n_bins)
    roots = np.sqrt(np.where(mass > 0.0, mass, 1.0))
    values = np.bincount(s.bins, w * off, n_bins) / roots
    slopes = np.zeros((len(w), n_bins))
    slopes[np.arange(len(w)), s.bins] = off / roots[s.bins] - values[s.bins] / (2.0 * roots[s.bins] ** 2)
    return values, slopes


Score = Callable[[Scored, np.ndarray], tuple[np.ndarray, np.ndarray]]
SCORES: dict[str, Score] = {"accuracy": accuracy, "balanced_accuracy": balanced_accuracy, "auc": area, "brier": brier}
TOPS = {"accuracy": 1.0, "balanced_accuracy": 1.0, "auc": 1.0, "brier": 2.0}  # largest possible
