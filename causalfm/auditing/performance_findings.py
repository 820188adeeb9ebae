"""How well the biology is predicted: class by class, at every level of a technical factor, in every subgroup."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.auditing.findings import Finding
from causalfm.auditing.formatting import listing
from causalfm.auditing.policy import Policy
from causalfm.auditing.running import Step
from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.metrics.calibration import furthest_off
from causalfm.metrics.probes import Prediction
from causalfm.results import Estimate, verdict_against
from causalfm.shift.costs.labelled_rows import Labelled
from causalfm.shift.costs.level_performance import ClassScore, LevelScore, class_scores, labelled, level_scores
from causalfm.shift.costs.subgroup_levels import levels_of
from causalfm.shift.costs.subgroups import FEWEST, cohort_subgroups

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 5  # levels named in a sentence
WIDE = 8  # classes up to which a table of levels has their recalls


@dataclass(frozen=True, eq=False)
class Answers:
    """Predictions of the biology for rows of a cohort.

    Attributes
    ----------
    rows
        Rows with hits.
    positions
        ``(m,)`` where they are in the cohort.
    classes, missing
        Classes that were predicted; those with too few units to be.
    whose
        What predicts, in words that begin a sentence.
    """

    rows: Labelled
    positions: np.ndarray
    classes: tuple[str, ...]
    missing: tuple[str, ...]
    whose: str


def performance_steps(
    cohort: Cohort,
    graph: CausalGraph,
    factors: Sequence[str],
    policy: Policy,
    answers: Callable[[], Answers | None],
) -> list[Step]:
    """List what is asked about the accuracy.

    Parameters
    ----------
    cohort, graph
        Rows and declared graph.
    factors
        Technical factors, with levels or numbers.
    policy
        Margins and subgroups.
    answers
        Called once the predictions are there; None if there are none.

    Returns
    -------
    list
        Names of steps, and what answers them.
    """

    def step(name: str, about: str, ask: Callable[[Answers], Finding]) -> Step:
        def answer() -> list[Finding]:
            try:
                given = answers()
                if given is None:
                    raise DataError(f"no probe could be fitted, see the question of {graph.biology}.")
                return [ask(given)]
            except DataError as error:  # the cohort fits the graph, but is too small or thin for this question
                sentence = f"Cannot tell: {error}"
                title = f"How well is {graph.biology} predicted by {about}?"
                return [Finding("performance", title, about, "cannot tell", sentence, unit=graph.group)]

        return f"{name}: performance", answer

    steps = [step(graph.biology, graph.biology, lambda a: class_finding(graph, policy, a))]
    for name in factors:
        steps.append(step(name, name, lambda a, name=name: level_finding(cohort, graph, name, policy, a)))  # type: ignore[misc]
    for name in policy.subgroups:
        steps.append(step(name, name, lambda a, name=name: subgroup_finding(cohort, graph, name, policy, a)))  # type: ignore[misc]
    return steps


def answers_of_probe(cohort: Cohort, graph: CausalGraph, prediction: Prediction) -> Answers:
    """Take what the audit's own probe said of units that it had not seen."""
    classes, positions = tuple(prediction.details["levels"]), prediction.rows
    sites = _sites(cohort, graph)[positions]
    rows = labelled(prediction.probabilities, prediction.y, prediction.groups, sites, 1.0 / len(classes))
    missing = tuple(name for name in cohort.factor(graph.biology).levels if name not in classes)
    whose = f"The audit's logistic probe, trained without the {graph.group} it is asked about,"
    return Answers(rows, positions, classes, missing, whose)


def answers_of_model(
    cohort: Cohort, graph: CausalGraph, predictions: pd.DataFrame, whose: str, *, refitted: bool
) -> Answers:
    """Take a model's probabilities of all rows; ``refitted``: of models that were fitted without the row's unit."""
    biology = cohort.factor(graph.biology)
    scores = predictions[list(biology.levels)].to_numpy(dtype=np.float64)
    units = cohort.factor(graph.group, private=True).codes
    chance = 1.0 / biology.n_levels if refitted else None
    rows = labelled(scores, biology.codes, units, _sites(cohort, graph), chance)
    return Answers(rows, np.arange(len(cohort)), biology.levels, (), whose)


def _sites(cohort: Cohort, graph: CausalGraph) -> np.ndarray:
    """Codes of the first technical factor that has levels."""
    site = next((name for name in graph.technical if graph.kind(name, cohort) != "continuous"), None)
    return np.zeros(len(cohort), dtype=np.int64) if site is None else cohort.factor(site).codes


def class_finding(graph: CausalGraph, policy: Policy, answers: Answers) -> Finding:
    """Answer whether every class is recognised more often than by guessing."""
    unit, biology, chance = graph.group, graph.biology, 1.0 / len(answers.classes)
    found = class_scores(answers.rows, answers.classes, unit, fewest=policy.minimum_groups, missing=answers.missing)
    judged, open_ = [c for c in found if not c.reason], [c for c in found if c.reason]
    title = f"Is every class of {biology} recognised?"
    details: dict[str, Any] = {"want": "above", "by class": [_class_row(c, biology, unit) for c in found]}
    if not judged:
        sentence = f"Cannot tell: no class of {biology} has {policy.minimum_groups} {unit}s."
        return Finding("performance", title, biology, "cannot tell", sentence, unit=unit, details=details)
    worst = min(judged, key=lambda c: c.recall[0])
    low, high = min(c.lower for c in judged), min(c.recall[2] for c in judged)
    margin = chance + policy.biology_excess * (1.0 - chance)
    verdict = verdict_against(low, high, margin, want="above")
    if verdict == "pass" and open_:
        verdict = "cannot tell"  # a pass must hold for every class
    taken = f", most often taken for {worst.taken_for} ({worst.taken_share:.0%})" if worst.taken_for else ""
    sentence = (
        f"{answers.whose} recognises {worst.name} least: in {_percent(worst.recall)}, a mean over its "
        f"{unit}s{taken}; guessing would name it in {chance:.0%}.{_not_judged([(c.name, c.reason) for c in open_])}"
    )
    return Finding(
        question="performance",
        title=title,
        factor=biology,
        verdict=verdict,
        sentence=sentence,
        value=worst.recall[0],
        low=low,
        high=high,
        chance=chance,
        margin=margin,
        quantity=f"share recognised, of the class of {biology} that is recognised least",
        n=len(answers.positions),
        n_groups=_count(answers.rows),
        unit=unit,
        target=_target(graph, answers.whose),
        advice=""
        if verdict == "pass"
        else f"Do not rely on this embedding to tell {worst.name} from the other classes.",
        details={**details, "worst": worst.name},
    )


def level_finding(cohort: Cohort, graph: CausalGraph, factor: str, policy: Policy, answers: Answers) -> Finding:
    """Answer whether the biology is predicted as well at every level of a technical factor, at equal classes."""
    unit = graph.group
    names, codes = _levels(cohort, graph, factor)
    found = _scores(answers, codes, names, unit, policy)
    judged, open_ = [s for s in found if not s.reason], [s for s in found if s.reason]
    title = f"Is {graph.biology} predicted as well at every level of {factor}?"
    overall = answers.rows.rate()
    everywhere = (overall.value, *overall.interval())
    details: dict[str, Any] = {"want": "below", f"by {factor}": _table(found, answers, factor, unit, everywhere)}
    left_out = _not_judged([(s.level, s.reason) for s in open_])
    if len(judged) < 2:
        sentence = f"Cannot tell: fewer than two levels of {factor} can be compared.{left_out}"
        return Finding("performance", title, factor, "cannot tell", sentence, unit=unit, details=details)
    worst = max(judged, key=lambda s: furthest_off(max(s.shortfall[0], 0.0), s.shortfall[1], np.inf))
    low, high = max(s.shortfall[1] for s in judged), max(s.upper for s in judged)
    verdict = verdict_against(low, high, policy.subgroup_gap)
    if verdict == "pass" and open_:
        verdict = "cannot tell"  # a pass must hold for every level
    sentence = (
        f"{answers.whose} is right in {_percent(everywhere)}, a mean over {unit}s. {_worst_words(worst, judged, factor, graph)}"
        f"{left_out}"
    )
    return Finding(
        question="performance",
        title=title,
        factor=factor,
        verdict=verdict,
        sentence=sentence,
        value=worst.shortfall[0],
        low=low,
        high=high,
        chance=0.0,
        margin=policy.subgroup_gap,
        quantity=f"accuracy at the other levels of {factor} less accuracy at the worst, at the same mix of classes",
        n=int((codes[answers.positions] >= 0).sum()),
        n_groups=_count(answers.rows),
        unit=unit,
        target=_target(graph, answers.whose),
        advice="" if verdict == "pass" else f"Report accuracy for every level of {factor}, not one number for all.",
        details={**details, "worst": worst.level, "shown to be worse": [s.level for s in _shown(judged)]},
    )


def subgroup_finding(cohort: Cohort, graph: CausalGraph, column: str, policy: Policy, answers: Answers) -> Finding:
    """Answer whether the biology is predicted as well in every protected subgroup."""
    unit = graph.group
    found, side = cohort_subgroups(cohort, graph, answers.rows, answers.positions, column)
    codes = np.full(len(cohort), -1)
    codes[answers.positions] = side.codes
    scores = _scores(answers, codes, side.levels, unit, policy)
    open_ = [(str(e.details["level"]), str(e.details["reason"])) for e in found.groups if "reason" in e.details]
    verdict = verdict_against(found.gap.low, found.gap.high, policy.subgroup_gap)
    if verdict == "pass" and open_:
        verdict = "cannot tell"  # a pass must hold for every level
    overall = answers.rows.rate()
    everywhere = (overall.value, *overall.interval())
    missing = int((side.codes < 0).sum())
    without = f" {missing} rows have no {column}." if missing else ""
    return Finding(
        question="performance",
        title=f"Is {graph.biology} predicted as well for every level of {column}?",
        factor=column,
        verdict=verdict,
        sentence=f"{answers.whose} is right in {_percent(everywhere)}, a mean over {unit}s. {found.sentence}"
        f"{_not_judged(open_)}{without}",
        value=found.gap.value,
        low=found.gap.low,
        high=found.gap.high,
        chance=0.0,
        margin=policy.subgroup_gap,
        quantity="largest gap of accuracy between two subgroups",
        n=int((side.codes >= 0).sum()),
        n_groups=found.gap.n_groups,
        unit=unit,
        target=_target(graph, answers.whose),
        advice="" if verdict == "pass" else f"Report accuracy by {column}; do not pool it.",
        details={
            "want": "below",
            f"by {column}": _table(scores, answers, column, unit, everywhere),
            "worst": found.worst.details.get("level", ""),
            "gap within classes": _numbers(found.gap_fixed_class),
            "gap within classes and sites": _numbers(found.gap_fixed_site_and_class),
            **dict(found.details),
        },
    )


def _levels(cohort: Cohort, graph: CausalGraph, factor: str) -> tuple[tuple[str, ...], np.ndarray]:
    """Levels of a technical factor; numbers in bands."""
    if graph.kind(factor, cohort) == "continuous":
        names, codes, _ = levels_of([cohort], graph, factor, None)
        return names, codes[0]
    column = cohort.factor(factor)
    return column.levels, column.codes


def _scores(
    answers: Answers, codes: np.ndarray, names: Sequence[str], unit: str, policy: Policy
) -> tuple[LevelScore, ...]:
    least = policy.minimum_groups
    return level_scores(
        answers.rows, codes[answers.positions], names, unit, fewest=max(FEWEST, least), fewest_of_class=least
    )


def _table(
    found: Sequence[LevelScore], answers: Answers, column: str, unit: str, everywhere: tuple[float, float, float]
) -> list[dict[str, Any]]:
    """Lay out the levels, the worst first; above them what holds over all."""
    nan = float("nan")
    nothing = LevelScore("all", _count(answers.rows), everywhere, nan, nan, (nan, nan, nan), nan, 1.0, ())
    order = sorted(found, key=lambda s: (bool(s.reason), -np.nan_to_num(s.shortfall[0])))
    return [_level_row(score, answers, column, unit) for score in (nothing, *order)]


def _level_row(score: LevelScore, answers: Answers, column: str, unit: str) -> dict[str, Any]:
    accuracy, low, high = score.accuracy
    row = {column: score.level, f"{unit}s": score.n_units, "accuracy": accuracy, "low": low, "high": high}
    row |= {"mean over classes": score.balanced, "others, same classes": score.others}
    row |= dict(zip(("shortfall", "shortfall low", "shortfall high"), score.shortfall, strict=True))
    if len(answers.classes) <= WIDE:
        recalls = score.recalls or [float("nan")] * len(answers.classes)
        row |= {f"recall of {name}": r for name, r in zip(answers.classes, recalls, strict=True)}
    partly = f"compared in classes that hold {score.compared:.0%} of its {unit}s" if score.compared < 1.0 else ""
    return {**row, "note": f"not judged: {score.reason}" if score.reason else partly}


def _class_row(score: ClassScore, biology: str, unit: str) -> dict[str, Any]:
    recall, low, high = score.recall
    return {
        biology: score.name,
        f"{unit}s": score.n_units,
        "accuracy": recall,
        "low": low,
        "high": high,
        "most often taken for": score.taken_for,
        "share taken for it": score.taken_share,
        "note": f"not judged: {score.reason}" if score.reason else "",
    }


def _shown(judged: Sequence[LevelScore]) -> list[LevelScore]:
    """Levels that are shown to be worse than the others, the clearest first."""
    return sorted((s for s in judged if s.shortfall[1] > 0.0), key=lambda s: -s.shortfall[1])


def _worst_words(worst: LevelScore, judged: Sequence[LevelScore], factor: str, graph: CausalGraph) -> str:
    shown = _shown(judged)
    start = f"Worst is {worst.level}: {_percent(worst.accuracy)}, where the other levels reach"
    if not shown:
        start = f"No level of {factor} is shown to be worse than the others; furthest below them is {worst.level}: "
        start += f"{_percent(worst.accuracy)}, where they reach"
    low, high = _points(worst.shortfall[1]), _points(worst.shortfall[2])
    words = (
        f"{start} {worst.others:.0%} at the same mix of {graph.biology}: {_points(worst.shortfall[0])} "
        f"[{low} to {high}] (intervals hold for all {len(judged)} levels together)."
    )
    if len(shown) > 1:
        others = [s.level for s in shown[1 : 1 + SHOWN]]
        more = f" and {len(shown) - 1 - SHOWN} more" if len(shown) > 1 + SHOWN else ""
        words += f" Also shown to be worse than the others: {', '.join(others)}{more}."
    return words


def _points(shortfall: float) -> str:
    return f"{abs(100.0 * shortfall):.0f} points {'less' if shortfall > 0.0 else 'more'}"


def _not_judged(left_out: Sequence[tuple[str, str]]) -> str:
    if not left_out:
        return ""
    named = [f"{level} ({reason.removeprefix('cannot tell: ')})" for level, reason in left_out[:SHOWN]]
    more = [f"{len(left_out) - SHOWN} more"] if len(left_out) > SHOWN else []
    return f" Not judged: {listing([*named, *more])}."


def _percent(numbers: tuple[float, float, float]) -> str:
    value, low, high = numbers
    return f"{value:.0%} [{low:.0%}, {high:.0%}]"


def _target(graph: CausalGraph, whose: str) -> str:
    return f"new {graph.group}s of these levels; predictions of {whose[0].lower()}{whose[1:].rstrip(',')}"


def _numbers(one: Estimate) -> dict[str, Any]:
    return {"value": one.value, "low": one.low, "high": one.high}


def _count(rows: Labelled) -> int:
    return len(np.unique(rows.rows.units))
