"""Questions whose unit is the hospital: a factor that is constant within every hospital, compared between hospitals.

Each hospital has one scanner, say. Patients cannot tell the scanner from the rest of the hospital, however many there
are; hospitals can, if what else they do to the embedding is taken as exchangeable between scanners.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np

from causalfm.arguments import sets_to_try
from causalfm.arrows import EMBEDDING, Arrows, names, render_arrows
from causalfm.cohort import Cohort, Factor
from causalfm.dosing import is_dose
from causalfm.errors import DataError, GraphError, positions
from causalfm.graph import CausalGraph
from causalfm.invariance.exchangeable_means import Layout, exchangeable_units, unit_of_patients
from causalfm.invariance.mean import informative, mean_test
from causalfm.invariance.methods import Question, Tested
from causalfm.invariance.posing import Posed, check_question, unanswered
from causalfm.matching import covariate_means
from causalfm.moments import centred
from causalfm.positivity import CompleteTable, Overlap, complete_table
from causalfm.strata import joint_factor, stratify, varies_within
from causalfm.units import Units

MIN_UNITS = 8  # levels of the exchangeable factor: below, one odd hospital decides
MAX_SHARED = 0.1  # of the chance differences between levels may come from the error of what was taken off


def pose_exchangeable(
    cohort: Cohort,
    graph: CausalGraph,
    of: str | Sequence[str],
    effect: Literal["total", "direct"],
    given: Literal["auto"] | Sequence[str],
    method: str,
    n_permutations: int,
    minimum: int,
    random_state: int,
    details: Mapping[str, Any],
    exchangeable: str,
) -> Posed:
    """Pose a question whose units are the levels of a technical factor.

    Parameters
    ----------
    cohort, graph, of, effect, given, method, n_permutations, minimum, random_state, exchangeable
        See :func:`causalfm.invariance_test`.
    details
        Settings to be reported.

    Returns
    -------
    Posed
        Ready to be run.

    Raises
    ------
    GraphError, NotIdentifiedError
        ``exchangeable`` is no technical factor or is asked about; no set without it is valid.
    DataError
        The factor varies within units, or is continuous; another method than ``"mean"``.

    Notes
    -----
    The conditioning set is that of the graph without the arrow from the exchangeable factor to the embedding: its own
    effects become the noise of the units. Sets that hold the factor itself are left out.
    """
    check_question(cohort, graph, method, n_permutations, random_state)
    factors = names(of)
    if exchangeable not in graph.technical or exchangeable in factors:
        others = [name for name in graph.technical if name not in factors]
        raise GraphError(f"exchangeable={exchangeable!r} is no technical factor beside {factors}: choose of {others}.")
    if method != "mean" or is_dose(cohort, graph, factors):
        raise DataError(f"exchangeable={exchangeable!r} is answered by method='mean', for a factor with levels.")
    question = _without_arrow(graph, exchangeable).invariance(factors, effect)
    valid = [chosen for chosen in question.valid if exchangeable not in chosen]
    if not valid:
        raise GraphError(f"every valid conditioning set holds {exchangeable!r}: its levels cannot be units here.")
    tried = []
    for chosen in sets_to_try(valid, given):
        layout = _lay_out(cohort, graph, factors, chosen, exchangeable)
        tried.append((layout, _overlap(cohort, graph, layout, chosen, minimum)))
        if tried[-1][1].comparable:
            break
    layout, found = tried[-1] if tried[-1][1].comparable else tried[0]
    note = f"what else a {exchangeable} does to the embedding is exchangeable between levels of {found.factor}"
    base = unanswered(cohort, graph, found, question, method, n_permutations, {**details, "assumption": note})
    base = dataclasses.replace(
        base, n_groups=layout.unit.n_levels, unit=exchangeable, sentence=f"Cannot tell. {found.sentence}"
    )
    if not question.recoverable:
        run = partial(_mean_method, units=None)
        return Posed(dataclasses.replace(base, sentence=f"Cannot tell: {question.sentence}"), found, None, run)
    units, shared = exchangeable_units(cohort, graph, layout) if found.comparable else (None, 0.0)
    if shared > MAX_SHARED:
        why = _shared_words(layout, shared)
        found = dataclasses.replace(found, verdict="cannot tell", comparable=False, sentence=why, table=None)
        base = dataclasses.replace(base, sentence=f"Cannot tell. {why}")
    if units is not None:
        base = dataclasses.replace(base, details={**base.details, "shared_error": shared})
    run = partial(_mean_method, units=units)
    asked = Question(cohort, graph, factors, found.given, n_permutations, random_state, minimum)
    return Posed(base, found, asked if found.comparable else None, run)


def _shared_words(layout: Layout, shared: float) -> str:
    columns = " and ".join(layout.within)
    return (
        f"The effect of {columns}, which is taken off, is known too badly from within levels of {layout.unit.name}: "
        f"its error adds {shared:.0%} to what differs between levels of {layout.level.name} by chance, more than the "
        f"{MAX_SHARED:.0%} that the test bears. More patients per {layout.unit.name} are needed."
    )


def _mean_method(question: Question, *, units: Units | None) -> Tested:
    assert units is not None  # asked only where it was laid out
    statistic, p_value = mean_test(units, n_permutations=question.n_permutations, random_state=question.random_state)
    return Tested(statistic, p_value, units, "mean embedding", {"tested_groups": int(informative(units).sum())})


def _without_arrow(graph: CausalGraph, column: str) -> CausalGraph:
    """Return the graph in which the exchangeable factor does not act on the embedding directly."""
    edges = tuple(edge for edge in graph.edges if edge != (column, EMBEDDING))
    return CausalGraph(
        render_arrows(Arrows(graph.nodes, edges, graph.bidirected)),
        biology=graph.biology,
        technical=graph.technical,
        group=graph.groups,
        covariates=graph.covariates,
        specimen=graph.specimen,
        selected=graph.selected,
        kinds=graph.kinds,
        declared_by=graph.declared_by,
    )


def _lay_out(cohort: Cohort, graph: CausalGraph, of: Sequence[str], given: Sequence[str], column: str) -> Layout:
    unit, factor = cohort.factor(column), joint_factor(cohort, of)
    varies = varies_within(factor.codes, unit)
    first = np.unique(unit.codes, return_index=True)[1]
    if varies.any():
        raise DataError(
            f"column {factor.name!r} takes several values in {varies.sum()} of {unit.n_levels} levels of "
            f"{column!r} ({positions(sorted(first[varies].tolist()))}): {graph.group}s can be compared within them. "
            f"Leave exchangeable={column!r} out."
        )
    between, within, codes = [], [], [np.zeros(unit.n_levels, dtype=np.int64)]
    for name in given:
        column_codes = None if graph.kind(name, cohort) == "continuous" else cohort.factor(name).codes
        if column_codes is None or varies_within(column_codes, unit).any():
            within.append(name)
        else:
            between.append(name)
            codes.append(column_codes[first])
    stratum = np.unique(np.stack(codes), axis=1, return_inverse=True)[1].reshape(-1)
    level = Factor(factor.name, factor.codes[first], factor.levels)
    return Layout(unit, level, stratum, tuple(between), tuple(within))


def _overlap(cohort: Cohort, graph: CausalGraph, layout: Layout, given: Sequence[str], minimum: int) -> Overlap:
    """Say which levels can be compared between units."""
    unit, factor = layout.unit.name, layout.level
    counts = layout.counts()
    best = complete_table(counts, minimum)
    where = f" of {', '.join(layout.between)}" if layout.between else ""
    why = ""
    if best is None:
        why = f"no stratum{where} holds two levels of {factor.name} with {minimum} levels of {unit} each"
    elif best.patients < MIN_UNITS:
        why = f"{best.patients} levels of {unit} can be compared, fewer than {MIN_UNITS}"
    elif not _told_within(cohort, graph, layout):
        why = f"too little of {' and '.join(layout.within)} is seen within single levels of {unit} to tell them apart"
    if why or best is None:
        sentence = f"{why[:1].upper()}{why[1:]}."
        return Overlap(factor.name, tuple(given), "cannot tell", sentence, False, (), (), (why,), None, minimum, unit)
    levels = tuple(factor.levels[i] for i in best.levels)
    out = _left_out(layout, best, minimum)
    sentence = f"{factor.name} is compared between {', '.join(levels)} over {best.patients} levels of {unit}."
    if out:
        sentence = f"Cannot be compared between levels of {factor.name}: {'; '.join(out)}. {sentence}"
    strata = (f"{best.patients} levels of {unit}",)
    verdict: Literal["pass", "cannot tell"] = "cannot tell" if out else "pass"
    return Overlap(factor.name, tuple(given), verdict, sentence, True, levels, strata, out, best, minimum)


def _left_out(layout: Layout, best: CompleteTable, minimum: int) -> tuple[str, ...]:
    factor, unit = layout.level, layout.unit.name
    out = [
        f"{factor.name}={level}: too few levels of {unit} beside the others"
        for i, level in enumerate(factor.levels)
        if i not in best.levels
    ]
    idle = int(np.isin(layout.stratum, best.strata, invert=True).sum())
    if idle:
        out.append(f"{idle} levels of {unit}: not {minimum} at every compared level in their stratum")
    return tuple(out)


def _told_within(cohort: Cohort, graph: CausalGraph, layout: Layout) -> bool:
    """Whether every contrast of the conditioning columns is seen within units."""
    strata = stratify(cohort, graph, (), layout.within)
    unit = unit_of_patients(cohort, graph, layout)
    columns = np.concatenate([np.eye(strata.n_strata)[strata.stratum], covariate_means(cohort, strata)], axis=1)
    columns -= columns.mean(axis=0)
    columns = columns[:, columns.any(axis=0)]
    columns /= np.linalg.norm(columns, axis=0)
    inside = centred(columns, unit, layout.unit.n_levels)
    return bool(np.linalg.matrix_rank(inside, tol=1e-6) == np.linalg.matrix_rank(columns, tol=1e-6))
