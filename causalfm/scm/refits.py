"""Errors of what is computed with a fitted model: fit again without a share of the patients, and ask again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import stats

from causalfm.arguments import check_whole
from causalfm.cohort import Cohort, Factor
from causalfm.confidence import level_in_force
from causalfm.fieller import fieller_interval

FOLDS = 20


def deal(groups: Factor, strata: np.ndarray, n_folds: int, random_state: int) -> np.ndarray:
    """Deal whole patients to folds, those of a stratum in turn.

    Strata are what the design fixes: dealing classes in turn too would hide how the mix of classes varies.

    Parameters
    ----------
    groups
        The independent unit of each row.
    strata
        ``(n,)`` codes; a patient counts where its first row does.
    n_folds
        At least 2; at most one per patient is used.
    random_state
        Seed.

    Returns
    -------
    numpy.ndarray
        ``(n,)`` fold of each row.

    Raises
    ------
    DataError
        No number of folds.
    """
    check_whole(n_folds, "n_folds", 2, why="the model is fitted again without each")
    first = np.zeros(groups.n_levels, dtype=np.int64)
    first[groups.codes[::-1]] = np.arange(len(groups))[::-1]
    order = np.random.default_rng(random_state).permutation(groups.n_levels)
    order = order[np.argsort(strata[first[order]], kind="stable")]
    fold = np.empty(groups.n_levels, dtype=np.int64)
    fold[order] = np.arange(groups.n_levels) % min(n_folds, groups.n_levels)
    return np.asarray(fold[groups.codes])


def without_each(cohort: Cohort, folds: np.ndarray, ask: Callable[[Cohort], np.ndarray]) -> np.ndarray:
    """Return the deviations ``(m, ...)`` of the answer without each fold, whose squares add up to a variance."""
    answers = np.stack([ask(cohort[folds != f]) for f in range(int(folds.max()) + 1)])
    m = len(answers)
    return np.asarray((answers - answers.mean(axis=0)) * np.sqrt((m - 1) / m))


def quantile(n_folds: int, smallest: float, level: float | None = None) -> float:
    """Quantile of t for an interval from folds, ``smallest`` patients in the smaller of the levels compared."""
    return float(stats.t.ppf(0.5 + level_in_force(level) / 2.0, max(min(n_folds, smallest) - 1.0, 1.0)))


def refitted_ratio(
    top: float, bottom: float, tops: np.ndarray, bottoms: np.ndarray, t: float
) -> tuple[float, float, float]:
    """Quotient with Fieller's interval; nan where the bottom is not told from 0.

    Parameters
    ----------
    top, bottom
        The two numbers.
    tops, bottoms
        ``(m,)`` their deviations, see :func:`without_each`.
    t
        Quantile.
    """
    covariance = float(tops @ tops), float(tops @ bottoms), float(bottoms @ bottoms)
    return fieller_interval(top, bottom, covariance, t)
