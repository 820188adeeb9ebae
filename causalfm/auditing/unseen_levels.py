"""What a probe of the biology is worth at a level (hospital, scanner, stain) that was left out of training."""

from __future__ import annotations

import math
from typing import Any

from causalfm.auditing.formatting import bounds
from causalfm.cohort import Cohort
from causalfm.confidence import alpha_in_force, percent
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.metrics import transfer_gap
from causalfm.results import Estimate

MAX_ROWS = 2_000  # of as many rows per unit: one probe is trained for every level


def unseen_levels(cohort: Cohort, graph: CausalGraph, seed: int) -> tuple[str, dict[str, list[dict[str, Any]]]]:
    """Leave every level of every technical factor out of training in turn.

    Parameters
    ----------
    cohort, graph
        Data and declared graph.
    seed
        Seed of folds and of the sample.

    Returns
    -------
    sentence : str
        About the first technical factor, in words.
    tables : dict
        For every factor its levels: accuracy for the biology with and without the level in training, and the gap;
        first the mean over them.
    """
    sentence, tables = "", {}
    for factor in graph.technical:
        try:
            found = transfer_gap(cohort, graph, confounder=factor, max_rows=MAX_ROWS, random_state=seed)
            reason = str(found.details.get("reason", ""))
            rows = [_row(factor, "reason", note=reason)] if reason else _rows(found, factor)
        except DataError as error:
            reason, rows = f"cannot tell: {error}", [_row(factor, "reason", note=f"cannot tell: {error}")]
        tables[f"{graph.biology} at a {factor} left out of training"] = rows
        sentence = sentence or _sentence(reason or found, factor)
    return sentence, tables


def _rows(found: Estimate, factor: str) -> list[dict[str, Any]]:
    levels, details = found.details["levels"], found.details
    mean = [math.fsum(row[key] for row in levels) / len(levels) for key in ("seen", "unseen")]
    numbers = *mean, found.value, found.low, found.high
    note = f"those of the levels hold together with {percent(alpha_in_force())}"
    rows = [_row(factor, f"mean of {len(levels)}", *numbers, units=found.n_groups, note=note)]
    for row in levels:
        numbers = tuple(row[key] for key in ("seen", "unseen", "gap", "low", "high"))
        worst = "loses most" if row["level"] == details["worst"]["level"] else ""
        rows.append(_row(factor, row["level"], *numbers, units=row["groups"], note=worst))
    rows += [_row(factor, row["level"], note=f"not judged: {row['reason']}") for row in details["not_judged"]]
    new = details["new_level"]
    ends = [new.get(key, math.nan) for key in ("value", "low", "high")]
    return [
        *rows,
        _row(factor, "a new level", math.nan, math.nan, *ends, note=new.get("reason", "prediction interval")),
    ]


def _row(
    factor: str,
    level: str,
    seen: float = math.nan,
    unseen: float = math.nan,
    gap: float = math.nan,
    low: float = math.nan,
    high: float = math.nan,
    *,
    units: int | None = None,
    note: str = "",
) -> dict[str, Any]:
    numbers = {"accuracy, level seen": seen, "accuracy, level left out": unseen, "gap": gap, "low": low, "high": high}
    return {factor: level, "units": units, **numbers, "note": note}


def _sentence(found: Estimate | str, factor: str) -> str:
    if isinstance(found, str):
        return f"What a probe loses at a {factor} that was not in training: {found}."
    levels, worst = found.details["levels"], found.details["worst"]
    at = next(row for row in levels if row["level"] == worst["level"])
    points = f"{bounds(100 * found.value, 100 * found.low, 100 * found.high, 0.0)} points"
    mean = f" (mean of {len(levels)})" if len(levels) > 1 else ""
    words = f"loses {points} of balanced accuracy{mean}"
    if not found.low > 0.0:
        words = f"is not shown to lose balanced accuracy: {points}{mean}"
    most = f", most at {at['level']}: {at['seen']:.0%} if it was in training, {at['unseen']:.0%} if not"
    return f"At a {factor} that was not in training, the logistic probe {words}{most if at['low'] > 0.0 else ''}."
