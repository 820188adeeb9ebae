"""Second pass: what is left of ``Z`` after its mean, as moments per cell and as errors of the coefficients.

Rows are read patient by patient. A patient's sums are carried over the end of a block, so that memory depends on the
number of cells and never on the number of rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalfm.moments import add_by, add_squares_by
from causalfm.scm.cells import Cells
from causalfm.scm.regression import MeanModel
from causalfm.scm.runs import Runs, summing
from causalfm.scm.sampling_error import SamplingError, Terms

FULL_LEVERAGE = 1.0 - 1e-9
WAITING = 256  # shares whose sums are finished at once
FLOAT32_RANGE = 1e-25, 1e25  # of variances, so that squares of rows far out neither vanish nor overflow
GAUSSIAN = 2.0  # squared coefficient of variation of the square of a Gaussian number


@dataclass(frozen=True, eq=False)
class Residuals:
    """Moments of ``r = z - mean`` per cell, each patient's rows weighing 1 in all.

    Attributes
    ----------
    levels, count
        ``(C, k)`` cells and ``(C,)`` patients in them.
    square
        ``(C, d)`` sums of ``r**2``, corrected for the coefficients fitted.
    product
        ``(C, k, k)`` sums of ``t t'``, ``t`` the residual along ``basis``; corrected likewise.
    basis
        ``(d, k)`` orthonormal principal directions of the residual.
    spread, spread_inside
        Squared coefficient of variation of a patient's mean square within a cell, median over dimensions and over
        directions of ``basis`` (2 if rows of a patient are alike and Gaussian; less with many rows).
    spread_all, spread_outside
        The same for the mean over scaled dimensions, and for the sum outside ``basis``.
    error
        What intervals of the coefficients need.
    """

    levels: np.ndarray
    count: np.ndarray
    square: np.ndarray
    product: np.ndarray
    basis: np.ndarray
    spread: float
    spread_inside: float
    spread_all: float
    spread_outside: float
    error: SamplingError


def residual_moments(
    X: np.ndarray, model: MeanModel, runs: Runs, cells: Cells, basis: np.ndarray, variance: np.ndarray
) -> Residuals:
    """Collect the moments in one pass.

    Parameters
    ----------
    X
        ``(n, d)`` floating, may be a memory map.
    model
        The mean.
    runs, cells
        Layout of the rows.
    basis
        ``(d, k)`` orthonormal.
    variance
        ``(d,)`` rough residual variances: they put dimensions on one scale in ``spread_all``, and say whether squares
        fit into float32.

    Returns
    -------
    Residuals
        See there.
    """
    sums = _Sums(model, cells, basis, variance)
    small = bool(((variance == 0) | ((variance > FLOAT32_RANGE[0]) & (variance < FLOAT32_RANGE[1]))).all())
    slopes = model.coefficients[1 : 1 + model.parents.n_splines]
    means = cells.rows(model.parents) @ model.coefficients
    for at, block, which, run in runs.blocks(X):
        mean = means[runs.cell[which]] + runs.splines[which] @ slopes
        rows = block if small else block.astype(np.float64)
        rounded = mean.astype(rows.dtype)
        sums.add(rows - rounded[run], rounded - mean, runs, which, run, at)
    return sums.result()


def leverages(model: MeanModel, cells: Cells) -> np.ndarray:
    """Share of its own mean that a patient determines ``(G,)``: largest where its rows lie in several cells."""
    rows, splines = cells.rows(model.parents), slice(1, 1 + model.parents.n_splines)
    mapped = rows @ model.inverse
    with_spline = cells.splines @ model.inverse[splines, splines] + 2.0 * mapped[cells.cell, splines]
    own = (mapped * rows).sum(axis=1)[cells.cell] + (with_spline * cells.splines).sum(axis=1)
    own = np.bincount(cells.patient, cells.weight * own, cells.n_patients)
    for g in np.flatnonzero(np.bincount(cells.patient) > 1):
        members = slice(*np.searchsorted(cells.patient, (g, g + 1)))
        design, root = rows[cells.cell[members]], np.sqrt(cells.weight[members])
        design[:, splines] = cells.splines[members]
        own[g] = np.linalg.eigvalsh((design @ model.inverse @ design.T) * np.outer(root, root))[-1]
    return np.asarray(own)


class _Sums:
    """Running sums; shares wait until their patient is complete, and until there are enough of them."""

    def __init__(self, model: MeanModel, cells: Cells, basis: np.ndarray, variance: np.ndarray) -> None:
        C, (d, k) = len(cells.levels), basis.shape
        leverage = leverages(model, cells)
        self.model, self.cells, self.basis, self.scale = model, cells, basis, np.where(variance > 0, variance, 1.0)
        # one patient alone at a level: its residual is 0, and its interval is refused by the degrees of freedom
        self.grow = np.where(leverage < FULL_LEVERAGE, 1.0 / np.maximum(1.0 - leverage, 1e-9), 1.0)
        self.leverage = leverage
        self.product = np.zeros((C, k, k))
        self.square, self.fourth = np.zeros((C, d + k + 2)), np.zeros(d + k + 2)
        self.count = cells.per_cell()
        self.terms = Terms(cells, model.parents.n_splines, d)
        self.first = 0  # share whose sums come first among those that wait
        self.waiting = np.zeros((WAITING, (2 + model.parents.n_splines) * d + k))

    def add(self, rows: np.ndarray, off: np.ndarray, runs: Runs, which: slice, run: np.ndarray, at: slice) -> None:
        """Add rows ``at`` of the order: residuals ``rows (n, d)``, overwritten, short of ``off`` of their ``run``."""
        cells, share = self.cells, runs.share[which]
        (d, k), last, weight = self.basis.shape, int(share[-1]) + 1, runs.weight[which]
        sum_up, onto = summing(run, rows.dtype), summing(share - share[0], np.float64, weight)
        t = rows @ self.basis.astype(rows.dtype) + (off @ self.basis).astype(rows.dtype)[run]
        add_squares_by(self.product, runs.cell[which][run], t * np.sqrt(weight).astype(rows.dtype)[run, None])
        n_off = np.bincount(run)[:, None] * off
        total = sum_up(rows) + n_off
        sums = self._room(int(share[0]), last)
        sums[:, :d] += onto(total)
        sums[:, d : 2 * d] += onto(sum_up(np.square(rows, out=rows)) + off * (2.0 * total - n_off))
        sums[:, 2 * d : 2 * d + k] += onto(sum_up(np.square(t)))
        for j, column in enumerate(runs.splines[which].T):
            sums[:, 2 * d + k + j * d :][:, :d] += onto(total * column[:, None])
        whole = at.stop == len(cells.order) or cells.patient[cells.share[at.stop]] != cells.patient[last - 1]
        done = last if whole else int(np.searchsorted(cells.patient, cells.patient[last - 1]))
        if at.stop == len(cells.order) or done - self.first >= WAITING:
            n, left = done - self.first, last - done
            self._finish(slice(self.first, done), self.waiting[:n])
            self.first, self.waiting[:left] = done, self.waiting[n : n + left].copy()
            self.waiting[left : n + left] = 0.0

    def _room(self, start: int, stop: int) -> np.ndarray:
        """Return the sums of shares ``start`` to ``stop``, to be added to."""
        short = stop - self.first - len(self.waiting)
        if short > 0:
            more = np.zeros((max(short, len(self.waiting)), self.waiting.shape[1]))
            self.waiting = np.concatenate([self.waiting, more])
        return self.waiting[start - self.first : stop - self.first]

    def _finish(self, which: slice, sums: np.ndarray) -> None:
        (d, k), cells = self.basis.shape, self.cells
        cell, patient, weight = cells.cell[which], cells.patient[which], cells.weight[which][:, None]
        grow = self.grow[patient][:, None]
        mean = sums[:, :d] * np.sqrt((grow - 1.0) / weight)
        along = mean @ self.basis
        add_squares_by(self.product, cell, along)
        # a patient's mean loses what the coefficients follow of it
        square = (sums[:, d : 2 * d] + mean**2) / weight
        inside = (sums[:, 2 * d : 2 * d + k] + along**2) / weight
        overall = (square / self.scale).mean(axis=1)
        outside = np.maximum(square.sum(axis=1) - inside.sum(axis=1), 0.0)
        each = np.concatenate([square, inside, overall[:, None], outside[:, None]], axis=1)
        add_by(self.square, cell, weight * each)
        self.fourth += weight[:, 0] @ each**2
        self.terms.add(which, sums[:, :d], sums[:, 2 * d + k :].reshape(len(sums), -1, d), grow[:, 0])

    def result(self) -> Residuals:
        """Return the moments once all rows are in."""
        d, k = self.basis.shape
        spread = self._spread()
        return Residuals(
            levels=self.cells.levels,
            count=self.count,
            square=self.square[:, :d],
            product=self.product,
            basis=self.basis,
            spread=float(np.median(spread[:d])),
            spread_inside=float(np.median(spread[d : d + k])),
            spread_all=float(spread[-2]),
            spread_outside=float(spread[-1]),
            error=self.terms.result(self.model, self.leverage),
        )

    def _spread(self) -> np.ndarray:
        """Squared coefficients of variation of the patients' mean squares within cells.

        With variance ``v`` and mean ``m`` the squares of the cells' sums expect ``N m**2 + C v``: where cells hold few
        patients ``C v`` is no small part of it.
        """
        C, N = len(self.count), float(self.count.sum())
        between = (self.square**2 / self.count[:, None]).sum(axis=0)
        if N <= C:  # no cell holds two patients: as of one Gaussian row each
            return np.full(len(between), GAUSSIAN)
        variance = np.maximum(self.fourth - between, 0.0) / (N - C)
        square = (between - C * variance) / N
        known = square > 1e-9 * between / N
        return np.where(known, variance / np.where(known, square, 1.0), np.where(between > 0, GAUSSIAN, 0.0))
