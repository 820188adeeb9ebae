"""Interval of a mean over random splits: delete-one-patient jackknife, although splits reuse the patients.

The mean over splits is a symmetric function of the patients of each cell. A split that does not train on patient ``i``,
scored without ``i``, is a split of the pool without ``i``: the leave-one-out values come from the splits at hand. They
are finite in number, which adds noise of known size to every leave-one-out value: its expectation is taken off.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

# weights of the cells (first class at first hospital, first at second, second at first, second at second)
MEASURES = {
    "accuracy": np.array([0.25, 0.25, 0.25, 0.25]),
    "agreeing": np.array([0.5, 0.0, 0.0, 0.5]),
    "conflicting": np.array([0.0, 0.5, 0.5, 0.0]),
}


@dataclass(frozen=True)
class Interval:
    """Mean over splits with an interval for new patients and training sets of this design."""

    value: float
    low: float
    high: float


def interval(
    correct: np.ndarray, used: np.ndarray, cell: np.ndarray, weights: np.ndarray, *, error: float = 0.05
) -> Interval:
    """Estimate a weighted mean over cells.

    Parameters
    ----------
    correct
        ``(B, n)`` score of each tested patient, nan where the patient was not tested; or differences of two methods.
    used
        ``(B, n)`` mask: patients that the training set holds.
    cell
        ``(n,)`` cells, counted from 0.
    weights
        One per cell.
    error
        Share of intervals that may miss; smaller where several shall hold together.

    Returns
    -------
    Interval
        Stratified by cell, t quantile with Satterthwaite degrees of freedom. Ends are nan if all splits use
        one patient: there are too few.
    """
    (B, n), cells = correct.shape, range(len(weights))
    tested = np.isfinite(correct)
    scores = np.where(tested, correct, 0.0)
    sums = np.stack([scores[:, cell == c].sum(axis=1) for c in cells], axis=1)
    counts = np.stack([tested[:, cell == c].sum(axis=1) for c in cells], axis=1)
    each = (sums / counts) @ weights  # per split
    if used.all(axis=0).any() or B < 2:
        return Interval(float(each.mean()), float("nan"), float("nan"))
    spread, without, noise = float(each.var(ddof=1)), np.empty(n), np.empty(n)
    for i in range(n):
        kept = ~used[:, i]
        s, m, w = sums[kept, cell[i]], counts[kept, cell[i]], weights[cell[i]]
        value = each[kept] + w * ((s - scores[kept, i]) / (m - 1) - s / m)
        without[i], noise[i] = value.mean(), spread * (1.0 / kept.sum() - 1.0 / B)
    variance, least, size = np.zeros(len(weights)), np.zeros(len(weights)), np.bincount(cell) - 1
    for c in cells:
        rows = cell == c
        square = ((without[rows] - without[rows].mean()) ** 2).sum() - noise[rows].sum()
        variance[c] = size[c] / (size[c] + 1) * square
        least[c] = (
            weights[c] ** 2 * (scores[:, rows].sum(axis=0) / tested[:, rows].sum(axis=0)).var(ddof=1) / rows.sum()
        )
    positive = np.maximum(variance, least)
    # with few splits the noise taken off may exceed what is there; what tested patients differ by is the least
    total = max(float(variance.sum()), float(least.sum())) + spread / B
    df = positive.sum() ** 2 / (positive**2 / size).sum() if positive.any() else float(size.min())
    half = float(stats.t.ppf(1 - error / 2, df)) * np.sqrt(total)
    return Interval(float(each.mean()), float(each.mean() - half), float(each.mean() + half))
