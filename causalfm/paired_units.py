"""Paired designs as units: contrasts between levels within patients, and the biology to measure them against."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.cohort import Cohort, Factor
from causalfm.dose_units import DoseUnits, contrast_doses
from causalfm.errors import DataError
from causalfm.factor_contrasts import Contrasts
from causalfm.norms import SquaredNorm
from causalfm.pairing import Pairing, pair_rows
from causalfm.positivity import MIN_GROUPS, CompleteTable
from causalfm.standardisation import biology_norm, build_design, contrast_levels
from causalfm.strata import table
from causalfm.units import Units, helmert, patient_units
from causalfm.within_units import Features, WithinUnits, within_units

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph


@dataclass(frozen=True, eq=False)
class PairedUnits:
    """Patients of a paired design.

    Attributes
    ----------
    level
        The tested factor, row by row.
    within
        The contrasts between its levels within patients.
    patients
        All patients as if there were no factor: means without the factor's estimated effects, strata and covariates of
        the conditioning columns that are constant within patients. The distance between classes is measured on them.
    biology
        Contrasts between classes within patients at one level; None if biology is constant within patients, or too few
        hold two classes.
    columns
        Columns that vary within patients and are held fixed when levels are compared.
    rows
        ``(G, L)`` rows of each patient at each level of the factor.
    """

    level: Factor
    within: WithinUnits
    patients: Units
    biology: WithinUnits | None
    columns: tuple[str, ...]
    rows: np.ndarray

    @property
    def unit(self) -> str:
        """Name of the independent unit."""
        return self.patients.unit

    @property
    def size(self) -> np.ndarray:
        """``(G,)`` rows of each patient at the compared levels."""
        return np.asarray(self.rows[:, list(self.within.levels)].sum(axis=1))

    def mapped(self, matrix: np.ndarray) -> PairedUnits:
        """Return the units after a linear map ``(d, r)`` of the embedding."""
        biology = self.biology and self.biology.mapped(matrix)
        return dataclasses.replace(
            self, within=self.within.mapped(matrix), patients=self.patients.mapped(matrix), biology=biology
        )

    def per_level(self) -> list[dict[str, Any]]:
        """Patients and their rows at each compared level, for reports."""
        out = []
        for level in self.within.levels:
            rows = self.rows[self.within.units, level]
            out.append(
                {
                    "level": self.level.levels[level],
                    f"{self.unit}s": int((rows > 0).sum()),
                    f"rows per {self.unit}": float(np.median(rows[rows > 0])),
                }
            )
        return out


@dataclass(frozen=True, eq=False)
class PairedContrasts(Contrasts):
    """Contrasts within patients.

    Attributes
    ----------
    within
        The patients that know something of the factor.
    """

    within: WithinUnits


def paired_units(
    cohort: Cohort,
    graph: CausalGraph,
    of: Sequence[str],
    given: Sequence[str],
    minimum: int = MIN_GROUPS,
    *,
    features: Features | None = None,
) -> PairedUnits:
    """Reduce a paired design to one set of contrasts per patient.

    Parameters
    ----------
    cohort, graph
        Data and declared graph.
    of, given
        Tested factor, at several levels in most patients, and conditioning columns.
    minimum
        Least patients that show a pair of levels.
    features
        Map of a block of rows to the features that are compared in place of the embeddings.

    Returns
    -------
    PairedUnits
        Patients with their contrasts.

    Raises
    ------
    DataError
        No paired design, or no two levels that enough patients show.

    Notes
    -----
    Assumption of the distance between classes: the factor acts on all classes alike.
    """
    pairing = pair_rows(cohort, graph, of, given)
    levels = pairing.compared(minimum) if pairing else ()
    if pairing is None or not levels:
        raise DataError(f"{' + '.join(of)} cannot be compared within {graph.group}s: see the overlap check.")
    within = within_units(cohort, pairing, levels, features)
    rows = table(pairing.groups.codes, pairing.level.codes, (pairing.groups.n_levels, pairing.level.n_levels))
    classes = _classes(cohort, graph, pairing) if graph.biology in pairing.columns else None
    held = classes.compared(minimum) if classes else ()
    biology = within_units(cohort, classes, held, features) if classes and held else None
    constant = [name for name in given if name not in pairing.columns]
    patients = _without_factor(cohort, graph, pairing, within, constant, features)
    return PairedUnits(pairing.level, within, patients, biology, pairing.columns, rows)


def contrast_units(units: Units | PairedUnits, biology: str, minimum: int = MIN_GROUPS) -> Contrasts:
    """Estimate all contrasts of a factor, between patients or within them, or the slope on a continuous one.

    Parameters
    ----------
    units
        Patients of the question.
    biology
        Name of the biology column.
    minimum
        Least patients per cell, or per pair of levels.

    Returns
    -------
    Contrasts
        Joint and pairwise squared distances, and the biology's.

    Raises
    ------
    DataError
        See :func:`causalfm.standardisation.contrast_levels` and :meth:`causalfm.within_units.WithinUnits.norm`.
    """
    if isinstance(units, DoseUnits):
        return contrast_doses(units, biology, minimum)
    if isinstance(units, Units):
        return contrast_levels(units, biology, minimum)
    within = units.within
    L = len(within.levels)
    norms, counts = {}, {}
    for i, j in itertools.combinations(range(L), 2):
        pair = within.levels[i], within.levels[j]
        norms[pair] = within.norm(np.eye(L)[i] - np.eye(L)[j])
        counts[pair] = int((within.A[:, i, j] != 0.0).sum())
    norm, why = _biology(units, biology, minimum)
    return PairedContrasts(
        levels=within.levels,
        joint=_joint(within),
        pairs=norms,
        biology=norm,
        no_biology=why,
        cells=None,
        groups=within.units,
        in_pair=counts,
        within=within,
    )


def _joint(within: WithinUnits) -> SquaredNorm:
    L = len(within.levels)
    return within.norm(helmert(L), scale=2.0 / (L - 1))


def _biology(units: PairedUnits, biology: str, minimum: int) -> tuple[SquaredNorm | None, str]:
    """Mean squared distance between classes: within patients at one level if they hold several, else between them."""
    if units.biology is not None:
        return _joint(units.biology), ""
    if biology in units.columns:
        return None, f"no {minimum} {units.unit}s hold rows of two classes at one level of {units.level.name}"
    patients = units.patients
    counts = patients.counts()[:, 0]
    strata = np.flatnonzero(counts >= minimum)
    if biology not in [f.name for f in patients.conditioning]:
        return None, f"{biology} is not among the conditioning columns"
    if not len(strata):
        return None, f"no stratum holds {minimum} {units.unit}s"
    try:
        design = build_design(patients, CompleteTable((0,), tuple(strata.tolist()), int(counts[strata].sum())))
    except DataError as error:  # the comparison within patients needs no covariates
        return None, str(error).rstrip(".")
    norm, _ = biology_norm(patients, design, biology, minimum)
    why = "" if norm else f"no two classes of {biology} have {minimum} {units.unit}s each in the same stratum"
    return norm, why


def _classes(cohort: Cohort, graph: CausalGraph, pairing: Pairing) -> Pairing:
    """Lay out the classes within patients, level by level of the factor."""
    others = [name for name in pairing.columns if name not in (graph.biology, graph.specimen)]
    columns = [cohort.factor(name).codes for name in others]
    block = np.unique(np.stack([pairing.groups.codes, pairing.level.codes, *columns]), axis=1, return_inverse=True)[1]
    return Pairing(cohort.factor(graph.biology), pairing.groups, block.reshape(-1), tuple(others))


def _without_factor(
    cohort: Cohort,
    graph: CausalGraph,
    pairing: Pairing,
    within: WithinUnits,
    given: Sequence[str],
    features: Features | None,
) -> Units:
    """Average the patients' rows at the compared levels and take off the levels' effects."""
    kept = np.isin(pairing.level.codes, within.levels)
    codes = pairing.level.codes
    if not kept.all():
        cohort, codes = cohort[kept], codes[kept]
    units = patient_units(cohort, graph, (), given, features=features)
    share = table(units.groups.codes, np.searchsorted(within.levels, codes), (len(units), len(within.levels)))
    Z = units.Z - (share / share.sum(axis=1, keepdims=True)) @ within.effects()
    return dataclasses.replace(units, Z=Z)
