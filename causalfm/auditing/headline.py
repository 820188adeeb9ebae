"""The result of an audit in one or two sentences."""

from __future__ import annotations

from causalfm.auditing.findings import Finding
from causalfm.auditing.formatting import listing
from causalfm.graph import CausalGraph

EXCEEDED = {
    "neighbourhood": "its neighbourhoods",
    "readout": "what a probe reads",
    "invariance": "its furthest levels",
    "effect": "the mean distance of its levels",
    "shortcut": "what a model owes to it",
    "predictions": "a model's scores",
    "decisions": "a model's decisions",
}
APART = ("biology", "performance")  # said in sentences of their own


def headline(findings: list[Finding], graph: CausalGraph) -> str:
    """Say the result in one or two sentences.

    Parameters
    ----------
    findings
        All findings.
    graph
        Declared graph.

    Returns
    -------
    str
        Names the factors that dominate or exceed a margin, or what could not be told; a contradicted graph comes last.
        No sentence begins with the name of a column, which keeps its case.
    """
    if any(f.question == "graph" for f in findings):
        rest = headline([f for f in findings if f.question != "graph"], graph)
        return f"{rest} The table contradicts the declared graph: what was concluded from it is open."
    if left := [f for f in findings if not f.monitored]:
        rest = headline([f for f in findings if f.monitored], graph)
        failed = list(dict.fromkeys(f.factor for f in left if f.verdict == "fail"))
        return f"{rest} The policy does not monitor {listing(failed)}, where margins are exceeded." if failed else rest
    parts = []
    for factor in dict.fromkeys(f.factor for f in findings if f.question not in APART):
        mine = {f.question: f for f in findings if f.factor == factor and f.question not in APART}
        failed = [f.details.get("exceeded", EXCEEDED[q]) for q, f in mine.items() if f.verdict == "fail"]
        failed = list(dict.fromkeys(failed))
        if not failed:
            continue
        effect, near = mine.get("effect"), mine.get("neighbourhood")
        small = effect is not None and effect.high < 1.0
        dominates = (effect is not None and effect.low > 1.0) or (near is not None and near.high < 0.5 and not small)
        words = f"The factor {factor} exceeds the policy's margin for {listing(failed)}"
        slope = effect is not None and "exceeded" in effect.details  # of a number
        if dominates and not slope:
            words = f"The factor {factor} dominates these embeddings"
        if effect is not None and effect.value > 0.0:
            apart = "one standard deviation of it moves the embedding" if slope else "its levels lie"
            words += (
                f"; {apart} {effect.value:.1f} times as far {'as' if slope else 'apart as'} classes of {graph.biology}"
            )
            words += " lie apart" * slope
        parts.append(words + ".")
    if any(f.question == "biology" and f.verdict == "fail" for f in findings):
        parts.append(f"The classes of {graph.biology} are not carried as the policy asks.")
    parts += [_performance(f, graph) for f in findings if f.question == "performance" and f.verdict == "fail"]
    if parts:
        return " ".join(parts)
    if all(f.verdict == "pass" for f in findings):
        return f"No technical factor exceeds the policy's margins, and {graph.biology} can be read."
    open_ = sum(f.verdict == "cannot tell" for f in findings)
    unanswered = f"{open_} of {len(findings)} questions cannot be answered with this cohort"
    return f"No margin was shown to be exceeded, but {unanswered}."


def _performance(finding: Finding, graph: CausalGraph) -> str:
    worst = f"{finding.factor} {finding.details['worst level']}"
    return f"The prediction of {graph.biology} is worse at {worst} than the policy allows."
