"""From a question on the graph to a test, an effect and a verdict."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from causalfm.arguments import check_positive, check_seed, check_whole
from causalfm.arrows import names
from causalfm.cohort import Cohort
from causalfm.errors import DataError, GraphError
from causalfm.graph import CausalGraph
from causalfm.graph_checks import check_inputs
from causalfm.invariance.methods import METHODS, Question, Tested
from causalfm.positivity import MIN_GROUPS, Overlap, comparable_set
from causalfm.results import CAVEAT, Estimate, TestResult, Verdict, verdict_against
from causalfm.standardisation import Contrasts, contrast_levels
from causalfm.units import Units

ALPHA = 0.05
MARGIN_WORDS: dict[Verdict, str] = {
    "pass": "; even the largest distance between two levels is below {margin:g} times the distance between classes.",
    "fail": "; some distance between two levels ({pair} is the largest) is above {margin:g} times the distance between "
    "classes.",
    "cannot tell": "; whether the largest distance is above or below {margin:g} times that between classes is not "
    "settled.",
}


def invariance_test(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    of: str | Sequence[str],
    effect: Literal["total", "direct"] = "total",
    given: Literal["auto"] | Sequence[str] = "auto",
    method: str = "mean",
    margin: float | None = None,
    n_permutations: int = 999,
    minimum: int = MIN_GROUPS,
    random_state: int = 0,
) -> TestResult:
    """Test whether the embedding depends on a technical factor, given what it may depend on.

    Parameters
    ----------
    cohort
        Embeddings ``(n, d)`` and table.
    graph
        Declared graph; it chooses the conditioning set.
    of
        Technical factor; several ask the joint question.
    effect
        ``"total"``: through its technical descendants too (site through scanner); ``"direct"``: given them.
    given
        ``"auto"``: the largest valid set that leaves something to compare. A set of one's own must be valid.
    method
        ``"mean"``: studentised difference of patient means, patients permuted within strata.
    margin
        Largest acceptable distance between two levels, in units of the root mean square distance between two classes of
        biology. None: the test can fail (an effect is there) but never pass.
    n_permutations
        Permutations of patients.
    minimum
        Least patients per cell.
    random_state
        Seed of the permutations.

    Returns
    -------
    TestResult
        ``effect`` is the mean squared distance between levels, signed and debiased, in squared embedding units;
        ``details`` holds the ratio to biology, the valid alternatives to the conditioning set, what was left out and
        ``"per_level"``: units, median rows per unit and dispersion of each compared level.

    Raises
    ------
    GraphError, NotIdentifiedError
        The graph does not allow the question.
    DataError
        The cohort does not fit the graph, or an argument is out of range.

    Notes
    -----
    The verdict rests on bounds, never on the p-value alone: pass if the upper 95 % bound of the *largest* pair's
    squared distance minus ``margin^2`` times the biology's is below zero, fail if a lower bound is above it (Bonferroni
    over pairs).
    """
    if method not in METHODS:
        raise DataError(f"method={method!r} is not known: choose method={' or '.join(map(repr, METHODS))}.")
    check_whole(n_permutations, "n_permutations", 1, why="999 resolve a p-value of 0.001")
    check_seed(random_state)
    if margin is not None:
        check_positive(margin, "margin", "it is a share of the distance between classes; None asks without a margin")
    check_inputs(cohort, graph)
    graph.check(cohort)
    factors = names(of)
    question = graph.invariance(factors, effect)
    valid = question.valid if isinstance(given, str) and given == "auto" else (_own_set(question.valid, given),)
    found = comparable_set(cohort, graph, factors, valid, minimum)
    base = TestResult(
        statistic=float("nan"),
        p_value=float("nan"),
        effect=None,
        verdict="cannot tell",
        sentence=found.sentence,
        of=found.factor,
        given=found.given,
        effect_kind=effect,
        method=method,
        n=len(cohort),
        n_groups=cohort.factor(graph.group, private=True).n_levels,
        unit=graph.group,
        details={
            "valid_sets": [list(s) for s in question.valid],
            "question": question.sentence,
            "overlap": found.to_dict(),
            "margin": margin,
            "n_permutations": n_permutations,
            "caveat": CAVEAT,
        },
    )
    if not question.recoverable:
        return dataclasses.replace(base, sentence=f"Cannot tell: {question.sentence}")
    if not found.comparable:
        return dataclasses.replace(base, sentence=_nothing_to_compare(found, factors))
    tested = METHODS[method](Question(cohort, graph, factors, found.given, n_permutations, random_state))
    return _decide(base, tested, contrast_levels(tested.units, graph.biology, minimum), found, margin)


def _nothing_to_compare(found: Overlap, factors: Sequence[str]) -> str:
    if not found.nested_in:
        return f"Cannot tell. {found.sentence}"
    hint = f"Ask the joint question of={[found.nested_in, *factors]} instead."
    return f"Cannot tell {found.factor} from {found.nested_in}. {found.sentence} {hint}"


def _decide(base: TestResult, tested: Tested, contrasts: Contrasts, found: Overlap, margin: float | None) -> TestResult:
    """Add the test, the size of the effect, the bounds and the verdict they give."""
    units = tested.units
    n_groups = len(contrasts.design.Z)
    low, high = contrasts.joint.interval()
    effect = Estimate(
        name="mean_squared_distance",
        value=contrasts.joint.value,
        low=low,
        high=high,
        chance=0.0,
        n=int(units.size[contrasts.design.rows].sum()),
        n_groups=n_groups,
        unit=units.unit,
        details={"target": found.target},
    )
    details: dict[str, Any] = {
        **base.details,
        "target": found.target,
        "ratio_to_biology": tuple(np.sqrt(np.maximum(contrasts.ratio(), 0.0)).tolist()),
        "no_biology": contrasts.no_biology,
        **tested.details,
        "per_level": _per_level(units, contrasts),
    }
    if margin is None:
        verdict: Verdict = "fail" if low > 0 else "cannot tell"
        ending = "." if low > 0 else "; without a margin absence cannot be shown."
    else:
        bounds = details["margin_bounds"] = contrasts.margin_bounds(margin)
        verdict = verdict_against(bounds[0], bounds[1], 0.0)
        partly = verdict == "pass" and bool(found.left_out)  # a pass must hold for every level
        a, b = max(contrasts.pairs, key=lambda pair: contrasts.pairs[pair].value)
        pair = f"{units.level.levels[a]} to {units.level.levels[b]}"
        ending = MARGIN_WORDS[verdict].format(margin=margin, pair=pair)
        if np.isnan(bounds[0]):
            ending += f" {contrasts.no_biology or 'The distance between classes is not told from zero'}."
        if partly:
            verdict = "cannot tell"
            ending += f" This holds for {', '.join(found.levels)} only; not compared: {'; '.join(found.left_out)}."
    given = f" given {', '.join(found.given)}" if found.given else ""
    depends = low > 0 or tested.p_value <= ALPHA
    seen = f"The {tested.subject} depends on {{}}{{}}" if depends else "No dependence on {}{} was found"
    numbers = f"(p = {tested.p_value:.3g}, {details['n_permutations']} permutations of {units.unit}s)"
    return dataclasses.replace(
        base,
        statistic=tested.statistic,
        p_value=tested.p_value,
        effect=effect,
        verdict=verdict,
        sentence=f"{seen.format(found.factor, given)} {numbers}{ending}",
        n=effect.n,
        n_groups=n_groups,
        details=details,
    )


def _per_level(units: Units, contrasts: Contrasts) -> list[dict[str, Any]]:
    """Size and dispersion of each compared level: both differ between sites, and both can be mistaken for an effect.

    Dispersion is the root of the trace of the patient covariance within cells, averaged over the level's cells with
    their degrees of freedom as weights.
    """
    design, cells = contrasts.design, contrasts.design.cells
    level_of_cell = np.zeros(cells.n_cells, dtype=np.int64)
    level_of_cell[cells.codes] = design.level
    out = []
    for level in contrasts.levels:
        members, own = design.level == level, level_of_cell == level
        out.append(
            {
                "level": units.level.levels[level],
                f"{units.unit}s": int(members.sum()),
                f"rows per {units.unit}": float(np.median(units.size[design.rows[members]])),
                "dispersion": float(np.sqrt(np.average(cells.trace[own], weights=cells.df[own]))),
            }
        )
    return out


def _own_set(valid: Sequence[tuple[str, ...]], given: str | Sequence[str]) -> tuple[str, ...]:
    wanted = set(names(given))
    for candidate in valid:
        if set(candidate) == wanted:
            return candidate
    shown = "; ".join("{" + ", ".join(s) + "}" for s in valid)
    raise GraphError(f"given={sorted(wanted)} is not a valid conditioning set under this graph. Valid: {shown}.")
