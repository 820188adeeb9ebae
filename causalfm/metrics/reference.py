"""Reference version of the robustness index: balanced 2 x 2 tables, so that different designs can be compared.

The raw index moves with the class shares, the numbers of classes and sites and the cell sizes. Here every number is
taken from tables of two classes by two levels with equal groups and rows per cell and k a fixed share of the cell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.errors import DataError
from causalfm.metrics.design import Design, design_cells, design_of, stratified_variance, t_interval
from causalfm.metrics.typed import OS, SO, deletion_effects, expected_counts, kind_counts, neighbour_kinds
from causalfm.neighbours import Neighbours, knn
from causalfm.results import Estimate

if TYPE_CHECKING:
    from causalfm.cohort import Cohort
    from causalfm.graph import CausalGraph

KEEP = 0.9  # share of a cell's groups that must have the table's rows per group
SEARCHES = 4000  # at most, over all tables

# Rows of each group of one cell: row positions, the cell's groups ordered by code.
Cell = Mapping[int, np.ndarray]


@dataclass(frozen=True, eq=False)
class _Table:
    """One complete 2 x 2 table: four cells, equal groups and rows per cell."""

    classes: tuple[int, int]
    levels: tuple[int, int]
    cells: tuple[Cell, ...]  # (class, level) in the order 00, 01, 10, 11; eligible groups only
    left_out: int  # group x cell entries with too few rows
    groups_per_cell: int
    rows_per_group: int
    k: int


def reference_index(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    confounder: str | None = None,
    fraction: float = 0.2,
    draws: int | None = None,
    min_groups: int = 3,
    max_rows: int = 300,
    random_state: int = 0,
) -> Estimate:
    """Robustness index averaged over all complete 2 x 2 tables (two classes by two levels), each balanced.

    A table needs ``min_groups`` groups in each of its cells. It takes as many rows per group as 90 % of the groups of
    every cell have (groups with fewer are left out of it and counted) and as many groups per cell as its smallest cell
    has. Groups and rows are drawn anew in each draw; counts are pooled over the draws of a table, tables weigh equally.

    Parameters
    ----------
    cohort, graph
        The data and the roles: biology, technical factors, group.
    confounder
        Technical column; the graph's first technical factor by default.
    fraction
        ``k`` as a share of the rows per cell.
    draws
        Draws per table; None: 20, fewer if there are more than 200 tables.
    min_groups
        Groups that every cell of a table must have.
    max_rows
        Rows per cell at most, for cost: first rows per group are cut, then groups.
    random_state
        Seed of the draws. They depend on the order of the rows.

    Returns
    -------
    Estimate
        ``chance`` is computed on the drawn tables: 1/2 unless groups span several cells. The 95 % interval is for new
        groups of the same design: effect of each group on the counts of every draw, centred within cells, summed over
        draws and tables, t quantile. ``nan`` and ``details["reason"]`` if no 2 x 2 table is complete.

    Raises
    ------
    DataError
        Missing columns or values, one level only, settings out of range.
    """
    if not 0 < fraction <= 1 or min_groups < 2 or max_rows < min_groups or (draws is not None and draws < 1):
        raise DataError(
            f"fraction={fraction}, min_groups={min_groups}, max_rows={max_rows}, draws={draws}: needed are "
            "0 < fraction <= 1, min_groups of at least 2, max_rows of at least min_groups, and at least 1 draw."
        )
    design = design_of(cohort, graph, confounder)
    tables, dropped = _tables(design, fraction, min_groups, max_rows)
    draws = draws or max(1, min(20, SEARCHES // max(1, len(tables))))
    scored: list[_Table] = []
    records: list[dict[str, Any]] = []
    chances: list[float] = []
    effects = np.zeros(int(design.groups.max()) + 1)
    for number, table in enumerate(tables):
        counts, expected, change = _score(cohort.X, design, table, draws, np.random.default_rng([random_state, number]))
        record = _record(design, table, counts)
        if counts.sum() == 0:
            dropped.append({**record, "reason": f"no typed neighbour at k={table.k}"})
            continue
        scored.append(table)
        records.append(record)
        chances.append(float(expected[0] / expected.sum()))
        effects += (counts[1] * change[:, 0] - counts[0] * change[:, 1]) / counts.sum() ** 2  # derivative of the ratio
    cells = [cell for table in scored for cell in table.cells]
    used = np.array(sorted({group for cell in cells for group in cell}), dtype=np.int64)
    n = len({int(row) for cell in cells for rows in cell.values() for row in rows})
    details: dict[str, Any] = {"biology": design.biology_name, "confounder": design.confounder_name, "tables": records}
    details |= {"dropped": dropped, "draws": draws, "fraction": fraction, "min_groups": min_groups}
    if not records:
        details["reason"] = _reason(design, dropped, min_groups)
        nan = float("nan")
        return Estimate("robustness_index_2x2", nan, nan, nan, nan, n, len(used), design.unit, details)
    value = float(np.mean([record["value"] for record in records]))
    low, high, details["interval"] = _interval(value, effects[used] / len(records), design_cells(design)[used], design)
    return Estimate(
        "robustness_index_2x2", value, low, high, float(np.mean(chances)), n, len(used), design.unit, details
    )


def _tables(
    design: Design, fraction: float, min_groups: int, max_rows: int
) -> tuple[list[_Table], list[dict[str, Any]]]:
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
            dropped.append({**_names(design, pair, levels), "reason": reason})
            continue
        four = [cells[key] for key in keys]
        per_group = min(_rows_that_most_have(cell) for cell in four)
        kept = tuple({group: rows for group, rows in cell.items() if len(rows) >= per_group} for cell in four)
        left_out = sum(map(len, four)) - sum(map(len, kept))
        n_groups = min(min(map(len, kept)), max_rows)
        per_group = max(1, min(per_group, max_rows // n_groups))
        k = max(1, round(fraction * n_groups * per_group))
        tables.append(_Table(pair, levels, kept, left_out, n_groups, per_group, k))
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


def _score(
    X: np.ndarray, design: Design, table: _Table, draws: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return SO and OS counts, the same under noise, and the change of the counts by group ``(G, 2)``."""
    counts, expected = np.zeros(2), np.zeros(2)
    change = np.zeros((int(design.groups.max()) + 1, 2))
    size = table.groups_per_cell * table.rows_per_group
    cell = np.repeat(np.arange(4), size)
    by_cell: list[tuple[np.ndarray, np.ndarray]] = []
    for _ in range(draws):
        rows = np.concatenate([_draw(one, table.groups_per_cell, table.rows_per_group, rng) for one in table.cells])
        # One unit per (group, cell): cells have a fixed number of groups, so effects are centred within each.
        units = np.repeat(np.arange(4 * table.groups_per_cell), table.rows_per_group)
        so_os, noise, effect = _search_draw(X[rows], cell // 2, cell % 2, design.groups[rows], units, table.k)
        counts += so_os
        expected += noise
        by_cell.append((design.groups[rows[:: table.rows_per_group]].reshape(4, -1), effect.reshape(4, -1, 2)))
    owners, effects = (np.stack(part) for part in zip(*by_cell, strict=True))
    effects = effects - effects.mean(axis=(0, 2), keepdims=True)
    np.add.at(change, owners, effects)
    return counts, expected, change


def _draw(cell: Cell, n_groups: int, per_group: int, rng: np.random.Generator) -> np.ndarray:
    """Draw ``per_group`` rows of each of ``n_groups`` groups, group by group."""
    members = list(cell.values())
    return np.concatenate(
        [
            rng.permutation(members[i])[:per_group] if len(members[i]) > 1 else members[i]
            for i in rng.permutation(len(members))[:n_groups]
        ]
    )


def _search_draw(
    X: np.ndarray, biology: np.ndarray, confounder: np.ndarray, groups: np.ndarray, units: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    local = np.unique(groups, return_inverse=True)[1]
    largest = int(np.bincount(units).max())

    def search(queries: np.ndarray | None, reserve: int) -> Neighbours:
        return knn(X, k, exclude=local, queries=queries, reserve=reserve)

    found = search(None, largest)
    counts = kind_counts(neighbour_kinds(found, biology, confounder), [k])[0][0, [SO, OS]]
    effect = deletion_effects(found, biology, confounder, units, k, search)
    expected = expected_counts(found.queries, biology, confounder, local)
    assert effect is not None  # k is at most a cell's rows; own group and one unit leave more, as cells hold 2 groups
    return counts, expected, effect


def _interval(value: float, effects: np.ndarray, strata: np.ndarray, design: Design) -> tuple[float, float, str]:
    variance, df = stratified_variance(effects, strata)
    if not variance > 1e-24:
        note = f"none: the value is the same whichever {design.unit} is left out, so its spread is unknown"
        return float("nan"), float("nan"), note
    low, high = t_interval(value, variance, df)
    return low, high, f"delete-one-{design.unit} effects within cells, t with {df:.0f} degrees of freedom, k fixed"


def _names(design: Design, classes: tuple[int, int], levels: tuple[int, int]) -> dict[str, Any]:
    return {
        "classes": [design.biology_levels[a] for a in classes],
        "levels": [design.confounder_levels[b] for b in levels],
    }


def _record(design: Design, table: _Table, counts: np.ndarray) -> dict[str, Any]:
    return {
        **_names(design, table.classes, table.levels),
        "value": float(counts[0] / counts.sum()) if counts.sum() else float("nan"),
        "so": int(counts[0]),
        "os": int(counts[1]),
        "groups_per_cell": table.groups_per_cell,
        "rows_per_group": table.rows_per_group,
        "rows_per_cell": table.groups_per_cell * table.rows_per_group,
        "k": table.k,
        "left_out": table.left_out,
    }


def _reason(design: Design, dropped: list[dict[str, Any]], min_groups: int) -> str:
    if any("so" in record for record in dropped):
        return "cannot tell: no balanced 2 x 2 table has a typed neighbour"
    return (
        f"cannot tell: no two levels of {design.biology_name} and two of {design.confounder_name} have {min_groups} "
        f"{design.unit} units in each of their four cells"
    )
