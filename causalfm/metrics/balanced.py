"""Balanced 2 x 2 tables of a design: which are complete, and draws with equal groups and rows per cell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np

from causalfm.arguments import check_positive, check_seed, check_whole
from causalfm.errors import DataError
from causalfm.metrics.design import Design
from causalfm.metrics.scopes import table_record

SEARCHES = 1500  # at most, over all tables, but one per table
KEEP = 0.9  # share of the groups that must have the rows per group

# Rows of each group of one cell: row positions, the cell's groups ordered by code.
Cell = Mapping[int, np.ndarray]


@dataclass(frozen=True, eq=False)
class Table:
    """One complete 2 x 2 table.

    Attributes
    ----------
    classes, levels, within
        Codes of the two classes, of the two confounder levels, and of the stratum.
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
    within: int
    cells: tuple[Cell, ...]
    left_out: int
    groups_per_cell: int
    rows_per_group: int
    k: int

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Draw row positions ``(4 * groups_per_cell * rows_per_group,)``, cell by cell and group by group."""
        return np.concatenate([_draw(cell, self.groups_per_cell, self.rows_per_group, rng) for cell in self.cells])


@dataclass(frozen=True, eq=False)
class Draw:
    """One balanced draw of a table: four cells of equal size, one after the other.

    Attributes
    ----------
    X
        ``(n, d)`` rows drawn.
    biology, confounder
        ``(n,)`` 0 or 1.
    groups
        ``(n,)`` codes; a group may be in several cells.
    units
        ``(n,)`` codes of (cell, group) pairs: each cell has a fixed number of groups.
    owners
        ``(U,)`` group in the cohort of each unit.
    k
        Neighbours.
    """

    X: np.ndarray
    biology: np.ndarray
    confounder: np.ndarray
    groups: np.ndarray
    units: np.ndarray
    owners: np.ndarray
    k: int


@dataclass(frozen=True)
class Balance:
    """How tables are made: see :func:`causalfm.metrics.reference_index`."""

    fraction: float = 0.2
    draws: int | None = None
    min_groups: int = 3
    max_rows: int = 120
    random_state: int = 0

    def __post_init__(self) -> None:
        check_positive(self.fraction, "fraction", "k as a share of the rows per cell, at most 1")
        if self.fraction > 1:
            raise DataError(f"fraction={self.fraction}: choose a share of the rows per cell of at most 1.")
        check_whole(self.min_groups, "min_groups", 2, why="groups in each cell of a table")
        check_whole(self.max_rows, "max_rows", self.min_groups, why="rows per cell, one of each group at least")
        if self.draws is not None:
            check_whole(self.draws, "draws", 1, why="draws per table; None chooses")
        check_seed(self.random_state)


def complete_tables(
    design: Design, fraction: float, min_groups: int, max_rows: int
) -> tuple[list[Table], list[dict[str, Any]]]:
    """Return the complete tables within each stratum, and the others with the reason why they are not.

    In a stratum only the classes and levels that occur there make tables.
    """
    cells = _cells(design)
    tables, dropped = [], []
    for stratum in range(int(design.within.max()) + 1):
        inside = design.within == stratum
        classes, levels_here = (np.unique(codes[inside]).tolist() for codes in (design.biology, design.confounder))
        for pair, levels in product(combinations(classes, 2), combinations(levels_here, 2)):
            keys = [(stratum, *key) for key in product(pair, levels)]
            poor = [key for key in keys if len(cells.get(key, {})) < min_groups]
            if poor:
                names = [
                    (design.biology_levels[key[1]], design.confounder_levels[key[2]], len(cells.get(key, {})))
                    for key in poor
                ]
                reason = "; ".join(f"{a} x {b} has {size} of {min_groups} {design.unit} units" for a, b, size in names)
                dropped.append({**table_record(design, pair, levels, stratum), "reason": reason})
                continue
            tables.append(_table([cells[key] for key in keys], pair, levels, stratum, fraction, max_rows))
    return tables, dropped


def _table(
    four: list[Cell], pair: tuple[int, int], levels: tuple[int, int], stratum: int, fraction: float, max_rows: int
) -> Table:
    """Return a complete table: rows per group that most groups of each cell have, groups that every cell has."""
    per_group = min(rows_that_most_have([cell]) for cell in four)
    kept = tuple({group: rows for group, rows in cell.items() if len(rows) >= per_group} for cell in four)
    left_out = sum(map(len, four)) - sum(map(len, kept))
    n_groups = min(min(map(len, kept)), max_rows)
    per_group = max(1, min(per_group, max_rows // n_groups))
    k = max(1, round(fraction * n_groups * per_group))
    return Table(pair, levels, stratum, kept, left_out, n_groups, per_group, k)


def _cells(design: Design) -> dict[tuple[int, int, int], Cell]:
    """Return the rows of each group in each stratum x biology x confounder cell."""
    columns = design.within, design.biology, design.confounder, design.groups
    shape = tuple(int(column.max()) + 1 for column in columns)
    key = np.ravel_multi_index(columns, shape)  # one number a row: tables may be long
    order = np.argsort(key, kind="stable")
    key = key[order]
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    cells: dict[tuple[int, int, int], dict[int, np.ndarray]] = {}
    for start, rows in zip(starts, np.split(order, starts[1:]), strict=True):
        stratum, a, b, group = (int(v) for v in np.unravel_index(key[start], shape))
        cells.setdefault((stratum, a, b), {})[group] = rows
    return dict(cells)


def rows_that_most_have(cells: Sequence[Cell]) -> int:
    """Return the most rows that 90 % of the groups of these cells have, a group counted in each of its cells."""
    sizes = np.sort([len(rows) for cell in cells for rows in cell.values()])[::-1]
    return int(sizes[int(np.ceil(KEEP * len(sizes))) - 1]) if len(sizes) else 1


def _draw(cell: Cell, n_groups: int, per_group: int, rng: np.random.Generator) -> np.ndarray:
    """Draw ``per_group`` rows of each of ``n_groups`` groups, group by group."""
    members = list(cell.values())
    return np.concatenate(
        [
            rng.permutation(members[i])[:per_group] if len(members[i]) > 1 else members[i]
            for i in rng.permutation(len(members))[:n_groups]
        ]
    )


def number_of_draws(balance: Balance, n_tables: int) -> int:
    """Return the draws per table."""
    return balance.draws or max(1, min(20, SEARCHES // max(1, n_tables)))


def draws_of(X: np.ndarray, design: Design, table: Table, draws: int, rng: np.random.Generator) -> Iterator[Draw]:
    """Draw a table several times."""
    size = table.groups_per_cell * table.rows_per_group
    cell = np.repeat(np.arange(4), size)
    units = np.repeat(np.arange(4 * table.groups_per_cell), table.rows_per_group)
    for _ in range(draws):
        rows = table.draw(rng)
        groups = np.unique(design.groups[rows], return_inverse=True)[1]
        owners = design.groups[rows[:: table.rows_per_group]]
        yield Draw(X[rows], cell // 2, cell % 2, groups, units, owners, table.k)
