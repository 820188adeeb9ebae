"""Errors of the coefficients: a sandwich clustered by patient, kept as one number per cell and dimension.

For patients that stay in one cell the middle of the sandwich is ``sum_c f_c f_c' Q_c``: regressors of the cell times
the sum of the patients' squared residuals. Splines and patients seen in several cells add terms ``f_a f_b' Q_ab``.
Nothing of a single patient is kept, and a variance is one matrix product.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from scipy import stats

from causalfm.confidence import level_in_force
from causalfm.moments import add_by
from causalfm.scm.cells import Cells
from causalfm.scm.regression import MeanModel

ALONE = 1e-9  # what is left of a patient that decides its own mean: no degrees of freedom


@dataclass(frozen=True, eq=False)
class SamplingError:
    """Variances of linear combinations of the coefficients.

    Attributes
    ----------
    loadings
        ``(F, p)`` regressors of the cells and unit vectors of the splines, after the inverse Gram matrix.
    left, right, moment
        ``(T,)``, ``(T,)`` features of each term and ``(T, d)`` its moment.
    cells
        ``(C, p)`` mean regressors of each cell after the inverse Gram matrix.
    fourth, second
        ``(C,)`` weights that give the degrees of freedom.
    """

    loadings: np.ndarray
    left: np.ndarray
    right: np.ndarray
    moment: np.ndarray
    cells: np.ndarray
    second: np.ndarray
    fourth: np.ndarray

    def covariance(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return ``(r, d)`` covariances of the errors of ``a @ coefficients`` and ``b @ coefficients``, row by row.

        Parameters
        ----------
        a, b
            ``(r, p)``.
        """
        p, q = a @ self.loadings.T, b @ self.loadings.T
        weights = p[:, self.left] * q[:, self.right] + p[:, self.right] * q[:, self.left]
        return np.asarray(0.5 * weights @ self.moment)

    def variance(self, contrasts: np.ndarray) -> np.ndarray:
        """Variances ``(r, d)`` of the errors of ``contrasts (r, p) @ coefficients``."""
        return np.asarray(np.maximum(self.covariance(contrasts, contrasts), 0.0))

    def quantiles(self, contrasts: np.ndarray, level: float | None = None) -> np.ndarray:
        """Return ``(r,)`` t quantiles of a two-sided interval; infinite where one patient decides a contrast alone."""
        weights = (contrasts @ self.cells.T) ** 2
        weights[weights < 1e-18 * weights.max(axis=1, keepdims=True, initial=0.0)] = 0.0  # rounding
        top, bottom = (weights @ self.second) ** 2, weights**2 @ self.fourth
        with np.errstate(invalid="ignore", divide="ignore"):
            df = np.where(bottom > 0, top / bottom, np.inf)
        out = np.full(len(df), np.inf)
        enough = df >= 1.0
        out[enough] = stats.t.ppf(0.5 + level_in_force(level) / 2.0, df[enough])
        return out

    def after(self, change: np.ndarray) -> SamplingError:
        """Return the errors of ``change @ coefficients``, ``change (p, p)``."""
        return dataclasses.replace(self, loadings=self.loadings @ change.T, cells=self.cells @ change.T)

    def plus(self, loadings: np.ndarray, moment: np.ndarray) -> SamplingError:
        """Return the errors with independent ones added: ``loadings (m, p)``, each with variances ``moment (m, d)``."""
        new = len(self.loadings) + np.arange(len(loadings))
        return dataclasses.replace(
            self,
            loadings=np.concatenate([self.loadings, loadings]),
            left=np.concatenate([self.left, new]),
            right=np.concatenate([self.right, new]),
            moment=np.concatenate([self.moment, moment]),
        )


class Terms:
    """Collects the moments of a :class:`SamplingError` share by share."""

    def __init__(self, cells: Cells, n_splines: int, d: int) -> None:
        C, q = len(cells.levels), n_splines
        self.cells, self.q, self.C = cells, q, C
        self.own = np.zeros((C, d))
        self.with_spline = np.zeros((C, q, d))
        self.splines = np.zeros((q, q, d))
        self.a, self.b = _pairs(cells.patient)
        low = np.minimum(cells.cell[self.a], cells.cell[self.b])
        high = np.maximum(cells.cell[self.a], cells.cell[self.b])
        self.pairs, self.pair = np.unique(low * C + high, return_inverse=True)
        self.together = np.zeros((len(self.pairs), d))

    def add(self, which: slice, scores: np.ndarray, splines: np.ndarray, grow: np.ndarray) -> None:
        """Add shares ``which``: ``scores (K', d)``, ``splines (K', q, d)``, and the growth of their squares."""
        cell, patient = self.cells.cell[which], self.cells.patient[which]
        grown = scores * grow[:, None]
        add_by(self.own, cell, scores * grown)
        here = slice(*np.searchsorted(self.a, (which.start, which.stop)))
        a, b = self.a[here] - which.start, self.b[here] - which.start
        if len(a):
            add_by(self.together, self.pair[here], 2.0 * scores[a] * scores[b] * grow[a][:, None])
        if not self.q:
            return
        local = patient - patient[0]
        total, each = splines, splines  # a share that is all of its patient
        if len(local) > local[-1] + 1:
            total = np.zeros((local[-1] + 1, self.q, splines.shape[2]))
            for j in range(self.q):
                add_by(total[:, j], local, splines[:, j])
            each = total[local]
        one = np.zeros(len(total))
        one[local] = grow
        for j in range(self.q):
            add_by(self.with_spline[:, j], cell, 2.0 * grown * each[:, j])
            for i in range(j + 1):
                self.splines[i, j] += (1.0 + (i < j)) * (one @ (total[:, i] * total[:, j]))

    def result(self, model: MeanModel, leverage: np.ndarray) -> SamplingError:
        """Return the errors of a model, given the share ``(G,)`` of its own mean that each patient determines."""
        cells, C, q = self.cells, self.C, self.q
        features = np.zeros((C + q, model.parents.width))
        features[:C] = cells.rows(model.parents)
        features[C + np.arange(q), 1 + np.arange(q)] = 1.0
        upper = np.triu_indices(q)
        left = [np.arange(C), np.repeat(np.arange(C), q), C + upper[0], self.pairs // C]
        right = [np.arange(C), np.tile(C + np.arange(q), C), C + upper[1], self.pairs % C]
        d = self.own.shape[1]
        moment = [self.own, self.with_spline.reshape(C * q, d), self.splines[upper], self.together]
        mean = features[:C].copy()
        mean[:, 1 : 1 + q] = cells.mean_splines()
        one = cells.weight / np.maximum(1.0 - leverage[cells.patient], ALONE)
        return SamplingError(
            loadings=features @ model.inverse,
            left=np.concatenate(left),
            right=np.concatenate(right),
            moment=np.concatenate(moment),
            cells=mean @ model.inverse,
            second=cells.per_cell(),
            fourth=np.bincount(cells.cell, one, C),
        )


def _pairs(patient: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of shares of one patient, in order of the first."""
    a: list[int] = []
    b: list[int] = []
    first = np.flatnonzero(np.diff(patient, prepend=-1))
    for start, stop in zip(first, [*first[1:], len(patient)], strict=True):
        for i in range(start, stop):
            a += [i] * (stop - i - 1)
            b += range(i + 1, stop)
    return np.array(a, dtype=np.int64), np.array(b, dtype=np.int64)
