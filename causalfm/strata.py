"""Factors and strata: each independent unit's level of a factor, in the strata that a question conditions on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from causalfm.arguments import check_type
from causalfm.arrows import names
from causalfm.cohort import Cohort, Factor
from causalfm.errors import DataError, positions

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph


FEW = (
    "means of {unit}s at different levels are compared, so that each can be at one level only. Leave those {unit}s "
    "out, keep one level of each, or keep those {unit}s alone: each is then its own control"
)


@dataclass(frozen=True, eq=False)
class Strata:
    """The design of one question: each patient's level of the tested factor and stratum.

    Attributes
    ----------
    level
        The tested factor, one code per patient.
    stratum
        ``(G,)`` combination of the categorical conditioning columns; one stratum if there are none.
    stratum_columns
        ``(W, p)`` level codes of the ``p`` conditioning factors in each stratum.
    conditioning
        The ``p`` categorical conditioning factors, one code per patient.
    continuous
        Names of the continuous conditioning columns: they are regressed out and form no strata.
    within
        The biology factor, row by row, if it varies within patients (it then forms no strata), else None.
    groups
        The independent unit, row by row.
    """

    level: Factor
    stratum: np.ndarray
    stratum_columns: np.ndarray
    conditioning: tuple[Factor, ...]
    continuous: tuple[str, ...]
    within: Factor | None
    groups: Factor

    @property
    def unit(self) -> str:
        """Name of the independent unit."""
        return self.groups.name

    @property
    def n_strata(self) -> int:
        """Number of strata."""
        return len(self.stratum_columns)

    def counts(self) -> np.ndarray:
        """Patients per stratum and level, ``(W, L)``."""
        return table(self.stratum, self.level.codes, (self.n_strata, self.level.n_levels))

    def stratum_name(self, w: int) -> str:
        """Levels of stratum ``w`` in words, for instance ``"tumour=LUAD"``."""
        pairs = zip(self.conditioning, self.stratum_columns[w], strict=True)
        return ", ".join(f"{factor.name}={factor.levels[code]}" for factor, code in pairs) or "all"


def table(a: np.ndarray, b: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Count pairs of codes: a cross table of ``shape``."""
    return np.bincount(a * shape[1] + b, minlength=shape[0] * shape[1]).reshape(shape)


def groups_per_level(codes: np.ndarray, groups: np.ndarray, n_levels: int | None = None) -> np.ndarray:
    """Count the groups that hold each level, ``(n_levels,)``."""
    wide = int(groups.max()) + 1
    pairs = np.unique(codes * wide + groups)
    return np.bincount(pairs // wide, minlength=int(codes.max()) + 1 if n_levels is None else n_levels)


def rank_within(codes: np.ndarray) -> np.ndarray:
    """How many earlier rows have the same code ``(n,)``."""
    order = np.argsort(codes, kind="stable")
    counts = np.bincount(codes)
    out = np.empty(len(codes), dtype=np.int64)
    out[order] = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
    return out


def joint_factor(cohort: Cohort, columns: str | Sequence[str]) -> Factor:
    """Cross one or more columns into one factor ``"a + b"``, keeping the combinations that occur."""
    factors = [cohort.factor(name) for name in names(columns)]
    if not factors:
        raise DataError("no column is named: give at least one.")
    if len(factors) == 1:
        return factors[0]
    rows, codes = np.unique(np.stack([f.codes for f in factors], axis=1), axis=0, return_inverse=True)
    levels = (" + ".join(f.levels[c] for f, c in zip(factors, row, strict=True)) for row in rows)
    return Factor(" + ".join(f.name for f in factors), codes.reshape(-1), tuple(levels))


def varies_within(codes: np.ndarray, groups: Factor) -> np.ndarray:
    """Return a mask ``(G,)`` of the groups in which ``codes`` takes more than one value."""
    low = np.full(groups.n_levels, np.iinfo(np.int64).max)
    high = np.full(groups.n_levels, -1)
    np.minimum.at(low, groups.codes, codes)
    np.maximum.at(high, groups.codes, codes)
    return np.asarray(low < high)


def is_paired(codes: np.ndarray, groups: Factor) -> bool:
    """Tell a paired design, most groups seen at several levels, from a few groups that moved or are misfiled."""
    return bool(varies_within(codes, groups).mean() > 0.5)


def stratify(cohort: Cohort, graph: CausalGraph, of: Sequence[str], given: Sequence[str]) -> Strata:
    """Lay out the patients by level of the factor and by stratum.

    Parameters
    ----------
    cohort, graph
        Data and declared graph.
    of
        Tested factor; several are crossed into one, none is one level for all.
    given
        Conditioning columns.

    Returns
    -------
    Strata
        One code per patient.

    Raises
    ------
    DataError
        The factor, or a conditioning column other than biology, varies within patients.
    """
    groups = cohort.factor(graph.group, private=True)
    factor = joint_factor(cohort, of) if names(of) else Factor("all", np.zeros(len(cohort), dtype=np.int64), ("all",))
    _refuse_varying(factor, groups, FEW)
    first = np.full(groups.n_levels, len(cohort))
    np.minimum.at(first, groups.codes, np.arange(len(cohort)))
    strata: list[Factor] = []
    continuous: list[str] = []
    within = None
    for name in given:
        if graph.kind(name, cohort) == "continuous":
            continuous.append(name)
            continue
        column = cohort.factor(name)
        if name == graph.biology and varies_within(column.codes, groups).any():
            within = column
            continue
        _refuse_varying(column, groups, f"it cannot be conditioned on. Keep one value per {groups.name}")
        strata.append(Factor(name, column.codes[first], column.levels))
    stratum, columns = _cross(strata, groups.n_levels)
    level = Factor(factor.name, factor.codes[first], factor.levels)
    return Strata(level, stratum, columns, tuple(strata), tuple(continuous), within, groups)


def _refuse_varying(column: Factor, groups: Factor, consequence: str) -> None:
    varies = varies_within(column.codes, groups)
    if varies.any():
        rows = np.unique(groups.codes, return_index=True)[1][varies]
        raise DataError(
            f"column {column.name!r} takes several values within {varies.sum()} of {groups.n_levels} {groups.name}s "
            f"({positions(sorted(rows.tolist()))}): {consequence.format(unit=groups.name)}, or correct the table."
        )


def _cross(strata: list[Factor], n: int) -> tuple[np.ndarray, np.ndarray]:
    if not strata:
        return np.zeros(n, dtype=np.int64), np.zeros((1, 0), dtype=np.int64)
    columns, codes = np.unique(np.stack([f.codes for f in strata], axis=1), axis=0, return_inverse=True)
    return codes.reshape(-1), columns


def confounder_of(graph: CausalGraph, name: str | None, what: str = "confounder") -> str:
    """Return the column asked about, by default the first technical factor; units would be named in results.

    Raises
    ------
    DataError
        The biology or a unit.
    """
    if name is None:
        return graph.technical[0]
    check_type(name, str, what, "name one technical column")
    if name in (graph.biology, *graph.groups, graph.specimen):
        raise DataError(
            f"{what}={name!r} is the biology or a unit of the graph: choose a technical column, such as "
            f"{graph.technical[0]!r}."
        )
    return name
