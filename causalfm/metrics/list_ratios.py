"""Ratios of sums over neighbour lists: what each unit adds, and the interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from causalfm.metrics.deletion import Channels, Deletion, blocks, deletion_of, take
from causalfm.metrics.design import NO_SPREAD, interval_of, no_spread, t_quantile, variance_of
from causalfm.metrics.joint_cells import ByCell
from causalfm.metrics.typed import expected_sums
from causalfm.metrics.typed_lists import TypedLists
from causalfm.neighbours import Neighbours
from causalfm.results import Estimate, Influence

LargestShare = Callable[[Sequence[int]], float]
STEP = 1e-30  # of the derivative by complex numbers, which has no rounding error


@dataclass(frozen=True)
class Ratio:
    """A rational function of the sums, and how it is reported.

    Attributes
    ----------
    name
        The quantity.
    of
        ``(..., c)`` sums to ``(...)`` values; ``nan`` where a denominator is 0.
    counted
        Channels of the denominator: the entries that an index is a share of.
    scale
        ``"index"``: between 0 and 1, logit interval; ``"ratio"``: above 0, log interval; ``"margin"``: between -1
        and 1, symmetric interval cut there.
    lacks
        What is missing where it is undefined.
    """

    name: str
    of: Callable[[np.ndarray], np.ndarray]
    counted: tuple[int, ...]
    scale: Literal["index", "ratio", "margin"] = "index"
    lacks: str = "no typed neighbour (same biology or same level, not both)"


def share(numerator: Sequence[int], denominator: Sequence[int]) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function that divides the sum of some channels by the sum of others."""

    def of(sums: np.ndarray) -> np.ndarray:
        return quotient(sums[..., list(numerator)].sum(axis=-1), sums[..., list(denominator)].sum(axis=-1))

    return of


def quotient(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Divide, ``nan`` where the denominator is 0."""
    above, below = np.asarray(above), np.asarray(below)
    out = np.full(np.broadcast_shapes(above.shape, below.shape), np.nan, dtype=np.result_type(above, below, float))
    return np.asarray(np.divide(above, below, out=out, where=below != 0))


@dataclass(frozen=True, eq=False)
class ListSums:
    """Sums over the lists, what each unit's absence changes in them, and what noise would give.

    Attributes
    ----------
    totals, expected
        ``(c,)``.
    deletion
        None if without one unit some query has too few candidates.
    largest_share
        Gives the largest share of the sum of some channels that one unit is met in, as query or as neighbour; asked for
        at exactly 0 or 1 only.
    """

    totals: np.ndarray
    expected: np.ndarray
    deletion: Deletion | None
    largest_share: LargestShare


def list_sums(lists: TypedLists, channels: Channels, expected: np.ndarray, factors: ByCell | None = None) -> ListSums:
    """Add up channels over the first k neighbours of all queries; ``factors`` as in :func:`deletion_of`."""
    groups, n_units = lists.layout.design.groups, len(lists.layout.strata)
    totals, deletion = deletion_of(lists.found, groups, lists.k, channels, lists.search, n_units, factors)

    def largest_share(counted: Sequence[int]) -> float:
        met = met_in(lists.found, groups, lists.k, channels, n_units, factors)[:, list(counted)].sum(axis=1)
        return float(met.max() / totals[list(counted)].sum())

    return ListSums(totals, expected, deletion, largest_share)


def met_in(
    found: Neighbours,
    units: np.ndarray,
    k: int,
    channels: Channels,
    n_units: int,
    factors: ByCell | None = None,
) -> np.ndarray:
    """Return the sums over the entries in which each unit is met, as query or as neighbour, ``(n_units, c)``."""
    total = np.zeros(())
    for rows in blocks(len(found.queries), k):
        part = take(found, rows, k)
        values = np.moveaxis(channels(part).astype(np.float64), 2, 0)
        if factors is not None:
            values = np.concatenate([values, values * factors[part.queries].T[:, :, None]])
        owner, query = units[part.indices].ravel(), units[part.queries]
        sums = [np.bincount(owner, v.ravel(), n_units) + np.bincount(query, v.sum(1), n_units) for v in values]
        total = total + np.stack(sums, axis=1)
    return total


def expected_of(lists: TypedLists, kinds: Sequence[int], weights: np.ndarray | float = 1.0) -> np.ndarray:
    """Return what noise would give, ``(len(kinds),)``, per list position (or per unit of the lists' weights)."""
    return expected_sums(weights, lists.found.queries, lists.available, kinds)


def gradient_of(ratio: Ratio, sums: np.ndarray) -> np.ndarray:
    """Return the derivatives of a ratio with respect to the sums, ``(c,)``."""
    steps = STEP * np.maximum(np.abs(sums), 1.0)
    return np.asarray(ratio.of(sums + 1j * np.diag(steps)).imag / steps)


def ratio_influence(
    ratio: Ratio, totals: np.ndarray, deletion: Deletion | None, strata: np.ndarray, unit: str
) -> Influence | str:
    """Return what each unit adds to a ratio, or why there is no interval.

    Parameters
    ----------
    ratio
        Function of the sums.
    totals
        ``(c,)`` sums over all lists.
    deletion
        What each unit's absence changes.
    strata
        ``(U,)`` design stratum of each unit; -1: it plays no part.
    unit
        Name of the unit, for the reason.
    """
    value = float(ratio.of(totals))
    if np.isnan(value):
        return f"none: {ratio.lacks}"
    if deletion is None:
        return f"none: without one {unit} some rows have too few candidates; choose a smaller k"
    without = ratio.of(totals + deletion.effects)
    n = int((strata >= 0).sum())
    if np.isnan(without[strata >= 0]).any():
        return f"none: without one {unit} there is {ratio.lacks}"
    effects = np.where(strata >= 0, (n - 1) / n * (value - without), 0.0)
    pairs = sum((float(d) * pair for d, pair in zip(gradient_of(ratio, totals), deletion.pairs, strict=True)), start=0)
    return Influence(effects, strata, pairs)


def ratio_interval(
    value: float, influence: Influence | str, ratio: Ratio, largest_share: LargestShare, unit: str
) -> tuple[float, float, str]:
    """Return the 95 % interval of a ratio on its scale, and how it was found."""
    nan = float("nan")
    if isinstance(influence, str):
        return nan, nan, influence
    if ratio.scale == "margin":
        low, high, note = interval_of(value, influence, unit, index=False)
        return *np.clip((low, high), -1.0, 1.0).tolist(), note
    if ratio.scale == "index":
        largest = None if 0 < value < 1 else largest_share(ratio.counted)
        return interval_of(value, influence, unit, largest_share=largest)
    if not value > 0:
        return nan, nan, "none: a ratio of 0 has no logarithm"
    variance, df = variance_of(influence)
    if not variance > NO_SPREAD:
        return nan, nan, no_spread(unit)
    reach = np.exp(t_quantile(df) * variance**0.5 / value)
    note = f"delete-one-{unit} jackknife within cells, pairs counted once, log scale, t with {df:.0f} df"
    return float(value / reach), float(value * reach), note


def ratio_estimate(lists: TypedLists, ratio: Ratio, sums: ListSums, details: dict[str, Any]) -> Estimate:
    """Return the estimate of one ratio with chance, interval and influence."""
    layout = lists.layout
    value = float(ratio.of(sums.totals))
    influence = ratio_influence(ratio, sums.totals, sums.deletion, layout.strata, layout.whole.unit)
    low, high, note = ratio_interval(value, influence, ratio, sums.largest_share, layout.whole.unit)
    if np.isnan(value):
        details = {**details, "reason": f"cannot tell: {ratio.lacks} at k={lists.k}, so there is nothing to compare"}
    return layout.estimate(
        ratio.name,
        value,
        low,
        high,
        float(ratio.of(sums.expected)),
        influence=None if isinstance(influence, str) else influence,
        details={**lists.settings, **details, "interval": f"{note}, k fixed" if low == low else note},
    )
