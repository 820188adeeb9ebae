"""Answers of reports, as evidence takes them up: of audits, of deployments, of comparisons of encoders."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from causalfm.auditing.about import is_deployment, title_of_comparison
from causalfm.auditing.documents import check_schema, read_json
from causalfm.auditing.evidence_behind import NAN, behind, count_of, number_of, unanswered
from causalfm.auditing.evidence_items import ITEMS
from causalfm.auditing.findings import SCHEMA_VERSION, Audit, Finding
from causalfm.auditing.formatting import bounds
from causalfm.auditing.loading import audit_of
from causalfm.errors import DataError

COMPARISONS = ("1.0",)


class Report(NamedTuple):
    """One report: where it comes from, what its numbers lean on, and its answers (fields of an evidence record)."""

    source: Mapping[str, Any]
    assumptions: tuple[str, ...]
    answers: tuple[Mapping[str, Any], ...]


def read_report(path: str | Path) -> Report:
    """Read a report of ``causalfm audit``, ``shift`` or ``compare``.

    Raises
    ------
    DataError
        As for :func:`causalfm.auditing.load_audit`.
    """
    body, sha256 = read_json(path)
    name = repr(Path(path).name)
    if isinstance(body, Mapping) and "boards" in body and "findings" not in body:
        return _of_comparison(body, sha256, name)
    return of_audit(audit_of(body, name), sha256, str(body["schema_version"]))


def of_audit(audit: Audit, sha256: str, schema_version: str = SCHEMA_VERSION) -> Report:
    """Take up the findings of an audit, what stands behind them without a verdict, and what was not asked."""
    record = {
        **_record(audit.graph.to_dict(), _parts(audit.data), audit.provenance),
        "report_sha256": sha256,
        "kind": "audit of a deployment" if is_deployment(audit) else "audit of a cohort",
        "schema_version": schema_version,
        "title": audit.title,
        "verdict": audit.verdict,
        "policy": {key: str(audit.policy.get(key, "")) for key in ("name", "sha256")},
        "intended_use": str(audit.purpose.get("intended_use", "")),
        "earlier_runs": len(audit.earlier),
        "policy_changed": any(run.get("changed") or run.get("broken") for run in audit.earlier),
    }
    alpha = number_of(audit.policy.get("alpha", 0.05))
    confidence = 1.0 - alpha if 0.0 < alpha < 1.0 else NAN
    protected = {str(name) for name in audit.policy.get("subgroups", ())} - set(audit.graph.technical)
    answers = [
        {**answer, "question": "subgroups"}  # an audit of a cohort asks them with the accuracy at every level
        if answer["question"] == "performance" and answer["factor"] in protected
        else answer
        for answer in (_of_finding(finding, confidence) for finding in audit.findings)
    ]
    for finding in audit.findings:
        answers += behind(finding, _of_finding(finding, confidence) | {"confidence": confidence})
    return Report(record, audit.assumptions, (*answers, *_not_asked(audit)))


def _record(
    graph: Mapping[str, Any], data: Sequence[tuple[str, Mapping[str, Any]]], provenance: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what an audit and a comparison say of their data, graph and run."""
    seed, versions = provenance.get("seed"), provenance.get("versions")
    return {
        "created": str(provenance.get("created", "")),
        "seed": seed if type(seed) is int else None,
        "versions": {key: str(value) for key, value in versions.items()} if isinstance(versions, Mapping) else {},
        "data": [
            {
                "name": name,
                **{key: count_of(one.get(key)) for key in ("rows", "units")},
                "fingerprint": str(one.get("fingerprint")),
            }
            for name, one in data
        ],
        "graph": graph["arrows"],
        "graph_declared_by": graph.get("declared_by", ""),
    }


def _parts(data: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the cohorts of an audit by name: one, or reference and deployment."""
    parts = [name for name in ("reference", "deployment") if f"{name}_rows" in data]
    keys = ("rows", "units", "fingerprint")
    return [(name, {key: data.get(f"{name}_{key}") for key in keys}) for name in parts] or [("cohort", data)]


def _of_finding(finding: Finding, confidence: float) -> dict[str, Any]:
    told = math.isfinite(finding.low) or math.isfinite(finding.high)
    want = finding.details.get("want")
    return {
        "question": finding.question,
        "title": finding.title,
        "factor": finding.factor,
        "quantity": finding.quantity,
        "estimate": finding.value,
        "low": finding.low,
        "high": finding.high,
        "confidence": confidence if told else NAN,
        "chance": finding.chance,
        "margin": finding.margin,
        "want": want if want in ("below", "above") else "",
        "unit": finding.unit,
        "n": finding.n,
        "n_groups": finding.n_groups,
        "holds_for": finding.target or str(finding.details.get("target", "")),
        "verdict": finding.verdict,
        "monitored": finding.monitored,
        "sentence": finding.sentence or "The report gives no sentence.",
    }


def _not_asked(audit: Audit) -> Iterator[dict[str, Any]]:
    """Technical factors that a question was not asked of, though it was of others: nested or continuous ones."""
    asked: dict[str, set[str]] = {}
    for finding in audit.findings:
        if finding.question in ITEMS and ITEMS[finding.question].each_factor:
            asked.setdefault(finding.question, set()).update((finding.factor, *finding.factor.split(" + ")))
    nested = {f.factor: f.details.get("nested_in") for f in audit.findings if f.question == "overlap"}
    for question, factors in asked.items():
        for factor in audit.graph.technical:
            if factor not in factors:
                why = f": it does not vary within {nested[factor]}" if nested.get(factor) else ""
                yield not_asked(question, factor, f"Not asked of {factor}{why}.")


def not_asked(question: str, factor: str = "", sentence: str = "") -> dict[str, Any]:
    """Say that a question was not asked, and how it would be."""
    item = ITEMS[question]
    empty = dict.fromkeys(("estimate", "low", "high", "confidence", "chance", "margin"), NAN)
    words = dict.fromkeys(("quantity", "want", "unit", "holds_for"), "")
    about = {
        "question": question,
        "title": item.title,
        "factor": factor,
        "verdict": "not asked",
        "n": None,
        "n_groups": None,
    }
    return {**about, **empty, **words, "sentence": sentence or f"Not asked in any report given. {item.how}"}


def _of_comparison(body: Mapping[str, Any], sha256: str, name: str) -> Report:
    if body.get("schema_version") not in COMPARISONS:
        known = ", ".join(COMPARISONS)
        raise DataError(
            f"{name} is a comparison with a schema_version that this version of causalfm does not read ({known}): "
            "install a newer causalfm, or compare again."
        )
    check_schema(body, "comparison-1.0", name, "Write it again with causalfm compare.")
    graph = body["graph"]
    described = body["data"].get("encoders")
    described = described if isinstance(described, Mapping) else {}
    encoders = [(name, body["data"] | one) for name, one in described.items() if isinstance(one, Mapping)]
    record = {
        **_record(graph, encoders, body["provenance"]),
        "report_sha256": sha256,
        "kind": "comparison of encoders",
        "schema_version": body["schema_version"],
        "title": title_of_comparison(len(body["encoders"]), graph["biology"], graph["technical"]),
        "verdict": None,
        "policy": None,
        "intended_use": "",
        "earlier_runs": 0,
        "policy_changed": False,
    }
    answers = [
        _of_score(board, encoder, score) for board in body["boards"] for encoder, score in board["scores"].items()
    ]
    return Report(record, tuple(body["open"]), tuple(answers))


def _of_score(board: Mapping[str, Any], encoder: str, score: Mapping[str, Any]) -> dict[str, Any]:
    """One encoder by one measure: no margin is set, so there is no verdict, only ranks that are left open."""
    value, low, high, chance = (number_of(score[key]) for key in ("value", "low", "high", "chance"))
    places = {row["encoder"]: row for row in board["standings"]}
    about = {
        "question": "comparison",
        "title": f"{board['title'][:1].upper()}{board['title'][1:]}, {board['factor']}: {encoder}",
        "factor": board["factor"],
        "subject": encoder,
        "quantity": board["title"],
        "estimate": value,
        "low": low,
        "high": high,
        "confidence": NAN if math.isnan(low) and math.isnan(high) else 0.95,
        "chance": chance,
        "margin": NAN,
        "want": "",
        "unit": score["unit"],
        "n": score["n"],
        "n_groups": score["n_groups"],
        "holds_for": f"new {score['unit']}s of these levels",
        "verdict": "no verdict",
    }
    if math.isnan(value):
        why = score["details"].get("reason") or board["reason"] or "there is no number"
        return about | unanswered(f"Cannot tell: {str(why).removeprefix('cannot tell: ').rstrip('.')}.")
    sentence = f"{bounds(value, low, high, chance)}; {board['better']} is better"
    if encoder in places:
        first, last = places[encoder]["rank_low"], places[encoder]["rank_high"]
        sentence += f"; rank {first}" + (f" to {last}" if last > first else "") + f" of {len(places)} left open"
    elif board["reason"]:
        sentence += f"; no ranks: {board['reason']}"
    return about | {"sentence": f"{sentence}."}
