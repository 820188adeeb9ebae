"""What every number of a cohort's audit leans on, in sentences."""

from __future__ import annotations

from causalfm.auditing.findings import Finding
from causalfm.auditing.policy import Policy
from causalfm.confidence import percent
from causalfm.graph import CausalGraph
from causalfm.results import CAVEAT


def cohort_assumptions(
    graph: CausalGraph, levels: CausalGraph, findings: list[Finding], notes: list[str], policy: Policy
) -> tuple[str, ...]:
    """Say what the numbers lean on.

    Parameters
    ----------
    graph, levels
        Declared graph, and the same with the factors that have levels only.
    findings, notes
        All findings; what the graph survived.
    policy
        Its confidence level.

    Returns
    -------
    tuple of str
        Sentences.
    """
    unit = graph.group
    out = [
        CAVEAT,
        *(f"{f.factor}: {f.details['sensitivity']['sentence']}" for f in findings if "sensitivity" in f.details),
        f"The declared graph is true: {graph}. {' '.join(notes)}".rstrip(),
        f"{unit.capitalize()}s are independent of each other and the unit of every interval and test; intervals are "
        f"for these levels and new {unit}s, not for a new hospital.",
        f"Margins are the policy's, read before the run. Intervals are {percent(policy.alpha)}; a margin is exceeded "
        "or kept only if the whole interval says so.",
    ]
    if any(f.details.get("given") and len(f.details["given"]) > 1 for f in findings):
        out.append(
            "Continuous covariates act additively and smoothly (quadratic splines); categorical ones are stratified."
        )
    inner = [t for t in levels.technical if levels.technical_ancestors(t)]
    if inner:
        out.append(
            f"Neighbours are compared within the technical causes of {', '.join(inner)}: one that shares it might "
            "otherwise share its cause instead."
        )
    return tuple(out)
