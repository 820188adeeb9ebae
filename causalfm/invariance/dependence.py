"""Distance correlation and HSIC of two arrays, exact, with a permutation test whose work is one matrix product.

These are the textbook statistics of independent rows, for comparison with other software. Rows of patients are not
independent: :func:`causalfm.invariance_test` asks the same question of patients.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from causalfm.arguments import check_seed, check_whole
from causalfm.errors import DataError, positions
from causalfm.invariance.kernels import square_distances
from causalfm.resampling import permutation_p_value, permutations_within

BATCH_BYTES = 2**27
FEW_VALUES = 64  # up to so many distinct rows of y, permutations are counted in sums over these
Kernel = Literal["distance", "gaussian"]


def dcorr(x: np.ndarray, y: np.ndarray, *, bias: bool = False) -> float:
    """Distance correlation of two samples.

    Parameters
    ----------
    x, y
        ``(n,)`` or ``(n, p)`` and ``(n,)`` or ``(n, q)``; categories as one-hot columns.
    bias
        False: the bias-corrected squared correlation, about 0 under independence and possibly below. True: the root of
        the plain one, between 0 and 1.

    Returns
    -------
    float
        0 where a sample does not vary.

    Raises
    ------
    DataError
        Unequal lengths, fewer than four rows, values that are not finite numbers.

    Notes
    -----
    ``sum_ij A_ij B_ij / sqrt(sum A_ij^2 sum B_ij^2)`` with ``A`` the distances between rows of ``x`` less their row and
    column means (bias: over n; corrected: over n - 2, and a zero diagonal), and ``B`` those of ``y``. Time and memory
    are of order n^2. Equal to hyppo's ``Dcorr``.

    References
    ----------
    Székely, Rizzo and Bakirov, Ann. Statist. 35 (2007) 2769-2794; Székely and Rizzo, Ann. Statist. 42 (2014) 2382-2412.
    """
    return _correlation(_apart(x, "x", "distance"), _apart(y, "y", "distance"), bias)


def hsic(
    x: np.ndarray,
    y: np.ndarray,
    *,
    bias: bool = False,
    scale_x: float | None = None,
    scale_y: float | None = None,
) -> float:
    """Hilbert-Schmidt independence criterion of two samples with Gaussian kernels, as a correlation.

    Parameters
    ----------
    x, y
        ``(n,)`` or ``(n, p)`` and ``(n,)`` or ``(n, q)``; categories as one-hot columns.
    bias
        As in :func:`dcorr`.
    scale_x, scale_y
        Bandwidths ``s`` of ``exp(-|x - x'|^2 / (2 s^2))``; None: the median distance between two rows.

    Returns
    -------
    float
        :func:`dcorr` with one minus the kernel for the distance. 0 where a sample does not vary.

    Raises
    ------
    DataError
        As in :func:`dcorr`.

    Notes
    -----
    The bandwidth is the median of distances and divides distances: one that divides squared distances by the median
    *distance* leaves a kernel that is 0 or 1 everywhere in high dimension. Equal to hyppo's ``Hsic`` at equal
    bandwidths; hyppo gives ``y`` the bandwidth of ``x``, whatever the units of ``y``.

    References
    ----------
    Gretton, Fukumizu, Teo, Song, Schölkopf and Smola, NIPS 20 (2008) 585-592; Shen and Vogelstein, AStA 105 (2021)
    385-403 (the equivalence with distance correlation).
    """
    return _correlation(_apart(x, "x", "gaussian", scale_x), _apart(y, "y", "gaussian", scale_y), bias)


def dependence_test(
    x: np.ndarray,
    y: np.ndarray,
    *,
    kernel: Kernel = "distance",
    n_permutations: int = 999,
    random_state: int = 0,
) -> tuple[float, float]:
    """Permutation test of independence by the bias-corrected distance correlation or HSIC.

    Parameters
    ----------
    x, y
        As in :func:`dcorr`.
    kernel
        ``"distance"`` for :func:`dcorr`, ``"gaussian"`` for :func:`hsic`.
    n_permutations, random_state
        Permutations of the rows, and their seed.

    Returns
    -------
    statistic, p_value : float
        The correlation, and ``(1 + #{>=}) / (1 + n_permutations)``.

    Raises
    ------
    DataError
        As in :func:`dcorr`.

    Notes
    -----
    Only ``sum_ij A_ij B_ij`` changes under permutation. The rows of ``A`` sum to zero, so that ``B`` need not be
    centred again: the sum is over plain distances of permuted rows. Where ``y`` takes few distinct values (categories,
    grades) it is a sum over pairs of values of ``E' A E``, ``E`` their indicators, and a batch of permutations is one
    matrix product.

    Assumptions: rows are exchangeable under the null.
    """
    check_whole(n_permutations, "n_permutations", 1, why="999 resolve a p-value of 0.001")
    check_seed(random_state)
    A, D = _apart(x, "x", kernel), _apart(y, "y", kernel)
    observed = _correlation(A, D, bias=False)
    A = _centred(A, bias=False)
    values, first, codes = np.unique(_matrix(y, "y"), axis=0, return_index=True, return_inverse=True)
    few = len(values) <= FEW_VALUES
    n = len(A)
    batch = max(1, int(BATCH_BYTES / (8 * n * len(values)))) if few else 1
    identity, moves = np.arange(n)[None], permutations_within(np.zeros(n), n_permutations, random_state, batch=batch)
    if few:
        onehot, between = np.eye(len(values))[codes.reshape(-1)], D[np.ix_(first, first)]
        covariances = [_over_values(A, onehot, between, moved) for moved in (identity, *moves)]
    else:
        covariances = [np.array([np.vdot(A, D[np.ix_(m, m)]) for m in moved]) for moved in (identity, *moves)]
    return observed, permutation_p_value(float(covariances[0][0]), np.concatenate(covariances[1:]))


def _over_values(A: np.ndarray, onehot: np.ndarray, between: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """``sum_ij A_ij D_ij`` for a batch of permutations, ``D`` the distances ``between (S, S)`` the values of the rows.

    Rows of ``A`` sum to zero, so that the last value's sums follow from the others'.
    """
    free = np.eye(len(between))[:, :-1]
    free[-1] = -1.0
    places = onehot[moved][:, :, :-1]  # (B, n, S - 1)
    flat = np.ascontiguousarray(np.moveaxis(places, 0, 1)).reshape(len(A), -1)
    sums = (A @ flat).reshape(len(A), len(moved), -1)
    crossed = np.einsum("bns,nbt->bst", places, sums, optimize=True)
    return np.asarray(np.einsum("bst,st->b", crossed, free.T @ between @ free))


def _matrix(values: np.ndarray, name: str) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim not in (1, 2) or values.dtype.kind not in "biuf":
        raise DataError(f"{name} must be (n,) or (n, p) numbers; categories as one-hot columns.")
    values = values.reshape(len(values), -1).astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1)).tolist()
    if bad:
        raise DataError(f"{name} is not finite in {positions(bad)}: drop these rows from both samples.")
    return values


def _apart(values: np.ndarray, name: str, kernel: Kernel, scale: float | None = None) -> np.ndarray:
    """Distances between rows ``(n, n)``, or one minus their Gaussian kernel."""
    values = _matrix(values, name)
    if len(values) < 4:
        raise DataError(f"{name} has {len(values)} rows: the bias correction needs at least 4.")
    values = values - values.mean(axis=0)
    squares = square_distances(values, values)
    np.fill_diagonal(squares, 0.0)
    if kernel == "distance":
        return np.asarray(np.sqrt(squares))
    scale = scale or float(np.median(np.sqrt(squares[~np.eye(len(squares), dtype=bool)]))) or 1.0
    return np.asarray(1.0 - np.exp(-0.5 * squares / scale**2))


def _centred(D: np.ndarray, bias: bool) -> np.ndarray:
    """Distances less their row and column means; without bias over n - 2, and a zero diagonal."""
    n = len(D)
    rows, cells = (n, n**2) if bias else (n - 2, (n - 1) * (n - 2))
    out = D - D.sum(axis=0) / rows
    out -= D.sum(axis=1)[:, None] / rows
    out += D.sum() / cells
    if not bias:
        np.fill_diagonal(out, 0.0)
    return np.asarray(out)


def _correlation(x: np.ndarray, y: np.ndarray, bias: bool) -> float:
    if len(x) != len(y):
        raise DataError(f"x has {len(x)} rows and y {len(y)}: they must be the same rows in the same order.")
    A, B = _centred(x, bias), _centred(y, bias)
    both, own = float(np.vdot(A, B)), float(np.vdot(A, A) * np.vdot(B, B))
    if own <= 0.0 or (bias and both <= 0.0):
        return 0.0
    found = both / np.sqrt(own)
    return float(np.sqrt(found)) if bias else float(found)
