"""Contrasts of estimates on the same units: which of several encoders is better, and which cannot be told apart.

Two encoders see the same patients, so that their estimates move together: the variance of a difference comes from the
differences of what each patient adds, not from the two intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from causalfm.confidence import level_in_force
from causalfm.metrics.design import NO_SPREAD, t_quantile, variance_of
from causalfm.results import Influence

DRAWS = 20_000


@dataclass(frozen=True, eq=False)
class Contrasts:
    """All differences between K estimates, and what they say of the order.

    Attributes
    ----------
    pairs
        ``(P, 2)`` positions; every difference is the first less the second.
    difference, low, high
        ``(P,)`` difference with its 95 % interval; ``nan`` where there is none.
    joint_low, joint_high
        ``(P,)`` intervals that hold together for all pairs with 95 %.
    p_value
        ``(P,)`` of no difference, adjusted for all pairs.
    df
        ``(P,)`` degrees of freedom.
    rank_low, rank_high
        ``(K,)`` ranks from 1, the largest value first, that the joint intervals leave open: they hold together for all
        estimates with 95 %.
    rank_share
        ``(K, K)`` share of draws in which each estimate (row) holds each rank (column).
    """

    pairs: np.ndarray
    difference: np.ndarray
    low: np.ndarray
    high: np.ndarray
    joint_low: np.ndarray
    joint_high: np.ndarray
    p_value: np.ndarray
    df: np.ndarray
    rank_low: np.ndarray
    rank_high: np.ndarray
    rank_share: np.ndarray

    def columns(self) -> tuple[np.ndarray, ...]:
        """Return what is known of every pair, in the order of the attributes."""
        return self.difference, self.low, self.high, self.joint_low, self.joint_high, self.p_value, self.df


def influence_of_difference(a: Influence, b: Influence) -> Influence:
    """Return what each unit adds to the difference of two estimates on the same units.

    A factor on the variance that is known of each estimate alone is taken as a scale of its effects.

    Parameters
    ----------
    a, b
        In the same order of the units, with the same strata.
    """
    scales = a.inflation**0.5, b.inflation**0.5
    effects = scales[0] * a.effects - scales[1] * b.effects
    if a.pairs is None or b.pairs is None or a.pairs_are_residuals != b.pairs_are_residuals:
        return Influence(effects, a.strata)
    pairs = scales[0] * a.pairs - scales[1] * b.pairs
    return Influence(effects, a.strata, pairs, pairs_are_residuals=a.pairs_are_residuals)


def contrast_all(values: np.ndarray, influences: Sequence[Influence], random_state: int = 0) -> Contrasts:
    """Compare all pairs of K estimates.

    Parameters
    ----------
    values
        ``(K,)`` estimates.
    influences
        What the units add to each, in one order of the units and with the same strata.
    random_state
        Seed of the draws.

    Returns
    -------
    Contrasts
        Intervals by t with Satterthwaite's degrees of freedom. The joint ones and the ranks come from draws of all
        differences together: normal, with the covariance that the variances of the differences imply, over the root of
        chi squared by degrees of freedom, pair by pair (Hasler and Hothorn 2008). Pairs whose difference is the same
        whichever unit is left out have no interval and take no part.

    References
    ----------
    Hasler and Hothorn, Multiple contrast tests in the presence of heteroscedasticity, Biom. J. 50:793 (2008).
    Al Mohamad, Goeman, van Zwet, Simultaneous confidence intervals for ranks, arXiv 1812.05507 (2018).
    """
    pairs = np.array(list(combinations(range(len(values)), 2)))
    difference = values[pairs[:, 0]] - values[pairs[:, 1]]
    found = [variance_of(influence_of_difference(influences[a], influences[b])) for a, b in pairs]
    variance, df = np.array(found).T
    known = variance > NO_SPREAD
    error = np.sqrt(np.where(known, variance, np.nan))
    rng = np.random.default_rng(random_state)
    draws = _draw_differences(len(values), pairs, np.where(known, variance, 0.0), rng)
    u = rng.random(DRAWS)
    single = np.array([t_quantile(f) if k else np.nan for f, k in zip(df, known, strict=True)])
    joint, p_value = _joint_quantiles(draws, pairs, np.abs(difference) / error, df, u)
    joint = np.fmax(joint, single)  # equal for one pair, but for the draws
    joint_low, joint_high = difference - joint * error, difference + joint * error
    better, worse = np.zeros((2, len(values)), dtype=int)
    for (a, b), low, high in zip(pairs, joint_low, joint_high, strict=True):
        better[a], worse[b] = better[a] + (high < 0), worse[b] + (high < 0)
        better[b], worse[a] = better[b] + (low > 0), worse[a] + (low > 0)
    return Contrasts(
        pairs,
        difference,
        difference - single * error,
        difference + single * error,
        joint_low,
        joint_high,
        p_value,
        df,
        1 + better,
        len(values) - worse,
        _rank_shares(values, draws / _spread(u, df[known].min())[:, None] if known.any() else draws, rng),
    )


def _draw_differences(n: int, pairs: np.ndarray, variance: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw errors ``(DRAWS, n)`` whose differences have these variances; one is 0, as only differences count."""
    square = np.zeros((n, n))
    square[pairs[:, 0], pairs[:, 1]] = square[pairs[:, 1], pairs[:, 0]] = variance
    covariance = (square[0][:, None] + square[0] - square) / 2
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))  # the correction for pairs can leave it a little indefinite
    return np.asarray(rng.standard_normal((DRAWS, n)) @ root.T)


def _spread(u: np.ndarray, df: float) -> np.ndarray:
    """Return the root of chi squared by its degrees of freedom at the quantiles ``u``."""
    from scipy.stats import chi2

    return np.asarray(np.sqrt(chi2.ppf(u, df) / df))


def _joint_quantiles(
    draws: np.ndarray, pairs: np.ndarray, t: np.ndarray, df: np.ndarray, u: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each pair, the 95 % quantile of the largest |t| over all pairs and the share of draws beyond it."""
    known = ~np.isnan(t)
    quantile, p_value = np.full((2, len(t)), np.nan)
    if not known.any():
        return quantile, p_value
    errors = draws[:, pairs[known, 0]] - draws[:, pairs[known, 1]]
    largest = np.abs(errors / errors.std(axis=0)).max(axis=1)
    for i in np.flatnonzero(known):
        drawn = largest / _spread(u, df[i])
        quantile[i] = np.quantile(drawn, level_in_force())
        p_value[i] = (1 + (drawn >= t[i]).sum()) / (1 + DRAWS)
    return quantile, p_value


def _rank_shares(values: np.ndarray, errors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the share of draws in which each value (row) holds each rank (column); exact ties are broken at random."""
    drawn = values + errors
    order = np.lexsort((rng.random(drawn.shape), -drawn), axis=1)
    return np.stack([np.bincount(place, minlength=len(values)) for place in order.T], axis=1) / len(drawn)
