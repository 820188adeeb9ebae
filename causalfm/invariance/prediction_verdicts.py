"""From the tests and gaps of predictions to an effect, a verdict and a sentence."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from causalfm.confidence import alpha_in_force
from causalfm.invariance.prediction_parts import Asked, Part
from causalfm.invariance.score_gaps import Gaps
from causalfm.invariance.signatures import INDEPENDENCE, SEPARATION, STABILITY, SUFFICIENCY
from causalfm.results import Estimate, TestResult, Verdict, verdict_against

SUBJECT = {
    INDEPENDENCE: "mean predicted probability of {label}",
    SEPARATION: "mean predicted probability of {label}",
    SUFFICIENCY: "frequency of {label} at equal scores",
    STABILITY: "mean error of the predicted probability of {label}",
}
GAP = {
    INDEPENDENCE: "predicted probability of {c}, {a} minus {b}",
    SEPARATION: "predicted probability of {c}, {a} minus {b}",
    SUFFICIENCY: "frequency of {c} at equal scores, {a} minus the other levels",
    STABILITY: "predicted minus observed frequency of {c}, {a} minus {b}",
}
ENDING: dict[Verdict, str] = {
    "pass": "No gap reaches {margin:g}.",
    "fail": "Some gap is above {margin:g}.",
    "cannot tell": "Whether some gap is above {margin:g} is not settled.",
}


def conclude(
    base: TestResult, asked: Asked, parts: Sequence[Part], left_out: Sequence[str], margin: float | None
) -> TestResult:
    """Complete a result.

    Parameters
    ----------
    base
        The result without numbers.
    asked
        The question.
    parts
        Its tests, at least one.
    left_out
        What was not compared, and why.
    margin
        Largest acceptable gap, or None.

    Returns
    -------
    TestResult
        With the gap furthest off as effect. Its interval and those in ``details`` hold for all gaps together.
    """
    classes = [asked.cohort.factor(asked.graph.biology).levels[i] for i in asked.judged]
    looks = sum(part.gaps.values.size for part in parts)
    gaps = [row for part in parts for row in _rows(part.gaps, part.among, classes, looks)]
    worst = max(gaps, key=lambda row: (max(row["low"], -row["high"], 0.0), abs(row["value"])))
    p_value = min(1.0, len(parts) * min(part.p_value for part in parts))
    tests = [{"among": part.among, "p_value": part.p_value, "rows": int(part.rows.sum())} for part in parts]
    low, high = bounds = _bounds(parts, looks)
    clear = p_value <= alpha_in_force() and (worst["low"] > 0.0 or worst["high"] < 0.0)
    verdict: Verdict = "fail" if clear else "cannot tell"
    if margin is not None:
        verdict = verdict_against(low, high, margin)
    details: dict[str, Any] = {**base.details, "gaps": gaps, "tests": tests, "left_out": list(left_out)}
    details["margin_bounds"] = bounds
    for means in (part.levels for part in parts if part.levels is not None):
        details["levels"] = _rows(means, "", classes, means.values.size)
    if verdict == "pass" and left_out:  # a pass must hold for every level
        verdict = "cannot tell"
    given = ((asked.graph.biology,) if asked.kind == SEPARATION else ()) + parts[0].given
    effect = _effect(asked, parts, worst, looks)
    result = dataclasses.replace(
        base,
        statistic=effect.value,
        p_value=p_value,
        effect=effect,
        verdict=verdict,
        given=given,
        n=effect.n,
        n_groups=effect.n_groups,
        details=details,
    )
    return dataclasses.replace(result, sentence=_sentence(result, effect, asked, margin))


def _rows(gaps: Gaps, among: str, classes: Sequence[str], looks: int) -> list[dict[str, Any]]:
    """One entry per gap; intervals corrected for ``looks`` gaps (Bonferroni)."""
    reach = gaps.reach(alpha_in_force() / 2.0 / looks)
    out = []
    for j, levels in enumerate(gaps.names):
        for k, name in enumerate(classes):
            value, half = float(gaps.values[j, k]), float(reach[j, k])
            row = {"levels": list(levels), "class": name, "value": value, "low": value - half, "high": value + half}
            out.append({"among": among, **row})
    return out


def _bounds(parts: Sequence[Part], looks: int) -> tuple[float, float]:
    """Bounds of the largest gap: Bonferroni from below, each one-sided at 95 % from above (intersection-union)."""
    low = max(float((np.abs(p.gaps.values) - p.gaps.reach(alpha_in_force() / looks)).max()) for p in parts)
    return low, max(float((np.abs(p.gaps.values) + p.gaps.reach(alpha_in_force())).max()) for p in parts)


def _effect(asked: Asked, parts: Sequence[Part], worst: Mapping[str, Any], looks: int) -> Estimate:
    used = np.any([part.rows for part in parts], axis=0)
    unit = asked.cohort.factor(asked.graph.group, private=True)
    name = GAP[asked.kind].format(c=worst["class"], a=worst["levels"][0], b=worst["levels"][-1])
    if worst["among"]:
        name += f", among {asked.graph.biology}={worst['among']}"
    return Estimate(
        name="frequency_gap" if asked.kind == SUFFICIENCY else "score_gap",
        value=worst["value"],
        low=worst["low"],
        high=worst["high"],
        chance=0.0,
        n=int(used.sum()),
        n_groups=len(np.unique(unit.codes[used])),
        unit=unit.name,
        details={"gap": name, "looks": looks},
    )


def _sentence(result: TestResult, effect: Estimate, asked: Asked, margin: float | None) -> str:
    subject = SUBJECT[asked.kind].format(label=asked.graph.biology)
    given = f" given {', '.join(result.given)}" if result.given else ""
    depends = result.p_value <= alpha_in_force()
    found = "The {} depends on {}{}" if depends else "No dependence of the {} on {}{} was found"
    out = [
        f"{found.format(subject, result.of, given)} (p = {result.p_value:.3g}, {asked.n_permutations} "
        f"{result.method}s of {result.unit}s).",
        f"Largest gap: {effect.details['gap']}: {effect.value:+.3f} [{effect.low:+.3f}, {effect.high:+.3f}].",
    ]
    if margin is not None:
        low, high = result.details["margin_bounds"]
        out.append(ENDING[verdict_against(low, high, margin)].format(margin=margin))
    elif result.verdict != "fail":
        out.append("Without a margin absence cannot be shown.")
    if left_out := result.details["left_out"]:
        out.append(f"Not compared: {'; '.join(left_out)}.")
    if asked.kind in result.details["not_implied"]:
        out.append(f"The declared graph does not imply {asked.kind}: a gap is then no sign that the model reacts.")
    return " ".join([*out, result.details["why"]])
