"""Balanced 2 x 2 tables of a design: which are complete, and draws with equal groups and rows per cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np

from causalfm.metrics.design import Design

KEEP = 0.9  # share of a cell's groups that must have the table's rows per group

# Rows of each group of one cell: row positions, the cell's groups ordered by code.
Cell = Mapping[int, np.ndarray]


@dataclass(frozen=True, eq=False)
class Table:
    """One complete 2 x 2 table.

    Attributes
    ----------
    classes, levels
        Codes of the two classes and of the two confounder levels.
    cells
        The eligible groups of (class, level) in the order 00, 01, 10, 11.
    left_out
        Entries (group in a cell) with too few rows.
    groups_per_cell, rows_per_group
        Equal in the four cells.
    k
        Neighbours: a fixed share of the rows per cell.
    """

    classes: tuple[int, int]
    levels: tuple[int, int]
    cells: tuple[Cell, ...]
    left_out: int
    groups_per_cell: int
    rows_per_group: int
    k: int

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Draw row positions ``(4 * groups_per_cell * rows_per_group,)``, cell by cell and group by group."""
        return np.concatenate([_draw(cell, self.groups_per_cell, self.rows_per_group, rng) for cell in self.cells])


def complete_tables(
    design: Design, fraction: float, min_groups: int, max_rows: int
) -> tuple[list[Table], list[dict[str, Any]]]:
    """Return the complete tables, and the others with the reason why they are not."""
    cells = _cells(design)
    tables, dropped = [], []
    classes = combinations(range(len(design.biology_levels)), 2)
    for pair, levels in product(classes, combinations(range(len(design.confounder_levels)), 2)):
        keys = list(product(pair, levels))
        poor = [key for key in keys if len(cells.get(key, {})) < min_groups]
        if poor:
            names = [
                (design.biology_levels[a], design.confounder_levels[b], len(cells.get((a, b), {}))) for a, b in poor
            ]
            reason = "; ".join(f"{a} x {b} has {size} of {min_groups} {design.unit} units" for a, b, size in names)
            dropped.append({**table_names(design, pair, levels), "reason": reason})
            continue
        four = [cells[key] for key in keys]
        per_group = min(_rows_that_most_have(cell) for cell in four)
        kept = tuple({group: rows for group, rows in cell.items() if len(rows) >= per_group} for cell in four)
        left_out = sum(map(len, four)) - sum(map(len, kept))
        n_groups = min(min(map(len, kept)), max_rows)
        per_group = max(1, min(per_group, max_rows // n_groups))
        k = max(1, round(fraction * n_groups * per_group))
        tables.append(Table(pair, levels, kept, left_out, n_groups, per_group, k))
    return tables, dropped


def _cells(design: Design) -> dict[tuple[int, int], Cell]:
    """Return the rows of each group in each biology x confounder cell."""
    order = np.lexsort((design.groups, design.confounder, design.biology))
    keys = np.stack([design.biology[order], design.confounder[order], design.groups[order]], axis=1)
    starts = np.flatnonzero(np.any(np.diff(keys, axis=0, prepend=-1), axis=1))
    cells: dict[tuple[int, int], dict[int, np.ndarray]] = {}
    for start, rows in zip(starts, np.split(order, starts[1:]), strict=True):
        a, b, group = (int(v) for v in keys[start])
        cells.setdefault((a, b), {})[group] = rows
    return dict(cells)


def _rows_that_most_have(cell: Cell) -> int:
    sizes = np.sort([len(rows) for rows in cell.values()])[::-1]
    return int(sizes[int(np.ceil(KEEP * len(sizes))) - 1])


def _draw(cell: Cell, n_groups: int, per_group: int, rng: np.random.Generator) -> np.ndarray:
    """Draw ``per_group`` rows of each of ``n_groups`` groups, group by group."""
    members = list(cell.values())
    return np.concatenate(
        [
            rng.permutation(members[i])[:per_group] if len(members[i]) > 1 else members[i]
            for i in rng.permutation(len(members))[:n_groups]
        ]
    )


def table_names(design: Design, classes: tuple[int, int], levels: tuple[int, int]) -> dict[str, Any]:
    """Return the levels of one table under their names."""
    return {
        "classes": [design.biology_levels[a] for a in classes],
        "levels": [design.confounder_levels[b] for b in levels],
    }
