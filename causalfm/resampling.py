"""Resampling of independent units: permutation within strata and the jackknife's variance."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


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
