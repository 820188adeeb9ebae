"""Answers that stand behind a finding: of calibration by level, and of levels left out of training."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from causalfm.auditing.findings import Finding
from causalfm.auditing.formatting import bounds, number
from causalfm.metrics.calibration import furthest_off

CALIBRATION = "calibration of the logistic probe by "
LEFT_OUT = " left out of training"
NAN = float("nan")
HIDDEN = re.compile(r"<[0-9]+|[0-9]+\+|hidden")


def behind(finding: Finding, answer: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Give the answers that stand in the details of a finding, without a margin and so without a verdict.

    Parameters
    ----------
    finding
        An answer on the biology holds two more: calibration by level, and levels left out of training.
    answer
        The finding as an answer; what follows shares its unit.
    """
    about = {**answer, "chance": 0.0, "margin": NAN, "want": "", "verdict": "no verdict"}
    for key, rows in finding.details.items():
        if not (isinstance(rows, (list, tuple)) and rows and all(isinstance(row, Mapping) and row for row in rows)):
            continue
        if key.startswith(CALIBRATION):
            yield about | _calibration(rows, key.removeprefix(CALIBRATION), finding.unit)
        elif key.endswith(LEFT_OUT):
            yield about | _left_out(rows[0], next(iter(rows[0])))


def _calibration(rows: Sequence[Mapping[str, Any]], site: str, unit: str) -> dict[str, Any]:
    ends = {i: tuple(number_of(row.get(key)) for key in ("off by", "low", "high")) for i, row in enumerate(rows)}
    judged = {i: numbers for i, numbers in ends.items() if not any(map(math.isnan, numbers))}
    about = {"question": "calibration", "title": f"Do probabilities mean the same at every {site}?", "factor": site}
    about |= {
        "quantity": "predicted less observed frequency, class and level furthest off",
        "holds_for": f"levels of {site}",
    }
    if not judged:
        why = next((str(row["note"]) for row in rows if row.get("note")), "no level could be judged")
        return about | unanswered(f"Cannot tell: {why.rstrip('.')}.")
    worst = max(judged, key=lambda i: furthest_off(*judged[i]))
    value, low, high = judged[worst]
    row, left = rows[worst], len(rows) - len(judged)
    sentence = (
        f"Furthest off of {len(judged)} levels judged together: {row.get(site, '')} ({row.get('class', '')}), by "
        f"{bounds(value, low, high, 0.0)}" + (f"; {left} could not be judged." if left else ".")
    )
    numbers = {"estimate": value, "low": low, "high": high}
    return about | {**numbers, "n_groups": count_of(row.get(f"{unit}s")), "n": None, "sentence": sentence}


def _left_out(row: Mapping[str, Any], factor: str) -> dict[str, Any]:
    value, low, high = (number_of(row.get(key)) for key in ("gap", "low", "high"))
    about = {
        "question": "levels left out",
        "title": f"What does a probe lose at a {factor} that was not in training?",
        "factor": factor,
        "quantity": "balanced accuracy, level in training less level left out",
        "holds_for": f"these levels of {factor}, {row[factor]}",
    }
    if math.isnan(value):
        why = str(row.get("note", "")).removeprefix("cannot tell: ").rstrip(".") or "no level was judged"
        return about | unanswered(f"Cannot tell: {why}.")
    seen, unseen = (number(row.get(f"accuracy, level {name}")) for name in ("seen", "left out"))
    lost = bounds(value, low, high, 0.0)
    sentence = f"The logistic probe loses {lost}: {seen} with the level in training, {unseen} without."
    numbers = {"estimate": value, "low": low, "high": high}
    return about | {**numbers, "n_groups": count_of(row.get("units")), "n": None, "sentence": sentence}


def unanswered(sentence: str) -> dict[str, Any]:
    """Return the fields of an answer that could not be told."""
    numbers = dict.fromkeys(("estimate", "low", "high", "confidence", "chance"), NAN)
    return {**numbers, "verdict": "cannot tell", "sentence": sentence}


def number_of(value: Any) -> float:
    """Return a number of a report; ``nan`` for what is not there or hidden."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else NAN


def count_of(value: Any) -> int | str | None:
    """Return a count of a report: a whole number, a mark such as ``<5`` where it is hidden, or None."""
    hidden = isinstance(value, str) and HIDDEN.fullmatch(value)
    return value if hidden or (type(value) is int and value >= 0) else None
