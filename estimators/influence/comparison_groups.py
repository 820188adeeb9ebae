"""The groups that an estimator compares: outcomes, levels and conditioning columns of a comparable table."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from causalfm.dose_units import DoseUnits
from causalfm.estimators.influence.bundles import MOST, bundle_groups
from causalfm.positivity import MIN_GROUPS, CompleteTable, complete_table, inside
from causalfm.strata import table
from causalfm.units import Units


@dataclass(frozen=True, eq=False)
class Compared:
    """Groups of one comparison, one row each; they count equally.

    Attributes
    ----------
    Z
        ``(G, d)`` mean outcomes.
    factor, levels
        What is compared: name, and names of the ``L`` levels.
    level, stratum
        ``(G,)`` codes from 0 without gaps.
    W
        ``(G, p)`` conditioning columns: one indicator per stratum (none if there is only one), splines of the
        continuous columns in units of their standard deviation.
    groups
        ``(G,)`` positions in the cohort's group codes.
    bundle, n_bundles
        See :mod:`causalfm.estimators.influence.bundles`.
    unit
        Name of the independent unit.
    """

    Z: np.ndarray
    factor: str
    levels: tuple[str, ...]
    level: np.ndarray
    stratum: np.ndarray
    W: np.ndarray
    groups: np.ndarray
    bundle: np.ndarray
    n_bundles: int
    unit: str

    def __len__(self) -> int:
        return len(self.level)

    @property
    def shares(self) -> np.ndarray:
        """``(L,)`` share of the groups at each level."""
        return np.bincount(self.level, minlength=len(self.levels)) / len(self)

    @property
    def features(self) -> np.ndarray:
        """``(G, 1 + p)`` a column of ones and ``W``."""
        return np.concatenate([np.ones((len(self), 1)), self.W], axis=1)

    @property
    def continuous(self) -> bool:
        """Whether ``W`` holds more than indicators of the strata."""
        n_strata = int(self.stratum.max()) + 1
        return bool(self.W.shape[1] > (n_strata if n_strata > 1 else 0))

    @property
    def cell(self) -> np.ndarray:
        """``(G,)`` cells for degrees of freedom: levels, or one cell where bundles were made for other levels."""
        return self.level if len(np.unique(self.bundle)) == len(self) or self._bundled_by_level else 0 * self.level

    @property
    def _bundled_by_level(self) -> bool:
        lows, highs = np.full(self.n_bundles, len(self.levels)), np.full(self.n_bundles, -1)
        np.minimum.at(lows, self.bundle, self.level)
        np.maximum.at(highs, self.bundle, self.level)
        return bool((lows >= highs).all())


def compared_groups(units: Units, kept: CompleteTable, *, most: int = MOST) -> Compared:
    """Lay out the patients of a complete table for the estimators.

    Parameters
    ----------
    units
        All patients.
    kept
        The table.
    most
        Bundles of groups, at most about.
    """
    rows = np.flatnonzero(inside(units, kept))
    level = np.searchsorted(kept.levels, units.level.codes[rows])
    stratum = np.unique(units.stratum[rows], return_inverse=True)[1].reshape(-1)
    bundle = bundle_groups(level, most=most)
    return Compared(
        Z=units.Z if len(rows) == len(units) else units.Z[rows],
        factor=units.level.name,
        levels=tuple(units.level.levels[i] for i in kept.levels),
        level=level,
        stratum=stratum,
        W=design_columns(stratum, units.covariates[rows]),
        groups=rows,
        bundle=bundle,
        n_bundles=int(bundle.max()) + 1,
        unit=units.unit,
    )


def compared_doses(units: DoseUnits, *, most: int = MOST) -> tuple[Compared, np.ndarray]:
    """Lay out the patients of a question about a continuous factor: one level, and the dose in standard deviations."""
    kept = CompleteTable((0,), units.kept, int(units.inside.sum()))
    compared = compared_groups(units, kept, most=most)
    dose = units.dose[compared.groups]
    return compared, np.asarray((dose - dose.mean()) / units.spread)


def design_columns(stratum: np.ndarray, covariates: np.ndarray) -> np.ndarray:
    """Conditioning columns ``(G, p)`` as nuisance models see them.

    Every stratum has its indicator, none is left out: a penalty then treats all alike, whatever their order.
    """
    n_strata = int(stratum.max()) + 1
    onehot = np.eye(n_strata)[stratum] if n_strata > 1 else np.zeros((len(stratum), 0))
    spread = covariates.std(axis=0) if covariates.size else np.ones(covariates.shape[1])
    varying = spread > 1e-12
    smooth = (covariates - covariates.mean(axis=0))[:, varying] / spread[varying]
    return np.concatenate([onehot, smooth], axis=1)


def biology_groups(compared: Compared, units: Units, biology: str, minimum: int = MIN_GROUPS) -> Compared | None:
    """Swap roles: compare the classes of biology given the factor and the other columns, on the same patients.

    Returns
    -------
    Compared or None
        None if biology is not among the categorical conditioning columns, or no two classes share a cell.
    """
    names = [f.name for f in units.conditioning]
    if biology not in names:
        return None
    at = names.index(biology)
    columns = units.stratum_columns[units.stratum[compared.groups]]
    others = np.concatenate([compared.level[:, None], np.delete(columns, at, axis=1)], axis=1)
    codes = np.unique(others, axis=0, return_inverse=True)[1].reshape(-1)
    factor = units.conditioning[at]
    best = complete_table(table(codes, columns[:, at], (int(codes.max()) + 1, factor.n_levels)), minimum)
    if best is None:
        return None
    rows = np.flatnonzero(np.isin(codes, best.strata) & np.isin(columns[:, at], best.levels))
    stratum = np.unique(codes[rows], return_inverse=True)[1].reshape(-1)
    return dataclasses.replace(
        compared,
        Z=compared.Z if len(rows) == len(compared) else compared.Z[rows],
        factor=biology,
        levels=tuple(factor.levels[i] for i in best.levels),
        level=np.searchsorted(best.levels, columns[rows, at]),
        stratum=stratum,
        W=design_columns(stratum, units.covariates[compared.groups[rows]]),
        groups=compared.groups[rows],
        bundle=compared.bundle[rows],
    )
