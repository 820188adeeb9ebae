"""What matching leaves to a corrector: effects of levels on the matched rows, and where those rows lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from causalfm.errors import DataError
from causalfm.estimators.correctors.inputs import Batch, Column, Regressors, coded
from causalfm.estimators.influence.aipw import aipw
from causalfm.estimators.influence.comparison_groups import Compared, design_columns
from causalfm.estimators.influence.crossfitting import N_FOLDS, deal_folds
from causalfm.estimators.influence.nuisances import Nuisances

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SLACK = 1e-9  # of a range: rounding


def level_means(X: np.ndarray, batch: Batch, random_state: int) -> np.ndarray:
    """Mean of all groups had they been at each level, doubly robust: ``(L, d)``.

    Parameters
    ----------
    X
        ``(n, d)`` rows.
    batch
        Their levels, biology, covariates and groups; each level lies in the common support of the others.
    random_state
        Seed of the folds.

    Raises
    ------
    DataError
        Too few groups of a level to learn from; a factor or a categorical column that varies within groups.
    """
    n = len(batch)
    codes = np.arange(n) if batch.groups is None else coded(batch.groups, "groups", n, private=True)[0]
    first, group, size = np.unique(codes, return_index=True, return_inverse=True, return_counts=True)[1:]

    def mean(values: np.ndarray) -> np.ndarray:
        out = np.zeros((len(size), values.shape[1]))
        np.add.at(out, group, values)
        return np.asarray(out / size[:, None])

    level = batch.codes[first]
    for name, values in [("y", batch.codes), *((c.name, c.values) for c in batch.columns if c.levels is not None)]:
        if varying := len(np.unique(group[values != values[first][group]])):
            raise DataError(
                f"{name} varies within {varying} of {len(size)} groups, which estimator='aipw' takes as wholes: use "
                "estimator='regression'."
            )
    numbers = [column.values for column in batch.columns if column.levels is None]
    kinds = [column.values[first] for column in batch.columns if column.levels is not None]
    table = np.stack([np.zeros_like(level), *kinds], axis=1)
    stratum = np.unique(table, axis=0, return_inverse=True)[1].reshape(-1)
    W = design_columns(stratum, mean(np.stack(numbers, axis=1)) if numbers else np.zeros((len(size), 0)))
    groups = np.arange(len(size))
    unit = "row" if batch.groups is None else "group"
    Z = mean(X)
    compared = Compared(Z, "factor", batch.levels, level, stratum, W, groups, groups, len(size), unit)
    fold = deal_folds(level, stratum, N_FOLDS, random_state)
    try:
        return np.asarray(aipw(compared, fold, Nuisances(), overwrite=True)[0].theta)
    except DataError as error:
        raise DataError(str(error).rpartition(":")[0] + ": merge levels, or choose estimator='regression'.") from None


def region(batch: Batch, regressors: Regressors) -> dict[str, np.ndarray]:
    """Where rows lie: cells of the categorical columns ``(C, q)`` and the range of each number in each, ``(C, p)``."""
    kinds, numbers = _parts(batch.columns, regressors, len(batch))
    cells, cell = np.unique(kinds, axis=0, return_inverse=True)
    low = np.full((len(cells), numbers.shape[1]), np.inf)
    high = -low
    np.minimum.at(low, cell.reshape(-1), numbers)
    np.maximum.at(high, cell.reshape(-1), numbers)
    return {"cells": cells, "low": low, "high": high}


def within(columns: Sequence[Column], regressors: Regressors, n: int, parts: Mapping[str, np.ndarray]) -> np.ndarray:
    """Mask ``(n,)`` of the rows inside a region; a level of a column that was never seen is refused."""
    kinds, numbers = _parts(columns, regressors, n)
    inside = np.zeros(n, dtype=bool)
    for cell, low, high in zip(parts["cells"], parts["low"], parts["high"], strict=True):
        slack = SLACK * (1.0 + np.abs(low) + np.abs(high))
        fits = ((numbers >= low - slack) & (numbers <= high + slack)).all(axis=1)
        inside |= fits & (kinds == cell).all(axis=1)
    return inside


def _parts(columns: Sequence[Column], regressors: Regressors, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return indicators of the categorical columns, and numbers."""
    matrix = regressors.matrix(columns, n)[:, 1:]
    kinds = np.array(["=" in name for name in regressors.names[1:]], dtype=bool)
    return matrix[:, kinds], matrix[:, ~kinds]
