"""Gaussian optimal transport: levels shift the mean and reshape the residual in its principal subspace."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from causalfm.scm.mechanisms import Move
from causalfm.scm.parents import Parents
from causalfm.scm.residuals import Residuals
from causalfm.scm.scales import level_scales, reliability, shrink_logs, unit_noise

MOST_OWN = 0.999  # share of a level's own covariance: the rest keeps the maps invertible


@dataclass(frozen=True, eq=False)
class TransportedNoise:
    """``z' = mean(x') + A(x') A(x)^-1 (z - mean(x))``, ``A(x)`` the product over factors of transport maps.

    Attributes
    ----------
    basis
        ``(d, k)`` orthonormal principal directions.
    maps
        Per factor ``(L, k, k)``: optimal transport from the pooled Gaussian to that of the level.
    logs
        Per factor ``(L, 1)``: log variance of the level outside the subspace, relative to the pooled one.
    """

    basis: np.ndarray
    maps: tuple[np.ndarray, ...]
    logs: tuple[np.ndarray, ...]

    def map(self, levels: np.ndarray) -> np.ndarray:
        """``A(x)`` inside the subspace, ``(k, k)``."""
        out = np.eye(self.basis.shape[1])
        for maps, code in zip(self.maps, levels, strict=True):
            out = out @ maps[code]
        return out

    def log_outside(self, levels: np.ndarray) -> float:
        """Log scale outside the subspace."""
        return 0.5 * float(sum(log[code, 0] for log, code in zip(self.logs, levels, strict=True)))

    def change(self, residual: np.ndarray, moves: Sequence[Move]) -> np.ndarray:
        """Reshape inside the subspace, stretch outside of it."""
        dtype = residual.dtype
        basis = self.basis.astype(dtype)
        along = residual @ basis
        stretch = np.empty((len(residual), 1), dtype=dtype)
        for rows, source, target in moves:
            outside = float(np.exp(self.log_outside(target) - self.log_outside(source)))
            inside = self.map(target) @ self.back(source) - outside * np.eye(len(basis.T))
            along[rows] = along[rows] @ inside.T.astype(dtype)
            stretch[rows] = outside - 1.0
        out = along @ basis.T
        out += residual * stretch
        return np.asarray(out)

    def back(self, levels: np.ndarray) -> np.ndarray:
        """Inverse of ``A(x)``, ``(k, k)``."""
        out = np.eye(self.basis.shape[1])
        for inverses, code in zip(self._inverses, levels, strict=True):
            out = inverses[code] @ out
        return out

    @functools.cached_property
    def _inverses(self) -> tuple[np.ndarray, ...]:
        """Inverse maps of each level, per factor: blocks of rows ask for them again and again."""
        return tuple(np.linalg.inv(maps) for maps in self.maps)

    def whiten(self, residual: np.ndarray, levels: np.ndarray) -> tuple[np.ndarray, float]:
        """Return the noise on the pooled scale."""
        back, outside = self.back(levels), self.log_outside(levels)
        t, shrink = residual @ self.basis, float(np.exp(-outside))
        noise = residual * shrink + (t @ back.T - shrink * t) @ self.basis.T
        d, k = self.basis.shape
        return noise, float(np.linalg.slogdet(back)[1]) - (d - k) * outside

    def colour(self, noise: np.ndarray, levels: np.ndarray) -> np.ndarray:
        """Reshape and stretch pooled noise."""
        outside = float(np.exp(self.log_outside(levels)))
        inside = self.map(levels) - outside * np.eye(self.basis.shape[1])
        return np.asarray((noise @ self.basis) @ inside.T @ self.basis.T + (outside - 1.0) * noise)

    def scale_error(self, source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """No form per dimension."""
        return None

    def tensors(self) -> Mapping[str, np.ndarray]:
        """Directions, maps and scales."""
        out = {"transport_basis": self.basis}
        for f, (maps, log) in enumerate(zip(self.maps, self.logs, strict=True)):
            out |= {f"transport_map_{f}": maps, f"transport_log_{f}": log}
        return out


class OptimalTransport:
    """Least movement from a level to the pooled Gaussian and on to the other level.

    The maps go through the pooled Gaussian: direct maps between pairs of levels do not compose, and do(a) then do(b)
    would not be do(b).
    """

    coupling = "optimal transport of Gaussian residuals by way of the pooled residual"
    crossed = False
    directed = True

    def fit(self, moments: Residuals, parents: Parents) -> TransportedNoise:
        """Learn the covariance of each level within the principal subspace, one factor after the other."""
        pooled = moments.product.sum(axis=0) / moments.count.sum()
        eigenvalues, vectors = np.linalg.eigh(pooled)
        root = np.sqrt(np.maximum(eigenvalues, 1e-12 * max(float(eigenvalues[-1]), 1e-300)))
        basis, cells = moments.basis @ vectors, vectors.T @ moments.product @ vectors
        maps, noise = [], unit_noise(moments.count, moments.levels, parents.sizes)
        for f, size in enumerate(parents.sizes):
            codes = moments.levels[:, f]
            onehot = np.eye(size)[:, codes]
            summed = np.tensordot(onehot, cells, axes=1)
            maps.append(_transports(summed, onehot @ moments.count, noise[f] * moments.spread_inside, root))
            back = np.linalg.inv(maps[-1])[codes]
            cells = back @ cells @ back.transpose(0, 2, 1)
        return TransportedNoise(basis, tuple(maps), tuple(_outside(moments, parents)))

    def restore(self, tensors: Mapping[str, np.ndarray], parents: Parents) -> TransportedNoise:
        """Rebuild from saved arrays."""
        n = range(len(parents.sizes))
        maps, logs = (tuple(tensors[f"transport_{name}_{f}"] for f in n) for name in ("map", "log"))
        return TransportedNoise(tensors["transport_basis"], maps, logs)


def _transports(products: np.ndarray, count: np.ndarray, spread: np.ndarray, root: np.ndarray) -> np.ndarray:
    """Return maps ``(L, k, k)`` from the pooled Gaussian to that of each level, shrunken to the identity.

    Parameters
    ----------
    products, count
        ``(L, k, k)`` sums of squares of each level and ``(L,)`` its patients.
    spread
        ``(L,)`` squared coefficient of variation of the level's mean square along a direction.
    root
        ``(k,)`` standard deviations of the pooled Gaussian.

    Notes
    -----
    A level's covariance in units of the pooled one differs from the identity by signal and by noise; a Gaussian has
    ``(k + k**2) spread / 2`` of noise. The share of signal is kept.
    """
    k, patients, scale = len(root), np.maximum(count, 1e-300), np.outer(root, root)
    apart = products / patients[:, None, None] / scale - np.eye(k)
    noise = (k + k**2) * spread / 2.0
    share = np.minimum(reliability((apart**2).sum(axis=(1, 2)), noise, patients), MOST_OWN)
    covariances = (np.eye(k) + share[:, None, None] * apart) * scale
    return np.stack([_square_root(c * scale) / scale for c in covariances])


def _square_root(matrix: np.ndarray) -> np.ndarray:
    eigenvalues, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.sqrt(np.maximum(eigenvalues, 0.0))) @ vectors.T)


def _outside(moments: Residuals, parents: Parents) -> list[np.ndarray]:
    """Log variances outside the subspace, one number per level: no direction there is preferred."""
    rest = moments.square.sum(axis=1) - np.trace(moments.product, axis1=1, axis2=2)
    scale = float(moments.square.sum())
    if float(rest.sum()) <= 1e-9 * scale:  # the subspace is all there is
        return [np.zeros((size, 1)) for size in parents.sizes]
    logs = level_scales(np.maximum(rest, 0.0)[:, None], moments.count, moments.levels, parents.sizes)
    noise, out = unit_noise(moments.count, moments.levels, parents.sizes), []
    for f, log in enumerate(logs):
        patients = np.bincount(moments.levels[:, f], moments.count, len(log))
        out.append(shrink_logs(log, patients, noise[f], 0.0, moments.spread_outside)[0])
    return out
