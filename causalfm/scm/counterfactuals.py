"""Rows under an intervention: abduct the noise, change the causes, predict ``Z``; and the error of doing so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from causalfm.arguments import check_positive
from causalfm.confidence import level_in_force
from causalfm.errors import DataError
from causalfm.lazy_rows import empty_like
from causalfm.scm.additive import SharedNoise
from causalfm.scm.fitted import Fitted
from causalfm.scm.mechanisms import Noise
from causalfm.scm.number_errors import through_numbers
from causalfm.scm.parents import Values

ERROR_ROWS = 4096  # whose errors are computed at once
BLOCK_BYTES = 2 * 2**20  # of float64 rows: what is held beside the input and the output, and stays in cache


def predict_rows(X: np.ndarray, fitted: Fitted, source: Values, target: Values) -> np.ndarray:
    """Return the counterfactual embeddings ``(n, d)``, float64 for float64 input and else float32.

    Parameters
    ----------
    X
        ``(n, d)`` as seen, may be a memory map; read in blocks.
    fitted
        The model.
    source, target
        Parents of ``Z`` as seen and after the intervention. Rows whose parents do not change stay as they are.
    """
    dtype = np.float64 if X.dtype == np.float64 else np.float32
    out = empty_like(X, dtype)
    step = max(1, BLOCK_BYTES // (8 * X.shape[1]))
    for start in range(0, len(X), step):
        rows = slice(start, start + step)
        out[rows] = X[rows]
        before, after = source[rows], target[rows]
        groups = list(transitions(before, after))
        if groups:
            at = np.concatenate([where for where, _, _ in groups])
            together = len(at) == at[-1] - at[0] + 1 and bool((np.diff(at) == 1).all())
            inside = slice(at[0], at[-1] + 1) if together else at
            out[rows][inside] += _change(out[rows][inside], fitted, groups, before[at], after[at])
    return out


def _change(
    X: np.ndarray,
    fitted: Fitted,
    groups: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
    before: Values,
    after: Values,
) -> np.ndarray:
    """Return what rows ``X (n, d)``, group by group, change by: the mean, and the noise as the mechanism carries it."""
    mean, dtype = fitted.mean, X.dtype
    lengths = [len(where) for where, _, _ in groups]
    ends = np.cumsum(lengths)
    moves = [(slice(e - n, e), a, b) for n, e, (_, a, b) in zip(lengths, ends, groups, strict=True)]
    codes = np.array([codes for side in (1, 2) for codes in (group[side] for group in groups)])
    levels = Values(codes, np.zeros((len(codes), 0)))
    here, there = np.split(mean.parents.rows(levels, splines=False) @ mean.coefficients, 2)
    group = np.repeat(np.arange(len(groups)), lengths)
    shift = (there - here).astype(dtype)[group]
    first, slopes = mean.parents.splines(before.numbers), mean.coefficients[1 : 1 + mean.parents.n_splines]
    if (before.numbers != after.numbers).any():
        shift += ((mean.parents.splines(after.numbers) - first) @ slopes).astype(dtype)
    if not isinstance(fitted.noise, SharedNoise):
        residual = X - here.astype(dtype)[group]
        if mean.parents.n_splines:
            residual -= first.astype(dtype) @ slopes.astype(dtype)
        shift += fitted.noise.change(residual, moves)
    return np.asarray(shift)


def transitions(before: Values, after: Values) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield the rows of each change of parents, with the level codes before and after; unchanged rows are left out."""
    changed = (before.levels != after.levels).any(axis=1) | (before.numbers != after.numbers).any(axis=1)
    rows = np.flatnonzero(changed)
    if not len(rows):
        return
    both = np.concatenate([before.levels[rows], after.levels[rows]], axis=1)
    distinct, where = np.unique(both, axis=0, return_inverse=True)
    order = np.argsort(where.reshape(-1), kind="stable")
    ends = np.cumsum(np.bincount(where.reshape(-1)))
    k = before.levels.shape[1]
    for pair, start, stop in zip(distinct, [0, *ends[:-1]], ends, strict=True):
        yield rows[order[start:stop]], pair[:k], pair[k:]


def scale_error(noise: Noise, source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the factor on a residual and the variance of its logarithm: see :class:`causalfm.scm.mechanisms.Noise`.

    Raises
    ------
    DataError
        A mechanism that has no such form.
    """
    form = noise.scale_error(source, target)
    if form is None:
        raise DataError(
            "this mechanism has no intervals for rows: choose one without transport, such as 'additive', "
            "'location-scale' or 'interaction', or ask contrast(), whose interval needs no coupling."
        )
    return form


@dataclass(frozen=True, eq=False, repr=False)
class RowErrors:
    """Errors of counterfactual rows: parameter uncertainty only, under the coupling that is stated.

    Attributes
    ----------
    coupling
        What ties a row to its counterfactual; not identified without pairs, and not part of the intervals.
    n, d
        Rows and dimensions.
    unseen
        What was assumed of levels that the fit never saw; None where there are none.

    Notes
    -----
    Rows that change in the same way share their error: it does not average out over them. The noise that was abducted
    for other nodes (which scanner) is taken as known; numbers that followed bring the error of their equation.
    """

    coupling: str
    fitted: Fitted
    X: np.ndarray
    counterfactual: np.ndarray
    source: Values
    target: Values
    unseen: Mapping[str, Any] | None = field(default=None, kw_only=True)
    numbers: np.ndarray | None = field(default=None, kw_only=True)  # (n, m, q): see number_errors

    def __repr__(self) -> str:
        return f"RowErrors({self.n} rows x {self.d} dimensions, coupling: {self.coupling})"

    @property
    def n(self) -> int:
        """Rows."""
        return len(self.X)

    @property
    def d(self) -> int:
        """Dimensions."""
        return int(self.X.shape[1])

    @property
    def kind(self) -> np.ndarray:
        """Per row what its interval holds: ``"parameter"`` uncertainty for all, as there were no pairs."""
        return np.full(self.n, "parameter")

    def standard_error(self, rows: Any = slice(None)) -> np.ndarray:
        """Return standard errors ``(rows, d)`` of the counterfactual rows: a slice, a mask or positions.

        Raises
        ------
        DataError
            Rows that are not there.
        """
        return self._errors(self._positions(rows))[0]

    def interval(self, rows: Any = slice(None), level: float | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return lower and upper ends ``(rows, d)`` in each dimension; infinite where one patient decides alone.

        Raises
        ------
        DataError
            Rows that are not there; a level outside of 0 to 1.
        """
        level = level_in_force(level)
        check_positive(level, "level", "the share of intervals that hold the truth, such as 0.95")
        if level >= 1:
            raise DataError(f"level={level!r}: choose a share below 1, such as 0.95.")
        which = self._positions(rows)
        error, quantile = self._errors(which, level)
        with np.errstate(invalid="ignore"):
            half = np.where(np.isinf(quantile)[:, None], np.inf, quantile[:, None] * error)
        return self.counterfactual[which] - half, self.counterfactual[which] + half

    def _positions(self, rows: Any) -> np.ndarray:
        try:
            return np.atleast_1d(np.arange(self.n)[rows])
        except IndexError:
            raise DataError(
                f"rows: give a slice, a mask of {self.n} rows or positions below {self.n}, for these errors are of "
                f"{self.n} rows."
            ) from None

    def _errors(self, which: np.ndarray, level: float | None = None) -> tuple[np.ndarray, np.ndarray]:
        before, after = self.source[which], self.target[which]
        error, quantile = np.zeros((len(which), self.d)), np.zeros(len(which))
        parents, mean = self.fitted.mean.parents, self.fitted.mean
        parts = (
            (at[i : i + ERROR_ROWS], a, b)
            for at, a, b in transitions(before, after)
            for i in range(0, len(at), ERROR_ROWS)
        )
        for at, a, b in parts:
            factor, log_variance = scale_error(self.fitted.noise, a, b)
            pairs = np.concatenate([parents.rows(before[at]), parents.rows(after[at])], axis=1)
            distinct, where = np.unique(pairs, axis=0, return_inverse=True)
            w, v = distinct[:, : parents.width], distinct[:, parents.width :]
            if np.allclose(factor, 1.0, rtol=0, atol=1e-12):
                variance = self.fitted.error.variance(v - w)
            else:
                cross = self.fitted.error.covariance(v, w)
                variance = (
                    self.fitted.error.variance(v) - 2 * factor * cross + factor**2 * self.fitted.error.variance(w)
                )
            variance = np.maximum(variance, 0.0)[where.reshape(-1)]
            if np.any(log_variance):
                residual = self.X[which[at]] - (w @ mean.coefficients)[where.reshape(-1)]
                variance = variance + (factor * residual) ** 2 * log_variance
            if self.numbers is not None:
                variance = variance + through_numbers(self.fitted, after.numbers[at], self.numbers[which[at]])
            error[at] = np.sqrt(variance)
            quantile[at] = self.fitted.error.quantiles(v - w, level)[where.reshape(-1)]
        return error, quantile
