"""Bets against uniform p-values: test martingales that sleep until a change."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp, ndtri

# Alternatives, in units of the normal score of p: scores moved up or down, or spread more or less.
SHIFTS = (0.25, 0.5, 1.0, 2.0, -0.25, -0.5, -1.0, -2.0)
SPREADS = (0.6, 1.5, 2.5)
RARE = (0.05, 0.2)  # a share of the scores lies among the TAIL highest, or lowest: a scanner that only some come from
TAIL = 0.03
N_BETS = len(SHIFTS) + len(SPREADS) + 2 * len(RARE)
UP = np.array([shift > 0 for shift in SHIFTS] + [False] * len(SPREADS) + [True, False] * len(RARE))


@dataclass(frozen=True, eq=False)
class Wealth:
    """What T martingales have won so far.

    Attributes
    ----------
    prior
        ``(T, N_BETS)`` log share of each bet; ``-inf``: never made.
    awake
        ``(T, N_BETS)`` log wealth of the bets that are awake.
    rise
        ``(T, N_BETS)`` log likelihood ratio since the best time of change (the CUSUM statistic).
    since
        ``(T, N_BETS)`` number of the batch of that time.
    peak
        ``(T,)`` largest log martingale so far.
    batches
        Batches bet on.
    """

    prior: np.ndarray
    awake: np.ndarray
    rise: np.ndarray
    since: np.ndarray
    peak: np.ndarray
    batches: int

    def log_value(self) -> np.ndarray:
        """``(T,)`` log of the martingales: bets that are awake, and the reserve."""
        return _total(self.awake, self.batches)

    def change(self) -> np.ndarray:
        """``(T,)`` batch since which each track most likely differs, by the bet that has won most."""
        best = self.awake.argmax(axis=1)
        return np.asarray(self.since[np.arange(len(best)), best])


def new_wealth(upwards_only: np.ndarray) -> Wealth:
    """Return martingales at 1.

    Parameters
    ----------
    upwards_only
        ``(T,)`` bool: tracks on which only larger scores than before are bet on.
    """
    shares = np.where(upwards_only[:, None], UP / UP.sum(), 1.0 / N_BETS)
    with np.errstate(divide="ignore"):
        prior = np.log(shares)
    T = len(shares)
    empty = np.full((T, N_BETS), -np.inf)
    return Wealth(prior, empty, np.zeros((T, N_BETS)), np.ones((T, N_BETS), dtype=np.int64), np.zeros(T), 0)


def bet(wealth: Wealth, p: np.ndarray, number: int) -> Wealth:
    """Bet on the p-values of one batch.

    Parameters
    ----------
    wealth
        Before the batch.
    p
        ``(m, T)`` in (0, 1), ``m`` at least 1; independent and uniform as long as nothing changed.
    number
        What the batch is called in ``Wealth.since``; rises from call to call.

    Returns
    -------
    Wealth
        After the batch.

    Notes
    -----
    A bet ``f`` has ``integral of f over (0, 1) = 1``: with ``z`` the upper normal quantile of ``p``, a shift bets
    ``exp(delta z - delta^2 / 2)``, a spread ``phi(z / s) / (s phi(z))``, and a rare change of a share ``e``
    ``1 - e + e 1{p < t} / t`` or the same at the other end. The capital 1 is a mixture over bets and
    over the batch with which each wakes up: batch ``b`` wakes the share ``R(b - 1) - R(b)`` with
    ``R(b) = 1 / (1 + log(1 + b))``, and ``R`` sleeps. A mixture of martingales in one filtration is a martingale, and
    it never falls below ``R(b)``: a change after ``b`` quiet batches costs about ``log b + 2 log log b`` of log wealth,
    near the least that any rule must pay whose false alarms are bounded over all time. When to wake up is decided
    before a p-value of the batch is seen.

    Assumptions: the p-values of a track are independent and uniform; batches are cut by the calendar, not by their
    content.
    """
    batch = wealth.batches + 1
    share = np.log(_reserve(batch - 1) - _reserve(batch))
    awake = np.logaddexp(wealth.awake, wealth.prior + share)
    won = np.cumsum(_log_bets(p), axis=0)  # (m, T, N_BETS)
    path = _total(awake + won, batch)
    lowest = np.minimum.accumulate(won, axis=0)
    restarted = -lowest[-1] >= wealth.rise  # the best time of change moved into this batch, or to its end
    at_end = restarted & (won[-1] <= lowest[-1])
    since = np.where(restarted, number + at_end, wealth.since)
    rise = won[-1] + np.maximum(wealth.rise, -lowest[-1])
    return Wealth(wealth.prior, awake + won[-1], rise, since, np.maximum(wealth.peak, path.max(axis=0)), batch)


def _reserve(batches: int) -> float:
    return float(1.0 / (1.0 + np.log1p(batches)))


def _total(awake: np.ndarray, batches: int) -> np.ndarray:
    return np.asarray(np.logaddexp(logsumexp(awake, axis=-1), np.log(_reserve(batches))))


def _log_bets(p: np.ndarray) -> np.ndarray:
    z = -ndtri(p)[..., None]
    shift, spread = np.array(SHIFTS), np.array(SPREADS)
    moved = shift * z - shift**2 / 2
    spread_out = (1.0 - spread**-2) * z**2 / 2 - np.log(spread)
    ends = np.stack([p < TAIL, 1.0 - p < TAIL], axis=-1)
    rare = [np.log(1.0 - share + share * ends / TAIL) for share in RARE]
    return np.concatenate([moved, spread_out, *rare], axis=-1)
