"""What a deployment costs, as findings: performance measured, expected without labels, by subgroup; labels needed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from causalfm.auditing.findings import Finding, numbers_of
from causalfm.auditing.policy import Policy
from causalfm.results import Estimate
from causalfm.shift import (
    Domains,
    LabelFree,
    MeasuredPerformance,
    label_budget,
    label_free_performance,
    measured_performance,
    subgroup_performance,
)


def cost_findings(domains: Domains, policy: Policy) -> list[Finding]:
    """Say what the deployment costs: measured where labels are, expected where they do not decide."""
    margin, out = policy.performance_drop, []
    expected = label_free_performance(domains, margin=margin)
    if domains.deployment.known.any():
        measured = measured_performance(domains, margin=margin, minimum=policy.minimum_groups)
        out.append(_measured(measured, expected, domains, margin))
        if out[0].verdict != "cannot tell":  # what was measured needs no second verdict, by less
            return out
    out.append(_expected(expected, domains, margin))
    return [*out[:-1], _with_budget(out[-1], domains, expected, margin)]


def _with_budget(finding: Finding, domains: Domains, expected: LabelFree, margin: float) -> Finding:
    """Add how many labels would decide it to a finding that is not decided."""
    if finding.verdict != "cannot tell" or not 0.0 < margin < 1.0:  # a policy may allow no drop, or any
        return finding
    found = label_budget(domains, margin=margin, expected=expected, random_state=domains.random_state)
    needed = {"patients": found.patients, "expected drop": found.expected_drop, "curve": list(found.curve)}
    details = {**finding.details, "labels needed": needed | dict(found.details)}
    return dataclasses.replace(finding, advice=f"{finding.advice} {found.sentence}", details=details)


def _measured(found: MeasuredPerformance, expected: LabelFree, domains: Domains, margin: float) -> Finding:
    drop, site_out = found.drop, found.drop_site_out
    named = {
        "deployment": found.accuracy,
        "reference": found.reference,
        "reference, sites left out": found.reference_site_out,
        "balanced, deployment": found.balanced,
        "drop of balanced accuracy": found.drop_balanced,
        f"drop against a {domains.site} left out": site_out,
    }
    return Finding(
        question="cost",
        title=f"How much accuracy does the model lose at the deployment's {domains.graph.group}s?",
        factor=domains.site,
        verdict=found.verdict,
        sentence=found.sentence,
        value=drop.value,
        low=drop.low,
        high=drop.high,
        chance=0.0,
        margin=margin,
        quantity="drop of accuracy, reference less deployment",
        n=drop.n,
        n_groups=found.n_labelled,
        unit=domains.graph.group,
        target=f"new {domains.graph.group}s of the deployment, against new ones of the reference",
        advice="" if found.verdict == "pass" else "Do not deploy on this evidence; see why, and what to do.",
        details={
            "want": "below",
            "accuracies": [{"of": key, **numbers_of(one)} for key, one in named.items()],
            "recall by class": _rows(found.recalls),
            "drop by class": _rows(found.drop_by_class),
            "by site": _rows(found.by_site),
            "expected without labels": _estimates(expected),
            **dict(found.details),
        },
    )


def _estimates(found: LabelFree) -> list[dict[str, Any]]:
    return [
        {
            "estimator": one.name,
            "trusted": one.trusted,
            "expected": one.predicted,
            "low": one.low,
            "high": one.high,
            "drop": one.drop,
            "drop low": one.drop_low,
            "drop high": one.drop_high,
            "as estimated": one.value,
            "own low": one.own_low,
            "own high": one.own_high,
        }
        for one in found.estimates
    ]


def _expected(found: LabelFree, domains: Domains, margin: float) -> Finding:
    tests = [
        {
            "estimator": test.estimator,
            "sites": len(test.sites),
            "mean error": test.bias,
            "spread": test.spread,
            "root mean square error": test.rmse,
            "coverage of its own interval": test.own_coverage,
            "coverage of the prediction interval": test.coverage,
        }
        for test in found.back_tests
    ]
    return Finding(
        question="expected cost",
        title="How much accuracy is the model expected to lose, as far as can be told without labels?",
        factor=domains.site,
        verdict=found.verdict,
        sentence=found.sentence,
        value=found.drop,
        low=found.drop_low,
        high=found.drop_high,
        chance=0.0,
        margin=margin,
        quantity="expected drop of accuracy, reference less deployment",
        n=found.n,
        n_groups=found.n_groups,
        unit=found.unit,
        target=str(found.details.get("target", "")) or f"{found.unit}s of the deployment",
        advice="" if found.verdict == "pass" else f"Label {domains.graph.group}s of the new {domains.site}.",
        details={
            "want": "below",
            "estimators": _estimates(found),
            "what they lean on": [
                {"estimator": one.name, "assumption": one.assumption, "back-test": one.reason}
                for one in found.estimates
            ],
            "back-tests on reference sites": tests,
            **dict(found.details),
        },
    )


def subgroup_findings(domains: Domains, policy: Policy) -> list[Finding]:
    """Say for which of the policy's subgroups the model is worse."""
    if not policy.subgroups:
        return []
    out = []
    for found in subgroup_performance(domains, policy.subgroups, margin=policy.subgroup_gap):
        gap = found.gap
        # a gap that the reference does not have says nothing of the new site's
        unseen = found.domain == "reference" and found.verdict == "pass"
        out.append(
            Finding(
                question="subgroups",
                title=f"Is the model as good for every level of {found.column}?",
                factor=found.column,
                verdict="cannot tell" if unseen else found.verdict,
                sentence=found.sentence,
                **numbers_of(gap),
                chance=0.0,
                margin=policy.subgroup_gap,
                quantity="largest gap of accuracy between subgroups",
                n=gap.n,
                n_groups=gap.n_groups,
                unit=domains.graph.group,
                target=f"{domains.graph.group}s of the {found.domain}",
                advice="" if found.verdict == "pass" else f"Report accuracy by {found.column}; do not pool it.",
                details={
                    "want": "below",
                    "subgroups": _rows(found.groups),
                    "worst": numbers_of(found.worst),
                    "gap within classes": numbers_of(found.gap_fixed_class),
                    "gap within classes and sites": numbers_of(found.gap_fixed_site_and_class),
                    **dict(found.details),
                },
            )
        )
    return out


def _rows(each: Sequence[Estimate]) -> list[dict[str, Any]]:
    return [
        {"of": one.details.get("level", one.name), **numbers_of(one), f"{one.unit}s": one.n_groups}
        | {key: one.details[key] for key in ("reason",) if key in one.details}
        for one in each
    ]
