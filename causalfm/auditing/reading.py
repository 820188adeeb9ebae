"""The read-out questions of an audit: whether probes find the factor, and whether they find the biology."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import numpy as np

from causalfm.auditing.findings import Finding
from causalfm.auditing.policy import Policy
from causalfm.auditing.unseen_levels import unseen_levels
from causalfm.cohort import Cohort
from causalfm.confidence import CHECK_ALPHA
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.metrics.calibration import furthest_off
from causalfm.metrics.probes import PROBES, Prediction, predict, score
from causalfm.metrics.site_calibration import probe_calibration
from causalfm.neighbours import Neighbours
from causalfm.results import Estimate, verdict_against
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
    return _answered(blank, cohort, graph, "below", policy.readout_excess, neighbours, seed)[0]


def biology_finding(
    cohort: Cohort, graph: CausalGraph, policy: Policy, neighbours: Neighbours | None, seed: int
) -> tuple[Finding, Prediction | None]:
    """Answer whether a probe reads the biology beyond what the site gives away: one that does is enough.

    Whether its probabilities mean the same in every site, and what it loses at levels left out of training, is told
    beside it, without a verdict: the margin would depend on what the probe is used for. What the logistic probe said is
    returned too, or None: how often it is right at every level is asked of it later.
    """
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
    finding, prediction = _answered(blank, cohort, graph, "above", policy.biology_excess, neighbours, seed)
    if prediction is None:
        return finding, None
    site = graph.technical[0]
    found = probe_calibration(cohort, graph, by=site, prediction=prediction, random_state=seed)
    lost, tables = unseen_levels(cohort, graph, seed)
    rows = [_calibration_row(estimate, site) for estimate in found]
    told = dataclasses.replace(
        finding,
        sentence=f"{finding.sentence} {_calibration_sentence(found, site)} {lost}",
        details={**finding.details, f"calibration of the logistic probe by {site}": rows, **tables},
    )
    return told, prediction


def _answered(
    blank: Finding,
    cohort: Cohort,
    graph: CausalGraph,
    want: Literal["below", "above"],
    margin: float,
    neighbours: Neighbours | None,
    seed: int,
) -> tuple[Finding, Prediction | None]:
    """Fill in a finding with the gain of the best probe, bounded for the choice; give the logistic prediction too."""
    of, unit = blank.factor, blank.unit
    try:
        predictions = {
            p: predict(cohort, graph, of=of, probe=p, neighbours=neighbours, random_state=seed) for p in PROBES
        }
    except DataError as error:
        return dataclasses.replace(blank, sentence=f"Cannot tell: {error}", advice=""), None
    found = {probe: score(prediction, seed) for probe, prediction in predictions.items()}
    gains = {probe: _gain(estimate, "value") for probe, estimate in found.items()}
    low, high = (float(np.fmax.reduce([_gain(e, bound) for e in found.values()])) for bound in ("low_of_best", "high"))
    verdict = verdict_against(low, high, margin, want=want)
    best = max(found, key=lambda p: (np.nan_to_num(gains[p], nan=-1.0), found[p].value))
    estimate = found[best]
    beyond = " and ".join(estimate.details["beyond"])
    sentence = (
        f"A {best} probe names {of} of unseen {unit}s with balanced accuracy {estimate.value:.1%} "
        f"[{estimate.low:.1%}, {estimate.high:.1%}]; {beyond} alone would give {estimate.chance:.1%}."
    )
    value = gains[best]
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
    finding = dataclasses.replace(
        blank,
        verdict=verdict,
        sentence=sentence,
        value=value,
        low=low,
        high=high,
        chance=0.0,
        margin=margin,
        quantity=f"gain of the best of {len(PROBES)} probes within the case mix, share of what is possible",
        n=estimate.n,
        n_groups=estimate.n_groups,
        target=f"new {unit}s of these levels",
        advice="" if verdict == "pass" else blank.advice,
        details={
            "want": want,
            "probes": [_probe_row(probe, e, gains[probe]) for probe, e in found.items()],
            "recall": estimate.details["recall"],
            "left_out": estimate.details["left_out"],
        },
    )
    return finding, predictions["logistic"]


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


def _gain(estimate: Estimate, name: str) -> float:
    """Share of what is possible within the case mix; ``nan`` where no context holds two levels."""
    within = estimate.details["within"]
    return float((within[name] - within["chance"]) / (1.0 - within["chance"]))


def _calibration_row(estimate: Estimate, site: str) -> dict[str, Any]:
    """Lay out a level; one that cannot be judged says why."""
    details, nan = estimate.details, float("nan")
    left_out = f"without {'; '.join(details['left_out'])}" if details["left_out"] else ""
    return {
        site: details["level"],
        estimate.unit + "s": estimate.n_groups,
        "class": details.get("class", ""),
        "off by": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "calibration error": details.get("ece", nan),
        "same if calibrated": details.get("ece_null", nan),
        "Brier score": details.get("brier", nan),
        "same if guessed": details.get("brier_guess", nan),
        "slope": details.get("slope", nan),
        "temperature": details.get("temperature", nan),
        "note": details.get("reason", left_out),
    }


def _calibration_sentence(found: tuple[Estimate, ...], site: str) -> str:
    """Name the level in which the logistic probe's probabilities are shown to be furthest off."""
    judged = [e for e in found if not math.isnan(e.value)]
    if not judged:
        unread = next((e.details["reason"] for e in found if "temperature" in e.details), None)
        reason = unread or f"too few {found[0].unit}s of two classes"
        return f"Whether the logistic probe's probabilities hold in every {site} cannot be told: {reason}."
    off = [e for e in judged if e.low > 0.0 or e.high < 0.0]
    missing = len(found) - len(judged)
    if not off:
        words = f"not shown to be off in any of {len(judged)} levels of {site}"
        words += f" ({missing} more could not be judged)" if missing else ""
    else:
        levels = f"{len(found)} levels of {site}" + (f" ({missing} could not be judged)" if missing else "")
        worst = max(off, key=lambda e: furthest_off(e.value, e.low, e.high))
        if all(abs(e.value) < 0.005 for e in off):
            return (
                f"Where the {site} was in training, the logistic probe's probabilities are off in {len(off)} of "
                f"{levels}, by less than half a point."
            )
        words = (
            f"off in {len(off)} of {levels}, most in {worst.details['level']}: {worst.details['class']} "
            f"{100 * abs(worst.value):.0f} points too {'high' if worst.value > 0.0 else 'low'} "
            f"[{100 * worst.low:+.0f}, {100 * worst.high:+.0f}], were its classes equally frequent"
        )
    return f"Where the {site} was in training, the logistic probe's probabilities are {words}."


def differing_covariates(cohort: Cohort, graph: CausalGraph, factor: str) -> list[str]:
    """Covariates whose patients differ between the levels of a factor (5 %), which probes are not adjusted for.

    Each patient counts once in every level that it holds; one that holds all levels makes none differ.
    """
    from scipy import stats

    groups, of = cohort.factor(graph.group, private=True), cohort.factor(factor)
    entry = groups.codes * of.n_levels + of.codes
    entries = np.unique(entry)
    patient, levels = entries // of.n_levels, entries % of.n_levels
    differing = np.bincount(patient)[patient] < len(np.unique(levels))
    levels = levels[differing]
    if len(np.unique(levels)) < 2:
        return []
    found = []
    for name in graph.covariates:
        if graph.kind(name, cohort) == "continuous":
            values = _middle(cohort.numeric(name), entry)[differing]
            parts = [values[levels == level] for level in np.unique(levels)]
            p_value = stats.kruskal(*parts).pvalue if np.ptp(values) > 0 else 1.0
        else:
            column = cohort.factor(name)
            codes = _middle(column.codes, entry)[differing]
            counts = table(codes, levels, (column.n_levels, int(levels.max()) + 1))
            counts = counts[counts.any(axis=1)][:, counts.any(axis=0)]
            p_value = stats.chi2_contingency(counts).pvalue if min(counts.shape) > 1 else 1.0
        if p_value < CHECK_ALPHA:
            found.append(name)
    return found


def _middle(values: np.ndarray, entry: np.ndarray) -> np.ndarray:
    """Give each entry, in ascending order, the middle one of its rows' values: whatever the order of the rows."""
    order = np.lexsort((values, entry))
    first, held = np.unique(entry[order], return_index=True, return_counts=True)[1:]
    return np.asarray(values[order[first + (held - 1) // 2]])
