"""Probes trained along a schedule of growing confounding, and what every patient adds to their accuracies."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from causalfm.metrics.training_sets import Draw, Schedule

STRENGTHS = tuple((10.0 ** np.linspace(-8, 4, 15)).tolist())  # PathoROB's
ITERATIONS = 100


@dataclass(frozen=True, eq=False)
class Sweep:
    """Accuracies on one set of test patients.

    Attributes
    ----------
    accuracies
        ``(steps, repeats * parts)`` balanced accuracy; the parts of one deal side by side.
    effects
        ``(steps, G)`` what each group adds to the mean accuracy of a step as a test patient: deviations from the mean
        of its cell, so that they add up to 0 in every repeat.
    strata
        ``(G,)`` codes of the cells in which a group is tested; -1 if it never is.
    cells
        Which cells (at the levels trained on) or classes (at others) were tested.
    held
        ``(repeats * parts, G)`` which groups were in training or validation.
    inner
        At the levels trained on, or at others.
    """

    accuracies: np.ndarray
    effects: np.ndarray
    strata: np.ndarray
    cells: np.ndarray
    held: np.ndarray
    inner: bool


def probe_sweep(
    X: np.ndarray,
    schedule: Schedule,
    *,
    repeats: int = 10,
    strengths: Sequence[float] = STRENGTHS,
    random_state: int = 0,
) -> tuple[Sweep, Sweep]:
    """Train a probe on every step of a schedule, over random deals of the patients.

    Logistic regression on the embeddings as they are (L-BFGS, 100 iterations), penalty chosen by balanced accuracy on
    validation patients weighted to the association of the training set, tested by balanced accuracy.

    Parameters
    ----------
    X
        ``(n, d)`` embeddings.
    schedule
        The training sets.
    repeats
        Deals; each trains on ``schedule.parts`` sets of patients.
    strengths
        Inverse penalties, ascending; the first of equals is taken.
    random_state
        Seed of the deals.

    Returns
    -------
    Sweep, Sweep
        At the levels trained on, cells weighing equally; at the other levels, classes weighing equally (``nan`` if
        there are none). Rows of a group in a cell weigh one together.
    """
    from threadpoolctl import threadpool_limits

    y, groups = schedule.y, schedule.groups
    cell = y * len(schedule.levels) + schedule.level
    shape = len(schedule.counts), repeats * schedule.parts, int(groups.max()) + 1
    inner, outer = _Tally.of(*shape, schedule.available.size), _Tally.of(*shape, len(schedule.classes))
    rng = np.random.default_rng(random_state)
    held = []
    draws = (draw for _ in range(repeats) for draw in schedule.draw(rng))
    with threadpool_limits(1, user_api="blas"):  # small products: threads that wait for each other cost more
        for column, draw in enumerate(draws):
            hits = _hits(X, y, draw, strengths)
            held.append(draw.held)
            inner.add(column, hits[:, : len(draw.test)], cell[draw.test], groups[draw.test])
            outer.add(column, hits[:, len(draw.test) :], y[draw.other], groups[draw.other])
    return inner.sweep(np.array(held), inner=True), outer.sweep(np.array(held), inner=False)


def _hits(X: np.ndarray, y: np.ndarray, draw: Draw, strengths: Sequence[float]) -> np.ndarray:
    """Train on every step's rows and say which of the test rows are right, ``(steps, test + other)``."""
    parts = [*draw.train, draw.validation, np.concatenate([draw.test, draw.other])]
    rows, where = np.unique(np.concatenate(parts), return_inverse=True)
    Z = _in_span(np.asarray(X[rows], dtype=np.float64), np.searchsorted(rows, np.unique(np.concatenate(draw.train))))
    *train, validation, test = np.split(where, np.cumsum([len(part) for part in parts[:-1]]))
    guesses = [
        fit_on_validation((Z[fitted], y[rows[fitted]]), (Z[validation], y[draw.validation]), share, Z[test], strengths)
        for fitted, share in zip(train, draw.shares, strict=True)
    ]
    return np.asarray(np.array(guesses) == y[parts[-1]])


def fit_on_validation(
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    weights: np.ndarray,
    test: np.ndarray,
    strengths: Sequence[float],
) -> np.ndarray:
    """Fit logistic regression at the strength with the best weighted balanced accuracy on validation rows.

    Parameters
    ----------
    train, validation
        Rows ``(m, d)`` and classes ``(m,)``.
    weights
        ``(m,)`` weights of the validation rows.
    test
        ``(t, d)`` rows to classify.
    strengths
        Inverse penalties; the first of equals is taken.

    Returns
    -------
    numpy.ndarray
        ``(t,)`` classes.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    total = np.bincount(validation[1], weights)
    best, score = None, -1.0
    for strength in strengths:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # an early stop only regularises a little more
            model = LogisticRegression(C=strength, max_iter=ITERATIONS).fit(*train)
        hit = model.predict(validation[0]) == validation[1]
        reached = float((np.bincount(validation[1], weights * hit)[total > 0] / total[total > 0]).mean())
        if reached > score:
            best, score = model, reached
    assert best is not None
    return np.asarray(best.predict(test))


def _in_span(Z: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Rotate rows into the span of the training rows, where it has fewer dimensions: no L2-penalised fit changes."""
    if len(train) >= Z.shape[1]:
        return Z
    return np.asarray(Z @ np.linalg.qr(Z[train].T)[0])


@dataclass(frozen=True, eq=False)
class _Tally:
    """Accuracies and effects as the repeats come in."""

    accuracies: np.ndarray  # (steps, repeats)
    effects: np.ndarray  # (steps, G) sums over the repeats
    tested: np.ndarray  # (G, cells) whether a group was tested in a cell

    @classmethod
    def of(cls, steps: int, repeats: int, n_groups: int, n_cells: int) -> _Tally:
        nothing = np.full((steps, repeats), np.nan)
        return cls(nothing, np.zeros((steps, n_groups)), np.zeros((n_groups, n_cells), dtype=bool))

    def add(self, column: int, hits: np.ndarray, cell: np.ndarray, groups: np.ndarray) -> None:
        """Add hits ``(steps, m)`` of rows in these cells and groups; the cells weigh equally."""
        if not len(cell):
            return
        n_groups = len(self.tested)
        pairs, entry = np.unique(cell * n_groups + groups, return_inverse=True)
        means = np.array([np.bincount(entry, hit) for hit in hits]) / np.bincount(entry)
        present, place = np.unique(pairs // n_groups, return_inverse=True)
        size = np.bincount(place)
        recall = np.array([np.bincount(place, mean) for mean in means]) / size
        self.accuracies[:, column] = recall.mean(axis=1)
        parts = (means - recall[:, place]) / (size[place] * len(present))
        np.add.at(self.effects.T, pairs % n_groups, parts.T)
        self.tested[pairs % n_groups, pairs // n_groups] = True

    def sweep(self, held: np.ndarray, *, inner: bool) -> Sweep:
        strata = np.unique(self.tested, axis=0, return_inverse=True)[1].reshape(-1)
        strata = np.where(self.tested.any(axis=1), strata, -1)
        return Sweep(
            self.accuracies, self.effects / self.accuracies.shape[1], strata, np.any(self.tested, axis=0), held, inner
        )
