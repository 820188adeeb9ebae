"""Location-scale mechanism: levels shift the mean and stretch the residual, dimension by dimension."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from causalfm.scm.mechanisms import Move
from causalfm.scm.parents import Parents
from causalfm.scm.residuals import Residuals
from causalfm.scm.scales import level_scales, shrink_logs, unit_noise


@dataclass(frozen=True, eq=False)
class ScaledNoise:
    """``z' = mean(x') + (s(x') / s(x)) (z - mean(x))``.

    Attributes
    ----------
    logs, variance
        Per factor ``(L, d)``: log variance of each level relative to the pooled one, and its posterior variance.
    """

    logs: tuple[np.ndarray, ...]
    variance: tuple[np.ndarray, ...]

    def factor(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        """``s(x') / s(x)``, ``(d,)``."""
        pairs = zip(self.logs, source, target, strict=True)
        return np.asarray(np.exp(0.5 * sum((log[b] - log[a] for log, a, b in pairs), np.zeros(1))))

    def _half(self, levels: np.ndarray) -> np.ndarray:
        """Log scale of a combination of levels."""
        return np.asarray(0.5 * sum((log[c] for log, c in zip(self.logs, levels, strict=True)), np.zeros(1)))

    def change(self, residual: np.ndarray, moves: Sequence[Move]) -> np.ndarray:
        """Stretch the residual."""
        out = np.empty_like(residual)
        for rows, source, target in moves:
            factor = (self.factor(source, target) - 1.0).astype(residual.dtype)
            np.multiply(residual[rows], factor, out=out[rows])
        return out

    def whiten(self, residual: np.ndarray, levels: np.ndarray) -> tuple[np.ndarray, float]:
        """Divide by the scales of the levels."""
        half = self._half(levels) + np.zeros(residual.shape[1])
        return residual * np.exp(-half).astype(residual.dtype), -float(half.sum())

    def colour(self, noise: np.ndarray, levels: np.ndarray) -> np.ndarray:
        """Multiply by the scales of the levels."""
        return np.asarray(noise * (np.exp(self._half(levels)) - 1.0))

    def scale_error(self, source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the factor and the variance of its logarithm: levels are taken as independent."""
        each = zip(self.variance, source, target, strict=True)
        variance = sum((v[a] + v[b] for v, a, b in each if a != b), np.zeros(1))
        return self.factor(source, target), 0.25 * np.asarray(variance)

    def tensors(self) -> Mapping[str, np.ndarray]:
        """Log variances and their errors, per factor."""
        logs = {f"log_variance_{f}": log for f, log in enumerate(self.logs)}
        return logs | {f"log_variance_error_{f}": v for f, v in enumerate(self.variance)}


class LocationScale:
    """Rank-preserving in each dimension: a row keeps its distance from the mean, in units of the scale there."""

    coupling = "rank-preserving in each dimension: a row keeps its standardised difference from the mean of its levels"
    crossed = False
    directed = False

    def fit(self, moments: Residuals, parents: Parents) -> ScaledNoise:
        """Learn variances that multiply over factors, shrunken towards the pooled ones by empirical Bayes."""
        logs, errors = [], []
        fitted = level_scales(moments.square, moments.count, moments.levels, parents.sizes)
        noise = unit_noise(moments.count, moments.levels, parents.sizes)
        for f, log in enumerate(fitted):
            patients = np.bincount(moments.levels[:, f], moments.count, len(log))
            shrunken, error = shrink_logs(log, patients, noise[f], moments.spread, moments.spread_all)
            logs.append(shrunken)
            errors.append(error)
        return ScaledNoise(tuple(logs), tuple(errors))

    def restore(self, tensors: Mapping[str, np.ndarray], parents: Parents) -> ScaledNoise:
        """Rebuild from saved arrays."""
        n = range(len(parents.sizes))
        return ScaledNoise(
            tuple(tensors[f"log_variance_{f}"] for f in n), tuple(tensors[f"log_variance_error_{f}"] for f in n)
        )
