"""Columns that a policy names: protected subgroups, and the technical factors whose findings decide."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from causalfm.arguments import did_you_mean
from causalfm.auditing.findings import Finding
from causalfm.auditing.policy import Policy
from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.graph import CausalGraph

JOINT = " + "  # between factors that are asked about together


def check_columns(policy: Policy, graph: CausalGraph, cohorts: Mapping[str, Cohort]) -> None:
    """Refuse a policy that names a column which is not there: no answer would look like one that cannot be given.

    Parameters
    ----------
    policy
        Its ``subgroups`` and ``factors``.
    graph
        Its technical factors.
    cohorts
        The tables, under the names that a message gives them.

    Raises
    ------
    DataError
        A subgroup that a table lacks, a factor that the graph does not call technical; the message names the key, the
        column and what there is.
    """
    for name, cohort in cohorts.items():
        columns = [str(column) for column in cohort.obs.columns]
        if lacking := [column for column in policy.subgroups if column not in columns]:
            raise DataError(
                f"policy key 'subgroups' names {', '.join(map(repr, lacking))}, and the {name} has no such column."
                f"{did_you_mean(lacking[0], columns)} Columns: {', '.join(columns)}."
            )
    if unknown := [factor for factor in policy.factors if factor not in graph.technical]:
        raise DataError(
            f"policy key 'factors' names {', '.join(map(repr, unknown))}, and the graph has no such technical factor."
            f"{did_you_mean(unknown[0], graph.technical)} Technical factors: {', '.join(graph.technical)}."
        )


def monitored(factor: str, graph: CausalGraph, policy: Policy) -> bool:
    """Say whether findings on a factor decide: one of several asked about together is enough.

    What is no technical factor (the biology, the graph itself, a subgroup) always decides.
    """
    parts = (factor,) if factor in graph.technical else tuple(factor.split(JOINT))
    technical = [part for part in parts if part in graph.technical]
    return not policy.factors or not technical or any(part in policy.factors for part in technical)


def mark_monitored(findings: Sequence[Finding], graph: CausalGraph, policy: Policy) -> list[Finding]:
    """Mark the findings that do not decide with ``details["monitored"] = False``."""
    return [
        finding
        if monitored(finding.factor, graph, policy)
        else dataclasses.replace(finding, details={**finding.details, "monitored": False})
        for finding in findings
    ]


def monitored_note(findings: Iterable[Finding], policy: Policy) -> list[str]:
    """Say in the report which factors do not decide, and what they would have decided."""
    left = dict.fromkeys(finding.factor for finding in findings if not finding.monitored)
    if not left:
        return []
    named = ", ".join(left)
    return [f"The policy monitors {', '.join(policy.factors)}: findings on {named} are shown and do not decide."]
