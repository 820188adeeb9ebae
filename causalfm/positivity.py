"""Positivity: whether levels of a factor can be compared at all, in the strata that the question conditions on."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.arguments import check_whole
from causalfm.cohort import Cohort
from causalfm.dropped_cells import cells_left_out, lines_left_out, listed
from causalfm.errors import DataError
from causalfm.matching import told_apart
from causalfm.pairing import MAX_SUBSETS, Pairing, pair_rows
from causalfm.results import Result, Verdict
from causalfm.strata import Strata, stratify, varies_within

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph

MIN_GROUPS = 3  # least patients per cell: an unbiased tr(S^2) needs two degrees of freedom


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
    paired
        True if levels are compared within units that were seen at several of them.
    continuous
        True if the factor has values in place of levels: see :func:`causalfm.dosing.comparable_doses`.
    cells
        One row per cell that holds units and takes no part: its stratum by column, its level, its units, the reason.
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
    paired: bool = False
    continuous: bool = False
    cells: tuple[Mapping[str, Any], ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """Return the one row of this check."""
        return [
            {"factor": self.factor, "given": ", ".join(self.given), "verdict": self.verdict, "sentence": self.sentence}
        ]

    @property
    def target(self) -> str:
        """Population that a comparison over this table holds for."""
        how = listed(self.strata, "; ")
        return f"{listed(self.levels)}, {how if self.paired else f'standardised over {how}'}"


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
        patients = int(counts[np.ix_(strata, np.asarray(levels))].sum())
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
        With verdict, what is left out and why. Continuous conditioning columns are adjusted for by regression; they
        only need a range common to all compared levels. If most patients were seen at several levels, levels are
        compared within patients, every pair of them in at least ``minimum`` patients.

    Raises
    ------
    DataError
        ``minimum`` below 3, or a factor that varies within a few patients only.
    """
    check_whole(minimum, "minimum", MIN_GROUPS, why="independent units that the variance of a cell needs")
    nested = next((p for p in nesting_parents(cohort, graph, of) if p in given), None)
    pairing = pair_rows(cohort, graph, of, given)
    if pairing is not None:
        return _paired_overlap(pairing, tuple(given), minimum, nested)
    strata = stratify(cohort, graph, of, given)
    name = strata.level.name
    best = complete_table(strata.counts(), minimum)
    if best is None:
        if nested:
            why = f"every level of {nested} has a single level of {name}: {name} cannot be told from {nested}"
        else:
            where = ", ".join(given) or "the cohort"
            why = f"no stratum of {where} holds two levels of {name} with {minimum} {strata.unit}s each"
        sentence, cells = _capital(why) + ".", cells_left_out(strata, (), (), minimum)
        return Overlap(
            name, tuple(given), "cannot tell", sentence, False, (), (), (why,), None, minimum, nested, cells=cells
        )
    if apart := told_apart(cohort, strata, inside(strata, best)):
        why = f"the ranges of {' and '.join(strata.continuous)} at {apart} have nothing in common"
        sentence = f"{_capital(why)}: a comparison would rest on extrapolation alone."
        return Overlap(name, tuple(given), "cannot tell", sentence, False, (), (), (why,), None, minimum, nested)
    levels = tuple(strata.level.levels[i] for i in best.levels)
    names = tuple(strata.stratum_name(w) for w in best.strata)
    out = lines_left_out(strata, best.levels, best.strata, minimum)
    sentence = _capital(
        f"{name} is compared between {listed(levels)} over {listed(names, '; ')} ({best.patients} {strata.unit}s)."
    )
    if out:
        sentence = f"Cannot be compared between levels of {name}: {listed(out, '; ')}. {sentence}"
    verdict: Verdict = "cannot tell" if out else "pass"
    cells = cells_left_out(strata, best.levels, best.strata, minimum)
    return Overlap(
        name, tuple(given), verdict, sentence, True, levels, names, tuple(out), best, minimum, nested, cells=cells
    )


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
    return first_comparable(overlap(cohort, graph, of, given, minimum) for given in valid)


def first_comparable(candidates: Iterable[Overlap]) -> Overlap:
    """Return the first overlap that leaves something to compare, else the first; later ones are not computed."""
    found = None
    for candidate in candidates:
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
    ancestors = graph.technical_ancestors(of[0])
    parents = [cohort.factor(p) for p in ancestors if graph.kind(p, cohort) != "continuous"]
    return [p.name for p in parents if not varies_within(child.codes, p).any()]


def inside(strata: Strata, kept: CompleteTable) -> np.ndarray:
    """Return a mask ``(G,)`` of the patients in a complete table."""
    return np.isin(strata.level.codes, kept.levels) & np.isin(strata.stratum, kept.strata)


def _paired_overlap(pairing: Pairing, given: tuple[str, ...], minimum: int, nested: str | None) -> Overlap:
    """Which levels can be compared within units, each its own control."""
    factor, unit = pairing.level, pairing.groups.name
    levels = pairing.compared(minimum)
    same = f" and {', '.join(pairing.columns)}" if pairing.columns else ""
    if not levels:
        why = f"no two levels of {factor.name} are seen together in {minimum} {unit}s, within the same {unit}{same}"
        sentence = _capital(why) + "."
        return Overlap(
            factor.name, given, "cannot tell", sentence, False, (), (), (why,), None, minimum, nested, paired=True
        )
    used = int(pairing.informative(levels).sum())
    names = tuple(factor.levels[i] for i in levels)
    where = f"within {used} {unit}s"
    sentence = f"{_capital(factor.name)} is compared between {listed(names)} {where}, each its own control."
    out = tuple(
        f"{factor.name}={level}: not seen beside every compared level in {minimum} {unit}s"
        for i, level in enumerate(factor.levels)
        if i not in levels
    )
    held = np.diag(pairing.together())
    cells = tuple(
        {
            factor.name: level,
            f"{unit}s": int(held[i]),
            "reason": f"not beside every compared level in {minimum} {unit}s",
        }
        for i, level in enumerate(factor.levels)
        if i not in levels
    )
    if out:
        sentence = f"Cannot be compared between levels of {factor.name}: {listed(out, '; ')}. {sentence}"
    if idle := pairing.groups.n_levels - used:
        sentence += f" The other {idle} {unit}s show no two of these levels within the same {unit}{same}: no part."
    verdict: Verdict = "cannot tell" if out else "pass"
    table = CompleteTable(levels, (), used)
    found = factor.name, given, verdict, sentence, True, names, (where,), out, table, minimum, nested
    return Overlap(*found, paired=True, cells=cells)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
