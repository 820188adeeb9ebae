"""From a question in words to one that can be run: arguments, conditioning set and overlap."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from causalfm.arguments import check_seed, check_whole, sets_to_try
from causalfm.arrows import names
from causalfm.cohort import Cohort
from causalfm.dosing import comparable
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.graph_checks import check_inputs
from causalfm.identification import Adjustment
from causalfm.invariance.methods import DOSE_METHODS, METHODS, PAIRED_METHODS, Method, Question
from causalfm.positivity import Overlap
from causalfm.results import CAVEAT, TestResult


@dataclass(frozen=True, eq=False)
class Posed:
    """A question that fits graph and data, or the reason why there is no answer.

    Attributes
    ----------
    base
        The result without numbers, "cannot tell".
    found
        What can be compared.
    question, method
        What to run; the question is None if nothing can be.
    """

    base: TestResult
    found: Overlap
    question: Question | None
    method: Method


def pose(
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
) -> Posed:
    """Check the arguments of a question, choose its conditioning set and see what can be compared.

    Parameters
    ----------
    cohort, graph, of, effect, given, method, n_permutations, minimum, random_state
        See :func:`invariance_test`.
    details
        Settings to be reported.

    Returns
    -------
    Posed
        Ready to be run.
    """
    check_question(cohort, graph, method, n_permutations, random_state)
    factors = names(of)
    question = graph.invariance(factors, effect)
    valid = sets_to_try(question.valid, given)
    found = comparable(cohort, graph, factors, valid, minimum)
    base = unanswered(cohort, graph, found, question, method, n_permutations, details)
    run = _method_for(method, found)
    if not question.recoverable:
        return Posed(dataclasses.replace(base, sentence=f"Cannot tell: {question.sentence}"), found, None, run)
    if not found.comparable:
        return Posed(dataclasses.replace(base, sentence=_nothing_to_compare(found, factors)), found, None, run)
    asked = Question(cohort, graph, factors, found.given, n_permutations, random_state, minimum)
    return Posed(base, found, asked, run)


def check_question(cohort: Cohort, graph: CausalGraph, method: str, n_permutations: int, random_state: int) -> None:
    """Refuse arguments that no question has, and a cohort that does not fit the graph."""
    if method not in METHODS:
        raise DataError(f"method={method!r} is not known: choose method={' or '.join(map(repr, METHODS))}.")
    check_whole(n_permutations, "n_permutations", 1, why="999 resolve a p-value of 0.001")
    check_seed(random_state)
    check_inputs(cohort, graph)
    graph.check(cohort, doses=True)


def unanswered(
    cohort: Cohort,
    graph: CausalGraph,
    found: Overlap,
    question: Adjustment,
    method: str,
    n_permutations: int,
    details: Mapping[str, Any],
) -> TestResult:
    """Return a result without numbers, "cannot tell", that says what was asked."""
    return TestResult(
        statistic=float("nan"),
        p_value=float("nan"),
        effect=None,
        verdict="cannot tell",
        sentence=found.sentence,
        of=found.factor,
        given=found.given,
        effect_kind=question.effect,
        method=method,
        n=len(cohort),
        n_groups=cohort.factor(graph.group, private=True).n_levels,
        unit=graph.group,
        details={
            "valid_sets": [list(s) for s in question.valid],
            "question": question.sentence,
            "overlap": found.to_dict(),
            "n_permutations": n_permutations,
            "caveat": CAVEAT,
            **details,
        },
    )


def _method_for(method: str, found: Overlap) -> Method:
    if found.continuous:
        if method not in DOSE_METHODS:
            raise DataError(
                f"{found.factor} is continuous and method={method!r} compares levels: choose "
                f"{' or '.join(map(repr, DOSE_METHODS))}, or bin it with pandas.cut."
            )
        return DOSE_METHODS[method]
    if not found.paired:
        return METHODS[method]
    if method not in PAIRED_METHODS:
        raise DataError(
            f"{found.factor} varies within most units, a paired design, which method={method!r} does not answer: "
            f"choose {' or '.join(map(repr, PAIRED_METHODS))}."
        )
    return PAIRED_METHODS[method]


def _nothing_to_compare(found: Overlap, factors: Sequence[str]) -> str:
    if not found.nested_in:
        return f"Cannot tell. {found.sentence}"
    hint = f"Ask the joint question of={[found.nested_in, *factors]} instead."
    if found.continuous:
        hint = f"Ask of={found.nested_in!r} instead."
    return f"Cannot tell {found.factor} from {found.nested_in}. {found.sentence} {hint}"
