"""From the arguments of ``effect()`` to a question that can be estimated: outcome, conditioning set and overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from causalfm.arguments import check_flag, check_seed
from causalfm.arrows import names
from causalfm.cohort import Cohort
from causalfm.dosing import comparable
from causalfm.errors import DataError, GraphError
from causalfm.estimators.outcomes import Outcome, ReadOutcome, Score, read_outcome
from causalfm.estimators.treatments import pool_levels
from causalfm.graph import CausalGraph
from causalfm.graph_checks import check_inputs
from causalfm.positivity import Overlap


@dataclass(frozen=True, eq=False)
class Posed:
    """A question that fits graph and data.

    Attributes
    ----------
    cohort, graph
        Data, with the outcome in place of the embedding and rare levels pooled; declared graph.
    factors
        Treatment.
    found
        What can be compared.
    outcome
        The outcome's names.
    reason
        Why nothing can be estimated; empty if something can.
    details
        To be reported.
    """

    cohort: Cohort
    graph: CausalGraph
    factors: tuple[str, ...]
    found: Overlap
    outcome: ReadOutcome
    reason: str
    details: dict[str, Any]


def pose(
    cohort: Cohort,
    graph: CausalGraph,
    treatment: str | Sequence[str],
    outcome: Outcome,
    score: Score,
    effect: str,
    pool_rare: int | None,
    minimum: int,
    confirm: bool,
    random_state: int,
) -> Posed:
    """Check the arguments, read the outcome, choose the conditioning set and see what can be compared.

    Parameters
    ----------
    cohort, graph, treatment, outcome, score, effect, pool_rare, minimum, confirm, random_state
        See :func:`causalfm.effect`.

    Returns
    -------
    Posed
        The question.

    Raises
    ------
    GraphError, NotIdentifiedError
        No valid set under the graph, or DoWhy disagrees with ours.
    DataError
        See :func:`causalfm.effect`.
    """
    check_inputs(cohort, graph)
    check_seed(random_state)
    check_flag(confirm, "confirm")
    if effect not in ("total", "direct"):
        raise DataError(f"effect={effect!r} is not a question: choose 'total' or 'direct'.")
    read = read_outcome(cohort, graph, outcome, score)
    factors = names(treatment)
    cohort, pooled = pool_levels(read.cohort, graph, factors, pool_rare)
    graph.check(cohort, doses=True)
    question = graph.adjustment_set(factors) if effect == "total" else graph.invariance(factors, "direct")
    found = comparable(cohort, graph, factors, question.valid, minimum)
    details: dict[str, Any] = {
        "given": list(found.given),
        "question": question.sentence,
        "interval_for": "these levels, new units",
    }
    if pooled:
        details["pooled"] = pooled
    if confirm and effect == "total":  # DoWhy's criterion knows no set that holds effects of the treatment
        details["dowhy_confirms"] = graph.confirm(factors, found.given)
        if not details["dowhy_confirms"]:
            raise GraphError(f"DoWhy does not confirm {list(found.given)} as a back-door set.\nGraph: {graph}")
    reason = found.sentence if not found.comparable else "" if question.recoverable else question.sentence
    return Posed(cohort, graph, factors, found, read, reason, details)
