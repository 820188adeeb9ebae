"""The patients behind an estimate, and the estimator to run on them again after something was changed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from causalfm.cohort import Factor
from causalfm.covariances import cell_covariances
from causalfm.estimators.estimating import SATURATED, Settings, influence_of
from causalfm.estimators.influence.comparison_groups import compared_groups
from causalfm.estimators.refuting.placebo_tests import CellTest, cell_test
from causalfm.estimators.variance_shares import joint_norm
from causalfm.moments import centred
from causalfm.norms import SquaredNorm
from causalfm.positivity import CompleteTable, inside
from causalfm.standardisation import Design, build_design, standardised_means
from causalfm.standardisation import joint_norm as cell_norm
from causalfm.units import Units, helmert


@dataclass(frozen=True, eq=False)
class Refuted:
    """The patients of one comparison, every cell of levels and strata filled.

    Attributes
    ----------
    units
        The patients compared, codes without gaps.
    settings
        The estimator.
    norm
        Its joint mean squared distance between the levels.
    design
        The standardised cells, with residuals from cell means and common slopes.
    n_draws, random_state
        Draws per refuter and seed.
    """

    units: Units
    settings: Settings
    norm: SquaredNorm
    design: Design
    n_draws: int
    random_state: int

    @property
    def saturated(self) -> bool:
        """Whether all draws can be computed at once: the estimator is standardisation over the cells."""
        return self.settings.estimator == SATURATED

    @property
    def n_levels(self) -> int:
        """Levels compared."""
        return self.units.level.n_levels

    @property
    def cells(self) -> np.ndarray:
        """``(G,)`` cell of each patient: stratum times levels plus level."""
        return np.asarray(self.units.stratum * self.n_levels + self.units.level.codes)

    @property
    def adjusted(self) -> np.ndarray:
        """``(G, d)`` patients less what the covariates' common slopes carry."""
        design = self.design
        return np.asarray(design.Z - design.full_basis @ (design.basis.T @ design.Z))

    def answer(self, units: Units) -> SquaredNorm:
        """Run the estimator on changed patients."""
        return answer(units, self.settings)

    def cell_weights(self) -> np.ndarray:
        """``(J, C)`` weight of each patient of a cell in the contrasts whose squared length is the joint distance."""
        L, strata = self.n_levels, self.units.n_strata
        count = np.bincount(self.cells, minlength=L * strata).reshape(strata, L)
        share = count.sum(axis=1) / count.sum()
        weights = helmert(L)[:, None, :] * (share[:, None] / count)[None] * np.sqrt(2.0 / (L - 1))
        return np.asarray(weights.reshape(L - 1, strata * L))

    def exchangeable_test(self, Z: np.ndarray, strata: np.ndarray) -> CellTest:
        """Prepare the test of draws that move patients between the cells of a stratum.

        Parameters
        ----------
        Z
            ``(G, d)`` what is moved.
        strata
            ``(C,)`` code from 0 of the stratum of each cell, within which patients are exchanged.
        """
        codes = strata[self.cells]
        V, C = int(strata.max()) + 1, len(strata)
        product = cell_covariances(centred(Z, codes, V), codes, V).product[np.ix_(strata, strata)]
        count = np.bincount(self.cells, minlength=C).astype(float)
        return cell_test(self.cell_weights(), count, np.arange(C), product, count - 1.0)


def refuted(units: Units, kept: CompleteTable, settings: Settings, n_draws: int, random_state: int) -> Refuted:
    """Cut the patients to those compared and estimate once."""
    cut = compared_only(units, kept)
    table = whole_table(cut)
    return Refuted(cut, settings, answer(cut, settings), build_design(cut, table), n_draws, random_state)


def answer(units: Units, settings: Settings) -> SquaredNorm:
    """Joint mean squared distance between the levels of ``units``, all of whose cells are filled."""
    table = whole_table(units)
    if settings.estimator != SATURATED:
        return joint_norm(influence_of(compared_groups(units, table), units, settings)[0])
    design = build_design(units, table)
    return cell_norm(design, standardised_means(design.level, table.levels, design.stratum, table.strata))


def compared_only(units: Units, kept: CompleteTable) -> Units:
    """Return the patients of a complete table, with codes from 0 without gaps."""
    rows = np.flatnonzero(inside(units, kept))
    level = Factor(
        units.level.name,
        np.searchsorted(kept.levels, units.level.codes[rows]),
        tuple(units.level.levels[i] for i in kept.levels),
    )
    return dataclasses.replace(
        units,
        level=level,
        stratum=np.searchsorted(kept.strata, units.stratum[rows]),
        stratum_columns=units.stratum_columns[list(kept.strata)],
        conditioning=tuple(Factor(f.name, f.codes[rows], f.levels) for f in units.conditioning),
        Z=units.Z[rows],
        covariates=units.covariates[rows],
        contrasts=None,
        size=units.size[rows],
    )


def part_of(units: Units, rows: np.ndarray) -> Units:
    """Return some of the patients; every cell must keep some."""
    return dataclasses.replace(
        units,
        level=dataclasses.replace(units.level, codes=units.level.codes[rows]),
        stratum=units.stratum[rows],
        conditioning=tuple(dataclasses.replace(f, codes=f.codes[rows]) for f in units.conditioning),
        Z=units.Z[rows],
        covariates=units.covariates[rows],
        size=units.size[rows],
    )


def with_levels(units: Units, codes: np.ndarray) -> Units:
    """Return the patients at other levels."""
    return dataclasses.replace(units, level=dataclasses.replace(units.level, codes=codes))


def with_outcome(units: Units, Z: np.ndarray) -> Units:
    """Return the patients with another outcome ``(G, r)``."""
    return dataclasses.replace(units, Z=Z, contrasts=None)


def whole_table(units: Units) -> CompleteTable:
    """All levels and strata of patients whose cells are all filled."""
    return CompleteTable(tuple(range(units.level.n_levels)), tuple(range(units.n_strata)), len(units))


def rejects(norm: SquaredNorm) -> bool:
    """Whether no effect is rejected at 5 %: for one outcome and two levels, by the two-sided t test."""
    return norm.bound(0.95) > 0.0
