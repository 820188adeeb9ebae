"""Folds of groups: nuisances are fitted on other groups than those they are used for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from causalfm.arguments import check_whole
from causalfm.cohort import Factor
from causalfm.errors import DataError, positions
from causalfm.strata import varies_within

N_FOLDS = 5
LEAST_IN_TRAINING = 2  # groups of a level that its outcome model is fitted on

Folds = int | Sequence[int] | np.ndarray


def deal_folds(level: np.ndarray, stratum: np.ndarray, n_folds: int, random_state: int) -> np.ndarray:
    """Deal groups to folds in turn, level by level and within a level stratum by stratum.

    Parameters
    ----------
    level, stratum
        ``(G,)`` codes.
    n_folds
        Number of folds.
    random_state
        Seed of the order within a cell and of the fold that each level begins with.

    Returns
    -------
    numpy.ndarray
        ``(G,)`` fold of each group. The folds of a level differ by one group at most.
    """
    rng = np.random.default_rng(random_state)
    order = np.lexsort((rng.random(len(level)), stratum, level))
    folds = np.empty(len(level), dtype=np.int64)
    start = 0
    for code in np.unique(level):
        members = order[level[order] == code]
        folds[members] = (start + np.arange(len(members))) % n_folds
        start += len(members)  # go on where the last level ended: folds of equal size
    return folds


def read_folds(
    folds: Folds, groups: Factor, kept: np.ndarray, level: np.ndarray, stratum: np.ndarray, random_state: int
) -> np.ndarray:
    """Return the fold of each group compared: dealt anew, or as handed over.

    Parameters
    ----------
    folds
        Number of folds, or ``(n,)`` fold of each row; rows of a group share theirs.
    groups
        Group of each row.
    kept
        ``(G,)`` positions of the groups compared.
    level, stratum
        ``(G,)`` codes of these groups.
    random_state
        Seed of the deal.

    Returns
    -------
    numpy.ndarray
        ``(G,)`` codes from 0.

    Raises
    ------
    DataError
        Not a number of folds, folds missing or of another length, or a group in several folds.
    """
    if np.ndim(folds) == 0:
        check_whole(folds, "folds", 2, most=len(kept), why="nuisances are fitted on the other folds")
        return deal_folds(level, stratum, int(folds), random_state)  # type: ignore[arg-type]
    if missing := np.flatnonzero(pd.isna(np.asarray(folds)).reshape(-1)).tolist():
        raise DataError(f"folds has no value in {positions(missing)}: give one fold per row.")
    codes = np.unique(np.asarray(folds), return_inverse=True)[1].reshape(-1)
    if len(codes) != len(groups):
        raise DataError(f"folds has {len(codes)} entries and the cohort {len(groups)} rows: give one fold per row.")
    if split := int(varies_within(codes, groups).sum()):
        raise DataError(
            f"folds divides {split} of {groups.n_levels} {groups.name}s: keep all rows of a {groups.name} in one fold."
        )
    first = np.unique(groups.codes, return_index=True)[1]
    return np.asarray(np.unique(codes[first][kept], return_inverse=True)[1].reshape(-1))


def check_training(fold: np.ndarray, level: np.ndarray, names: Sequence[str], factor: str, unit: str) -> None:
    """Refuse folds that leave a level without groups to learn from.

    Raises
    ------
    DataError
        Naming the level, its groups and the ways out.
    """
    n_folds = int(fold.max()) + 1
    if n_folds < 2:
        raise DataError("all groups are in one fold: give at least two folds.")
    for code, name in enumerate(names):
        own = fold[level == code]
        if len(own) - np.bincount(own, minlength=n_folds).max() < LEAST_IN_TRAINING:
            raise DataError(
                f"{factor}={name} has {len(own)} {unit}s, of which a fold leaves fewer than {LEAST_IN_TRAINING} to "
                "learn from: pool rare levels with pool_rare=, choose other folds, or estimator='standardisation'."
            )
