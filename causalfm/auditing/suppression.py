"""Small cells that are not published: fewer patients than the policy allows to be shown, and what would give them away.

Everything that leaves an audit passes :func:`published` once: the page, Markdown, JSON, the rows of its frame.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from causalfm.auditing.findings import Audit
from causalfm.auditing.group_counts import LISTS
from causalfm.auditing.hidden_cells import TableCells, protect, told
from causalfm.auditing.hidden_details import Marks, hide_in_advice, hide_in_finding, hide_in_missing
from causalfm.results import plain

HIDDEN = "hidden"  # not small itself: shown, it would give a small cell away


def published(audit: Audit) -> Audit:
    """Return the audit as its policy lets it be shown.

    Parameters
    ----------
    audit
        The audit.

    Returns
    -------
    Audit
        Itself if the policy's ``suppress_below`` is 0.
    """
    return suppress(audit, int(audit.policy.get("suppress_below") or 0))


def suppress(audit: Audit, below: int) -> Audit:
    """Hide counts of fewer than ``below`` independent units, estimates that rest on them, and what gives them away.

    Parameters
    ----------
    audit
        The audit.
    below
        Fewest units that may be shown; 0 or 1 hides nothing.

    Returns
    -------
    Audit
        A copy. Small counts read ``"<5"`` (for ``below=5``), counts that would give one away ``"hidden"``; the number
        of both, and why, is in ``data["suppression"]`` and among the assumptions. Verdicts stay.

    Notes
    -----
    Cells of the cross tables are protected against linear algebra on all that is shown: cells, totals of classes and
    levels, other tables, tables of factors nested in one another (Gusfield, SIAM J. Comput. 17, 1988). Counts inside
    the findings, which speak for parts of the table, are shown as ``"<5"`` or ``"5+"``, and the units behind a finding
    less a multiple of ``below``: a difference from a total would tell the part that was left out. Zeros are shown.
    """
    if below <= 1 or "suppression" in audit.data:
        return audit
    tables, lists, levels, hidden = _hide_counts(audit, below)
    marks = Marks(below, audit.graph.group, frozenset(levels), _totals_shown(audit))
    findings = tuple(hide_in_finding(finding, marks) for finding in audit.findings)
    advice = tuple(hide_in_advice(one, marks) for one in audit.advice)
    sentence = marks.sentence(*hidden)
    data = {key: hide_in_missing(value, marks) if key.endswith("info_missing") else value
            for key, value in audit.data.items()}  # fmt: skip
    data |= lists
    data["suppression"] = {
        "below": below, "small counts": hidden[0], "hidden with them": hidden[1],
        "values hidden in findings": marks.hidden, "why": sentence,
    }  # fmt: skip
    return dataclasses.replace(
        audit,
        findings=findings,
        advice=advice,
        tables=tables,
        data=data,
        headline=marks.text(audit.headline),
        assumptions=(*(marks.text(text) for text in audit.assumptions), sentence),
    )


def _totals_shown(audit: Audit) -> tuple[int, ...]:
    """Return the totals that the report names: units and rows, of a deployment's audit those of both and their sum."""
    out = []
    for what in ("units", "rows"):
        found = [audit.data.get(f"{of}{what}") for of in ("reference_", "deployment_")]
        known = [value for value in found if isinstance(value, int)] or [int(audit.data.get(what) or 0)]
        out += [*known, sum(known)]
    return tuple(out)


def _hide_counts(audit: Audit, below: int) -> tuple[dict[str, Any], dict[str, Any], set[str], tuple[int, int]]:
    """Hide in cross tables and lists of levels; name the levels that are small; count what was hidden."""
    graph, prefix = audit.graph, "reference_" if "reference_group_counts" in audit.data else ""
    lists = {
        key: {column: [dict(row) for row in rows] for column, rows in dict(audit.data[key]).items()}
        for key in LISTS
        if key in audit.data
    }
    own = lists.get(f"{prefix}group_counts", {})
    crossed = {name: plain(table) for name, table in audit.tables.items()}
    cells = {name: _cells(table, own.get(graph.biology), own.get(name), below) for name, table in crossed.items()}
    _protect_together(cells, _nested(audit))
    small = hidden = 0
    levels: set[str] = set()
    for name, table in crossed.items():
        found = cells[name]
        small += int(found.small[:-1, :-1].sum())
        hidden += int((found.hidden & ~found.small)[:-1, :-1].sum())
        crossed[name] = _shown(table, found)
    for key, columns in lists.items():
        for column, rows in columns.items():
            mask = None
            if key == f"{prefix}group_counts" and cells:
                if column in cells:
                    mask = _mask(rows, crossed[column]["levels"], cells[column].hidden[-1, :-1])
                elif column == graph.biology:
                    first = next(iter(cells))
                    mask = _mask(rows, crossed[first]["biology"], cells[first].hidden[:-1, -1])
            new, counted, named = _hide_list(rows, mask, below)
            columns[column] = new
            levels |= named
            small, hidden = small + counted[0], hidden + counted[1]
    return crossed, lists, levels, (small, hidden)


def _cells(table: Mapping[str, Any], classes: Any, levels: Any, below: int) -> TableCells:
    """Lay a cross table out with the totals that are shown beside it; a unit may count in several cells."""
    counts = np.asarray(table["groups"], dtype=int).reshape(len(table["biology"]), len(table["levels"]))
    rows = _totals(classes, table["biology"], counts.sum(axis=1))
    columns = _totals(levels, table["levels"], counts.sum(axis=0))
    return TableCells.of(counts, rows, columns, int(counts.sum()), below)


def _totals(rows: Any, names: list[str], sums: np.ndarray) -> np.ndarray:
    known = {str(row["level"]): int(row["units"]) for row in rows or ()}
    return np.array([known.get(str(name), int(s)) for name, s in zip(names, sums, strict=True)], dtype=int)


def _nested(audit: Audit) -> dict[str, str]:
    """Return which factor determines which: the totals of one are then sums of cells of the other."""
    return {
        f.factor: str(f.details["nested_in"])
        for f in audit.findings
        if f.question == "overlap" and f.details.get("nested_in")
    }


def _protect_together(cells: dict[str, TableCells], nested: Mapping[str, str]) -> None:
    """Protect each table, then what several of them would tell together.

    Of nested factors, one table's cells are sums of the other's. A class with a hidden cell in one is hidden as a whole
    in those nested in it: their equations are then sums of those of the table above, and tell nothing new.
    """
    for table in cells.values():
        protect(table)
    for inner, outer in nested.items():
        if inner in cells and outer in cells:
            parts = [cells[name].hidden[:-1, :-1] for name in (inner, outer)]
            either: np.ndarray = np.logical_or(parts[0].any(axis=1), parts[1].any(axis=1))
            cells[inner].hidden[:-1, :-1] |= either[:, None]
            if cells[inner].hidden[-1, :-1].any() or cells[outer].hidden[-1, :-1].any():
                cells[inner].hidden[-1, :-1] = True
    if not cells:
        return
    totals = np.logical_or.reduce([table.hidden[:, -1] for table in cells.values()])
    for table in cells.values():
        table.hidden[:, -1] = totals
    if told(list(cells.values())):
        for table in cells.values():
            table.hidden[:] = True
            table.hidden[-1, -1] = False


def _shown(table: Mapping[str, Any], cells: TableCells) -> dict[str, Any]:
    """Write marks in place of hidden counts; what is a function of all cells is not shown where one is hidden."""
    inner: np.ndarray = cells.hidden[:-1, :-1]
    small: np.ndarray = cells.small[:-1, :-1]
    if not inner.any():
        return dict(table)
    out = dict(table)
    for key in ("groups", "rows"):
        if key in table:
            out[key] = [
                [(f"<{cells.below}" if small[b, s] and key == "groups" else HIDDEN) if inner[b, s] else value
                 for s, value in enumerate(row)]
                for b, row in enumerate(table[key])
            ]  # fmt: skip
    return out | {key: None for key in ("cramers_v", "cramers_v_corrected", "effective_units") if key in table}


def _mask(rows: list[dict[str, Any]], names: list[str], hidden: np.ndarray) -> list[bool]:
    by = dict(zip(map(str, names), hidden.tolist(), strict=True))
    return [by.get(str(row["level"]), False) for row in rows]


def _hide_list(
    rows: list[dict[str, Any]], mask: list[bool] | None, below: int
) -> tuple[list[dict[str, Any]], tuple[int, int], set[str]]:
    """Hide the small levels of a list, and the smallest other one where only one would be missing from the total."""
    small = [0 < row["units"] < below for row in rows]
    hide = [a or b for a, b in zip(small, mask or [False] * len(rows), strict=True)]
    if sum(hide) == 1 and len(rows) > 1:
        others = [i for i, row in enumerate(rows) if not hide[i] and row["units"]]
        if others:
            hide[min(others, key=lambda i: rows[i]["units"])] = True
    out = [
        {**row, "units": f"<{below}" if tiny else HIDDEN, "rows": HIDDEN} if gone else row
        for row, tiny, gone in zip(rows, small, hide, strict=True)
    ]
    counted = (sum(small), sum(hide) - sum(small))
    return out, counted, {str(row["level"]) for row, tiny in zip(rows, small, strict=True) if tiny}
