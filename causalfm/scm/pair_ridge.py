"""Ridge regression of what the unpaired mechanism misses on the row it predicts, patients left out to choose it.

Kernel form: two pairs share what they know as far as the same factors change between the same levels. Everything is
shrunk towards 0, the unpaired mechanism.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import linalg

from causalfm.scm.pair_choice import Cells, choose

SHIFT_GRID = (0.1, 0.3, 1.0, 3.0, 10.0)  # patients that the unpaired shift counts as
SLOPE_GRID = tuple(10.0 ** (k / 2.0) for k in range(-3, 4))
FORMS = {"common": (1.0, 0.0), "own": (0.0, 1.0), "both": (1.0, 1.0)}  # slopes: of all changes, of each, their sum


@dataclass(frozen=True, eq=False)
class Task:
    """Pairs as a regression.

    Attributes
    ----------
    missed, start
        ``(N, d)`` target minus prediction of the unpaired mechanism; the prediction minus the mean of its levels.
    basis
        ``(d, k)`` orthonormal directions in which the correction is a matrix; outside of them it is one number.
    change, classes, patient, weight
        ``(N, 2 T)``, ``(N,)`` biology, ``(N,)`` and ``(N,)``; a patient's weights add up to 1.
    """

    missed: np.ndarray
    start: np.ndarray
    basis: np.ndarray
    change: np.ndarray
    classes: np.ndarray
    patient: np.ndarray
    weight: np.ndarray

    @cached_property
    def root(self) -> np.ndarray:
        """``(N, 1)`` square roots of the weights."""
        return np.asarray(np.sqrt(self.weight)[:, None])

    @cached_property
    def inside(self) -> np.ndarray:
        """``(N, k)`` coordinates of ``start`` along the directions."""
        return np.asarray(self.start @ self.basis)

    @cached_property
    def size(self) -> float:
        """Mean squared length of ``inside``, or 1 if there is none."""
        return float(self.per_patient(self.inside).mean()) or 1.0

    def per_patient(self, errors: np.ndarray) -> np.ndarray:
        """Mean squared length of ``errors (N, m)`` of each patient."""
        return np.bincount(self.patient, self.weight * (errors**2).sum(axis=1))

    def outside(self, rows: np.ndarray) -> np.ndarray:
        """Part of ``rows (N, d)`` outside of the directions."""
        return np.asarray(rows - rows @ self.basis @ self.basis.T)


@dataclass(frozen=True, eq=False)
class Corrections:
    """What was learned, per distinct change of the pairs.

    Attributes
    ----------
    change
        ``(Q, 2 T)``.
    shift, slope, outside
        ``(Q, C, d)`` by class, ``(Q, k, k)`` to be applied from the left, and ``(Q,)``.
    left_out
        ``(N, d)`` errors when the patient is left out, of the fit and of the choice.
    """

    change: np.ndarray
    shift: np.ndarray
    slope: np.ndarray
    outside: np.ndarray
    left_out: np.ndarray


def shared(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Count changes in common ``(n, m)`` of pairs ``(n, 2 T)`` and ``(m, 2 T)``; all of several count once more."""
    T = one.shape[1] // 2
    alike = np.zeros((len(one), len(other)))
    whole = np.ones((len(one), len(other)), dtype=bool)
    for f in range(T):
        a, b = one[:, [f, T + f]], other[:, [f, T + f]]
        same = (a[:, None] == b[None]).all(axis=2)
        alike += same & (a[:, None, 0] >= 0)
        whole &= same
    return np.asarray(alike + (whole & ((one[:, :T] >= 0).sum(axis=1) > 1)[:, None]))


def learn(task: Task, n_classes: int) -> Corrections:
    """Choose by patients left out, change by change: the unpaired mechanism, a shift, a shift and slopes; then fit.

    Parameters
    ----------
    task, n_classes
        The pairs, and classes of the biology.

    Returns
    -------
    Corrections
        Zero where nothing was better than the unpaired mechanism on patients left out.
    """
    change, key = np.unique(task.change, axis=0, return_inverse=True)
    cells = Cells(key.reshape(-1), task.patient, task.weight)
    alike = shared(task.change, task.change)
    patients, by_class = _shift_form(task, cells, alike)
    kernel = task.root * task.root.T * alike * (1.0 + by_class * _same(task.classes, task.classes)) / patients
    # weights of the pairs in the shift of each change and class
    heard = shared(change, task.change)[:, None] / patients
    heard = heard * (1.0 + by_class * _same(np.arange(n_classes), task.classes))
    far, outside, left_far = _fit_outside(task, cells, kernel, heard)
    near, slope, left_near = _fit_inside(task, cells, kernel, alike, heard, shared(change, task.change))
    return Corrections(change, far + near @ task.basis.T, slope, outside, left_far + left_near @ task.basis.T)


def _same(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.asarray(one[:, None] == other)


def _shift_form(task: Task, cells: Cells, alike: np.ndarray) -> tuple[float, bool]:
    """How many patients the unpaired shift counts as, and whether classes have shifts of their own."""
    whole, best = cells.squares(task.missed), (np.inf, SHIFT_GRID[-1], False)
    for by_class in (False, True):
        form = task.root * task.root.T * alike * (1.0 + by_class * _same(task.classes, task.classes))
        for patients in SHIFT_GRID:
            error = cells.relative(cells.squares(_left_out(form / patients, task.missed, task)), whole)
            best = min(best, (error, patients, by_class))
    return best[1:]


def _fit_outside(
    task: Task, cells: Cells, kernel: np.ndarray, heard: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shift ``(Q, C, d)`` and slope ``(Q,)`` outside of the directions, and errors of patients left out."""
    missed, start = task.outside(task.missed), task.outside(task.start)
    left, at = _left_out(kernel, missed, task), _left_out(kernel, start, task)
    key, patient = cells.ends
    product = np.bincount(cells.of, task.weight * (left * at).sum(axis=1))
    square = cells.squares(at)
    slopes, errors = [np.zeros(len(heard)), np.zeros(len(heard))], [missed, left]
    if square.sum() > 1e-12 * cells.squares(task.start).sum():
        for group in (np.zeros_like(key), key):  # one slope for all changes, or one each
            above, below = np.bincount(group, product)[group], np.bincount(group, square)[group]
            own = group * (int(patient.max()) + 1) + patient
            own = np.unique(own, return_inverse=True)[1].reshape(-1)
            others = _ratio(above - np.bincount(own, product)[own], below - np.bincount(own, square)[own])
            errors.append(left - others[cells.of, None] * at)
            slopes.append(_ratio(above, below)[np.unique(key, return_index=True)[1]])
    option, left_out = choose(cells, errors)
    slope = np.stack(slopes)[option, np.arange(len(option))]
    of_missed, of_start = (task.root * _solve(kernel, task.root * part) for part in (missed, start))
    shift = heard @ of_missed - slope[:, None, None] * (heard @ of_start)
    return np.where((option > 0)[:, None, None], shift, 0.0), slope, left_out


def _fit_inside(
    task: Task, cells: Cells, kernel: np.ndarray, alike: np.ndarray, heard: np.ndarray, own: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shift ``(Q, C, k)`` and slope ``(Q, k, k)`` along the directions, and errors of patients left out."""
    missed = task.missed @ task.basis
    products = (task.root * task.inside) @ (task.root * task.inside).T / task.size
    forms = [(0.0, 0.0), *((a / p, b / p) for a, b in FORMS.values() for p in SLOPE_GRID)]
    kernels = (kernel + products * (a + b * alike) for a, b in forms)
    option, left_out = choose(cells, [missed, *(_left_out(each, missed, task) for each in kernels)])
    shift, slope = np.zeros((*heard.shape[:2], missed.shape[1])), np.zeros((len(option), *2 * missed.shape[1:]))
    for o in np.unique(option[option > 0]):
        a, b = forms[o - 1]
        weights = task.root * _solve(kernel + products * (a + b * alike), task.root * missed)
        for q in np.flatnonzero(option == o):
            shift[q] = heard[q] @ weights
            slope[q] = weights.T @ (task.inside * (a + b * own[q])[:, None]) / task.size
    return shift, slope, left_out


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.where(below > 0, above / np.where(below > 0, below, 1.0), 0.0)


def _solve(kernel: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.asarray(linalg.solve(kernel + np.eye(len(kernel)), values, assume_a="pos"))


def _left_out(kernel: np.ndarray, values: np.ndarray, task: Task) -> np.ndarray:
    """Errors ``(N, m)`` of each patient's pairs under the ridge fit of ``values`` without them."""
    inverse = linalg.inv(kernel + np.eye(len(kernel)))
    mapped, out = inverse @ (task.root * values), np.empty_like(values)
    order = np.argsort(task.patient, kind="stable")
    ends = np.cumsum(np.bincount(task.patient))
    for rows in np.split(order, ends[:-1]):
        out[rows] = np.linalg.solve(inverse[np.ix_(rows, rows)], mapped[rows])
    return np.asarray(out / task.root)
