"""Additive mechanism: levels shift the mean, and every row keeps its distance from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from causalfm.scm.mechanisms import Move
from causalfm.scm.parents import Parents
from causalfm.scm.residuals import Residuals


class SharedNoise:
    """``z' = z + mean(x') - mean(x)``."""

    def change(self, residual: np.ndarray, moves: Sequence[Move]) -> np.ndarray:
        """Add nothing: only the mean changes."""
        return np.zeros((1, 1), dtype=residual.dtype)

    def whiten(self, residual: np.ndarray, levels: np.ndarray) -> tuple[np.ndarray, float]:
        """Return the residual: it is the noise."""
        return residual, 0.0

    def colour(self, noise: np.ndarray, levels: np.ndarray) -> np.ndarray:
        """Add nothing: the residual is the noise."""
        return np.zeros((1, 1))

    def scale_error(self, source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the factor 1, known by assumption."""
        return np.ones(1), np.zeros(1)

    def tensors(self) -> Mapping[str, np.ndarray]:
        """Keep nothing."""
        return {}


class Additive:
    """Noise is shared between levels: ``z' = z + mean(x') - mean(x)``."""

    coupling = "shared noise: a row keeps its difference from the mean of its levels"
    crossed = False
    directed = False

    def fit(self, moments: Residuals, parents: Parents) -> SharedNoise:
        """Learn nothing from residuals."""
        return SharedNoise()

    def restore(self, tensors: Mapping[str, np.ndarray], parents: Parents) -> SharedNoise:
        """Restore nothing."""
        return SharedNoise()
