"""Moments of rows by class, from which linear discriminants follow without another look at the rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalfm.metrics.calibration import SMALLEST
from causalfm.metrics.distances import safe_scale
from causalfm.metrics.learners import SMALL
from causalfm.row_tasks import spans

BLOCK = 4096  # rows


@dataclass(frozen=True, eq=False)
class Moments:
    """Weighted count ``(K,)``, sum ``(K, d)`` and raw second moment ``(d, d)`` of rows by class."""

    count: np.ndarray
    total: np.ndarray
    square: np.ndarray

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.count + other.count, self.total + other.total, self.square + other.square)

    def __sub__(self, other: Moments) -> Moments:
        count = self.count - other.count
        count[count < 1e-9 * max(float(self.count.max()), 1.0)] = 0.0  # a class that is gone leaves rounding behind
        return Moments(count, self.total - other.total, self.square - other.square)

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
class Rows:
    """Reference rows as the head sees them: standardised columns, rotated where there are more columns than rows."""

    X: np.ndarray
    y: np.ndarray
    weights: np.ndarray
    power: int
    mean: np.ndarray
    spread: np.ndarray
    axes: np.ndarray | None

    @classmethod
    def of(cls, X: np.ndarray, y: np.ndarray, units: np.ndarray) -> Rows:
        """Find scale and axes of rows ``(n, d)``; units weigh the same."""
        weights = 1.0 / np.bincount(units)[units]
        power = safe_scale(X)
        share, total, square = weights / weights.sum(), np.zeros(X.shape[1]), np.zeros(X.shape[1])
        for rows in spans(len(X), BLOCK):  # exact scaling first; squares of 1e200 would overflow
            total += share[rows] @ np.ldexp(X[rows].astype(np.float64), power)
        for rows in spans(len(X), BLOCK):
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

    def moments(self, mask: np.ndarray) -> Moments:
        """Add up the moments of some rows; products in float32 where the embeddings are, sums in float64."""
        where, n_classes = np.flatnonzero(mask), int(self.y.max()) + 1
        d = len(self.mean) if self.axes is None else self.axes.shape[1]
        kind = np.float64 if self.X.dtype == np.float64 or self.X.size < SMALL else np.float32
        out = Moments(np.zeros(n_classes), np.zeros((n_classes, d)), np.zeros((d, d)))
        for block in spans(len(where), BLOCK):
            rows = where[block]
            values, weights = self.seen(self.X[rows]), self.weights[rows]
            labels = np.eye(n_classes)[self.y[rows]] * weights[:, None]
            out.count[:] += labels.sum(axis=0)
            out.total[:] += labels.T @ values
            rooted = (values * np.sqrt(weights)[:, None]).astype(kind)
            out.square[:] += rooted.T @ rooted
        return out

    def linear(self, heads: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
        """Return slopes ``(d, heads * K)`` and constants of several heads on rows scaled by a power of two."""
        slopes = np.concatenate([head[0] for head in heads], axis=1)
        slopes = (slopes if self.axes is None else self.axes @ slopes) / self.spread[:, None]
        return slopes, np.concatenate([head[1] for head in heads]) - self.mean @ slopes

    def logits(self, X: np.ndarray, heads: list[tuple[np.ndarray, np.ndarray]], mask: np.ndarray) -> np.ndarray:
        """Score some rows of ``X`` by several heads, ``(heads, rows, K)``: in one pass, without scaling the rows."""
        where = np.flatnonzero(mask)
        slopes, constants = self.linear(heads)
        out = np.empty((len(where), slopes.shape[1]))
        for block in spans(len(where), BLOCK):
            out[block] = np.ldexp(X[where[block]].astype(np.float64), self.power) @ slopes + constants
        return np.asarray(out.reshape(len(where), len(heads), -1).transpose(1, 0, 2))
