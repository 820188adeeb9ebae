"""The rooms of a report, in their order, and what stands in each: one table for the page and for Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from causalfm.auditing import formatting
from causalfm.auditing.about import is_deployment
from causalfm.auditing.findings import Audit, Finding
from causalfm.auditing.group_counts import LISTS

ROOMS = {  # key -> heading, in the order in which a reader who has to decide needs them
    "use": "Intended use and estimand",
    "graph": "Causal graph",
    "units": "Units and group counts",
    "overlap": "Overlap and what was left out",
    "findings": "Findings by question",
    "performance": "Performance by site and class",
    "effects": "Effects and sensitivity",
    "flips": "Counterfactual decisions",
    "corrections": "Corrections tried",
    "open": "What could not be answered",
    "methods": "Methods and record",
}
HOME = {  # question -> the room of its card; every other card stands with the findings
    "overlap": "overlap",
    "performance": "performance",
    "cost": "performance",
    "expected cost": "performance",
    "subgroups": "performance",
    "shortcut": "performance",
    "effect": "effects",
    "why": "effects",
    "split": "effects",
    "reversal": "effects",
    "decisions": "flips",
}
OPENED = {  # details that are an answer, not its background: shown without a click
    "performance": ("worst", "by "),
    "cost": ("by site", "recall by class", "drop by class"),
    "subgroups": ("subgroups",),
    "shortcut": ("per level",),
    "effect": ("per_level",),
    "why": ("mechanisms",),
    "split": ("parts",),
    "reversal": ("within",),
    "decisions": ("pairs",),
}
SHOWN_COLUMNS = {"mechanisms": ("mechanism", "in words", "share of the drop", "low", "high", "verdict")}
ELSEWHERE = {  # details that have a place of their own in the report
    "overlap": ("left_out",),
    "effect": ("sensitivity",),
}
COUNTED = (*LISTS, "suppression")  # data that stand with the units
LARGE = (60, 12)  # levels and classes: beyond, a cross table is summed up level by level, the worst first


def cards(findings: Sequence[tuple[str, Finding]]) -> dict[str, list[tuple[str, Finding]]]:
    """Give every finding the one room where its card stands."""
    out: dict[str, list[tuple[str, Finding]]] = {room: [] for room in ROOMS}
    for key, finding in findings:
        out[HOME.get(finding.question, "findings")].append((key, finding))
    return out


def opened(finding: Finding) -> dict[str, Any]:
    """Return the details that are shown without a click; tables of accuracies begin with the worst."""
    wanted = OPENED.get(finding.question, ())
    shown = {
        key: worst_first(value)
        for key, value in finding.details.items()
        if any(key == name or (name.endswith(" ") and key.startswith(name)) for name in wanted)
    }
    if finding.question == "effect" and "per_level" in shown:
        shown = {"distances between levels": distances(finding, shown["per_level"])}
    return {key: with_intervals(value, SHOWN_COLUMNS.get(key)) for key, value in shown.items()}


def folded(finding: Finding) -> dict[str, Any]:
    """Return the rest of the details."""
    whole = {key for key in opened(finding) if key not in SHOWN_COLUMNS}
    shown = {"want", "monitored", *whole, *ELSEWHERE.get(finding.question, ())}
    return {key: value for key, value in finding.details.items() if key not in shown}


def distances(finding: Finding, rows: Any) -> list[dict[str, Any]]:
    """Say how far each level lies from the reference level, also in distances between classes; the furthest first.

    Parameters
    ----------
    finding
        An effect.
    rows
        Its ``per_level`` rows: ``level``, ``reference``, ``distance`` and its interval.

    Returns
    -------
    list of dict
        Rows of other columns stay as they are.
    """
    if not isinstance(rows, (list, tuple)) or not all("distance" in row and "reference" in row for row in rows):
        return list(rows)
    scale = [row.get("distance") for row in finding.details.get("squared distances", ())][1:2]
    out = []
    for row in sorted(rows, key=lambda row: -(row["distance"] or 0.0)):
        low, high = (
            math.nan if row.get(f"distance_{end}") is None else row[f"distance_{end}"] for end in ("low", "high")
        )
        shown = {
            "level": row["level"],
            "compared with": row["reference"],
            "distance": row["distance"],
            "low": low,
            "high": high,
        }
        if scale and scale[0] and row["distance"] is not None:
            shown["in distances between classes"] = row["distance"] / scale[0]
        out.append(shown | {f"{row.get('unit', 'unit')}s": row.get("n_groups")})
    return out


def with_intervals(value: Any, only: Sequence[str] | None = None) -> Any:
    """Write the number before the columns ``low`` and ``high`` together with them: ``"0.83 [0.59, 0.95]"``.

    Parameters
    ----------
    value
        A table, or anything else, which stays.
    only
        Columns to show; None for all.

    Returns
    -------
    Any
        The table with one column in place of three, with ``[interval]`` in its name.
    """
    if not isinstance(value, (list, tuple)) or not all(isinstance(row, Mapping) for row in value):
        return value
    return [_with_interval({key: row[key] for key in only or row if key in row}) for row in value]


def _with_interval(row: Mapping[str, Any]) -> dict[str, Any]:
    keys = list(row)
    place = keys.index("low") if {"low", "high"} <= set(keys) else 0
    if not place:
        return dict(row)
    number = keys[place - 1]
    told = [math.nan if row[key] is None else row[key] for key in (number, "low", "high")]
    if not all(isinstance(v, (int, float)) for v in told):
        return dict(row)
    shown = {f"{key} [interval]" if key == number else "level" if key == "of" else key: row[key]
             for key in keys if key not in ("low", "high")}  # fmt: skip
    return shown | {f"{number} [interval]": formatting.bounds(*told)}


def worst_first(value: Any) -> Any:
    """Sort a table with a column ``accuracy`` so that the worst level comes first, the unknown last."""
    if not isinstance(value, (list, tuple)) or not all(isinstance(row, Mapping) and "accuracy" in row for row in value):
        return value

    def key(row: Mapping[str, Any]) -> tuple[bool, float]:
        told = isinstance(row["accuracy"], (int, float)) and row["accuracy"] == row["accuracy"]
        return (not told, float(row["accuracy"]) if told else 0.0)

    return sorted(value, key=key)


def left_out(audit: Audit) -> list[dict[str, Any]]:
    """List every cell or level that an overlap left out, with its reason."""
    out = []
    for finding in audit.findings:
        if finding.question == "overlap":
            out += [{"compared": finding.factor, **row} for row in finding.details.get("left_out", ())]
        for key in ("unseen levels", "cells that the reference lacks") if finding.question == "support" else ():
            lacking = finding.details.get(key, ())
            out += [{"left out": key, **(row if isinstance(row, Mapping) else {"which": row})} for row in lacking]
    return out


def nothing_left_out(audit: Audit, prose: Any) -> str:
    """Say what an empty list of what was left out means: nothing was, or nobody asked."""
    asked = {f.question for f in audit.findings}
    if is_deployment(audit):
        return str(prose.nothing_lacking if "support" in asked else prose.lacking_unknown)
    return str(prose.nothing_left_out)


def by_level(table: Mapping[str, Any], minimum: int) -> list[dict[str, Any]]:
    """Sum a cross table up level by level; levels with the fewest cells that can be compared come first.

    Parameters
    ----------
    table
        Cross table: ``biology``, ``levels``, ``groups``. Hidden cells are text.
    minimum
        Fewest units of a cell that is compared.

    Returns
    -------
    list of dict
        ``level``, ``units`` (None where a cell is hidden), ``classes seen``, ``cells under the minimum``, ``smallest
        cell``.
    """
    out = []
    for position, level in enumerate(table["levels"]):
        cells = [row[position] for row in table["groups"]]
        seen = [cell for cell in cells if cell]
        numbers = [cell for cell in seen if not isinstance(cell, str)]
        hidden = len(numbers) < len(seen)
        out.append(
            {
                "level": level,
                "units": None if hidden else sum(numbers),
                "classes seen": len(seen),
                f"cells of {minimum} or more": sum(cell >= minimum for cell in numbers),
                "smallest cell": "hidden" if hidden else min(numbers, default=0),
            }
        )
    key = f"cells of {minimum} or more"
    return sorted(out, key=lambda row: (row[key], row["units"] or 0))


def is_large(table: Mapping[str, Any]) -> bool:
    """Tell whether a cross table is too large to be read cell by cell."""
    return len(table["levels"]) > LARGE[0] or len(table["biology"]) > LARGE[1]


def group_tables(audit: Audit) -> dict[str, Mapping[str, Any]]:
    """Return the counts of units by level: of the cohort, or of reference and deployment."""
    return {
        f"{before}{column}": rows
        for key, before in LISTS.items()
        for column, rows in dict(audit.data.get(key, {})).items()
    }


def sizes(audit: Audit) -> list[tuple[str, Any]]:
    """Return rows, units and rows per unit, in words that a reader knows."""
    data, unit = audit.data, audit.graph.group
    if is_deployment(audit):
        return [
            ("Reference", f"{_count(data, 'reference_units')} {unit}s, {_count(data, 'reference_rows')} rows"),
            ("Deployment", f"{_count(data, 'deployment_units')} {unit}s, {_count(data, 'deployment_rows')} rows"),
            ("Deployment, with labels", f"{_count(data, 'deployment_rows_labelled')} rows"),
            ("Dimensions of the embedding", data.get("dimensions")),
        ]
    each = data.get("rows_per_unit", {})
    rows = [("Independent units", f"{_count(data, 'units')} ({unit})"), ("Rows", data.get("rows"))]
    if isinstance(each, Mapping) and each:
        rows.append(("Rows per unit", f"{each['least']} to {each['most']}, mean {each['mean']:.3g}"))
    return [*rows, ("Dimensions of the embedding", data.get("dimensions"))]


def _count(data: Mapping[str, Any], key: str) -> str:
    return formatting.number(data.get(key))


def missing_values(audit: Audit) -> list[str]:
    """Say what was done about missing values, cohort by cohort."""
    names = {"info_missing": "", "reference_info_missing": "Reference: ", "deployment_info_missing": "Deployment: "}
    out = []
    for key, before in names.items():
        for record in audit.data.get(key) or ():
            if not isinstance(record, Mapping):
                continue
            counts = record.get("counts") or {}
            where = ", ".join(f"{column} in {number} rows" for column, number in counts.items())
            done = {"drop": f"{record.get('rows_dropped', 'these')} rows were left out"}
            treated = done.get(str(record.get("policy")), "they count as a level of their own")
            out.append(f"{before}missing values of {where}: {treated}." if where else f"{before}no value was missing.")
    return out or ["No missing value was treated in this run."]


def first_sentence(text: str) -> str:
    """Return the first sentence: a full stop, a blank, a capital."""
    return re.split(r"(?<=[.!?])\s+(?=[A-Z])", text, maxsplit=1)[0]
