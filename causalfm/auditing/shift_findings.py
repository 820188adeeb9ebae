"""What changed at a deployment, as findings: drift, columns, support, case mix."""

from __future__ import annotations

from typing import Any

from causalfm.auditing.findings import Finding
from causalfm.auditing.policy import Policy
from causalfm.results import Estimate, verdict_against
from causalfm.shift import Domains, case_mix, column_shifts, drift, support


def drift_findings(domains: Domains, policy: Policy) -> list[Finding]:
    """Say how far the embeddings of the deployment are from the reference, beside the reference's own sites."""
    found = drift(domains, n_permutations=policy.permutations)
    out = []
    for part in found.parts:
        size: Estimate = part.distance
        out.append(
            Finding(
                question="drift",
                title=f"Are the embeddings further away than another {domains.site} would be{_among(part.name)}?",
                factor=domains.site,
                verdict=part.verdict,
                sentence=part.sentence,
                value=size.value,
                low=size.low,
                high=size.high,
                chance=0.0,
                margin=part.limit,
                quantity=f"distance to the reference / distance between classes of {domains.graph.biology}",
                n=size.n,
                n_groups=size.n_groups,
                unit=size.unit,
                target=str(part.details.get("target", "")),
                advice="" if part.verdict == "pass" else "Look at the columns below, then at stain and scanner.",
                details={
                    "want": "below",
                    "given": list(part.given),
                    f"p-value of the invariance test ({part.method})": part.p_value,
                    "each reference site against the others": list(part.among),
                    "p-value against another site": part.p_new_site,
                    **part.details,
                },
            )
        )
    return out


def column_finding(domains: Domains) -> Finding:
    """Say which covariates and technical columns are distributed otherwise, and which levels are new."""
    found = column_shifts(domains)
    rows = [
        {
            "column": one.column,
            "role": one.role,
            "size": one.size.value,
            "low": one.size.low,
            "high": one.size.high,
            "limit": one.limit,
            "p (Holm)": one.p_adjusted,
            "verdict": one.verdict,
        }
        for one in found.columns
    ]
    unseen = [
        {"column": one.column, "level": level, **counts}
        for one in found.columns
        for level, counts in one.unseen.items()
    ]
    return Finding(
        question="columns",
        title="Are covariates and technical columns distributed as in the reference?",
        factor=domains.site,
        verdict=found.verdict,
        sentence=found.sentence,
        n=len(domains.deployment),
        n_groups=_patients(domains),
        unit=domains.graph.group,
        details={"columns": rows, "unseen levels": unseen, **found.details},
    )


def support_finding(domains: Domains, policy: Policy) -> Finding:
    """Say which share of the deployment lies where the reference has no rows."""
    found = support(domains)
    outside = found.outside
    verdict = found.verdict
    if verdict != "cannot tell":
        verdict = verdict_against(outside.low, outside.high, policy.support_share)
    return Finding(
        question="support",
        title=f"Does the deployment lie where the reference has {domains.graph.group}s?",
        factor=domains.site,
        verdict=verdict,
        sentence=found.sentence,
        value=outside.value,
        low=outside.low,
        high=outside.high,
        chance=found.expected_patients,
        margin=policy.support_share,
        quantity=f"share of the deployment's {domains.graph.group}s outside the reference",
        n=outside.n,
        n_groups=outside.n_groups,
        unit=outside.unit,
        advice="" if verdict == "pass" else "No number of the reference speaks for rows outside it: collect such rows.",
        details={
            "want": "below",
            "share of a left-out reference site": found.expected_sites,
            "each reference site against the others": list(found.among),
            "limit for another site": found.limit,
            "unseen levels": [
                {"column": column, "level": level, **counts}
                for column, levels in found.unseen.items()
                for level, counts in levels.items()
            ],
            "cells that the reference lacks": list(found.empty_cells),
            **found.details,
        },
    )


def case_mix_finding(domains: Domains) -> Finding:
    """Say how frequent the classes are at the deployment, by labels or without, and whether that can be read."""
    found = case_mix(domains)
    rows: list[dict[str, Any]] = []
    for position, name in enumerate(domains.classes):
        row: dict[str, Any] = {"class": name, "reference": found.reference[position]}
        for kind, each in (("measured", found.measured), ("BBSE", found.bbse), ("EM", found.em)):
            if each:
                one = each[position]
                row |= {kind: one.value, f"{kind} low": one.low, f"{kind} high": one.high}
        rows.append(row)
    fit = found.fit
    return Finding(
        question="case mix",
        title=f"How frequent are the classes of {domains.graph.biology} at the deployment?",
        factor=domains.graph.biology,
        verdict=found.verdict,
        sentence=found.sentence,
        n=len(domains.deployment),
        n_groups=_patients(domains),
        unit=domains.graph.group,
        advice="" if found.verdict == "pass" else "Label a random sample of the new site's patients: it decides.",
        details={
            "classes": rows,
            "fit of the mixture": {
                "distance": fit.distance,
                "p-value if only the case mix changed": fit.p_value,
                "limit for another site": fit.limit,
                "verdict": fit.verdict,
                "in words": fit.sentence,
            },
            **found.details,
        },
    )


def _among(name: str) -> str:
    return "" if name == "joint" else f", {name}" if name.startswith("given") else f", in {name}"


def _patients(domains: Domains) -> int:
    return int(domains.deployment.units.max()) + 1
