"""From records to one line per cell and quantity: rejection shares, coverage, abstention, and the band they lie in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.calibration.attributions import unanswered_too
from experiments.calibration.designs import Cell
from experiments.calibration.scoreboards import judged, readable
from experiments.calibration.shift_costs import judged_costs
from experiments.calibration.study import Records, load

ALPHA = 0.05
SIZE = (0.03, 0.07)
COVERAGE = (0.93, 0.97)
FEW_COVERAGE = 0.90  # with at most FEW_PATIENTS patients
FEW_PATIENTS = 20
SPREADS = 3.0  # a norm further from zero than this many standard deviations must not be covered too often either
# What lies outside its band, with the reason as far as it is known. A test keeps this list equal to the table.
OPEN: dict[tuple[str, str, str], str] = {}
COMPARISONS = ("unstudentised", "rows as units", "EconML")
NORMS = ("effect", "effects", "paired")  # measures of squared distances, which are not below zero
DISTRIBUTIONS = ("mmd", "energy", "hsic", "dcorr")  # find any difference between sites, that of spread included
NOT_A_NULL = "not a null for this method"
COLUMNS = (
    "measure",
    "design",
    "quantity",
    "kind",
    "cohorts",
    "answered",
    "share",
    "mc_error",
    "truth",
    "mean",
    "width",
    "reading",
)


def summarise(cells: Sequence[Cell], folder: Path) -> pd.DataFrame:
    """Return one row per cell and quantity.

    Parameters
    ----------
    cells
        The study.
    folder
        Its records.

    Returns
    -------
    pandas.DataFrame
        ``share`` is a rejection share (kind ``size``, or ``power`` where there is something to find), a share of
        intervals that hold the truth (``coverage``) or of verdicts that are wrong where the truth lies on the margin
        (``error``); ``answered`` the cohorts it is taken over. ``reading`` says how it lies to the band of the
        statistical specification; ``comparison`` marks the versions that are there to be compared with. ``truth``,
        ``mean`` and median ``width`` are for intervals.
    """
    rows = [row for cell in cells for row in summarise_cell(cell, load(cell, folder))]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def summarise_cell(cell: Cell, records: Records) -> list[dict[str, Any]]:
    """Return the rows of one cell."""
    quantities = dict.fromkeys(name for seed in sorted(records) for name in records[seed])
    found = {
        quantity: np.array([record[quantity] for record in records.values() if quantity in record], dtype=float)
        for quantity in quantities
    }
    if cell.measure == "attribution":
        found = {quantity: unanswered_too(values, len(records)) for quantity, values in found.items()}
    if cell.measure == "scoreboard":
        found, about = readable(found)
        rows = [{**row, **about.get(row["quantity"], {})} for q, v in found.items() for row in _rows(cell, q, v)]
        return [{**row, "reading": judged(row, COVERAGE)} for row in rows]
    rows = [row for quantity, values in found.items() for row in _rows(cell, quantity, values)]
    if cell.measure == "shift_cost":
        return [judged_costs(row, dict(cell.design)) for row in rows]
    if cell.measure != "attribution":
        return rows
    rows = [{**row, "kind": "error"} if row["kind"] == "size" else row for row in rows]
    return [{**row, "reading": judged(row, COVERAGE)} for row in rows]


def _rows(cell: Cell, quantity: str, values: np.ndarray) -> list[dict[str, Any]]:
    base = {"measure": cell.measure, "design": cell.name, "quantity": quantity, "cohorts": len(values)}
    if values.ndim == 1:
        return [_rejections(cell, base, quantity, values[~np.isnan(values)] <= ALPHA)]
    value, low, high, truth = values.T
    answered = ~np.isnan(low)
    if quantity == "margin":
        wrong = {"margin, false pass": high < 0.0, "margin, false fail": low > 0.0}
        return [_share({**base, "quantity": name}, "error", hit[answered], name) for name, hit in wrong.items()]
    target = np.where(np.isnan(truth), np.nanmean(value[answered]) if answered.any() else np.nan, truth)
    inside = ((low - 1e-12 <= target) & (target <= high + 1e-12))[answered]
    spread = float(value[answered].std()) if answered.any() else float("nan")
    near_zero = bool(cell.measure in NORMS and "scalar" not in quantity and target[0] < SPREADS * spread)
    few = int(cell.design.get("n_groups", 80)) <= FEW_PATIENTS
    row = _share(base, "coverage", inside, quantity, near_zero=near_zero, few=few)
    mean, width = (value[answered].mean(), np.median((high - low)[answered])) if answered.any() else (np.nan, np.nan)
    rows = [{**row, "truth": float(target[0]), "mean": float(mean), "width": float(width)}]
    if _nothing_to_read(cell, quantity):
        above = (low > 1.0 / cell.design["n_sites"])[answered]
        rows.append(_share({**base, "quantity": f"{quantity}, above chance"}, "error", above, quantity))
    return rows


def _rejections(cell: Cell, base: dict[str, Any], quantity: str, rejected: np.ndarray) -> dict[str, Any]:
    """Size of a test; its power, which has no band, where sites shift; neither where they differ by spread alone."""
    row = _share(base, "size", rejected, quantity)
    if cell.measure in ("methods", "peers") and cell.design.get("site_effect"):
        return {**row, "kind": "power", "reading": "power"}
    if cell.measure == "peers":
        return {**row, "reading": "comparison"}
    spread = cell.design.get("variance_by_site") if cell.measure == "methods" else cell.design.get("spread_by_scanner")
    if quantity in DISTRIBUTIONS and spread:
        return {**row, "kind": "power", "reading": NOT_A_NULL}
    return row


def _nothing_to_read(cell: Cell, quantity: str) -> bool:
    """Say whether sites do not differ within the case mix, so that no probe may read them."""
    same = not {"variance_by_site", "age_by_site"} & set(cell.design)
    return cell.measure == "readout" and cell.name.endswith("no effect") and same and quantity.endswith("within")


def _share(
    base: dict[str, Any], kind: str, hit: np.ndarray, quantity: str, *, near_zero: bool = False, few: bool = False
) -> dict[str, Any]:
    n = len(hit)
    share = float(hit.mean()) if n else float("nan")
    reading = "comparison" if any(c in quantity for c in COMPARISONS) else _reading(kind, share, near_zero, few)
    error = float(np.sqrt(share * (1.0 - share) / n)) if n else float("nan")
    return {**base, "kind": kind, "answered": n, "share": share, "mc_error": error, "reading": reading}


def _reading(kind: str, share: float, near_zero: bool, few: bool) -> str:
    if np.isnan(share):
        return "never answered"
    if kind == "coverage":
        low, high = FEW_COVERAGE if few else COVERAGE[0], 1.0 if near_zero else COVERAGE[1]
        return "too short" if share < low else "conservative" if share > high else "within"
    low, high = (0.0, SIZE[1]) if kind == "error" else SIZE
    return "conservative" if share < low else "too often" if share > high else "within"
