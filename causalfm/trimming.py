"""Trimming to common support: the patients that can be compared without extrapolation, and the account of the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from causalfm.arguments import sets_to_try
from causalfm.arrows import names
from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.graph_checks import check_inputs
from causalfm.matching import covariate_means, effective_sizes, propensities, vector_matching
from causalfm.positivity import MIN_GROUPS, CompleteTable, comparable_set, complete_table, inside
from causalfm.results import Result, Verdict
from causalfm.strata import Strata, stratify, table

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph

FEW = 0.05  # share of patients kept below which the sentence warns, as the published rule does


@dataclass(frozen=True)
class CommonSupport(Result):
    """Which patients can be compared, and what was dropped.

    Attributes
    ----------
    factor, given
        Compared factor and conditioning set.
    verdict
        ``"pass"``: every patient is inside; ``"cannot tell"``: what follows holds for a part, or for nobody.
    sentence
        The same in words.
    comparable
        False if nobody is left.
    kept, total
        Patients.
    cells
        One entry per level and stratum that holds patients: ``patients``, ``outside_cells`` (dropped with a cell,
        stratum or level that is not compared), ``outside_support`` (dropped for their covariates), ``kept``.
    effective_sizes
        Per compared level, the effective number of its patients once weighted to the common strata.
    unit
        The independent unit.
    rows_kept
        ``(n,)`` mask of the rows kept; not exported.
    """

    factor: str
    given: tuple[str, ...]
    verdict: Verdict
    sentence: str
    comparable: bool
    kept: int
    total: int
    cells: tuple[Mapping[str, Any], ...]
    effective_sizes: Mapping[str, float]
    unit: str
    rows_kept: np.ndarray = field(repr=False, compare=False)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per level and stratum."""
        return [dict(cell) for cell in self.cells]

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the mask."""
        return {k: v for k, v in super().to_dict().items() if k != "rows_kept"}

    def trim(self, cohort: Cohort) -> Cohort:
        """Return the rows inside the common support, with a record in ``info["trimmed"]``.

        Parameters
        ----------
        cohort
            The cohort this was made from, or one with the same rows: another encoder's embeddings.

        Raises
        ------
        DataError
            Nobody is left, or another number of rows.
        """
        if not self.comparable:
            raise DataError(f"nothing is left to compare: {self.sentence}")
        if len(cohort) != len(self.rows_kept):
            raise DataError(
                f"the cohort has {len(cohort)} rows; the common support was found on {len(self.rows_kept)}."
            )
        record = {"factor": self.factor, "given": list(self.given), "kept": self.kept, "of": self.total}
        part = cohort[self.rows_kept]
        return part.replace(info={**cohort.info, "trimmed": [*cohort.info.get("trimmed", []), record]})


def common_support(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    of: str | Sequence[str],
    given: Literal["auto"] | Sequence[str] = "auto",
    minimum: int = MIN_GROUPS,
) -> CommonSupport:
    """Find the patients that levels of a factor can be compared on without extrapolation.

    Parameters
    ----------
    cohort, graph
        Data and declared graph.
    of
        Factor; several are crossed.
    given
        Conditioning set; ``"auto"``: the graph's, as in :func:`causalfm.invariance_test`.
    minimum
        Least patients per cell, at least 3.

    Returns
    -------
    CommonSupport
        ``trim`` applies it: ``invariance_test(support.trim(cohort), graph, of=...)``. Answers on the trimmed cohort
        hold for the patients kept.

    Raises
    ------
    GraphError, NotIdentifiedError
        No conditioning set under the graph, or a ``given`` that is none.
    DataError
        The cohort does not fit the graph; a factor that varies within patients.

    Notes
    -----
    Categorical columns: the complete table of cells with enough patients. Continuous ones: vector matching of the
    patients of that table, with the strata as indicators in the propensities. If cells fall short after it, the
    smaller table is matched again, so that the rule holds for the levels and strata that are compared. Embeddings take
    no part, so that tests on what is kept stay valid. With many levels of few patients the rule keeps few, even where
    nothing differs (see :func:`causalfm.matching.vector_matching`): compare fewer levels.
    """
    check_inputs(cohort, graph)
    graph.check(cohort)
    factors = names(of)
    refuse_numbers(cohort, graph, factors)
    found = comparable_set(cohort, graph, factors, sets_to_try(graph.invariance(factors).valid, given), minimum)
    if found.paired:
        raise DataError(f"{found.sentence} There is nothing to trim: ask the question of the cohort as it is.")
    strata = stratify(cohort, graph, factors, found.given)
    kept = np.zeros(strata.groups.n_levels, dtype=bool)
    if found.comparable and found.table is not None:
        kept = _matched(strata, covariate_means(cohort, strata), found.table, minimum)
    where = inside(strata, found.table) if found.table is not None else kept
    reason = "" if found.comparable else f" {found.sentence}"
    return _account(strata, found.given, kept, where, reason)


def refuse_numbers(cohort: Cohort, graph: CausalGraph, factors: Sequence[str]) -> None:
    """Refuse factors without levels.

    Raises
    ------
    DataError
        Naming the columns and the way out.
    """
    if numbers := [name for name in factors if graph.kind(name, cohort) == "continuous"]:
        raise DataError(f"{', '.join(numbers)} is continuous and has no levels to compare: bin it with pandas.cut.")


def _matched(strata: Strata, covariates: np.ndarray, start: CompleteTable, minimum: int) -> np.ndarray:
    """Mask ``(G,)`` of the patients kept; nobody if no table of cells with enough of them is left."""
    best: CompleteTable | None = start
    while best is not None:
        rows = np.flatnonzero(inside(strata, best))
        kept = np.zeros(len(strata.stratum), dtype=bool)
        level = np.unique(strata.level.codes[rows], return_inverse=True)[1]
        columns = np.hstack([covariates[rows], np.eye(strata.n_strata)[strata.stratum[rows]]])
        kept[rows] = not covariates.shape[1] or vector_matching(level, propensities(level, columns))
        counts = table(strata.stratum[kept], strata.level.codes[kept], (strata.n_strata, strata.level.n_levels))
        left = complete_table(counts, minimum)
        if left is not None and (left.levels, left.strata) == (best.levels, best.strata):
            return kept
        best = left
    return np.zeros(len(strata.stratum), dtype=bool)


def _account(
    strata: Strata, given: tuple[str, ...], kept: np.ndarray, in_cells: np.ndarray, reason: str
) -> CommonSupport:
    factor, unit, total = strata.level, strata.unit, len(kept)
    shape = (strata.n_strata, factor.n_levels)
    # a patient outside the cells finally compared was dropped with the cell, one inside them for the covariates
    stays = in_cells & np.isin(factor.codes, factor.codes[kept]) & np.isin(strata.stratum, strata.stratum[kept])
    masks = {"patients": np.ones(total, bool), "outside_cells": ~stays, "outside_support": stays & ~kept, "kept": kept}
    counts = {name: table(strata.stratum[m], factor.codes[m], shape) for name, m in masks.items()}
    cells = [
        {"level": factor.levels[s], "stratum": strata.stratum_name(w), **{k: int(n[w, s]) for k, n in counts.items()}}
        for w, s in zip(*np.nonzero(counts["patients"]), strict=True)
    ]
    n, sizes = int(kept.sum()), {}
    if n:
        used = counts["kept"][counts["kept"].any(axis=1)]
        found = np.flatnonzero(used.any(axis=0))
        sizes = {factor.levels[s]: float(e) for s, e in zip(found, effective_sizes(used[:, found]), strict=True)}
    what = ", ".join(given) or "nothing"
    sentence = f"{n} of {total} {unit}s lie in the common support of {factor.name} given {what}."
    if n == 0:
        sentence += reason or f" No cell keeps enough {unit}s: levels of {factor.name} cannot be compared."
    elif n < total:
        cause = {"outside_cells": "cells that cannot be compared", "outside_support": "their covariates"}
        lost = (f"{int(counts[key].sum())} for {words}" for key, words in cause.items() if counts[key].any())
        sentence += f" Dropped: {', '.join(lost)}. What follows holds for the {unit}s kept."
    if 0 < n < FEW * total:
        sentence += f" These are less than {FEW:.0%}."
    return CommonSupport(
        factor.name, given, "pass" if n == total else "cannot tell", sentence, n > 0, n, total, tuple(cells), sizes,
        unit, kept[strata.groups.codes],
    )  # fmt: skip
