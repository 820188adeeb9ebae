"""Shares of correct answers with intervals that hold for independent patients, and also where nothing was wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import stats

from causalfm.confidence import level_in_force
from causalfm.metrics.recall import pair_share, recall_effects
from causalfm.wilson import wilson_interval


@dataclass(frozen=True, eq=False)
class Rate:
    """A share with what its interval is made of.

    Attributes
    ----------
    value
        The share.
    size
        Effective number of patients: those who, seen once each, would give an interval as wide.
    df
        Degrees of freedom of the variance.
    n_units
        Patients.
    units, effects
        ``(n_units,)`` their codes, ascending, and what each adds to the share.
    variance
        Of the share, by patients, with that of one more who is right and one who is wrong.
    """

    value: float
    size: float
    df: float
    n_units: int
    units: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64), repr=False)
    effects: np.ndarray = field(default_factory=lambda: np.zeros(0), repr=False)
    variance: float = 0.0

    def interval(self, level: float | None = None) -> tuple[float, float]:
        """Return Wilson's interval with a t quantile; ``nan`` without patients."""
        if not self.n_units:
            return float("nan"), float("nan")
        quantile = float(stats.t.ppf(0.5 + level_in_force(level) / 2.0, self.df))
        low, high = wilson_interval(self.value, self.size, quantile)
        return float(low), float(high)


NOTHING = Rate(float("nan"), float("nan"), float("nan"), 0)


def rate(
    hit: np.ndarray,
    units: np.ndarray,
    weights: np.ndarray,
    *,
    cell: np.ndarray | None = None,
    share: np.ndarray | None = None,
    chance: float | None = None,
) -> Rate:
    """Return the mean over patients, or the weighted mean of the means of several cells.

    Parameters
    ----------
    hit
        ``(n,)`` correct or not.
    units, weights
        ``(n,)`` codes of the independent unit and row weights: ``1 / rows of the patient`` for patients alike.
    cell
        ``(n,)`` codes from 0 without gaps, such as the class for a balanced accuracy; one cell by default.
    share
        ``(cells,)`` their weights, adding up to 1; equal by default.
    chance
        What a guess scores, where the answers come from models that were trained on one another's patients (cross
        fitting): the variance is then raised by the share that can belong to pairs of patients, as in
        :func:`causalfm.metrics.recall.balanced_accuracy`. None: the model is the same for all.

    Returns
    -------
    Rate
        Share and effective size.

    Notes
    -----
    The effective size is that of the design, patients seen once each, over a design effect. Both variances of the
    latter, by patients and binomial, get that of one more patient who is right and one who is wrong in every cell: a
    cell without errors has a variance of 0, which says nothing of the next patient. Where patients bring one row each
    the design effect is 1; with 1 to 10 rows that hardly agree it falls, unless errors are few.
    """
    if not len(hit):
        return NOTHING
    names, codes = np.unique(units, return_inverse=True)
    cell = np.zeros(len(hit), dtype=np.int64) if cell is None else cell
    n_cells, n_units = int(cell.max()) + 1, len(names)
    share = np.full(n_cells, 1.0 / n_cells) if share is None else share
    means, effects = recall_effects(hit.astype(np.float64), cell, codes, weights, share)
    held = np.bincount(np.unique(np.stack([cell, codes]), axis=1)[0], minlength=n_cells)
    design = min(1.0 / float((share**2 / held).sum()), n_units)
    value = float(np.clip(means @ share, 0.0, 1.0))
    variance = float((effects**2).sum()) * n_units / max(n_units - 1, 1)
    binomial = value * (1.0 - value) / design * n_units / max(n_units - 1, 1)
    more = float((share**2 * (means**2 + (1.0 - means) ** 2) / held**2).sum())
    effect = (variance + more) / (binomial + more)
    if chance is not None:
        effect *= 1.0 + pair_share(value, chance)
    size = design / effect
    return Rate(value, size, float(max(n_units - n_cells, 1)), n_units, names, effects, variance + more)


def difference(
    first: Rate, second: Rate, level: float | None = None, *, shared: bool = False
) -> tuple[float, float, float]:
    """Return first less second with its interval.

    Parameters
    ----------
    first, second
        Rates, of different patients unless ``shared``.
    level
        Confidence; None for the level in force.
    shared
        Some patients may be in both: they are the same where their codes are.

    Returns
    -------
    tuple of float
        Difference, low, high: each end takes the distance to the end of either rate that points there, so that rates
        of 0 or 1 leave a width (Newcombe, Stat. Med. 17:873, 1998; Zou and Donner, Stat. Med. 27:1693, 2008). Patients
        in both make the two correlate (Zou, Psychol. Methods 12:399, 2007).
    """
    a, b = first.interval(level), second.interval(level)
    value, r = first.value - second.value, correlation(first, second) if shared else 0.0

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(one**2 + other**2 - 2.0 * r * one * other, 0.0))

    low = value - reach(first.value - a[0], b[1] - second.value)
    high = value + reach(a[1] - first.value, second.value - b[0])
    return value, low, high


def correlation(first: Rate, second: Rate) -> float:
    """Return how two rates correlate through the patients that are in both; 0 without any.

    The patients that are added to each variance differ between the two, so that rates without errors do not correlate.
    """
    _, here, there = np.intersect1d(first.units, second.units, assume_unique=True, return_indices=True)
    if not len(here):
        return 0.0
    return float(first.effects[here] @ second.effects[there]) / math.sqrt(first.variance * second.variance)


def predicted(value: float, size: float, df: float) -> Rate:
    """Return a rate that nobody has measured: for the interval that so many patients would give."""
    return replace(NOTHING, value=value, size=size, df=df, n_units=max(int(size), 1))
