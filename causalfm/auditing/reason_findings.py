"""Why a deployment loses accuracy, as findings: mechanisms, inputs against labels, sign reversals."""

from __future__ import annotations

from typing import Any

from causalfm.auditing.findings import Finding
from causalfm.auditing.policy import Policy
from causalfm.shift import Domains, attribution, sign_reversals, support_split


def mechanism_finding(domains: Domains, policy: Policy) -> Finding:
    """Say which mechanisms of the declared graph the drop of accuracy belongs to."""
    found = attribution(domains, margin=policy.performance_drop)
    rows = [
        {
            "mechanism": one.mechanism,
            "role": one.role,
            "share of the drop": one.value,
            "low": one.low,
            "high": one.high,
            "low of all": one.low_of_all,
            "high of all": one.high_of_all,
            f"effective {found.unit}s": one.effective,
            "verdict": one.verdict,
            "in words": one.sentence,
        }
        for one in found.shares
    ]
    return Finding(
        question="why",
        title="Which mechanism does the drop of accuracy belong to?",
        factor=domains.site,
        verdict=found.verdict,
        sentence=found.sentence,
        n=found.n,
        n_groups=found.n_groups,
        unit=found.unit,
        target=str(found.details.get("target", "")),
        details={
            "drop": {"value": found.drop, "low": found.low, "high": found.high},
            "mechanisms": rows,
            "named": list(found.named),
            "orders": found.orders,
        }
        | _rest(found.details, "target", "orders"),
    )


def split_finding(domains: Domains, policy: Policy) -> Finding:
    """Say whether the drop comes with other inputs, or with other labels for the same inputs."""
    found = support_split(domains, margin=policy.performance_drop)
    return Finding(
        question="split",
        title="Does the model see other inputs, or do the same inputs mean something else?",
        factor=domains.site,
        verdict=found.verdict,
        sentence=found.sentence,
        n=found.n,
        n_groups=found.n_groups,
        unit=found.unit,
        details={
            "parts": [
                {"part": one.name, "value": one.value, "low": one.low, "high": one.high, "in words": one.sentence}
                for one in found.parts
            ],
            "overlap": found.overlap,
            **_rest(found.details),
        },
    )


def reversal_finding(domains: Domains, policy: Policy) -> Finding:
    """Say whether the pooled drop has another sign than the drop within classes, sites or technical levels."""
    found = sign_reversals(domains, margin=policy.performance_drop)
    return Finding(
        question="reversal",
        title="Does the pooled drop hold within classes, sites and technical levels?",
        factor=domains.site,
        verdict=found.verdict,
        sentence=found.sentence,
        n=found.n,
        n_groups=found.n_groups,
        unit=found.unit,
        details={"within": found.rows(), "reversed": list(found.found)} | _rest(found.details),
    )


def _rest(details: Any, *known: str) -> dict[str, Any]:
    """Return the details that are not shown elsewhere."""
    return {key: value for key, value in dict(details).items() if key not in known}
