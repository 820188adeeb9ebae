"""Ridge regression of what the unpaired mechanism misses on the row it predicts, patients left out to choose it.

Kernel form: two pairs share what they know as far as the same factors change between the same levels. Everything is
shrunk towards 0, the unpaired mechanism.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg

SHIFT_GRID = (0.1, 0.3, 1.0, 3.0, 10.0)  # patients that the unpaired shift counts as
SLOPE_GRID = tuple(10.0 ** (k / 2.0) for k in range(-4, 5))


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

    @property
    def root(self) -> np.ndarray:
        """``(N, 1)`` square roots of the weights."""
        return np.asarray(np.sqrt(self.weight)[:, None])

    def per_patient(self, errors: np.ndarray) -> np.ndarray:
        """Mean squared length of ``errors (N, m)`` of each patient."""
        return np.bincount(self.patient, self.weight * (errors**2).sum(axis=1))


@dataclass(frozen=True, eq=False)
class Correction:
    """What was chosen and learned.

    Attributes
    ----------
    shift
        ``(N, d)`` weights of the pairs in the shift of a change.
    slopes
        ``(N, k)`` weights of the pairs in the matrices, already with their scale; None without matrices.
    own, by_class
        Whether changes have matrices, and classes shifts, of their own.
    outside
        Slope outside the directions.
    left_out
        ``(N, d)`` errors when the patient is left out, of the fit and of the choice.
    """

    shift: np.ndarray
    slopes: np.ndarray | None
    own: bool
    by_class: bool
    outside: float
    left_out: np.ndarray

    def at(self, task: Task, change: np.ndarray, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
        """Shift ``(n_classes, d)`` and matrix ``(k, k)``, applied from the left, of one change."""
        alike = shared(change[None], task.change)[0]
        same = (np.arange(n_classes)[:, None] == task.classes) & self.by_class
        k = task.basis.shape[1]
        if self.slopes is None:
            return (alike * (1.0 + same)) @ self.shift, np.zeros((k, k))
        inside = task.start @ task.basis
        weight = 1.0 + alike if self.own else np.ones(len(alike))
        return (alike * (1.0 + same)) @ self.shift, self.slopes.T @ (inside * weight[:, None])


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


def learn(task: Task) -> Correction:
    """Choose by patients left out among the unpaired mechanism, shifts, and shifts with slopes; then fit.

    Parameters
    ----------
    task
        The pairs.

    Returns
    -------
    Correction
        Zero if nothing was better than the unpaired mechanism on patients left out.
    """
    alike = shared(task.change, task.change) * (task.root @ task.root.T)
    same = task.classes[:, None] == task.classes
    inside = task.missed @ task.basis
    kernel, by_class = _choose_shift(task, alike, same)
    outside, at_start = (task.root * (x - x @ task.basis @ task.basis.T) for x in (task.missed, task.start))
    slope, out_errors = _choose_outside(task, _left_out(kernel, outside, task), _left_out(kernel, at_start, task))
    chosen, in_errors = _choose_slopes(task, kernel, alike, task.root * inside)
    left_out = out_errors + in_errors @ task.basis.T
    if task.per_patient(left_out).sum() >= task.per_patient(task.missed).sum():
        return Correction(np.zeros_like(task.missed), None, False, False, 0.0, task.missed)
    weights = task.root * _weights(kernel, outside - slope * at_start)
    scale = _shift_scale(kernel, alike, same, by_class)
    form, penalty = chosen
    added = _slope_kernel(task, alike, form) / penalty if form else 0.0
    within = task.root * _weights(kernel + added, task.root * inside)
    shift = scale * (weights + within @ task.basis.T)
    slopes = within / (penalty * _mean_square(task)) if form else None
    return Correction(shift, slopes, form == "own", by_class, slope, left_out)


def _choose_shift(task: Task, alike: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, bool]:
    """Kernel of the shift that is best on patients left out."""
    best = float(task.per_patient(task.missed).sum()), np.zeros_like(alike), False
    for by_class in (False, True):
        form = alike * (1.0 + same) if by_class else alike
        for patients in SHIFT_GRID:
            kernel = form / patients
            error = float(task.per_patient(_left_out(kernel, task.root * task.missed, task)).sum())
            if error < best[0]:
                best = error, kernel, by_class
    return best[1:]


def _choose_outside(task: Task, missed: np.ndarray, start: np.ndarray) -> tuple[float, np.ndarray]:
    """Slope outside the directions, and the errors there when each patient is left out."""
    product = np.bincount(task.patient, task.weight * (missed * start).sum(axis=1))
    square = task.per_patient(start)
    if square.sum() <= 1e-12 * max(float(task.per_patient(task.start).sum()), 1e-300):
        return 0.0, missed
    others = square.sum() - square
    slopes = np.where(others > 0, (product.sum() - product) / np.where(others > 0, others, 1.0), 0.0)
    errors = missed - slopes[task.patient, None] * start
    both = np.stack([task.per_patient(missed), task.per_patient(errors)])
    kept = _best_without(both)
    slope = float(product.sum() / square.sum()) if both[1].sum() < both[0].sum() else 0.0
    return slope, np.where(kept[task.patient, None] == 1, errors, missed)


def _choose_slopes(
    task: Task, kernel: np.ndarray, alike: np.ndarray, inside: np.ndarray
) -> tuple[tuple[str, float], np.ndarray]:
    """Form and penalty of the matrices, and the errors inside when each patient is left out of fit and choice."""
    options: list[tuple[str, float]] = [("", 1.0)]
    errors = [_left_out(kernel, inside, task)]
    if _mean_square(task) > 0:
        for form in ("common", "own"):
            whole = _slope_kernel(task, alike, form)
            for penalty in SLOPE_GRID:
                options.append((form, penalty))
                errors.append(_left_out(kernel + whole / penalty, inside, task))
    table = np.stack([task.per_patient(e) for e in errors])
    kept = _best_without(table)[task.patient]
    return options[int(table.sum(axis=1).argmin())], np.stack(errors)[kept, np.arange(len(kept))]


def _best_without(table: np.ndarray) -> np.ndarray:
    """Best option ``(G,)`` for each patient by the errors ``(options, G)`` of the others."""
    return np.asarray((table.sum(axis=1, keepdims=True) - table).argmin(axis=0))


def _slope_kernel(task: Task, alike: np.ndarray, form: str) -> np.ndarray:
    inside = task.root * (task.start @ task.basis)
    products = inside @ inside.T / _mean_square(task)
    if form == "common":
        return np.asarray(products)
    return np.asarray(products * (1.0 + alike / (task.root @ task.root.T)))


def _mean_square(task: Task) -> float:
    """Mean squared length of the prediction inside the directions, from its mean."""
    return float(task.per_patient(task.start @ task.basis).mean())


def _shift_scale(kernel: np.ndarray, alike: np.ndarray, same: np.ndarray, by_class: bool) -> float:
    """Return what the chosen kernel was divided by, as a factor."""
    return float(kernel.sum() / (alike * (1.0 + same * by_class)).sum())


def _weights(kernel: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.asarray(linalg.solve(kernel + np.eye(len(kernel)), values, assume_a="pos"))


def _left_out(kernel: np.ndarray, values: np.ndarray, task: Task) -> np.ndarray:
    """Errors of each patient's pairs under the ridge fit without them; ``values`` come times the root of the weight."""
    inverse = linalg.inv(kernel + np.eye(len(kernel)))
    mapped, out = inverse @ values, np.empty_like(values)
    order = np.argsort(task.patient, kind="stable")
    ends = np.cumsum(np.bincount(task.patient))
    for rows in np.split(order, ends[:-1]):
        out[rows] = np.linalg.solve(inverse[np.ix_(rows, rows)], mapped[rows])
    return np.asarray(out / task.root)
