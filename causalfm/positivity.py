"""Positivity: can the levels of a factor be compared at all, within the strata that the question conditions on?"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.cohort import Cohort, Factor
from causalfm.errors import DataError
from causalfm.results import Result, Verdict

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph

MIN_GROUPS = 3  # least patients per cell: an unbiased tr(S^2) needs two degrees of freedom
MAX_SUBSETS = 4096


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


@dataclass(frozen=True)
class CompleteTable:
    """Levels and strata in which every cell holds enough patients.

    Attributes
    ----------
    levels, strata
        Positions of the kept levels and strata, ascending.
    patients
        Patients in the table.
    """

    levels: tuple[int, ...]
    strata: tuple[int, ...]
    patients: int


@dataclass(frozen=True)
class Overlap(Result):
    """Which part of a design can be compared.

    Attributes
    ----------
    factor, given
        Tested factor and conditioning set.
    verdict
        ``"pass"``: all levels can be compared in all strata; ``"cannot tell"``: none or only a part.
    sentence
        The same in words, naming what is left out.
    comparable
        True if some levels can be compared.
    levels, strata
        Names of the kept levels and strata.
    left_out
        One entry per level or stratum left out, with its reason.
    table
        The complete table, positions; None if nothing can be compared.
    minimum
        Least patients per cell.
    nested_in
        Technical parent that determines the factor, if there is one.
    """

    factor: str
    given: tuple[str, ...]
    verdict: Verdict
    sentence: str
    comparable: bool
    levels: tuple[str, ...]
    strata: tuple[str, ...]
    left_out: tuple[str, ...]
    table: CompleteTable | None
    minimum: int
    nested_in: str | None = None

    def rows(self) -> list[dict[str, Any]]:
        """Return the one row of this check."""
        return [
            {"factor": self.factor, "given": ", ".join(self.given), "verdict": self.verdict, "sentence": self.sentence}
        ]

    @property
    def target(self) -> str:
        """Population that a comparison over this table holds for."""
        return f"{', '.join(self.levels)}, standardised over {'; '.join(self.strata)}"


def table(a: np.ndarray, b: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Count pairs of codes: a cross table of ``shape``."""
    return np.bincount(a * shape[1] + b, minlength=shape[0] * shape[1]).reshape(shape)


def joint_factor(cohort: Cohort, columns: Sequence[str]) -> Factor:
    """Cross one or more columns into one factor ``"a + b"``, keeping the combinations that occur."""
    factors = [cohort.factor(name) for name in columns]
    if len(factors) == 1:
        return factors[0]
    rows, codes = np.unique(np.stack([f.codes for f in factors], axis=1), axis=0, return_inverse=True)
    levels = (" + ".join(f.levels[c] for f, c in zip(factors, row, strict=True)) for row in rows)
    return Factor(" + ".join(columns), codes.reshape(-1), tuple(levels))


def varies_within(codes: np.ndarray, groups: Factor) -> np.ndarray:
    """Return a mask ``(G,)`` of the groups in which ``codes`` takes more than one value."""
    low = np.full(groups.n_levels, np.iinfo(np.int64).max)
    high = np.full(groups.n_levels, -1)
    np.minimum.at(low, groups.codes, codes)
    np.maximum.at(high, groups.codes, codes)
    return np.asarray(low < high)


def stratify(cohort: Cohort, graph: CausalGraph, of: Sequence[str], given: Sequence[str]) -> Strata:
    """Lay out the patients by level of the factor and by stratum.

    Parameters
    ----------
    cohort, graph
        Data and declared graph.
    of
        Tested factor; several are crossed into one.
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
    factor = joint_factor(cohort, of)
    _refuse_varying(factor, groups)
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
        _refuse_varying(column, groups)
        strata.append(Factor(name, column.codes[first], column.levels))
    stratum, columns = _cross(strata, groups.n_levels)
    level = Factor(factor.name, factor.codes[first], factor.levels)
    return Strata(level, stratum, columns, tuple(strata), tuple(continuous), within, groups)


def complete_table(counts: np.ndarray, minimum: int = MIN_GROUPS) -> CompleteTable | None:
    """Find the complete sub-table that holds the most patients, with as many levels as possible at equal size.

    Parameters
    ----------
    counts
        ``(W, L)`` patients per stratum and level.
    minimum
        Least patients per cell.

    Returns
    -------
    CompleteTable or None
        None if no stratum holds two levels with enough patients.

    Notes
    -----
    The strata of the best table are all those in which its levels suffice. With up to 12 levels every set of levels is
    tried; with more, those of the strata themselves and their pairwise intersections.
    """
    usable = counts >= minimum
    n_levels = counts.shape[1]
    if 2**n_levels <= MAX_SUBSETS:
        sets = [s for r in range(2, n_levels + 1) for s in itertools.combinations(range(n_levels), r)]
    else:
        rows = {tuple(np.flatnonzero(row).tolist()) for row in usable}
        pairs = {tuple(sorted(set(a) & set(b))) for a, b in itertools.combinations(sorted(rows), 2)}
        sets = sorted(s for s in rows | pairs if len(s) >= 2)
    best: CompleteTable | None = None
    for levels in sets:
        strata = np.flatnonzero(usable[:, levels].all(axis=1))
        patients = int(counts[np.ix_(strata, levels)].sum())
        if len(strata) and (best is None or (patients, len(levels)) > (best.patients, len(best.levels))):
            best = CompleteTable(tuple(levels), tuple(strata.tolist()), patients)
    return best


def overlap(
    cohort: Cohort, graph: CausalGraph, of: Sequence[str], given: Sequence[str], minimum: int = MIN_GROUPS
) -> Overlap:
    """Say which levels can be compared in which strata (statistics rules 1 and 6).

    Parameters
    ----------
    cohort, graph
        Data and declared graph.
    of, given
        Tested factor (several are crossed) and conditioning set.
    minimum
        Least patients per cell, at least 3.

    Returns
    -------
    Overlap
        With verdict, what is left out and why.

    Raises
    ------
    DataError
        ``minimum`` below 3, or a factor that varies within patients.
    """
    if minimum < MIN_GROUPS:
        raise DataError(f"minimum={minimum}: a cell needs at least {MIN_GROUPS} independent units for its variance.")
    strata = stratify(cohort, graph, of, given)
    counts, name = strata.counts(), strata.level.name
    nested = next((p for p in nesting_parents(cohort, graph, of) if p in given), None)
    best = complete_table(counts, minimum)
    if best is None:
        why = (
            f"every level of {nested} has a single level of {name}: {name} cannot be told from {nested}"
            if nested
            else f"no stratum of {', '.join(given) or 'the cohort'} holds two levels of {name} with {minimum} {strata.unit}s each"
        )
        return Overlap(
            name, tuple(given), "cannot tell", _capital(why) + ".", False, (), (), (why,), None, minimum, nested
        )
    levels = tuple(strata.level.levels[i] for i in best.levels)
    names = tuple(strata.stratum_name(w) for w in best.strata)
    out = [
        f"{name}={strata.level.levels[i]}: too few {strata.unit}s beside the other levels"
        for i in range(strata.level.n_levels)
        if i not in best.levels
    ]
    for w in range(strata.n_strata):
        if w not in best.strata:
            held = [f"{strata.level.levels[i]} {counts[w, i]}" for i in range(strata.level.n_levels) if counts[w, i]]
            out.append(
                f"{strata.stratum_name(w)}: {strata.unit}s {', '.join(held)}; not {minimum} at every compared level"
            )
    verdict: Verdict = "cannot tell" if out else "pass"
    rest = f"{name} is compared between {', '.join(levels)} over {'; '.join(names)} ({best.patients} {strata.unit}s)."
    sentence = (
        f"Cannot be compared between levels of {name}: {'; '.join(out)}. {_capital(rest)}" if out else _capital(rest)
    )
    return Overlap(name, tuple(given), verdict, sentence, True, levels, names, tuple(out), best, minimum, nested)


def comparable_set(
    cohort: Cohort, graph: CausalGraph, of: Sequence[str], valid: Sequence[tuple[str, ...]], minimum: int = MIN_GROUPS
) -> Overlap:
    """Return the overlap of the first valid conditioning set that leaves something to compare, else of the first.

    Parameters
    ----------
    cohort, graph, of, minimum
        See :func:`overlap`.
    valid
        Valid conditioning sets in order of preference.

    Returns
    -------
    Overlap
        Its ``given`` is the chosen set.
    """
    found = None
    for given in valid:
        candidate = overlap(cohort, graph, of, given, minimum)
        if candidate.comparable:
            return candidate
        found = found or candidate
    if found is None:
        raise DataError("no conditioning set to choose from")
    return found


def nesting_parents(cohort: Cohort, graph: CausalGraph, of: Sequence[str]) -> list[str]:
    """Technical ancestors of the factor within each level of which the factor is constant."""
    if len(of) != 1:
        return []
    child = cohort.factor(of[0])
    parents = [cohort.factor(p) for p in graph.technical_ancestors(of[0])]
    return [p.name for p in parents if not varies_within(child.codes, p).any()]


def cross_table(cohort: Cohort, graph: CausalGraph, factor: str) -> Mapping[str, Any]:
    """Cross table biology x factor in patients and rows, with its strength of association.

    Parameters
    ----------
    cohort, graph
        Data and declared graph.
    factor
        Technical column.

    Returns
    -------
    Mapping
        ``biology``, ``levels``, ``groups`` and ``rows`` (B lists of L counts), ``unit``, ``cramers_v``,
        ``cramers_v_corrected`` (Bergsma, J. Korean Statist. Soc. 42, 2013), ``empty_cells``, ``effective_units`` (Kish's
        effective sample size of the weights that make biology independent of the factor).
    """
    biology, technical = cohort.factor(graph.biology), cohort.factor(factor)
    groups = cohort.factor(graph.group, private=True)
    shape = (biology.n_levels, technical.n_levels)
    rows = table(biology.codes, technical.codes, shape)
    cells = np.unique(np.stack([biology.codes, technical.codes, groups.codes]), axis=1)
    units = table(cells[0], cells[1], shape)
    v, corrected = cramers_v(units)
    return {
        "biology": list(biology.levels),
        "levels": list(technical.levels),
        "groups": units.tolist(),
        "rows": rows.tolist(),
        "unit": graph.group,
        "cramers_v": v,
        "cramers_v_corrected": corrected,
        "empty_cells": int((units == 0).sum()),
        "effective_units": effective_units(units),
    }


def cramers_v(counts: np.ndarray) -> tuple[float, float]:
    """Cramer's V of a table and Bergsma's bias-corrected version; ``nan`` if a margin has a single level."""
    counts = counts[counts.any(axis=1)][:, counts.any(axis=0)].astype(float)
    r, c = counts.shape
    n = counts.sum()
    if min(r, c) < 2:
        return float("nan"), float("nan")
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / n
    phi2 = float(((counts - expected) ** 2 / expected).sum() / n)
    r_t, c_t = r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)
    corrected = max(0.0, phi2 - (r - 1) * (c - 1) / (n - 1))
    return float(np.sqrt(phi2 / (min(r, c) - 1))), float(np.sqrt(corrected / (min(r_t, c_t) - 1)))


def effective_units(counts: np.ndarray) -> float:
    """Kish's effective size of the weights ``p(b) p(s) / p(b, s)`` that make rows and columns independent."""
    used = counts > 0
    weights = np.outer(counts.sum(axis=1), counts.sum(axis=0))[used] / counts[used]
    return float((counts[used] * weights).sum() ** 2 / (counts[used] * weights**2).sum())


def _refuse_varying(column: Factor, groups: Factor) -> None:
    count = int(varies_within(column.codes, groups).sum())
    if count:
        raise DataError(
            f"column {column.name!r} takes several values within {count} of {groups.n_levels} {groups.name}s: the "
            f"{groups.name} is the independent unit here. Correct the table, or keep one level per {groups.name} "
            "(within-patient re-scans need a paired analysis, which this version does not have)."
        )


def _cross(strata: list[Factor], n: int) -> tuple[np.ndarray, np.ndarray]:
    if not strata:
        return np.zeros(n, dtype=np.int64), np.zeros((1, 0), dtype=np.int64)
    columns, codes = np.unique(np.stack([f.codes for f in strata], axis=1), axis=0, return_inverse=True)
    return codes.reshape(-1), columns


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
