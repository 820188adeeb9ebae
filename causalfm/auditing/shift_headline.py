"""The result of a deployment's audit in one or two sentences."""

from __future__ import annotations

from causalfm.auditing.findings import Finding
from causalfm.shift import Domains


def shift_headline(findings: list[Finding], domains: Domains) -> str:
    """Say what a deployment costs, what that leans on, and what changed.

    Parameters
    ----------
    findings
        All findings.
    domains
        Reference and deployment.

    Returns
    -------
    str
        One to three sentences.
    """
    by = {f.question: f for f in findings}
    parts = []
    cost = by.get("cost") or by.get("expected cost")
    if cost is not None:
        parts.append(cost.sentence.split(". ")[0].rstrip(".") + ".")
    failed = [f for f in findings if f.verdict == "fail" and f.question in CHANGED]
    changed = list(dict.fromkeys(CHANGED[f.question] for f in failed))
    if changed:
        parts.append(f"Beyond what another {domains.site} of the reference would show: {', '.join(changed)}.")
    why = by.get("why")
    if why is not None and why.details.get("named"):
        words = {row["mechanism"]: row["in words"] for row in why.details.get("mechanisms", ())}
        named = [f"{words[name]}, {name}" if name in words else name for name in why.details["named"]]
        parts.append(f"The drop comes with {' and with '.join(named)}.")
    if not parts:
        open_ = sum(f.verdict == "cannot tell" for f in findings)
        return f"{open_} of {len(findings)} questions cannot be answered with these cohorts."
    return " ".join(parts)


CHANGED = {
    "drift": "the embeddings lie further away",
    "columns": "covariates or technical columns are distributed otherwise",
    "support": "rows lie outside the reference",
    "case mix": "the classes are mixed otherwise",
}
