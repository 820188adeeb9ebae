"""Tables and sentences about accuracy at every level and in every class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from causalfm.auditing.formatting import listing
from causalfm.auditing.hidden_details import RAREST, RECALL
from causalfm.auditing.performance_answers import Answers
from causalfm.graph import CausalGraph
from causalfm.shift.costs.level_performance import ClassScore, LevelScore

SHOWN = 5  # levels named in a sentence
WIDE = 8  # classes up to which a table of levels has their recalls


def level_table(found: Sequence[LevelScore], answers: Answers, column: str, unit: str) -> list[dict[str, Any]]:
    """Lay out the levels, the worst first."""
    order = sorted(found, key=lambda s: (bool(s.reason), -np.nan_to_num(s.shortfall[0])))
    return [_level_row(score, answers, column, unit) for score in order]


def _level_row(score: LevelScore, answers: Answers, column: str, unit: str) -> dict[str, Any]:
    accuracy, low, high = score.accuracy
    row = {column: score.level, f"{unit}s": score.n_units, "accuracy": accuracy, "low": low, "high": high}
    row |= {"balanced accuracy": score.balanced, "balanced accuracy, others": score.others}
    row |= dict(zip(("shortfall", "shortfall low", "shortfall high"), score.shortfall, strict=True))
    if len(answers.classes) <= WIDE:
        row |= {f"{RECALL}{name}": r for name, r in zip(answers.classes, score.recalls, strict=True)}
        row |= {f"{unit}{RAREST}": score.fewest}
    lacking = [f"{answers.classes[c]} ({n} {unit}s)" for c, n in score.left_out]
    partly = f"without {listing([*lacking[:SHOWN], *[f'{len(lacking) - SHOWN} more'] * (len(lacking) > SHOWN)])}"
    note = f"not judged: {score.reason}" if score.reason else partly * bool(lacking)
    return {**row, "note": note}


def class_row(score: ClassScore, biology: str, unit: str) -> dict[str, Any]:
    """Lay out one class."""
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


def shown_worse(judged: Sequence[LevelScore]) -> list[LevelScore]:
    """Levels that are shown to be worse than the others, the clearest first."""
    return sorted((s for s in judged if s.shortfall[1] > 0.0), key=lambda s: -s.shortfall[1])


def worst_words(worst: LevelScore, judged: Sequence[LevelScore], factor: str, graph: CausalGraph) -> str:
    """Name the worst level, with the others' accuracy at its mix of classes."""
    shown = shown_worse(judged)
    start = f"Worst is {worst.level}"
    if not shown:
        start = f"No level of {factor} is shown to be worse than the others; furthest below them is {worst.level}"
    low, high = _points(worst.shortfall[1]), _points(worst.shortfall[2])
    words = (
        f"{start}: {percent(worst.accuracy)}, or {worst.balanced:.0%} if every {graph.biology} weighs the same, where "
        f"the other levels reach {worst.others:.0%}: {_points(worst.shortfall[0])} [{low} to {high}] (intervals hold "
        f"for all {len(judged)} levels together)."
    )
    if len(shown) > 1:
        others = [s.level for s in shown[1 : 1 + SHOWN]]
        more = f" and {len(shown) - 1 - SHOWN} more" if len(shown) > 1 + SHOWN else ""
        words += f" Also shown to be worse than the others: {', '.join(others)}{more}."
    return words


def class_words(classes: Sequence[ClassScore]) -> str:
    """Name the class that is recognised least."""
    judged = [c for c in classes if not c.reason]
    words = not_judged([(c.name, c.reason) for c in classes if c.reason])
    if not judged:
        return words
    worst = min(judged, key=lambda c: c.recall[0])
    taken = f"; it is most often taken for {worst.taken_for} ({worst.taken_share:.0%})" if worst.taken_for else ""
    together = f" (intervals hold for all {len(judged)} classes together)" if len(judged) > 1 else ""
    return f" The class recognised least is {worst.name}: {percent(worst.recall)}{together}{taken}.{words}"


def _points(shortfall: float) -> str:
    points = round(100.0 * abs(shortfall))
    return f"{points} point{'s' * (points != 1)} {'more' if shortfall < 0.0 and points else 'less'}"


def not_judged(left_out: Sequence[tuple[str, str]]) -> str:
    """Name what is not judged, and why: pairs of name and reason."""
    if not left_out:
        return ""
    named = [f"{level} ({reason.removeprefix('cannot tell: ')})" for level, reason in left_out[:SHOWN]]
    more = [f"{len(left_out) - SHOWN} more"] if len(left_out) > SHOWN else []
    return f" Not judged: {listing([*named, *more])}."


def percent(numbers: tuple[float, float, float]) -> str:
    """Format an accuracy with its interval."""
    value, low, high = numbers
    return f"{value:.0%} [{low:.0%}, {high:.0%}]"


def target_of(graph: CausalGraph, whose: str) -> str:
    """Say what the accuracies hold for, and of whose predictions."""
    return f"new {graph.group}s of these levels; predictions of {whose[0].lower()}{whose[1:]}"
