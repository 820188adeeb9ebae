"""Resampling of independent units: permutation within strata, and the clustered multiplier bootstrap."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

Multiplier = Literal["rademacher", "webb"]
POINTS: dict[Multiplier, np.ndarray] = {
    "rademacher": np.array([-1.0, 1.0]),
    "webb": np.sqrt([0.5, 1.0, 1.5, 0.5, 1.0, 1.5]) * np.array([-1, -1, -1, 1, 1, 1]),
}
COLUMNS = 4096  # of unit sums per block of the multiplier bootstrap


def permutations_within(
    strata: np.ndarray, n_permutations: int, random_state: int, *, batch: int = 64
) -> Iterator[np.ndarray]:
    """Yield permutations of the units that move each one within its stratum only.

    Parameters
    ----------
    strata
        ``(G,)`` stratum codes.
    n_permutations
        How many, not counting the identity.
    random_state
        Seed.
    batch
        Permutations per yield.

    Yields
    ------
    numpy.ndarray
        ``(<= batch, G)`` positions: row ``b`` sends unit ``i`` to the place of unit ``[b, i]``.
    """
    rng = np.random.default_rng(random_state)
    order = np.argsort(strata, kind="stable")
    for start in range(0, n_permutations, batch):
        size = min(batch, n_permutations - start)
        keys = rng.random((size, len(strata)))
        shuffled = np.lexsort((keys, np.broadcast_to(strata, keys.shape)), axis=1)
        out = np.empty_like(shuffled)
        out[:, order] = shuffled
        yield out


def permutation_p_value(observed: float, null: np.ndarray) -> float:
    """``(1 + #{null >= observed}) / (1 + B)``, with a relative tolerance of 1e-12 for ties."""
    return float((1 + np.sum(null >= observed - 1e-12 * abs(observed))) / (1 + len(null)))


def multipliers(
    n_units: int, n_draws: int, random_state: int, *, kind: Multiplier = "rademacher", batch: int = 64
) -> Iterator[np.ndarray]:
    """Yield random multipliers of independent units, with mean 0 and variance 1, for a wild bootstrap.

    Parameters
    ----------
    n_units, n_draws
        Units (clusters) and draws.
    random_state
        Seed.
    kind
        ``"rademacher"``: signs. ``"webb"``: six points, for a dozen units or fewer, which have few different signs.
    batch
        Draws per yield; it does not change them.

    Yields
    ------
    numpy.ndarray
        ``(<= batch, n_units)`` float64.

    References
    ----------
    Cameron, Gelbach and Miller, Rev. Econ. Statist. 90 (2008) 414-427; Webb, Can. J. Econ. 56 (2023) 839-858.
    """
    rng = np.random.default_rng(random_state)
    points = POINTS[kind]
    for start in range(0, n_draws, batch):
        yield points[rng.integers(len(points), size=(min(batch, n_draws - start), n_units))]


def multiplier_maxima(
    sums: np.ndarray, n_draws: int, random_state: int, *, kind: Multiplier = "rademacher"
) -> np.ndarray:
    """Null distribution of the largest studentised sum, by the clustered multiplier bootstrap.

    Parameters
    ----------
    sums
        ``(G, K)`` scores summed within each unit: units are multiplied as a whole, whatever their rows have in common.
    n_draws, random_state, kind
        See :func:`multipliers`.

    Returns
    -------
    numpy.ndarray
        ``(n_draws,)`` values of ``max_k |sum_g e_g s_gk| / sqrt(sum_g e_g^2 s_gk^2)``.

    References
    ----------
    Chernozhukov, Chetverikov and Kato, Ann. Statist. 41 (2013) 2786-2819.
    """
    out = np.zeros(n_draws)
    for start in range(0, sums.shape[1], COLUMNS):
        block = sums[:, start : start + COLUMNS]
        squares, done = block**2, 0
        for weights in multipliers(len(sums), n_draws, random_state, kind=kind):
            spread = np.sqrt(np.maximum(weights**2 @ squares, np.finfo(float).tiny))
            rows = slice(done, done + len(weights))
            out[rows] = np.maximum(out[rows], (np.abs(weights @ block) / spread).max(axis=1))
            done += len(weights)
    return out
