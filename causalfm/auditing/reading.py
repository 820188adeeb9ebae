"""The read-out questions of an audit: whether probes find the factor, and whether they find the biology."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import numpy as np

from causalfm.auditing.findings import Finding
from causalfm.auditing.policy import Policy
from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.metrics.probes import PROBES, readout
from causalfm.neighbours import Neighbours
from causalfm.results import Estimate, Verdict, verdict_against, worst
from causalfm.strata import table


def readout_finding(
    cohort: Cohort, graph: CausalGraph, factor: str, policy: Policy, neighbours: Neighbours | None, seed: int
) -> Finding:
    """Answer whether a probe reads the factor beyond what the case mix gives away: it must be hidden from all."""
    blank = Finding(
        question="readout",
        title=f"Can a probe read {factor} beyond the case mix?",
        factor=factor,
        verdict="cannot tell",
        sentence="",
        unit=graph.group,
        advice=f"Train on balanced or corrected embeddings, and report accuracy for every level of {factor}.",
    )
    return _answered(blank, cohort, graph, "below", policy.readout_excess, neighbours, seed)


def biology_finding(
    cohort: Cohort, graph: CausalGraph, policy: Policy, neighbours: Neighbours | None, seed: int
) -> Finding:
    """Answer whether a probe reads the biology beyond what the site gives away: one that does is enough."""
    weak = f"The embedding, or this cohort, is too weak for {graph.biology}"
    blank = Finding(
        question="biology",
        title=f"Does the embedding carry {graph.biology}?",
        factor=graph.biology,
        verdict="cannot tell",
        sentence="",
        unit=graph.group,
        advice=f"{weak}: collect more {graph.group}s or use another encoder.",
    )
    return _answered(blank, cohort, graph, "above", policy.biology_excess, neighbours, seed)


def _answered(
    blank: Finding,
    cohort: Cohort,
    graph: CausalGraph,
    want: Literal["below", "above"],
    margin: float,
    neighbours: Neighbours | None,
    seed: int,
) -> Finding:
    """Fill in a finding: verdict over all probes, numbers of the best one; the advice goes if the verdict is a pass."""
    of, unit = blank.factor, blank.unit
    try:
        found = {p: readout(cohort, graph, of=of, probe=p, neighbours=neighbours, random_state=seed) for p in PROBES}
    except DataError as error:
        return dataclasses.replace(blank, sentence=f"Cannot tell: {error}", advice="")
    gains = {probe: _gains(estimate) for probe, estimate in found.items()}
    verdicts = [verdict_against(low, high, margin, want=want) for _, low, high in gains.values()]
    verdict: Verdict = "pass" if want == "above" and "pass" in verdicts else worst(verdicts)
    best = max(found, key=lambda p: found[p].value)
    estimate = found[best]
    beyond = " and ".join(estimate.details["beyond"])
    sentence = (
        f"A {best} probe names {of} of unseen {unit}s with balanced accuracy {estimate.value:.1%} "
        f"[{estimate.low:.1%}, {estimate.high:.1%}]; {beyond} alone would give {estimate.chance:.1%}."
    )
    value, low, high = gains[best]
    if math.isnan(value):
        sentence += f" No level of {beyond} holds two levels of {of} with three {unit}s: what it adds cannot be told."
    else:
        within = estimate.details["within"]
        sentence += f" Within {beyond} it reaches {within['value']:.1%} where guessing gives {within['chance']:.1%}."
    differing = differing_covariates(cohort, graph, of) if want == "below" else []
    if verdict == "fail" and differing:
        verdict = "cannot tell"
        sentence += (
            f" Cannot tell more: {' and '.join(differing)} also differs between levels of {of}, which probes ignore."
        )
    return dataclasses.replace(
        blank,
        verdict=verdict,
        sentence=sentence,
        value=value,
        low=low,
        high=high,
        chance=0.0,
        margin=margin,
        quantity="gain of the best probe within the case mix, share of what is possible",
        n=estimate.n,
        n_groups=estimate.n_groups,
        target=f"new {unit}s of these levels",
        advice="" if verdict == "pass" else blank.advice,
        details={
            "want": want,
            "probes": [_probe_row(probe, e, gains[probe][0]) for probe, e in found.items()],
            "recall": estimate.details["recall"],
            "left_out": estimate.details["left_out"],
        },
    )


def _probe_row(probe: str, estimate: Estimate, gain: float) -> dict[str, Any]:
    return {
        "probe": probe,
        "balanced accuracy": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "case mix alone": estimate.chance,
        "uniform": estimate.details["uniform"],
        "within case mix": estimate.details["within"]["value"],
        "gain": gain,
    }


def _gains(estimate: Estimate) -> tuple[float, float, float]:
    """Share of what is possible within the case mix: value and bounds; ``nan`` where no context holds two levels."""
    within = estimate.details["within"]
    chance = within["chance"]
    value, low, high = ((within[name] - chance) / (1.0 - chance) for name in ("value", "low", "high"))
    return value, low, high


def differing_covariates(cohort: Cohort, graph: CausalGraph, factor: str) -> list[str]:
    """Covariates whose patients differ between the levels of a factor (5 %), which probes are not adjusted for."""
    from scipy import stats

    groups = cohort.factor(graph.group, private=True)
    first = np.unique(groups.codes, return_index=True)[1]
    levels = cohort.factor(factor).codes[first]
    found = []
    for name in graph.covariates:
        if graph.kind(name, cohort) == "continuous":
            values = cohort.numeric(name)[first]
            parts = [values[levels == level] for level in np.unique(levels)]
            p_value = stats.kruskal(*parts).pvalue if np.ptp(values) > 0 else 1.0
        else:
            column = cohort.factor(name)
            counts = table(column.codes[first], levels, (column.n_levels, int(levels.max()) + 1))
            counts = counts[counts.any(axis=1)][:, counts.any(axis=0)]
            p_value = stats.chi2_contingency(counts).pvalue if min(counts.shape) > 1 else 1.0
        if p_value < 0.05:
            found.append(name)
    return found
