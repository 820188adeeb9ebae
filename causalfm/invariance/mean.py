"""The ``mean`` statistic: do patient means differ between levels, beyond what patients differ anyway?

Patients weigh equally. The sum of squares between levels is centred and scaled by the patients' variance in each stratum and level, and patients are permuted within strata.
The scaling makes the statistic pivotal when levels differ in their spread or in the number of rows per patient, in which
case permutation alone would not be valid.
"""

from __future__ import annotations

import numpy as np

from causalfm.positivity import table
from causalfm.resampling import permutation_p_value, permutations_within
from causalfm.units import Units

BATCH_BYTES = 2**27


def mean_test(units: Units, *, n_permutations: int = 999, random_state: int = 0, studentise: bool = True) -> tuple[float, float]:
    """Permutation test of equal means of all levels, within strata.

    Parameters
    ----------
    units
        Patients ``(G, d)`` with level, stratum and covariates; strata with a single level carry no information.
    n_permutations
        Random permutations of the patients within strata.
    random_state
        Seed.
    studentise
        False weighs all patients alike, as unstudentised peers do; kept for the calibration study only.

    Returns
    -------
    statistic, p_value : float
        The weighted sum of squares between levels and its p-value.

    Notes
    -----
    ``Q`` is the between-level sum of squares of the additive model ``m_ws = a_w + b_s`` for the cell means, fitted with
    weights ``n_ws``: ``Q = tr(m' P m)`` with ``P`` fixed by the design. Under the null ``E[Q] = sum_c P_cc t_c`` with ``t_c`` the
    trace of the covariance of a cell mean, whatever the cells' variances; the statistic is ``Q`` minus this, over the square
    root of ``sum_cc' P_cc'^2 t_c t_c'``. It does not change under rotation.  A plain ratio of means (Welch's) is not centred in high dimension, where it rejected
    a true null in 70 % when variances differed; whitening by the pooled covariance did so in 52 %. Covariates are regressed out before the permutation and once more after it
    (Freedman and Lane), so that observed and permuted values lose the same directions.

    Assumptions: patients are independent; covariates act additively and smoothly; the covariances of the levels differ by a
    factor only (else the test is approximate).

    References
    ----------
    Chung and Romano, Ann. Statist. 41 (2013) 484-507; Chen and Qin, Ann. Statist. 38 (2010) 808-835;
    Freedman and Lane, J. Bus. Econ. Statist. 1 (1983) 292-298.
    """
    keep = informative(units)
    level, stratum = units.level.codes[keep], units.stratum[keep]
    counts = table(stratum, level, (units.n_strata, units.level.n_levels))
    used, cell = np.unique(stratum * units.level.n_levels + level, return_inverse=True)
    onehot, P = np.eye(len(used))[cell], _between_projection(counts)
    nuisance = _nuisance_basis(units.covariates[keep], stratum, units.n_strata)
    Y = units.Z[keep] - units.Z[keep].mean(axis=0)
    Y = Y - nuisance @ (nuisance.T @ Y)
    observed = float(_statistic(Y[None], onehot, P, studentise)[0])
    null = []
    for moved in permutations_within(stratum, n_permutations, random_state, batch=max(1, int(BATCH_BYTES / Y.nbytes))):
        shuffled = Y[moved]
        if units.covariates.shape[1]:
            shuffled = shuffled - nuisance @ (nuisance.T @ shuffled)
        null.append(_statistic(shuffled, onehot, P, studentise))
    return observed, permutation_p_value(observed, np.concatenate(null))


def informative(units: Units) -> np.ndarray:
    """Mask ``(G,)`` of the patients that the test can use: cells of two or more, in strata that hold two such levels."""
    usable = units.counts() >= 2
    usable &= usable.sum(axis=1, keepdims=True) >= 2
    return np.asarray(usable[units.stratum, units.level.codes])


def _nuisance_basis(covariates: np.ndarray, stratum: np.ndarray, n_strata: int) -> np.ndarray:
    """Orthonormal basis of stratum means and covariates, ``(G, r)``."""
    onehot = np.eye(n_strata)[stratum]
    onehot = onehot[:, onehot.any(axis=0)]
    u, s, _ = np.linalg.svd(np.concatenate([onehot, covariates], axis=1), full_matrices=False)
    return np.asarray(u[:, s > 1e-9 * s[0]])


def _between_projection(counts: np.ndarray) -> np.ndarray:
    """``P (C, C)`` over the used cells: the sum of squares of the levels after the strata is ``tr(m' P m)``."""
    used = np.flatnonzero(counts.reshape(-1))
    W, S = counts.shape
    root = np.sqrt(counts.reshape(-1)[used])[:, None]
    strata, levels = root * np.eye(W)[used // S], root * np.eye(S)[used % S]
    strata = strata[:, strata.any(axis=0)]
    strata = strata / np.linalg.norm(strata, axis=0)
    u, s, _ = np.linalg.svd(levels - strata @ (strata.T @ levels), full_matrices=False)
    u = u[:, s > 1e-9 * s[0]]
    return np.asarray(root * (u @ u.T) * root.T)


def _statistic(Y: np.ndarray, onehot: np.ndarray, P: np.ndarray, studentise: bool) -> np.ndarray:
    """Statistic of a batch ``Y (B, G, r)`` of permuted patients; ``onehot (G, C)`` holds their cells."""
    n = onehot.sum(axis=0)
    means = np.matmul(onehot.T, Y) / n[:, None]
    Q = np.einsum("bcr,bcr->b", P @ means, means)
    if not studentise:
        return np.asarray(Q)
    within = (Y**2).sum(axis=2) @ onehot - n * (means**2).sum(axis=2)
    t = np.maximum(within, 0.0) / (n * (n - 1.0))
    return np.asarray((Q - t @ np.diag(P)) / np.sqrt(np.maximum(np.einsum("bc,cd,bd->b", t, P**2, t), 1e-300)))
