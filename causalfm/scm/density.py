"""Density of the noise: Gaussian, free within the principal subspace and round outside of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalfm.scm.mechanisms import Noise
from causalfm.scm.principal import Sample


@dataclass(frozen=True, eq=False)
class Density:
    """Probabilistic principal components of the noise (Tipping and Bishop, J. R. Statist. Soc. B 61, 1999).

    Attributes
    ----------
    basis
        ``(d, k)`` orthonormal.
    inside
        ``(k,)`` variance along each direction.
    outside
        Variance along every other direction.
    """

    basis: np.ndarray
    inside: np.ndarray
    outside: float

    def log(self, noise: np.ndarray) -> np.ndarray:
        """Log density ``(n,)`` of ``noise (n, d)``, in nats."""
        d, k = self.basis.shape
        t = noise @ self.basis
        rest = np.maximum((noise**2).sum(axis=1) - (t**2).sum(axis=1), 0.0)
        log_det = np.log(self.inside).sum() + (d - k) * np.log(self.outside)
        return np.asarray(
            -0.5 * ((t**2 / self.inside).sum(axis=1) + rest / self.outside + log_det + d * np.log(2 * np.pi))
        )

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw noise ``(n, d)``."""
        d, k = self.basis.shape
        noise = np.sqrt(self.outside) * rng.standard_normal((n, d))
        t = noise @ self.basis
        return np.asarray(noise + (np.sqrt(self.inside) * rng.standard_normal((n, k)) - t) @ self.basis.T)


def fit_density(sample: Sample, levels: np.ndarray, noise: Noise, basis: np.ndarray, total: float) -> Density:
    """Estimate the density of the noise behind a sample of residuals.

    Parameters
    ----------
    sample
        Residuals.
    levels
        ``(s, p)`` level codes of the parents of ``Z`` of its rows.
    noise
        The mechanism.
    basis
        ``(d, k)`` principal directions of the residual; taken for those of the noise.
    total
        Sum over dimensions of the residual variance, corrected for the coefficients fitted: the sample's is not.

    Returns
    -------
    Density
        Variances below 1e-9 of the largest are raised to it, so that a density exists.
    """
    whitened = np.empty_like(sample.residual)
    distinct, where = np.unique(levels, axis=0, return_inverse=True)
    for code, cell in enumerate(distinct):
        rows = np.flatnonzero(where.reshape(-1) == code)
        whitened[rows] = noise.whiten(sample.residual[rows], cell)[0]
    along, (d, k) = whitened @ basis, basis.shape
    inside, vectors = np.linalg.eigh(along.T @ (along * sample.weight[:, None]))
    seen = float(sample.weight @ (sample.residual**2).sum(axis=1))
    grow = total / seen if seen > 0 else 1.0
    floor = 1e-9 * max(float(inside[-1]), 1e-300)
    whole = float(sample.weight @ (whitened**2).sum(axis=1))
    outside = (whole - float(inside.sum())) / (d - k) if k < d else float(inside[0])
    return Density(basis @ vectors, np.maximum(inside, floor) * grow, max(outside, floor) * grow)
