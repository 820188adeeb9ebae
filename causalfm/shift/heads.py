"""The linear head that is judged where the user brings no model: a regularised discriminant, fitted from moments.

One pass over the rows gives the moments of every fold; those of a training set are sums or differences of them. A head
without each of 34 hospitals then costs one more product and one small solution per hospital instead of a fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from causalfm.metrics.calibration import SMALLEST, slope_of
from causalfm.metrics.learners import SMALL, grouped_folds, groups_per_level

FOLDS = 5
BLOCK = 4096  # rows
SHRINKAGES = (1e-3, 1e-2, 1e-1, 0.5)  # of the covariance towards a multiple of the identity
FLATTEST = 1e-3  # factor on the logits: a temperature of 1,000 makes any probabilities equal


def held_out_scores(
    X: np.ndarray, y: np.ndarray, units: np.ndarray, sites: np.ndarray, new: np.ndarray, *, random_state: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit linear heads and give probabilities to rows that they have not seen.

    Parameters
    ----------
    X, y, units, sites
        ``(n, d)`` reference rows and their ``(n,)`` codes of class, patient and site.
    new
        ``(m, d)`` rows of the deployment.
    random_state
        Seed of the folds.

    Returns
    -------
    patients_out : numpy.ndarray
        ``(n, classes)`` from heads that have not seen the row's patient.
    site_out : numpy.ndarray
        ``(n, classes)`` from heads that have seen neither the row's site nor any patient of it, wherever else that
        patient was seen; ``nan`` where a class has no such row.
    deployment : numpy.ndarray
        ``(m, classes)`` from the head of the whole reference.

    Notes
    -----
    The head is a linear discriminant with class frequencies of the reference, in which patients weigh the same. Its
    covariance is shrunken by the share with the least log loss for patients left out, and one temperature, fitted on
    patients left out too, makes its probabilities calibrated there. Both are chosen on patients of the other
    sites for the scores of ``site_out`` (by heads that saw some of the site's: two numbers, not a fit). Only the scale
    of the columns, which no label enters, is that of the whole reference.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1 if X.size < SMALL else None, user_api="blas"):
        rows = _Rows.of(X, y, units)
        fold = grouped_folds(y, units, int(np.clip(groups_per_level(y, units).min(), 2, FOLDS)), random_state)
        parts = [rows.moments(fold == k) for k in range(int(fold.max()) + 1)]
        whole = sum(parts[1:], parts[0])
        logits = np.empty((len(SHRINKAGES), len(y), whole.count.size))
        for k, part in enumerate(parts):
            heads = [(whole - part).head(shrinkage) for shrinkage in SHRINKAGES]
            logits[:, fold == k] = rows.logits(X, heads, fold == k)
        tried = _Tried.of(logits, y, rows.weights)
        out = np.full((len(y), whole.count.size), np.nan)
        for site in np.unique(sites):
            here = sites == site
            patients = np.isin(units, units[here])
            others = whole - rows.moments(patients)
            if (others.count > 0.0).all():
                best, slope = tried.best(~patients)
                out[here] = _soft(slope * rows.logits(X, [others.head(SHRINKAGES[best])], here)[0])
        best, slope = tried.best(np.ones(len(y), dtype=bool))
        deployed = rows.logits(new, [whole.head(SHRINKAGES[best])], np.ones(len(new), dtype=bool))[0]
    return _soft(slope * logits[best]), out, _soft(slope * deployed)


@dataclass(frozen=True, eq=False)
class _Moments:
    """Weighted count ``(K,)``, sum ``(K, d)`` and raw second moment ``(d, d)`` of rows by class."""

    count: np.ndarray
    total: np.ndarray
    square: np.ndarray

    def __add__(self, other: _Moments) -> _Moments:
        return _Moments(self.count + other.count, self.total + other.total, self.square + other.square)

    def __sub__(self, other: _Moments) -> _Moments:
        count = self.count - other.count
        count[count < 1e-9 * max(float(self.count.max()), 1.0)] = 0.0  # a class that is gone leaves rounding behind
        return _Moments(count, self.total - other.total, self.square - other.square)

    def head(self, shrinkage: float) -> tuple[np.ndarray, np.ndarray]:
        """Return slopes ``(d, K)`` and intercepts ``(K,)`` of the discriminant; -inf for a class without rows."""
        from scipy.linalg import cho_factor, cho_solve

        n, there = float(self.count.sum()), self.count > 0.0
        means = self.total / np.where(there, self.count, 1.0)[:, None]
        inside = (self.square - (means * self.count[:, None]).T @ means) / max(n - there.sum(), 1.0)
        scale = float(np.trace(inside)) / len(inside)
        inside *= 1.0 - shrinkage
        inside[np.diag_indices_from(inside)] += shrinkage * scale if scale > SMALLEST else 1.0
        slopes = cho_solve(cho_factor(inside, overwrite_a=True), means.T)
        with np.errstate(divide="ignore"):
            prior = np.where(there, np.log(self.count / n), -np.inf)
        return slopes, prior - 0.5 * np.einsum("kd,dk->k", means, slopes)


@dataclass(frozen=True, eq=False)
class _Rows:
    """Reference rows as the head sees them: standardised columns, rotated where there are more columns than rows."""

    X: np.ndarray
    y: np.ndarray
    weights: np.ndarray
    power: int
    mean: np.ndarray
    spread: np.ndarray
    axes: np.ndarray | None

    @classmethod
    def of(cls, X: np.ndarray, y: np.ndarray, units: np.ndarray) -> _Rows:
        weights = 1.0 / np.bincount(units)[units]
        power = -int(np.frexp(float(max(np.abs(X[rows]).max() for rows in _blocks(len(X)))))[1])
        share, total, square = weights / weights.sum(), np.zeros(X.shape[1]), np.zeros(X.shape[1])
        for rows in _blocks(len(X)):  # exact scaling first; squares of 1e200 would overflow
            total += share[rows] @ np.ldexp(X[rows].astype(np.float64), power)
        for rows in _blocks(len(X)):
            square += share[rows] @ (np.ldexp(X[rows].astype(np.float64), power) - total) ** 2
        spread = np.sqrt(square)
        spread[spread <= 1e-12 * max(float(spread.max()), 1e-300)] = 1.0
        plain = cls(X, y, weights, power, total, spread, None)
        if X.shape[1] <= len(X):
            return plain
        axes = np.linalg.qr(plain.seen(X).T)[0]  # what is beyond them has no slope in any ridge solution
        return cls(X, y, weights, power, total, spread, axes)

    def seen(self, block: np.ndarray) -> np.ndarray:
        """Standardise, and rotate, a block of rows."""
        out = (np.ldexp(block.astype(np.float64), self.power) - self.mean) / self.spread
        return np.asarray(out if self.axes is None else out @ self.axes)

    def moments(self, mask: np.ndarray) -> _Moments:
        """Add up the moments of some rows; products in float32 where the embeddings are, sums in float64."""
        where, n_classes = np.flatnonzero(mask), int(self.y.max()) + 1
        d = len(self.mean) if self.axes is None else self.axes.shape[1]
        kind = np.float64 if self.X.dtype == np.float64 or self.X.size < SMALL else np.float32
        out = _Moments(np.zeros(n_classes), np.zeros((n_classes, d)), np.zeros((d, d)))
        for block in _blocks(len(where)):
            rows = where[block]
            values, weights = self.seen(self.X[rows]), self.weights[rows]
            labels = np.eye(n_classes)[self.y[rows]] * weights[:, None]
            out.count[:] += labels.sum(axis=0)
            out.total[:] += labels.T @ values
            rooted = (values * np.sqrt(weights)[:, None]).astype(kind)
            out.square[:] += rooted.T @ rooted
        return out

    def logits(self, X: np.ndarray, heads: list[tuple[np.ndarray, np.ndarray]], mask: np.ndarray) -> np.ndarray:
        """Score some rows of ``X`` by several heads, ``(heads, rows, K)``: in one pass, without scaling the rows."""
        where = np.flatnonzero(mask)
        slopes = np.concatenate([head[0] for head in heads], axis=1)
        slopes = (slopes if self.axes is None else self.axes @ slopes) / self.spread[:, None]
        constants = np.concatenate([head[1] for head in heads]) - self.mean @ slopes
        out = np.empty((len(where), slopes.shape[1]))
        for block in _blocks(len(where)):
            out[block] = np.ldexp(X[where[block]].astype(np.float64), self.power) @ slopes + constants
        return np.asarray(out.reshape(len(where), len(heads), -1).transpose(1, 0, 2))


def _blocks(n: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, n, BLOCK))


@dataclass(frozen=True, eq=False)
class _Tried:
    """What each shrinkage costs patients left out: log probabilities ``(S, n, K)`` and weighted losses ``(S, n)``."""

    logs: np.ndarray
    y: np.ndarray
    weights: np.ndarray
    losses: np.ndarray

    @classmethod
    def of(cls, logits: np.ndarray, y: np.ndarray, weights: np.ndarray) -> _Tried:
        logs = np.stack([_logs(one) for one in logits])
        share, losses = weights / weights.sum(), []
        for one in logs:  # each at its own best factor
            slope = max(slope_of(one, y, share), FLATTEST)
            losses.append(-share * _logs(slope * one)[np.arange(len(y)), y])
        return cls(logs, y, weights, np.stack(losses))

    def best(self, mask: np.ndarray) -> tuple[int, float]:
        """Return the shrinkage with the least loss over some rows, and the factor on its logits that fits them best."""
        best = int(np.argmin(self.losses[:, mask].sum(axis=1)))
        share = self.weights[mask] / self.weights[mask].sum()
        return best, max(slope_of(self.logs[best, mask], self.y[mask], share), FLATTEST)


def _logs(logits: np.ndarray) -> np.ndarray:
    """Return log probabilities, none below that of the smallest."""
    top = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(np.maximum(top - np.log(np.exp(top).sum(axis=1, keepdims=True)), np.log(SMALLEST)))


def _soft(logits: np.ndarray) -> np.ndarray:
    top = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(top / top.sum(axis=1, keepdims=True))
