"""What an audit estimates, for whom and given what, in words; the declared graph as a reader checks it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from causalfm.auditing.about import is_deployment
from causalfm.auditing.findings import Audit, Finding
from causalfm.auditing.formatting import listing
from causalfm.graph import CausalGraph

MOST_NAMED = 6  # levels in a sentence


def estimand(audit: Audit) -> list[tuple[str, str]]:
    """Say what is compared, among whom, in which unit, and what the numbers do not speak for.

    Parameters
    ----------
    audit
        The audit.

    Returns
    -------
    list of (str, str)
        Terms and their words.
    """
    graph = audit.graph
    unit = graph.group
    if is_deployment(audit):
        where = listing(graph.technical[:1])
        model = str(audit.data.get("model", "the model"))
        out = [
            (
                "What is compared",
                f"Embeddings, case mix and accuracy for {graph.biology} of {model}: {unit}s of the reference against "
                f"{unit}s of the deployment. Whether a difference is more than usual is judged beside the differences "
                f"that the reference's own levels of {where} show among each other.",
            ),
            (
                "Accuracy",
                f"A mean over {unit}s, each of the same weight, tested on {unit}s that the model has not seen.",
            ),
        ]
    else:
        out = [("What is compared", text) for text in _contrasts(audit)]
        ratio = f"the distance between classes of {graph.biology}, estimated in the same way"
        out.append(("In units of", f"{ratio}: 1 is as far as another class"))
    whom: dict[str, list[str]] = {}
    for finding in audit.findings:
        if finding.target:
            whom.setdefault(finding.target, []).append(finding.question)
    for target, questions in whom.items():
        out.append((f"For whom ({listing(dict.fromkeys(questions))})", target))
    out.append(
        (
            "Independent unit",
            f"{unit}: intervals and tests count {unit}s, not rows"
            + (
                "." if is_deployment(audit) else f", and hold for these levels and new {unit}s, not for a new hospital."
            ),
        )
    )
    return out


def _contrasts(audit: Audit) -> list[str]:
    """One sentence for each factor whose effect was asked."""
    graph = audit.graph
    asked = [f for f in audit.findings if f.question == "effect"] or [
        f for f in audit.findings if f.question == "invariance"
    ]
    out = []
    for finding in asked:
        given = [str(name) for name in finding.details.get("given", ())]
        among = f"{graph.group}s alike in {listing(given)}" if given else f"all {graph.group}s"
        over = f", standardised over {listing(given)}" if given else ""
        out.append(
            f"The mean embedding at one level of {finding.factor}{_levels(audit, finding)} less that at another, among "
            f"{among}{over}: how far apart equal {graph.group}s would lie if only {finding.factor} differed, if the "
            "declared graph is true."
        )
    if not out:
        out = [f"Embeddings at the levels of {listing(graph.technical)}, within {graph.biology}."]
    return out


def _levels(audit: Audit, finding: Finding) -> str:
    """Name the levels that are compared: those of the contrasts, or all where there is none."""
    rows = [row for row in finding.details.get("per_level", ()) if isinstance(row, Mapping)]
    compared = {str(row[key]) for row in rows for key in ("reference", "level") if key in row}
    levels = [x for x in audit.tables.get(finding.factor, {}).get("levels", ()) if not compared or x in compared]
    return f" ({listing(levels)})" if 0 < len(levels) <= MOST_NAMED else f" ({len(levels)} levels)" if levels else ""


def arrows_in_words(graph: CausalGraph) -> list[str]:
    """Read the arrows of the declared graph out: one sentence for each node that causes anything."""
    out = []
    for node in graph.nodes:
        if heads := graph.children(node):
            out.append(f"{node} causes {listing(_shown(heads))}.")
    return out


def unmeasured_in_words(graph: CausalGraph) -> list[str]:
    """Name the pairs that share a cause which nobody measured, and what the rows were selected by."""
    out = [
        f"{a} and {b} share causes that were not measured (for instance which patients a hospital sees)."
        if {a, b} & set(graph.technical)
        else f"{a} and {b} share causes that were not measured."
        for a, b in graph.bidirected
    ]
    if graph.selected:
        out.append(f"Which rows are in the table depends on {listing(graph.selected)}.")
    return out or ["No common cause is declared as unmeasured: every one is taken to be in the table."]


def _shown(nodes: Sequence[str]) -> list[str]:
    return ["Z (the embedding)" if node == "Z" else node for node in nodes]
