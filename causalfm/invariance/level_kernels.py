"""Kernels between the levels of a factor, for HSIC and distance covariance with an embedding."""

from __future__ import annotations

import numpy as np


def level_similarity(n_levels: int, kernel: str, *, ordinal: bool = False) -> np.ndarray:
    """Similarity of the levels of a factor.

    Parameters
    ----------
    n_levels
        Number of levels, in their order.
    kernel
        ``"gaussian"`` or ``"distance"``.
    ordinal
        Similarity falls with the difference in rank: minus the difference, or a Gaussian of its median. Else all
        different levels are equally far apart.

    Returns
    -------
    numpy.ndarray
        ``(n_levels, n_levels)``, positive semi-definite for weights that sum to zero.
    """
    if not ordinal:
        return np.eye(n_levels)
    rank = np.arange(n_levels, dtype=np.float64)
    apart = np.abs(rank[:, None] - rank)
    if kernel == "distance":
        return np.asarray(-apart)
    return np.asarray(np.exp(-0.5 * (apart / np.median(apart[apart > 0])) ** 2))
