"""The questions of an audit: each turns a measurement into a finding. Read-outs are in the module ``reading``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from causalfm.auditing.design_checks import checked
from causalfm.auditing.family import neighbourhood_family
from causalfm.auditing.findings import Finding, numbers_of
from causalfm.auditing.policy import Policy
from causalfm.auditing.reading import differing_covariates
from causalfm.auditing.row_sample import RowSample
from causalfm.auditing.sensitivity_words import sensitivity_record
from causalfm.cohort import Cohort
from causalfm.dosing import comparable
from causalfm.estimators import Effect, effect
from causalfm.estimators.effects import largest_pair
from causalfm.graph import CausalGraph
from causalfm.invariance import invariance_test
from causalfm.metrics.neighbourhood import robustness_index
from causalfm.neighbours import Neighbours
from causalfm.results import Estimate, verdict_against

RAW_SETTINGS = {"k chosen": "k_choice", "support": "support", "weights": "weights"}


def overlap_finding(cohort: Cohort, graph: CausalGraph, of: Sequence[str], policy: Policy) -> Finding:
    """Answer whether the levels of the factor can be compared within biology at all."""
    found = comparable(cohort, graph, of, graph.invariance(of).valid, policy.minimum_groups)
    what = "values" if found.continuous else "levels"
    kept = found.table.patients if found.table else 0
    sentence, advice = found.sentence, ""
    if found.nested_in:
        sentence = f"Cannot tell {found.factor} from {found.nested_in}. {sentence}"
    if found.verdict != "pass":
        advice = f"Collect {graph.group}s for the cells named, or restrict the claim to the rest."
    return Finding(
        question="overlap",
        title=f"Can {what} of {found.factor} be compared within {' and '.join(found.given) or 'the cohort'}?",
        factor=found.factor,
        verdict=found.verdict,
        sentence=sentence,
        value=kept / cohort.factor(graph.group, private=True).n_levels,
        quantity=f"share of {graph.group}s in cells that can be compared",
        n=len(cohort),
        n_groups=kept,
        unit=graph.group,
        target=found.target if found.comparable else f"all {graph.group}s of this cohort",
        advice=advice,
        details={
            "given": list(found.given),
            "left_out": [dict(row) for row in found.cells] or [{"reason": text} for text in found.left_out],
            "minimum_per_cell": found.minimum,
            "nested_in": found.nested_in,
            "comparable": found.comparable,
        },
    )


def neighbourhood_finding(
    cohort: Cohort,
    graph: CausalGraph,
    factor: str,
    policy: Policy,
    neighbours: Neighbours,
    seed: int,
    sample: RowSample | None = None,
) -> Finding:
    """Answer whether neighbours share the biology or the factor; ``cohort`` are the rows of the sample, if any."""
    if sample is None:
        found = robustness_index(cohort, graph, confounder=factor, neighbours=neighbours, random_state=seed)
    else:
        found = sample.index(factor)
    title = f"Do neighbours share {graph.biology} or {factor}?"
    if "k" not in found.details:  # no part of the cohort in which this can be asked
        sentence = f"Cannot tell: {found.details['reason'].removeprefix('cannot tell: ')}."
        return Finding("neighbourhood", title, factor, "cannot tell", sentence, n=len(cohort), unit=graph.group)
    reference: Estimate = found.details["standardised"]
    verdict = verdict_against(reference.low, reference.high, policy.neighbourhood_minimum, want="above")
    sentence = _neighbourhood_sentence(found, reference, graph.biology, factor)
    differing = differing_covariates(cohort, graph, factor)
    if verdict == "fail" and differing:
        verdict = "cannot tell"
        sentence += (
            f" Levels of {factor} also differ in {' and '.join(differing)}, which the index does not adjust for."
        )
    advice = f"Do not use nearest-neighbour retrieval across levels of {factor} with this embedding."
    raw = {"value": found.value, "low": found.low, "high": found.high, "chance": found.chance, "k": found.details["k"]}
    raw |= {key: found.details[name] for key, name in RAW_SETTINGS.items()}
    kept = ("tables", "dropped", "draws", "fraction", "interval")
    causes = found.details.get("within", [])
    inside = f" within {' and '.join(causes)}" if causes else ""
    return Finding(
        question="neighbourhood",
        title=title,
        factor=factor,
        verdict=verdict,
        sentence=sentence,
        value=reference.value,
        low=reference.low,
        high=reference.high,
        chance=reference.chance,
        margin=policy.neighbourhood_minimum,
        quantity="robustness index, 2 x 2 reference",
        n=reference.n,
        n_groups=reference.n_groups,
        unit=graph.group,
        target=f"all complete 2 x 2 tables of {graph.biology} and {factor}{inside}, equal {graph.group}s per cell",
        advice="" if verdict == "pass" else advice,
        details={
            "want": "above",
            "as published (whole cohort)": raw,
            "curve": found.details["curve"],
            "other measures": neighbourhood_family(cohort, graph, factor, found.details["k"], neighbours, seed),
            **{key: reference.details[key] for key in kept if key in reference.details},
        },
    )


def _neighbourhood_sentence(found: Estimate, reference: Estimate, biology: str, factor: str) -> str:
    if math.isnan(reference.value):
        return f"Cannot tell: {reference.details['reason'].removeprefix('cannot tell: ')}."
    words = (
        f"Of the neighbours that share either {biology} or {factor} but not both, {reference.value:.0%} share "
        f"{biology} in balanced 2 x 2 tables (chance {reference.chance:.0%}); on the cohort as it is "
        f"{found.value:.0%} at k = {found.details['k']} (chance {found.chance:.0%})."
    )
    if math.isnan(reference.low):
        words = f"Cannot tell, there is no interval: {reference.details['interval'].removeprefix('none: ')}. {words}"
    return words


def invariance_finding(cohort: Cohort, graph: CausalGraph, of: Sequence[str], policy: Policy, seed: int) -> Finding:
    """Answer whether the mean embedding is invariant to the factor, given the graph's set, and what could be seen."""
    result = invariance_test(
        cohort,
        graph,
        of=of,
        margin=policy.effect_ratio,
        n_permutations=policy.permutations,
        minimum=policy.minimum_groups,
        random_state=seed,
    )
    joint = result.effect
    size = None if joint is None else numbers_of(joint)
    kept = ("valid_sets", "question", "n_permutations", "tested_groups", "per_level", "caveat")
    draws = "sign-flip" if result.details["overlap"]["paired"] else "permutation"
    rests, more, advice = "largest pair", {}, f"See the effect of {result.of} for its size."
    if result.details["overlap"]["continuous"]:
        rests, more = "slope's bounds", {"exceeded": "how far the embedding moves with it"}
        advice = f"Correct the embedding for {result.of}, or keep it within a narrower range; then audit again."
    finding = Finding(
        question="invariance",
        title=f"Is the embedding invariant to {result.of}, given {', '.join(result.given) or 'nothing'}?",
        factor=result.of,
        verdict=result.verdict,
        sentence=result.sentence,
        value=result.p_value,
        quantity=f"p-value of the {draws} test (the verdict rests on the {rests}, not on p)",
        n=result.n,
        n_groups=result.n_groups,
        unit=result.unit,
        target=str(result.details.get("target", "")),
        advice="" if result.verdict == "pass" else advice,
        details={
            **{key: result.details[key] for key in kept if key in result.details},
            "given": list(result.given),
            "statistic": result.statistic,
            "squared slope per standard deviation" if more else "mean squared distance": size,
            **more,
        },
    )
    return checked(finding, result, cohort, graph, of, seed)


def effect_finding(cohort: Cohort, graph: CausalGraph, of: Sequence[str], policy: Policy) -> Finding:
    """Answer how far the factor moves the embedding, compared with biology."""
    found = effect(cohort, graph, treatment=of, minimum=policy.minimum_groups)
    factor, ratio, joint = found.treatment, found.ratio, found.joint
    title = f"How far does {factor} move the embedding, compared with {graph.biology}?"
    if not found.levels:
        sentence = f"Cannot tell: {found.details['reason']}"
        return Finding(
            "effect", title, factor, "cannot tell", sentence, n=len(cohort), unit=graph.group, details={"want": "below"}
        )
    verdict = verdict_against(ratio.low, ratio.high, policy.effect_ratio)
    if verdict == "pass" and found.overlap.left_out:
        verdict = "cannot tell"  # a pass must hold for every level
    slope = found.overlap.continuous
    advice = f"Correct the embedding for {factor}, or train with its levels balanced; then audit again."
    if slope:
        advice = f"Correct the embedding for {factor}, or keep it within a narrower range; then audit again."
    quantity = f"distance between levels / distance between classes of {graph.biology}"
    slope_quantity = f"move by one standard deviation of {factor} / distance between classes of {graph.biology}"
    told = found.sensitivity()
    more: dict[str, Any] = {"exceeded": "how far the embedding moves with it"}
    if not slope:
        ends = {"distance": told.value, "low": told.low, "high": told.high}
        more = {"largest pair": [{"levels": " - ".join(told.pair), **ends}]}
    return Finding(
        question="effect",
        title=title,
        factor=factor,
        verdict=verdict,
        sentence=_effect_sentence(found, graph),
        value=ratio.value,
        low=ratio.low,
        high=ratio.high,
        chance=0.0,
        margin=policy.effect_ratio,
        quantity=slope_quantity if slope else quantity,
        n=joint.n,
        n_groups=joint.n_groups,
        unit=joint.unit,
        target=found.overlap.target,
        advice="" if verdict == "pass" else advice,
        details={
            "want": "below",
            "per_level": list(found.levels),
            "given": found.details["given"],
            "dowhy_confirms": found.details.get("dowhy_confirms"),
            **more,
            "squared distances": [
                _distance_row(e, of) for e, of in ((joint, factor), (found.biology, graph.biology)) if e
            ],
            "sensitivity": sensitivity_record(told),
        },
    )


def _effect_sentence(found: Effect, graph: CausalGraph) -> str:
    """Say how far levels lie apart, or how far one standard deviation moves the embedding."""
    factor, ratio, joint = found.treatment, found.ratio, found.joint
    slope = found.overlap.continuous
    if math.isnan(ratio.value):
        reason = found.details["no_biology"] or f"the distance between classes of {graph.biology} is not told from zero"
        seen = "show no distance" if joint.value <= 0 else f"lie {joint.details['distance']:.3g} apart"
        if slope:
            seen = "show no move" if joint.value <= 0 else f"move the embedding by {joint.details['distance']:.3g}"
        return f"Cannot tell: {reason}. {'Standard deviations' if slope else 'Levels'} of {factor} {seen}."
    numbers = f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}] times as far"
    where = f"{graph.group} by {graph.group} and within strata"
    if slope:
        return (
            f"One standard deviation of {factor} moves it {numbers} as classes of {graph.biology} lie apart, {where}."
        )
    a, b, _ = largest_pair(found)
    return (
        f"Levels of {factor} lie {numbers} apart as classes of {graph.biology}, {where}; furthest apart: {a} and {b}."
    )


def _distance_row(estimate: Estimate, of: str) -> dict[str, Any]:
    """Mean squared distance between the levels of a column, and its root."""
    row = {"between levels of": of, "squared distance": estimate.value, "low": estimate.low, "high": estimate.high}
    return {**row, "distance": estimate.details["distance"]}
