"""Weights of a neighbour list at a fixed perplexity, the local inverse Simpson index, and what a missing group changes.

Arrays in, arrays out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from causalfm.errors import DataError
from causalfm.metrics.deletion import ByLevel, LevelChannels, blocks
from causalfm.metrics.mixing import level_masses, refuse_ended
from causalfm.neighbours import Neighbours

LEAST_WEIGHT = 1e-9  # share of a list's weight that must stay; rounding is far below
LEAST_K = 6  # a perplexity of 1 sees the nearest neighbour only


def lisi(
    distances: np.ndarray,
    indices: np.ndarray,
    queries: np.ndarray,
    codes: np.ndarray,
    *,
    perplexity: float | None = None,
) -> np.ndarray:
    """Local inverse Simpson index of each list: the effective number of levels in it.

    ``1 / sum_b p_b^2`` with ``p_b`` the weight of level b in the list. Weights fall as ``exp(-beta d)``, with ``beta``
    such that their entropy is that of ``perplexity`` equal neighbours.

    Parameters
    ----------
    distances, indices
        ``(m, k)`` distances and row positions of the neighbours, nearest first.
    queries
        ``(m,)`` row positions of the queries; where one is in its own list it has no weight.
    codes
        ``(n,)`` integer levels from 0.
    perplexity
        Effective number of neighbours; ``floor(k / 3)`` by default.

    Returns
    -------
    numpy.ndarray
        ``(m,)`` between 1 (one level) and the number of levels. Neighbours at equal distance weigh equally, also where
        no ``beta`` reaches the perplexity.

    Raises
    ------
    DataError
        ``k`` below 6, a perplexity outside 1 to ``k``, or ended lists.

    References
    ----------
    Korsunsky et al., Fast, sensitive and accurate integration of single-cell data with Harmony, Nature Methods 16:1289
    (2019).
    """
    refuse_ended(np.asarray(indices))
    used = np.asarray(indices) != np.asarray(queries)[:, None]
    n_levels = int(codes.max()) + 1
    weights = tuned_weights(np.asarray(distances), used, perplexity).weights
    return np.asarray(1.0 / simpson_index(level_masses(indices, weights, codes, n_levels), n_levels))


def simpson_index(masses: np.ndarray, levels: np.ndarray | int) -> np.ndarray:
    """Return ``sum_b p_b^2`` of shares ``(m, B)``, kept between 1 / levels and 1 against rounding."""
    return np.asarray(np.clip((masses**2).sum(axis=1), 1.0 / levels, 1.0))


def distances_of(similarity: np.ndarray) -> np.ndarray:
    """Return Euclidean distances between rows of unit length from their cosine similarities."""
    return np.asarray(np.sqrt(np.maximum(2.0 - 2.0 * similarity.astype(np.float64), 0.0)))


@dataclass(frozen=True, eq=False)
class Tuned:
    """Weights of the lists; an entry further down has ``exp(-beta (d - near)) / total``.

    Attributes
    ----------
    weights
        ``(m, k)``, adding up to 1.
    beta, near, total
        ``(m,)``.
    mean, spread
        ``(m,)`` weighted mean and variance of the distances.
    """

    weights: np.ndarray
    beta: np.ndarray
    near: np.ndarray
    total: np.ndarray
    mean: np.ndarray
    spread: np.ndarray


def tuned_weights(distances: np.ndarray, used: np.ndarray, perplexity: float | None = None) -> Tuned:
    """Weigh the neighbours of each list so that the entropy of the weights is the logarithm of the perplexity.

    Parameters
    ----------
    distances
        ``(m, k)``.
    used
        ``(m, k)`` which entries have a weight.
    perplexity
        ``floor(k / 3)`` by default.
    """
    m, k = distances.shape
    if k < LEAST_K:
        raise DataError(
            f"k={k}: choose at least {LEAST_K} neighbours; the perplexity k / 3 would see one of them only."
        )
    wanted = float(k // 3) if perplexity is None else float(perplexity)
    if not 1 < wanted < k - 1:
        raise DataError(f"perplexity={perplexity!r}: choose a number above 1 and below k - 1 = {k - 1}.")
    out = Tuned(np.empty((m, k)), *(np.empty(m) for _ in range(5)))
    for rows in blocks(m, k):
        _tune_block(distances[rows].astype(np.float64), used[rows], np.log(wanted), rows, out)
    return out


def _tune_block(d: np.ndarray, used: np.ndarray, target: float, rows: slice, out: Tuned) -> None:
    """Find beta by Newton steps on its logarithm, kept in a bracket; lists leave as they converge.

    Where neighbours are tied no beta may reach the target: then the entropy stops to respond, and the search ends.
    """
    near = np.where(used, d, np.inf).min(axis=1)
    d = np.where(used, d - near[:, None], 0.0)
    beta = used.sum(axis=1) / np.maximum(d.sum(axis=1), 1e-30)
    low, high = np.zeros(len(d)), np.full(len(d), np.inf)
    active = np.arange(len(d))
    for _ in range(80):
        b = beta[active]
        _, total, mean, spread = _moments(d[active], used[active], b)
        gap, slope = np.log(total) + b * mean - target, b**2 * spread
        going = (np.abs(gap) > 1e-9) & (slope > 1e-12)
        if not going.any():
            break
        active, b, gap, slope = active[going], b[going], gap[going], slope[going]
        low[active], high[active] = np.where(gap > 0, b, low[active]), np.where(gap > 0, high[active], b)
        newton = b * np.exp(np.clip(gap / slope, -2.0, 2.0))
        middle = np.where(np.isinf(high[active]), 2.0 * b, (low[active] + high[active]) / 2.0)
        beta[active] = np.where((newton > low[active]) & (newton < high[active]), newton, middle)
    weights, total, mean, out.spread[rows] = _moments(d, used, beta)
    out.weights[rows], out.mean[rows] = weights / total[:, None], mean + near
    out.beta[rows], out.near[rows], out.total[rows] = beta, near, total


def _moments(
    d: np.ndarray, used: np.ndarray, beta: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    weights = np.exp(-beta[:, None] * d) * used
    total = weights.sum(axis=1)
    mean = np.einsum("ij,ij->i", weights, d) / total
    spread = np.einsum("ij,ij,ij->i", weights, d, d) / total - mean**2
    return weights, total, mean, np.maximum(spread, 0.0)


def simpson_without(
    lists: Neighbours, tuned: Tuned, codes: np.ndarray, n_levels: int
) -> tuple[LevelChannels, Callable[[np.ndarray, np.ndarray], np.ndarray]]:
    """Return what to sum over lists, and Simpson's index of a list from the change of these sums.

    The weights of the entries that come and go are exact at the list's beta; beta itself makes one Newton step towards
    the perplexity. Sums: weight per level, weight times distance per level, weight times squared distance; distances
    are about the list's mean.

    Parameters
    ----------
    lists, tuned
        Lists, and their weights.
    codes
        ``(n,)`` levels.
    n_levels
        Number of levels.

    Returns
    -------
    channels : callable
        For :func:`causalfm.metrics.deletion.list_changes`; ``3 n_levels`` of them.
    index : callable
        ``index(at, change)``: Simpson indices of the lists at these places, unclipped. A list whose weight is all on
        what is gone keeps its index: at its beta nothing can be said of the entries that come.
    """
    place = np.full(lists.n, -1)
    place[lists.queries] = np.arange(len(lists.queries))

    def channels(part: Neighbours) -> ByLevel:
        at = place[part.queries][:, None]
        used = (part.indices >= 0) & (part.indices != part.queries[:, None])
        d = distances_of(np.where(used, part.similarity, 0.0))
        weight = np.exp(np.minimum(-tuned.beta[at] * (d - tuned.near[at]), 0.0)) / tuned.total[at] * used
        offset = d - tuned.mean[at]
        values = np.stack([weight, weight * offset, weight * offset**2])
        return ByLevel(values, np.where(part.indices < 0, 0, codes[part.indices]), n_levels)

    masses = level_masses(lists.indices[:, : lists.k], tuned.weights, codes, n_levels)
    offsets = np.where(tuned.weights > 0, distances_of(lists.similarity[:, : lists.k]) - tuned.mean[:, None], 0.0)
    slopes = level_masses(lists.indices[:, : lists.k], tuned.weights * offsets, codes, n_levels)

    def index(at: np.ndarray, change: np.ndarray) -> np.ndarray:
        total = 1.0 + change[:, :n_levels].sum(axis=1)
        told = total > LEAST_WEIGHT
        total = np.where(told, total, 1.0)
        shares = (masses[at] + change[:, :n_levels]) / total[:, None]
        tilted = (slopes[at] + change[:, n_levels : 2 * n_levels]) / total[:, None]
        mean = tilted.sum(axis=1)
        response = tuned.beta[at] * ((tuned.spread[at] + change[:, 2 * n_levels :].sum(axis=1)) / total - mean**2)
        gap = np.log(total) + tuned.beta[at] * mean  # the entropy's distance from its target
        step = np.where(tuned.beta[at] * response > 1e-9, gap / np.maximum(response, 1e-300), 0.0)
        moved = np.clip(shares - (tilted - shares * mean[:, None]) * step[:, None], 0.0, 1.0)
        return np.asarray(np.where(told, (moved**2).sum(axis=1), (masses[at] ** 2).sum(axis=1)))

    return channels, index
