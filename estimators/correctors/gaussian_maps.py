"""Maps between centred Gaussians, their barycentre, and a covariance shrunk to a multiple of the identity."""

from __future__ import annotations

import numpy as np
from scipy import linalg

STEPS = 100
TOLERANCE = 1e-12


def roots(C: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric square root of ``C (d, d)`` and its pseudo-inverse."""
    values, vectors = np.linalg.eigh((C + C.T) / 2.0)
    kept = values > len(C) * np.finfo(float).eps * max(float(values[-1]), 0.0)
    root = np.sqrt(np.where(kept, values, 0.0))
    back = np.where(kept, 1.0 / np.where(kept, root, 1.0), 0.0)
    return (vectors * root) @ vectors.T, (vectors * back) @ vectors.T


def transport_map(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Symmetric ``A (d, d)`` of least mean squared movement with ``A source A' = target``."""
    root, back = roots(source)
    return np.asarray(back @ roots(root @ target @ root)[0] @ back)


def coral_map(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return ``A (d, d)``: whiten with the source, colour with the target (Sun, Feng and Saenko, AAAI 2016)."""
    return np.asarray(roots(target)[0] @ roots(source)[1])


def barycentre(covariances: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Covariance ``(d, d)`` with the least weighted mean of squared Wasserstein distances to those given ``(L, d, d)``.

    References
    ----------
    Alvarez-Esteban et al., J. Math. Anal. Appl. 441 (2016) 744-762.
    """
    share = weights / weights.sum()
    centre = np.tensordot(share, covariances, axes=1)
    scale = float(np.trace(centre))
    for _ in range(STEPS):
        root, back = roots(centre)
        inner = sum(w * roots(root @ C @ root)[0] for w, C in zip(share, covariances, strict=True))
        new = back @ inner @ inner @ back
        moved, centre = float(np.abs(new - centre).max()), new
        if moved <= TOLERANCE * scale:
            break
    return np.asarray(centre)


def linear_shrinkage(S: np.ndarray, n: float) -> np.ndarray:
    """Mix a sample covariance ``S (d, d)`` of ``n`` rows with a multiple of the identity of the same trace.

    Notes
    -----
    Where noise explains more than all of the spread of the eigenvalues, the estimated share of ``S`` is negative and
    the mixture need not be positive: it then is the multiple of the identity alone.

    References
    ----------
    Bodnar, Gupta and Parolya, J. Multivariate Analysis 132 (2014) 215-228; as concept-erasure has it, share aside.
    """
    d, trace = len(S), float(np.trace(S))
    spread = float((S**2).sum()) - trace**2 / d
    if spread <= 0.0:
        return S
    own = max(1.0 - trace**2 / n / spread, 0.0)
    return np.asarray(own * S + (1.0 - own) * trace / d * np.eye(d))


def solve_positive(S: np.ndarray, right: np.ndarray) -> np.ndarray:
    """``S^+ right`` for a positive semi-definite ``S``: by Cholesky, or by eigenvalues where it is singular."""
    try:
        factor, lower = linalg.cho_factor(S, check_finite=False)
        diagonal = np.diag(factor)
        if diagonal.min() > np.sqrt(len(S) * np.finfo(float).eps) * diagonal.max():
            return np.asarray(linalg.cho_solve((factor, lower), right, check_finite=False))
    except linalg.LinAlgError:
        pass
    values, vectors = np.linalg.eigh(S)
    kept = values > len(S) * np.finfo(float).eps * max(float(values[-1]), 0.0)
    inside = vectors[:, kept]
    return np.asarray(inside @ ((inside.T @ right) / values[kept, None]))
