"""The test of a paired design: whole units' contrasts between levels, with their signs flipped."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from causalfm.resampling import permutation_p_value
from causalfm.within_units import WithinUnits

ENUMERATED = 12  # up to so many units all sign flips are tried


def sign_flip_test(within: WithinUnits, *, n_flips: int = 999, random_state: int = 0) -> tuple[float, float, int]:
    """Test that no level differs from another within units.

    Parameters
    ----------
    within
        Contrasts ``U_g (L, d)`` of each unit.
    n_flips
        Random sign flips of whole units. Up to twelve units all are tried instead.
    random_state
        Seed.

    Returns
    -------
    statistic, p_value : float
        ``tr(U' M U) / sum_g tr(U_g' M U_g)`` with ``U = sum_g U_g``: 1 is its mean over all flips.
    n_flips : int
        Flips behind the p-value, not counting the observed signs.

    Notes
    -----
    With ``K_gh = tr(U_g' M U_h)`` the statistic of the signs ``s`` is ``s' K s / tr K``; it does not change under
    rotation. The p-value is exact if each unit's contrasts are symmetric about zero under the null: whatever their
    variances, the numbers of rows and the levels missed, and with noise that differs between levels. Where they are
    skewed it is valid for many units, because flips keep the covariance of the sum.

    Assumptions: units are independent; rows of a block differ in the factor only. Why so: docs/adr/0011.

    References
    ----------
    R. A. Fisher, The Design of Experiments (1935), section 21; Hemerik, Goeman and Finos, J. R. Statist. Soc. B 82
    (2020) 841-864.
    """
    V = (square_root(within.inverse) @ within.U).reshape(len(within), -1)
    return flip_signs(V @ V.T, n_flips, random_state)


def flip_signs(K: np.ndarray, n_flips: int, random_state: int) -> tuple[float, float, int]:
    """Sign-flip test from the products ``K (P, P)`` of the units' contrasts: see :func:`sign_flip_test`."""
    trace = float(np.trace(K))
    if trace <= 0.0:  # no unit differs between levels at all
        return 0.0, 1.0, n_flips
    null = np.concatenate([((signs @ K) * signs).sum(axis=1) for signs in sign_flips(len(K), n_flips, random_state)])
    observed = float(K.sum())
    return observed / trace, permutation_p_value(observed, null), len(null)


def square_root(matrix: np.ndarray) -> np.ndarray:
    """``R`` with ``R' R`` the symmetric positive semi-definite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray(np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T)


def sign_flips(n: int, n_flips: int, random_state: int, *, batch: int = 1024) -> Iterator[np.ndarray]:
    """Yield signs ``(<= batch, n)`` of -1 and 1 without the identity; up to twelve units all that differ in effect.

    Flipping all units changes nothing that is quadratic, so the first keeps its sign in the enumeration.
    """
    if n <= ENUMERATED:
        codes = np.arange(1, 2 ** (n - 1))
        yield 1.0 - 2.0 * ((codes[:, None] >> np.arange(n)) & 1)[:, ::-1]
        return
    rng = np.random.default_rng(random_state)
    for start in range(0, n_flips, batch):
        yield 2.0 * rng.integers(0, 2, (min(batch, n_flips - start), n)) - 1.0
