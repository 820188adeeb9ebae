"""Reference version of a neighbour metric: balanced 2 x 2 tables, so that different designs can be compared.

The raw index moves with the class shares, the numbers of classes and sites and the cell sizes. Here every number is
taken from tables of two classes by two levels with equal groups and rows per cell and k a fixed share of the cell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.metrics.balanced import Balance, Cell, Draw, Table, complete_tables, draws_of, number_of_draws
from causalfm.metrics.deletion import Deletion, deletion_of, take
from causalfm.metrics.design import Design, design_of
from causalfm.metrics.held_rows import held_tables
from causalfm.metrics.list_ratios import Ratio, met_in, ratio_interval, share
from causalfm.metrics.scopes import table_record
from causalfm.metrics.table_spread import Spread
from causalfm.metrics.typed import OS, SO, Weigh, candidates, expected_sums, kind_channels, neighbour_kinds
from causalfm.metrics.typed_lists import Within
from causalfm.neighbours import Neighbours, knn
from causalfm.results import Estimate

if TYPE_CHECKING:
    from causalfm.cohort import Cohort
    from causalfm.graph import CausalGraph

INDEX = Ratio("robustness_index_2x2", share([0], [0, 1]), (0, 1))


@dataclass(frozen=True, eq=False)
class Scored:
    """A draw, scored: sums ``(c,)``, what noise gives up to a factor, and per unit what it changes and is met in."""

    totals: np.ndarray
    expected: np.ndarray
    deletion: Deletion
    met: np.ndarray


Scorer = Callable[[Draw], Scored]


def reference_index(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    confounder: str | None = None,
    within: Within = "auto",
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
    within
        Columns within whose joint levels tables are made; ``"auto"``: the technical causes of the confounder.
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
    balance = Balance(fraction, draws, min_groups, max_rows, random_state)
    design = design_of(cohort, graph, confounder, within)
    return balanced_versions(cohort.X, design, [INDEX], list_scorer((SO, OS)), balance)[0]


def list_scorer(kinds: Sequence[int], weighing: Callable[[Neighbours, np.ndarray], Weigh] | None = None) -> Scorer:
    """Return the scorer that adds up neighbours of some types.

    Parameters
    ----------
    kinds
        Types to add up.
    weighing
        Gives the weights of a draw from its first k neighbours and their types; None: all weigh 1.
    """

    def score(draw: Draw) -> Scored:
        search = partial(search_draw, draw, draw.k)
        found = search(None, len(draw.units) // len(draw.owners))
        weigh, weights, n_units = None, np.ones(len(draw.units)), len(draw.owners)
        if weighing is not None:
            first = take(found, slice(None), draw.k)
            first_kinds = neighbour_kinds(first, draw.biology, draw.confounder)
            weigh = weighing(first, first_kinds)
            weights = weigh(first, first_kinds).sum(axis=1)
        channels = kind_channels(draw.biology, draw.confounder, kinds, weigh)
        totals, deletion = deletion_of(found, draw.units, draw.k, channels, search, n_units)
        assert deletion is not None  # k is at most a cell's rows; own group and one unit leave more than that
        available = candidates(draw.biology, draw.confounder, draw.groups)
        expected = expected_sums(weights, found.queries, available, kinds)
        return Scored(totals, expected, deletion, met_in(found, draw.units, draw.k, channels, n_units))

    return score


def balanced_versions(
    X: np.ndarray, design: Design, ratios: Sequence[Ratio], score: Scorer, balance: Balance
) -> list[Estimate]:
    """Return reference versions: means over all complete 2 x 2 tables of ratios of the sums over a table's draws.

    Parameters
    ----------
    X
        ``(n, d)`` rows of the cohort.
    design
        Of the whole cohort.
    ratios
        What is computed from the sums.
    score
        Adds up one draw.
    balance
        How tables are made.
    """
    tables, dropped = complete_tables(design, balance.fraction, balance.min_groups, balance.max_rows)
    draws = number_of_draws(balance, len(tables))
    versions = [_Version(ratio, Spread.of(tables, int(design.groups.max()) + 1)) for ratio in ratios]
    for number, table, held in held_tables(X, tables, draws, balance.random_state):
        drawn = list(draws_of(held, design, table, draws, np.random.default_rng([balance.random_state, number])))
        scored = [score(draw) for draw in drawn]
        for version in versions:
            version.add(table, _record(design, table), drawn, scored)
    settings = {"dropped": dropped, "draws": draws, "fraction": balance.fraction, "min_groups": balance.min_groups}
    return [version.estimate(design, settings) for version in versions]


@dataclass(frozen=True, eq=False)
class _Version:
    """One ratio, collected over the tables."""

    ratio: Ratio
    spread: Spread
    tables: list[Table] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    dropped: list[dict[str, Any]] = field(default_factory=list)
    chances: list[float] = field(default_factory=list)
    met: list[np.ndarray] = field(default_factory=list)

    def add(self, table: Table, record: dict[str, Any], drawn: list[Draw], scored: list[Scored]) -> None:
        """Add the sums over the draws of a table, or drop it if the ratio is not defined there."""
        totals = np.sum([one.totals for one in scored], axis=0)
        value = float(self.ratio.of(totals))
        if np.isnan(value):
            self.dropped.append({**record, "reason": f"{self.ratio.lacks} at k={table.k}"})
            return
        self.tables.append(table)
        self.records.append({**record, "value": value, "sums": totals.tolist()})
        self.chances.append(float(self.ratio.of(np.sum([one.expected for one in scored], axis=0))))
        met = np.zeros((len(self.spread.effects), len(totals)))
        for draw, one in zip(drawn, scored, strict=True):
            np.add.at(met, draw.owners, one.met)
        met /= totals[list(self.ratio.counted)].sum()
        self.met[:] = [met + sum(self.met)]  # a running sum: tables may be many thousands
        self.spread.add([draw.owners for draw in drawn], [one.deletion for one in scored], self.ratio, totals)

    def estimate(self, design: Design, settings: dict[str, Any]) -> Estimate:
        cells = [cell for table in self.tables for cell in table.cells]
        used = np.array(sorted({group for cell in cells for group in cell}), dtype=np.int64)
        n = _distinct(cells, len(design.groups))
        details: dict[str, Any] = {"biology": design.biology_name, "confounder": design.confounder_name}
        details |= {"tables": self.records} | settings | {"dropped": [*settings["dropped"], *self.dropped]}
        if not self.records:
            details["reason"] = _reason(design, self.ratio, bool(self.dropped), settings["min_groups"])
            nan = float("nan")
            return Estimate(self.ratio.name, nan, nan, nan, nan, n, len(used), design.unit, details)
        value = float(np.mean([record["value"] for record in self.records]))
        influence = self.spread.influence(used, len(self.records), design)
        met = self.met[0] / len(self.records)

        def largest_share(counted: Sequence[int]) -> float:
            return float(met[:, list(counted)].sum(axis=1).max())

        low, high, details["interval"] = ratio_interval(value, influence, self.ratio, largest_share, design.unit)
        chance = float(np.mean(self.chances))
        return Estimate(self.ratio.name, value, low, high, chance, n, len(used), design.unit, details, influence)


def _distinct(cells: Sequence[Cell], n: int) -> int:
    """Return how many of ``n`` rows are in some cell; a cell may be part of many tables."""
    met = np.zeros(n, dtype=bool)
    for cell in {id(cell): cell for cell in cells}.values():
        for rows in cell.values():
            met[rows] = True
    return int(met.sum())


def search_draw(draw: Draw, k: int, queries: np.ndarray | None, reserve: int) -> Neighbours:
    """Return the lists of a draw, own groups excluded."""
    return knn(draw.X, k, exclude=draw.groups, queries=queries, reserve=reserve)


def _record(design: Design, table: Table) -> dict[str, Any]:
    return {
        **table_record(design, table.classes, table.levels, table.within),
        "groups_per_cell": table.groups_per_cell,
        "rows_per_group": table.rows_per_group,
        "rows_per_cell": table.groups_per_cell * table.rows_per_group,
        "k": table.k,
        "left_out": table.left_out,
    }


def _reason(design: Design, ratio: Ratio, void: bool, min_groups: int) -> str:
    if void:
        return f"cannot tell: no balanced 2 x 2 table has a value: {ratio.lacks}"
    inside = f" within one level of {' and '.join(design.within_names)}" if design.within_names else ""
    return (
        f"cannot tell: no two levels of {design.biology_name} and two of {design.confounder_name} have {min_groups} "
        f"{design.unit} units in each of their four cells{inside}"
    )
