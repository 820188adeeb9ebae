"""How well the biology is predicted: at every level of a technical factor, class by class, in every subgroup."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from causalfm.auditing.findings import Finding, numbers_of
from causalfm.auditing.performance_answers import Answers
from causalfm.auditing.performance_words import (
    class_row,
    class_words,
    level_table,
    not_judged,
    percent,
    shown_worse,
    target_of,
    worst_words,
)
from causalfm.auditing.policy import Policy
from causalfm.auditing.running import Step, answer_or_reason
from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.metrics.calibration import furthest_off
from causalfm.results import verdict_against
from causalfm.shift.costs.level_performance import LevelScore, class_scores, level_scores
from causalfm.shift.costs.subgroup_levels import levels_of
from causalfm.shift.costs.subgroups import FEWEST, cohort_subgroups


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

    def step(name: str, ask: Callable[[Answers], Finding]) -> Step:
        def answer() -> list[Finding]:
            given = answers()
            if given is None:
                raise DataError(f"no probe could be fitted, see the question of {graph.biology}.")
            return [ask(given)]

        blank = Finding("performance", _title(graph, name), name, "cannot tell", "", unit=graph.group)
        return f"{name}: performance", partial(answer_or_reason, blank, answer)

    out = [step(name, partial(level_finding, cohort, graph, name, policy)) for name in factors]
    out += [step(name, partial(subgroup_finding, cohort, graph, name, policy)) for name in policy.subgroups]
    return out


def level_finding(cohort: Cohort, graph: CausalGraph, factor: str, policy: Policy, answers: Answers) -> Finding:
    """Answer whether the biology is predicted as well at every level of a technical factor, within classes."""
    unit = graph.group
    names, codes = _levels(cohort, graph, factor)
    found = _scores(answers, codes, names, unit, policy)
    judged, open_ = [s for s in found if not s.reason], [s for s in found if s.reason]
    title = _title(graph, factor)
    details: dict[str, Any] = {"want": "below", **_overall(answers)}
    details[f"by {factor}"] = level_table(found, answers, factor, unit)
    by_class = ""
    if factor == graph.technical[0]:  # once is enough
        classes = class_scores(
            answers.rows, answers.classes, unit, fewest=policy.minimum_groups, missing=answers.missing
        )
        details["by class"] = [class_row(c, graph.biology, unit) for c in classes]
        by_class = class_words(classes)
    left_out = not_judged([(s.level, s.reason) for s in open_])
    if len(judged) < 2:
        sentence = f"Cannot tell: fewer than two levels of {factor} can be compared.{left_out}{by_class}"
        return Finding("performance", title, factor, "cannot tell", sentence, unit=unit, details=details)
    worst = max(judged, key=lambda s: furthest_off(max(s.shortfall[0], 0.0), s.shortfall[1], np.inf))
    low, high = max(s.shortfall[1] for s in judged), max(s.upper for s in judged)
    verdict = verdict_against(low, high, policy.subgroup_gap)  # a pass needs every level's own bound, not a joint one
    if verdict == "pass" and open_:
        verdict = "cannot tell"  # a pass must hold for every level
    words = worst_words(worst, judged, factor, graph)
    sentence = (
        f"{answers.whose} is right in {percent(answers.accuracy)}, a mean over {unit}s. {words}{left_out}{by_class}"
    )
    return Finding(
        question="performance",
        title=title,
        factor=factor,
        verdict=verdict,
        sentence=sentence,
        value=worst.shortfall[0],
        low=worst.shortfall[1],
        high=worst.shortfall[2],
        chance=0.0,
        margin=policy.subgroup_gap,
        quantity=f"balanced accuracy at the other levels of {factor} less that at the worst level",
        n=int((codes[answers.positions] >= 0).sum()),
        n_groups=answers.n_units,
        unit=unit,
        target=target_of(graph, answers.whose),
        advice="" if verdict == "pass" else f"Report accuracy for every level of {factor}, not one number for all.",
        details={
            **details,
            "worst": words,
            "worst level": worst.level,
            "bounds of the verdict, over all levels": [low, high],
            "shown to be worse": [s.level for s in shown_worse(judged)],
        },
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
    missing = int((side.codes < 0).sum())
    without = f" {missing} rows have no {column}." if missing else ""
    return Finding(
        question="performance",
        title=_title(graph, column),
        factor=column,
        verdict=verdict,
        sentence=f"{answers.whose} is right in {percent(answers.accuracy)}, a mean over {unit}s. {found.sentence}"
        f"{not_judged(open_)}{without}",
        value=found.gap.value,
        low=found.gap.low,
        high=found.gap.high,
        chance=0.0,
        margin=policy.subgroup_gap,
        quantity="largest gap of accuracy between two subgroups",
        n=int((side.codes >= 0).sum()),
        n_groups=found.gap.n_groups,
        unit=unit,
        target=target_of(graph, answers.whose),
        advice="" if verdict == "pass" else f"Report accuracy by {column}; do not pool it.",
        details={
            "want": "below",
            **_overall(answers),
            f"by {column}": level_table(scores, answers, column, unit),
            "worst": found.sentence,
            "worst level": found.worst.details.get("level", ""),
            "gap within classes": numbers_of(found.gap_fixed_class),
            "gap within classes and sites": numbers_of(found.gap_fixed_site_and_class),
            "edges of bands": list(found.details.get("edges", ())),
            "rows without a value": missing,
        },
    )


def _overall(answers: Answers) -> dict[str, Any]:
    value, low, high = answers.accuracy
    return {"over all levels": {"accuracy": value, "low": low, "high": high, "predicted by": answers.whose}}


def _title(graph: CausalGraph, column: str) -> str:
    return f"Is {graph.biology} predicted as well at every level of {column}?"


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
