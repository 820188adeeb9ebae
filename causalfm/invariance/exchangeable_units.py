"""Questions whose unit is the hospital: a factor that is constant within every hospital, compared between hospitals.

Each hospital has one scanner, say. Patients cannot tell the scanner from the rest of the hospital, however many there
are; hospitals can, if what else they do to the embedding is taken as exchangeable between scanners.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from causalfm.arguments import sets_to_try
from causalfm.arrows import EMBEDDING, Arrows, names, render_arrows
from causalfm.cohort import Cohort, Factor
from causalfm.dosing import is_dose
from causalfm.errors import DataError, GraphError, positions
from causalfm.graph import CausalGraph
from causalfm.invariance.mean import informative, mean_test
from causalfm.invariance.methods import Question, Tested
from causalfm.invariance.posing import Posed, check_question, unanswered
from causalfm.matching import covariate_means
from causalfm.positivity import CompleteTable, Overlap, complete_table
from causalfm.strata import joint_factor, stratify, table, varies_within
from causalfm.units import Units, helmert, patient_units

MIN_UNITS = 8  # levels of the exchangeable factor: below, one odd hospital decides


@dataclass(frozen=True, eq=False)
class Layout:
    """The units of one question.

    Attributes
    ----------
    unit
        The exchangeable factor, row by row.
    level
        The tested factor, one code per unit.
    stratum
        ``(S,)`` combination of the conditioning columns that are constant within units.
    between, within
        Names of the conditioning columns that are constant within all units, and of the others.
    """

    unit: Factor
    level: Factor
    stratum: np.ndarray
    between: tuple[str, ...]
    within: tuple[str, ...]

    def counts(self) -> np.ndarray:
        """Units per stratum and level, ``(W, L)``."""
        return table(self.stratum, self.level.codes, (int(self.stratum.max()) + 1, self.level.n_levels))


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
    run = partial(_mean_method, layout=layout)
    if not question.recoverable:
        return Posed(dataclasses.replace(base, sentence=f"Cannot tell: {question.sentence}"), found, None, run)
    asked = Question(cohort, graph, factors, found.given, n_permutations, random_state, minimum)
    return Posed(base, found, asked if found.comparable else None, run)


def exchangeable_units(cohort: Cohort, graph: CausalGraph, layout: Layout) -> Units:
    """Average patients to units, after taking off what varies within units.

    Parameters
    ----------
    cohort, graph
        Data and declared graph.
    layout
        The units.

    Returns
    -------
    Units
        One row per level of the exchangeable factor; patients weigh equally within it. The effects of biology and
        covariates are estimated within units, so that nothing that differs between units enters them.

    Notes
    -----
    Assumption: within units, biology and covariates act alike everywhere.
    """
    patients = patient_units(cohort, graph, (), layout.within)
    unit = _unit_of_patients(cohort, graph, layout)
    S = layout.unit.n_levels
    columns = np.concatenate([np.eye(patients.n_strata)[patients.stratum], patients.covariates], axis=1)
    columns -= columns.mean(axis=0)
    slopes = np.linalg.lstsq(_centred(columns, unit, S), _centred(patients.Z, unit, S), rcond=None)[0]
    rows = np.bincount(layout.unit.codes, minlength=S)
    codes = np.unique(layout.stratum, return_inverse=True)[1]
    return Units(
        level=layout.level,
        stratum=codes,
        stratum_columns=np.arange(int(codes.max()) + 1)[:, None][:, :0],
        conditioning=(),
        continuous=(),
        within=cohort.factor(graph.biology) if graph.biology in layout.within else None,
        groups=layout.unit,
        Z=_means(patients.Z - columns @ slopes, unit, S),
        covariates=np.zeros((S, 0)),
        contrasts=_class_contrasts(patients, graph.biology, unit, S),
        size=rows,
    )


def _mean_method(question: Question, *, layout: Layout) -> Tested:
    units = exchangeable_units(question.cohort, question.graph, layout)
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
        why = f"{' and '.join(layout.within)} cannot be told from {unit}: too little of them is seen within one"
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
    unit = _unit_of_patients(cohort, graph, layout)
    columns = np.concatenate([np.eye(strata.n_strata)[strata.stratum], covariate_means(cohort, strata)], axis=1)
    columns -= columns.mean(axis=0)
    columns = columns[:, columns.any(axis=0)]
    columns /= np.linalg.norm(columns, axis=0)
    inside = _centred(columns, unit, layout.unit.n_levels)
    return bool(np.linalg.matrix_rank(inside, tol=1e-6) == np.linalg.matrix_rank(columns, tol=1e-6))


def _unit_of_patients(cohort: Cohort, graph: CausalGraph, layout: Layout) -> np.ndarray:
    groups = cohort.factor(graph.group, private=True)
    varies = varies_within(layout.unit.codes, groups)
    if varies.any():
        raise DataError(
            f"{varies.sum()} {groups.name}s are seen at several levels of {layout.unit.name!r}: keep one level of each."
        )
    return np.asarray(layout.unit.codes[np.unique(groups.codes, return_index=True)[1]])


def _class_contrasts(patients: Units, biology: str, unit: np.ndarray, S: int) -> np.ndarray | None:
    """Contrasts between classes within the units that hold all classes, as in :class:`causalfm.units.Units`."""
    classes = [f for f in patients.conditioning if f.name == biology]
    if not classes:
        return None
    B = classes[0].n_levels
    cells = unit * B + classes[0].codes
    full = (np.bincount(cells, minlength=S * B).reshape(S, B) > 0).all(axis=1)
    with np.errstate(invalid="ignore"):
        means = _means(patients.Z, cells, S * B).reshape(S, B, -1)[full]
    return np.asarray(helmert(B) @ means).reshape(len(means), -1)


def _means(values: np.ndarray, codes: np.ndarray, n: int) -> np.ndarray:
    total = np.zeros((n, values.shape[1]))
    np.add.at(total, codes, values)
    return np.asarray(total / np.bincount(codes, minlength=n)[:, None])


def _centred(values: np.ndarray, codes: np.ndarray, n: int) -> np.ndarray:
    return np.asarray(values - _means(values, codes, n)[codes])
