"""Whether a small run says the same as a large one, or as theory: tests at 0.1 %, for all comparisons together."""

from __future__ import annotations

import numpy as np
from scipy import stats

LEVEL = 0.001


def same_share(hits: int, n: int, share: float, of: int, *, comparisons: int = 1) -> bool:
    """Say whether ``hits`` of ``n`` and a share ``of`` another number of cohorts can be one share (Fisher's test)."""
    other = round(share * of)
    found = stats.fisher_exact([[hits, n - hits], [other, of - other]]).pvalue
    return bool(found >= LEVEL / comparisons)


def in_band(hits: int, n: int, low: float, high: float, *, comparisons: int = 1) -> bool:
    """Say whether ``hits`` of ``n`` can come from a share between ``low`` and ``high`` (exact binomial interval)."""
    level = 1.0 - LEVEL / comparisons
    ends = stats.binomtest(hits, n).proportion_ci(confidence_level=level)
    return bool(ends.low <= high and low <= ends.high)


def same_mean(values: np.ndarray, truth: float, *, slack: float = 0.0, comparisons: int = 1) -> bool:
    """Say whether the mean of ``values (n,)`` can be within ``slack`` of ``truth`` (Student's t)."""
    mean, error = mean_and_error(values)
    limit = float(stats.t.ppf(1.0 - LEVEL / comparisons / 2.0, len(values) - 1)) * error
    return bool(abs(mean - truth) <= slack + limit)


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Return the mean of ``values (n,)`` and its standard error."""
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))
