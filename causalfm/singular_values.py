"""Singular values of ordinary matrices and the span of their columns, also where the fast routine gives up."""

from __future__ import annotations

import numpy as np
from scipy import linalg


def thin_svd(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Factorise ``matrix (n, d)`` into ``u (n, k)``, ``s (k,)``, ``vt (k, d)``, ``k`` the smaller of ``n`` and ``d``.

    Notes
    -----
    NumPy's divide-and-conquer routine stopped without converging on 150 x 200 patient means like any others (NumPy
    2.4, OpenBLAS 0.3.31, one kind of processor); the older QR iteration is slower, and then takes over.
    """
    try:
        u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    except np.linalg.LinAlgError:
        u, s, vt = linalg.svd(matrix, full_matrices=False, lapack_driver="gesvd")
    return np.asarray(u), np.asarray(s), np.asarray(vt)


def orthonormal(columns: np.ndarray, size: float | None = None) -> np.ndarray:
    """Orthonormal basis of the columns' span ``(n, rank)``; what is small beside ``size`` (their norm) is rounding."""
    if not columns.shape[1]:
        return columns
    u, s, _ = thin_svd(columns)
    return np.asarray(u[:, s > 1e-9 * max(float(s[0]) if size is None else size, 1e-300)])
