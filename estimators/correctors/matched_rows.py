"""What matching leaves to a corrector: patients as wholes, and doubly robust effects of levels on them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from causalfm.errors import DataError
from causalfm.estimators.correctors.inputs import Batch, coded
from causalfm.estimators.influence.aipw import aipw
from causalfm.estimators.influence.comparison_groups import Compared, design_columns
from causalfm.estimators.influence.crossfitting import N_FOLDS, deal_folds
from causalfm.estimators.influence.nuisances import Nuisances
from causalfm.moments import cell_sums


@dataclass(frozen=True, eq=False)
class Units:
    """Groups, or rows where there are none: ``level (G,)``, ``kinds (G, k)``, ``numbers (G, p)``, ``of (n,)`` rows."""

    level: np.ndarray
    kinds: np.ndarray
    numbers: np.ndarray
    of: np.ndarray

    @property
    def columns(self) -> np.ndarray:
        """``(G, q)`` numbers, and indicators of the categories."""
        each = [kind[:, None] == np.unique(kind) for kind in self.kinds.T]
        return np.concatenate([self.numbers, *each], axis=1).astype(np.float64)

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Means ``(G, k)`` of rows ``(n, k)``."""
        return cell_sums(values, self.of, len(self.level)).means()


def as_units(batch: Batch, estimator: str) -> Units:
    """Read the groups of rows as wholes.

    Raises
    ------
    DataError
        A factor or a categorical column that varies within groups.
    """
    n = len(batch)
    codes = np.arange(n) if batch.groups is None else coded(batch.groups, "groups", n, private=True)[0]
    first, group = np.unique(codes, return_index=True, return_inverse=True)[1:]
    level = batch.codes[first]
    for name, values in [("y", batch.codes), *((c.name, c.values) for c in batch.columns if c.levels is not None)]:
        if varying := len(np.unique(group[values != values[first][group]])):
            raise DataError(
                f"{name} varies within {varying} of {len(first)} groups, which estimator={estimator!r} takes as "
                "wholes: use estimator='regression'."
            )
    numbers = [column.values for column in batch.columns if column.levels is None]
    kinds = [column.values[first] for column in batch.columns if column.levels is not None]
    found = Units(
        level,
        np.stack(kinds, axis=1) if kinds else np.zeros((len(first), 0), dtype=int),
        np.zeros((len(first), 0)),
        group,
    )
    return dataclasses.replace(found, numbers=found.mean(np.stack(numbers, axis=1))) if numbers else found


def level_means(X: np.ndarray, batch: Batch, random_state: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean of all groups had they been at each level, doubly robust.

    Parameters
    ----------
    X
        ``(n, d)`` rows.
    batch
        Their levels, biology, covariates and groups; each level lies in the common support of the others.
    random_state
        Seed of the folds.

    Returns
    -------
    means : numpy.ndarray
        ``(L, d)``.
    effective : numpy.ndarray
        ``(L,)`` groups of equal weight whose mean would vary as much; at most those of the level.

    Raises
    ------
    DataError
        Too few groups of a level to learn from; a factor or a categorical column that varies within groups.
    """
    units = as_units(batch, "aipw")
    table = np.column_stack([np.zeros_like(units.level), units.kinds])
    stratum = np.unique(table, axis=0, return_inverse=True)[1].reshape(-1)
    W = design_columns(stratum, units.numbers)
    groups = np.arange(len(units.level))
    unit = "row" if batch.groups is None else "group"
    compared = Compared(
        units.mean(X), "factor", batch.levels, units.level, stratum, W, groups, groups, len(groups), unit
    )
    fold = deal_folds(units.level, stratum, N_FOLDS, random_state)
    try:
        found = aipw(compared, fold, Nuisances(), overwrite=True)[0]
    except DataError as error:
        raise DataError(str(error).rpartition(":")[0] + ": merge levels, or choose estimator='regression'.") from None
    effective = 1.0 / ((np.asarray(found.scale) / len(groups)) ** 2).sum(axis=0)
    return np.asarray(found.theta), np.minimum(effective, np.bincount(units.level))
