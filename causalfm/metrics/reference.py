"""Reference version of the robustness index: balanced 2 x 2 tables, so that different designs can be compared.

The raw index moves with the class shares, the numbers of classes and sites and the cell sizes. Here every number is
taken from tables of two classes by two levels with equal groups and rows per cell and k a fixed share of the cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from causalfm.arguments import check_seed
from causalfm.errors import DataError
from causalfm.metrics.balanced import Table, complete_tables, table_names
from causalfm.metrics.design import Design, design_cells, design_of, interval_of
from causalfm.metrics.typed import (
    OS,
    SO,
    Deletion,
    deletion_effects,
    expected_counts,
    kind_counts,
    neighbour_kinds,
)
from causalfm.neighbours import Neighbours, knn
from causalfm.results import Estimate, Influence

if TYPE_CHECKING:
    from causalfm.cohort import Cohort
    from causalfm.graph import CausalGraph

PAIRS_UP_TO = 3000  # groups; the pair part of the variance needs a square array of them
SEARCHES = 1500  # at most, over all tables, but one per table


def reference_index(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    confounder: str | None = None,
    fraction: float = 0.2,
    draws: int | None = None,
    min_groups: int = 3,
    max_rows: int = 120,
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
        Draws per table; None: 20, fewer if there are more than 75 tables.
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
        draws and tables, less what pairs of groups would count twice, t quantile on the logit scale. ``nan`` and
        ``details["reason"]`` if no 2 x 2 table is complete.

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
    check_seed(random_state)
    design = design_of(cohort, graph, confounder)
    tables, dropped = complete_tables(design, fraction, min_groups, max_rows)
    draws = draws or max(1, min(20, SEARCHES // max(1, len(tables))))
    spread = _Spread.of(tables, int(design.groups.max()) + 1)
    scored: list[Table] = []
    records: list[dict[str, Any]] = []
    chances: list[float] = []
    for number, table in enumerate(tables):
        drawn = _score(cohort.X, design, table, draws, np.random.default_rng([random_state, number]))
        counts = np.sum([one.counts for one in drawn], axis=0)
        record = _record(design, table, counts)
        if counts.sum() == 0:
            dropped.append({**record, "reason": f"no typed neighbour at k={table.k}"})
            continue
        scored.append(table)
        records.append(record)
        expected = np.sum([one.expected for one in drawn], axis=0)
        chances.append(float(expected[0] / expected.sum()))
        spread.add(drawn, counts)
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
    influence = _influence(spread, used, len(records), design)
    low, high, details["interval"] = interval_of(value, influence, design.unit)
    chance = float(np.mean(chances))
    return Estimate("robustness_index_2x2", value, low, high, chance, n, len(used), design.unit, details, influence)


@dataclass(frozen=True, eq=False)
class _Drawn:
    """One draw of a table, scored. Units are (cell, group) pairs: each cell has a fixed number of groups."""

    counts: np.ndarray  # (2,) SO and OS
    expected: np.ndarray  # (2,) the same under noise, up to a factor
    deletion: Deletion
    owners: np.ndarray  # (4, groups per cell) group of each unit


@dataclass(frozen=True, eq=False)
class _Spread:
    """Effects of single groups and of pairs of groups on the sum of the tables' indices."""

    effects: np.ndarray  # (G,)
    place: np.ndarray  # (G,) row of the group in ``pairs``
    pairs: np.ndarray | None  # (U, U) of the U groups in the tables; None beyond PAIRS_UP_TO

    @classmethod
    def of(cls, tables: list[Table], n_groups: int) -> _Spread:
        place = np.full(n_groups, -1)
        groups = sorted({group for table in tables for cell in table.cells for group in cell})
        place[groups] = np.arange(len(groups))
        pairs = np.zeros((len(groups), len(groups))) if len(groups) <= PAIRS_UP_TO else None
        return cls(np.zeros(n_groups), place, pairs)

    def add(self, drawn: list[_Drawn], counts: np.ndarray) -> None:
        """Add one table: its ratio, linearised at the counts pooled over its draws."""
        slope = np.array([counts[1], -counts[0]]) / counts.sum() ** 2
        effects = np.stack([(one.deletion.effects @ slope).reshape(4, -1) for one in drawn])
        effects -= effects.mean(axis=(0, 2), keepdims=True)  # cell sizes are fixed: a cell's mean effect is no spread
        for one, effect in zip(drawn, effects, strict=True):
            np.add.at(self.effects, one.owners, effect)
            if self.pairs is None:
                continue
            so, os = one.deletion.pairs
            residual = _pair_residuals((so * slope[0] + os * slope[1]).toarray(), one.owners.shape[1])
            for a, b in product(range(4), range(4)):
                self.pairs[np.ix_(self.place[one.owners[a]], self.place[one.owners[b]])] += residual[a, :, b]


def _pair_residuals(pairs: np.ndarray, m: int) -> np.ndarray:
    """Take block means and main effects off ``pairs (4m, 4m)``; ``(4, m, 4, m)``, scaled to unbiased squares.

    The same as :func:`causalfm.metrics.design.pair_variance`, kept per pair because draws and tables share pairs.
    """
    both = (pairs + pairs.T).reshape(4, m, 4, m)
    off = both.mean(axis=1, keepdims=True)
    residual = (both - off - both.mean(axis=3, keepdims=True) + off.mean(axis=3, keepdims=True)) * (m / (m - 1))
    for cell in range(4):
        block = both[cell, :, cell]
        if m < 4:
            residual[cell, :, cell] = 0  # too few to tell main effects from pairs
            continue
        mean = block.sum() / (m * (m - 1))
        main = (block.sum(1) - (m - 1) * mean) / (m - 2)
        inner = (block - mean - main[:, None] - main) * ((m - 1) / (m - 3)) ** 0.5
        np.fill_diagonal(inner, 0)
        residual[cell, :, cell] = inner
    return np.asarray(residual)


def _score(X: np.ndarray, design: Design, table: Table, draws: int, rng: np.random.Generator) -> list[_Drawn]:
    size = table.groups_per_cell * table.rows_per_group
    cell = np.repeat(np.arange(4), size)
    biology, confounder = cell // 2, cell % 2
    units = np.repeat(np.arange(4 * table.groups_per_cell), table.rows_per_group)
    drawn = []
    for _ in range(draws):
        rows = table.draw(rng)
        groups = np.unique(design.groups[rows], return_inverse=True)[1]
        search = partial(_search, X[rows], groups, table.k)
        found = search(None, table.rows_per_group)
        counts = kind_counts(neighbour_kinds(found, biology, confounder), [table.k])[0][0, [SO, OS]]
        deletion = deletion_effects(found, biology, confounder, units, table.k, search)
        assert deletion is not None  # k is at most a cell's rows; own group and one unit leave more than that
        expected = expected_counts(found.queries, biology, confounder, groups)
        owners = design.groups[rows[:: table.rows_per_group]].reshape(4, -1)
        drawn.append(_Drawn(counts, expected, deletion, owners))
    return drawn


def _search(X: np.ndarray, groups: np.ndarray, k: int, queries: np.ndarray | None, reserve: int) -> Neighbours:
    return knn(X, k, exclude=groups, queries=queries, reserve=reserve)


def _influence(spread: _Spread, used: np.ndarray, n_tables: int, design: Design) -> Influence:
    """Return what each unit adds to the mean over the tables, its effects within cells."""
    strata = np.full(len(spread.effects), -1)
    strata[used] = design_cells(design)[used]
    effects = spread.effects / n_tables
    if spread.pairs is None:
        return Influence(effects, strata)
    row, column = np.nonzero(spread.pairs)
    groups = np.flatnonzero(spread.place >= 0)
    where = groups[row], groups[column]
    pairs = sparse.csr_array((spread.pairs[row, column] / n_tables, where), shape=(len(effects),) * 2)
    return Influence(effects, strata, pairs, pairs_are_residuals=True)


def _record(design: Design, table: Table, counts: np.ndarray) -> dict[str, Any]:
    return {
        **table_names(design, table.classes, table.levels),
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
