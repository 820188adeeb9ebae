"""What changed at a deployment, as findings: drift, columns, support, case mix."""

from __future__ import annotations

from typing import Any

from causalfm.auditing.findings import Finding
from causalfm.auditing.policy import Policy
from causalfm.auditing.policy_columns import monitored
from causalfm.results import verdict_against
from causalfm.shift import Domains, case_mix, column_shifts, drift, support


def drift_finding(domains: Domains, policy: Policy) -> Finding:
    """Say how far the deployment's embeddings are from the reference's, beside those of the reference's own sites."""
    found = drift(domains, n_permutations=policy.permutations)
    parts = {part.name: part for part in found.parts}
    asked = next((part for name, part in parts.items() if name.startswith("given")), parts["joint"])
    rows = [
        {
            "among": part.name,
            "distance": part.distance.value,
            "low": part.distance.low,
            "high": part.distance.high,
            "limit": part.limit,
            f"p ({part.method})": part.p_value,
            "p against another site": part.p_new_site,
            "verdict": part.verdict,
        }
        for part in found.parts
    ]
    size, given = asked.distance, f", given {', '.join(asked.given)}" if asked.given else ""
    return Finding(
        question="drift",
        title=f"Are the embeddings further away than another {domains.site} would be{given}?",
        factor=domains.site,
        verdict=asked.verdict,
        sentence=asked.sentence,
        value=size.value,
        low=size.low,
        high=size.high,
        chance=0.0,
        margin=asked.limit,
        quantity=f"distance to the reference / distance between classes of {domains.graph.biology}",
        n=size.n,
        n_groups=size.n_groups,
        unit=size.unit,
        target=str(asked.details.get("target", "")) or _against(domains),
        advice="" if asked.verdict == "pass" else "Look at the columns below, then at stain and scanner.",
        details={
            "want": "below",
            "whole and by class": rows,
            "each reference site against the others": list(asked.among),
            **asked.details,
        },
    )


def column_finding(domains: Domains, policy: Policy) -> Finding:
    """Say which covariates and technical columns are distributed otherwise, and which levels are new.

    Technical columns that the policy does not monitor are shown and do not decide.
    """
    graph = domains.graph
    asked = [*graph.covariates, *(name for name in graph.technical if name != domains.site)]
    deciding = [name for name in asked if monitored(name, graph, policy)]
    found = column_shifts(domains, deciding=deciding or None)
    rows = [
        {
            "column": one.column,
            "role": one.role if one.column in deciding else f"{one.role}, not monitored",
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
        details={"columns": rows, "unseen levels": unseen, **found.details}
        | ({} if deciding else {"monitored": False}),
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
        target=_against(domains),
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
            **{key: value for key, value in found.details.items() if key != "missed_at_sites"},  # one table per site
        },
    )


def _patients(domains: Domains) -> int:
    return int(domains.deployment.units.max()) + 1


def _against(domains: Domains) -> str:
    return f"{domains.graph.group}s of the deployment, against those of the reference"
