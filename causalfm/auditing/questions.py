"""The questions of an audit: each turns a measurement into a finding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from causalfm.auditing.findings import Finding
from causalfm.auditing.policy import Policy
from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.estimators import Effect, effect
from causalfm.estimators.effects import largest_pair
from causalfm.graph import CausalGraph
from causalfm.invariance import invariance_test
from causalfm.metrics.neighbourhood import robustness_index
from causalfm.metrics.probes import PROBES, readout
from causalfm.neighbours import Neighbours
from causalfm.positivity import comparable_set, stratify
from causalfm.results import Estimate, Verdict, verdict_against, worst

NAN = float("nan")


def overlap_finding(cohort: Cohort, graph: CausalGraph, of: Sequence[str], policy: Policy) -> Finding:
    """Can the levels of the factor be compared within biology at all?"""
    found = comparable_set(cohort, graph, of, graph.invariance(of).valid, policy.minimum_groups)
    strata = stratify(cohort, graph, of, found.given)
    kept = found.table.patients if found.table else 0
    sentence = found.sentence
    if found.nested_in:
        sentence = f"Cannot tell {found.factor} from {found.nested_in}. {sentence}"
    return Finding(
        "overlap",
        f"Can levels of {found.factor} be compared within {' and '.join(found.given) or 'the cohort'}?",
        found.factor,
        found.verdict,
        sentence,
        value=kept / strata.groups.n_levels,
        quantity=f"share of {graph.group}s in cells that can be compared",
        n=len(cohort),
        n_groups=kept,
        unit=graph.group,
        target=found.target if found.comparable else "",
        advice="" if found.verdict == "pass" else f"Collect {graph.group}s for the cells named, or restrict the claim to the rest.",
        details={
            "given": list(found.given), "left_out": [{"left out": text} for text in found.left_out],
            "minimum_per_cell": found.minimum, "nested_in": found.nested_in, "comparable": found.comparable,
        },
    )  # fmt: skip


def neighbourhood_finding(
    cohort: Cohort, graph: CausalGraph, factor: str, policy: Policy, neighbours: Neighbours | None, seed: int
) -> Finding:
    """Do neighbours share the biology or the factor?"""
    found = robustness_index(cohort, graph, confounder=factor, neighbours=neighbours, random_state=seed)
    reference: Estimate = found.details["standardised"]
    verdict = verdict_against(reference.low, reference.high, policy.neighbourhood_minimum, want="above")
    if math.isnan(reference.value):
        sentence = f"Cannot tell: {reference.details.get('reason', 'no complete 2 x 2 table of classes and levels')}."
    else:
        sentence = (
            f"Of the neighbours that share either {graph.biology} or {factor} but not both, {reference.value:.0%} share "
            f"{graph.biology} in balanced 2 x 2 tables (chance {reference.chance:.0%}); on the cohort as it is "
            f"{found.value:.0%} at k = {found.details['k']} (chance {found.chance:.0%})."
        )
    raw = {"value": found.value, "low": found.low, "high": found.high, "chance": found.chance, "k": found.details["k"]}
    raw |= {
        "k chosen": found.details["k_choice"],
        "support": found.details["support"],
        "weights": found.details["weights"],
    }
    details: dict[str, Any] = {"as published (whole cohort)": raw, "curve": found.details["curve"]}
    details |= {
        key: reference.details[key] for key in ("tables", "dropped", "draws", "fraction") if key in reference.details
    }
    return Finding(
        "neighbourhood",
        f"Do neighbours share {graph.biology} or {factor}?",
        factor,
        verdict,
        sentence,
        reference.value,
        reference.low,
        reference.high,
        reference.chance,
        policy.neighbourhood_minimum,
        "robustness index, 2 x 2 reference",
        reference.n,
        reference.n_groups,
        graph.group,
        f"all complete 2 x 2 tables of {graph.biology} and {factor}, equal {graph.group}s per cell",
        ""
        if verdict == "pass"
        else f"Do not use nearest-neighbour retrieval across levels of {factor} with this embedding.",
        {"want": "above", **details},
    )


def readout_finding(
    cohort: Cohort, graph: CausalGraph, factor: str, policy: Policy, neighbours: Neighbours | None, seed: int
) -> Finding:
    """Can a probe read the factor beyond what the case mix gives away?"""
    title = f"Can a probe read {factor} beyond the case mix?"
    return _probe_finding("readout", title, cohort, graph, factor, policy.readout_excess, neighbours, seed)


def biology_finding(
    cohort: Cohort, graph: CausalGraph, policy: Policy, neighbours: Neighbours | None, seed: int
) -> Finding:
    """Can a probe read the biology beyond what the site gives away?"""
    title = f"Does the embedding carry {graph.biology}?"
    return _probe_finding("biology", title, cohort, graph, graph.biology, policy.biology_excess, neighbours, seed)


def _probe_finding(
    question: str,
    title: str,
    cohort: Cohort,
    graph: CausalGraph,
    of: str,
    margin: float,
    neighbours: Neighbours | None,
    seed: int,
) -> Finding:
    want = "above" if question == "biology" else "below"
    try:
        found = {p: readout(cohort, graph, of=of, probe=p, neighbours=neighbours, random_state=seed) for p in PROBES}  # type: ignore[arg-type]
    except DataError as error:
        return Finding(question, title, of, "cannot tell", f"Cannot tell: {error}", unit=graph.group)
    excess = {p: [_excess(x, e.chance) for x in (e.value, e.low, e.high)] for p, e in found.items()}
    verdicts: list[Verdict] = [verdict_against(x[1], x[2], margin, want=want) for x in excess.values()]
    verdict = worst(verdicts)
    if want == "above" and "pass" in verdicts:
        verdict = "pass"  # one reader that finds the biology is enough; a factor must be hidden from all
    best = max(found, key=lambda p: found[p].value)
    estimate, shown = found[best], excess[best]
    beyond = " and ".join(estimate.details["beyond"])
    sentence = (
        f"A {best} probe names {of} of unseen {graph.group}s with balanced accuracy {estimate.value:.1%} "
        f"[{estimate.low:.1%}, {estimate.high:.1%}]; {beyond} alone would give {estimate.chance:.1%}."
    )
    if math.isnan(shown[0]):
        sentence += f" {beyond} determines {of} here: what the embedding adds cannot be told."
    rows = [
        {"probe": p, "balanced accuracy": e.value, "low": e.low, "high": e.high, "case mix alone": e.chance, "uniform": e.details["uniform"],
         "gain": excess[p][0]}
        for p, e in found.items()
    ]  # fmt: skip
    return Finding(
        question,
        title,
        of,
        verdict,
        sentence,
        *shown,
        0.0,
        margin,
        "gain of the best probe over the case mix, share of what is possible",
        estimate.n,
        estimate.n_groups,
        graph.group,
        f"new {graph.group}s of these levels",
        _probe_advice(question, of, verdict),
        {"want": want, "probes": rows, "recall": estimate.details["recall"], "left_out": estimate.details["left_out"]},
    )


def _probe_advice(question: str, of: str, verdict: Verdict) -> str:
    if verdict == "pass":
        return ""
    if question == "biology":
        return f"The embedding, or this cohort, is too weak for {of}: collect more patients or use another encoder."
    return f"Train on balanced or corrected embeddings, and report accuracy for every level of {of}."


def _excess(value: float, chance: float) -> float:
    return (value - chance) / (1.0 - chance) if chance < 0.999 else NAN


def invariance_finding(cohort: Cohort, graph: CausalGraph, of: Sequence[str], policy: Policy, seed: int) -> Finding:
    """Is the mean embedding invariant to the factor, given the graph's set?"""
    result = invariance_test(
        cohort, graph, of=of, margin=policy.effect_ratio, n_permutations=policy.permutations,
        minimum=policy.minimum_groups, random_state=seed,
    )  # fmt: skip
    joint = result.effect
    keys = ("valid_sets", "question", "n_permutations", "tested_groups", "per_level", "caveat")
    details = {key: result.details[key] for key in keys if key in result.details}
    return Finding(
        "invariance",
        f"Is the embedding invariant to {result.of}, given {', '.join(result.given) or 'nothing'}?",
        result.of,
        result.verdict,
        result.sentence,
        value=result.p_value,
        quantity="p-value of the permutation test (the verdict rests on the largest pair, not on p)",
        n=result.n,
        n_groups=result.n_groups,
        unit=result.unit,
        target=str(result.details.get("target", "")),
        advice="" if result.verdict == "pass" else f"See the effect of {result.of} for its size.",
        details={
            **details, "given": list(result.given), "statistic": result.statistic,
            "mean squared distance": None if joint is None else {"value": joint.value, "low": joint.low, "high": joint.high},
        },
    )  # fmt: skip


def effect_finding(cohort: Cohort, graph: CausalGraph, of: Sequence[str], policy: Policy) -> tuple[Finding, Effect]:
    """How far does the factor move the embedding, compared with biology?"""
    found = effect(cohort, graph, treatment=of, minimum=policy.minimum_groups)
    title = f"How far does {found.treatment} move the embedding, compared with {graph.biology}?"
    if not found.levels:
        sentence = f"Cannot tell: {found.details['reason']}"
        empty = Finding("effect", title, found.treatment, "cannot tell", sentence, n=len(cohort), unit=graph.group)
        return empty, found
    ratio, joint, biology = found.ratio, found.joint, found.biology
    verdict = verdict_against(ratio.low, ratio.high, policy.effect_ratio)
    a, b, distance = largest_pair(found)
    sensitivity = found.sensitivity()
    if np.isnan(ratio.value):
        reason = found.details["no_biology"] or f"the distance between classes of {graph.biology} is not told from zero"
        sentence = f"Cannot tell: {reason}. Levels of {found.treatment} lie {joint.details['distance']:.3g} apart."
    else:
        sentence = (
            f"Levels of {found.treatment} lie {ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}] times as far apart as classes of "
            f"{graph.biology}, {graph.group} by {graph.group} and within strata; furthest apart: {a} and {b}."
        )
    sizes = {"factor": joint.to_dict(), "biology": biology.to_dict() if biology else None}
    return Finding(
        "effect",
        title,
        found.treatment,
        verdict,
        f"{sentence} {sensitivity.sentence}",
        ratio.value,
        ratio.low,
        ratio.high,
        0.0,
        policy.effect_ratio,
        f"distance between levels / distance between classes of {graph.biology}",
        joint.n,
        joint.n_groups,
        joint.unit,
        found.overlap.target,
        "" if verdict == "pass" else f"Correct the embedding for {found.treatment}, or train with its levels balanced; then audit again.",
        {
            "want": "below", "per_level": list(found.levels), "given": found.details["given"],
            "dowhy_confirms": found.details.get("dowhy_confirms"), "largest pair": f"{a} - {b}: {distance:.3g}",
            "squared distances": sizes, "sensitivity": sensitivity.to_dict(),
        },
    ), found  # fmt: skip
