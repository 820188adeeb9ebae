"""Typed neighbour lists for one question: where rows are compared, and how many neighbours count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from causalfm.arguments import check_type, check_whole
from causalfm.errors import DataError
from causalfm.metrics.deletion import Search, take
from causalfm.metrics.design import Design, design_cells, design_of
from causalfm.metrics.joint_cells import ByCell
from causalfm.metrics.lists import candidates_by_stratum, longer_lists, neighbour_lists, shortest_list
from causalfm.metrics.scopes import TABLES, comparable_strata, only_entries, paired_tables
from causalfm.metrics.typed import candidates, neighbour_kinds, vote_accuracy
from causalfm.neighbours import Neighbours
from causalfm.results import Estimate, Influence

if TYPE_CHECKING:
    from causalfm.cohort import Cohort
    from causalfm.graph import CausalGraph

Within = Sequence[str] | Literal["auto"]
Tables = Literal["all", "paired_2x2"]
ListLength = int | Literal["auto"]
NAN = float("nan")


@dataclass(frozen=True, eq=False)
class Layout:
    """Which entries are compared with which.

    Attributes
    ----------
    whole
        The design of the cohort.
    design
        The entries that are compared: all rows, those of some strata, or those of every table.
    reason
        Why there is nothing to compare, or ``""``.
    details
        Strata or tables, and which were left out why.
    """

    whole: Design
    design: Design
    reason: str
    details: dict[str, Any]

    @property
    def strata(self) -> np.ndarray:
        """Design stratum of each group, ``(G,)``; -1 for groups without an entry."""
        cells = design_cells(self.whole)
        return np.where(np.bincount(self.design.groups, minlength=len(cells)) > 0, cells, -1)

    @property
    def size(self) -> tuple[int, int]:
        """Rows and groups that have entries."""
        rows, groups = self.design.rows, self.design.groups
        n_groups = int(np.count_nonzero(np.bincount(groups))) if len(groups) else 0
        return len(groups) if rows is None else len(np.unique(rows)), n_groups

    def estimate(
        self,
        name: str,
        value: float = NAN,
        low: float = NAN,
        high: float = NAN,
        chance: float = NAN,
        *,
        influence: Influence | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> Estimate:
        """Return an estimate on this layout; without a value it says why there is none."""
        told: dict[str, Any] = {"biology": self.whole.biology_name, "confounder": self.whole.confounder_name}
        told |= {**self.details, **({"reason": self.reason} if self.reason else {}), **(details or {})}
        n, n_groups = self.size
        return Estimate(name, value, low, high, chance, n, n_groups, self.whole.unit, told, influence)


@dataclass(frozen=True, eq=False)
class TypedLists:
    """Lists of one layout, the number of neighbours that count, and the curve it was chosen from.

    Attributes
    ----------
    layout
        Which entries are compared with which.
    found
        Lists; positions are those of ``layout.design``'s entries.
    k
        Neighbours that count.
    grid
        Ascending list lengths of the curve.
    accuracy
        ``(len(grid),)`` balanced accuracy of the majority vote for the biology.
    search
        Longer lists.
    k_choice
        How k was chosen, in words.
    kinds
        ``(m, K)`` types of the neighbours in ``found``.
    available
        ``(n, 4)`` candidates of each entry by type.
    """

    layout: Layout
    found: Neighbours
    k: int
    grid: list[int]
    accuracy: np.ndarray
    search: Search
    k_choice: str
    kinds: np.ndarray = field(repr=False)
    available: ByCell = field(repr=False)

    @property
    def settings(self) -> dict[str, Any]:
        """What every estimate reports of its lists."""
        return {"k": self.k, "k_choice": self.k_choice, "queries": len(self.found.queries)}


def layout_of(cohort: Cohort, graph: CausalGraph, confounder: str | None, within: Within, design: Tables) -> Layout:
    """Lay out the comparison.

    Parameters
    ----------
    cohort, graph
        The data and the roles.
    confounder
        Technical column; the graph's first technical factor by default.
    within
        Columns within whose joint levels rows are compared; ``"auto"``: the technical causes of the confounder.
    design
        ``"all"`` rows, or ``"paired_2x2"``: every table of two classes by two levels for itself.

    Raises
    ------
    DataError
        Missing columns or values, one level only, an unknown ``design``.
    """
    if design not in ("all", "paired_2x2"):
        raise DataError(f"design={design!r}: choose 'all' or 'paired_2x2'.")
    whole = design_of(cohort, graph, confounder, within)
    kept, details, reason = whole, {}, ""
    if whole.within_names:
        kept, left_out = comparable_strata(whole)
        names = " and ".join(whole.within_names)
        details = {"within": list(whole.within_names), "strata_left_out": left_out}
        reason = (
            f"cannot tell: no level of {names} holds two levels of {whole.confounder_name} that can be compared over "
            f"two of {whole.biology_name}; within=() compares rows over all levels of {names}, and then counts what "
            f"{names} does as {whole.confounder_name}"
        )
    if design == "paired_2x2" and len(kept.groups):
        kept, details["tables"] = paired_tables(kept)
        reason = f"cannot tell: no 2 x 2 table of {whole.biology_name} and {whole.confounder_name} is complete"
    return Layout(whole, kept, "" if len(kept.groups) else reason, details)


def typed_lists(
    X: np.ndarray,
    layout: Layout,
    k: ListLength,
    max_k: int,
    neighbours: Neighbours | None,
    *,
    whole_grid: bool = False,
) -> TypedLists:
    """Search the lists of a layout and choose k.

    Parameters
    ----------
    X
        ``(n, d)`` rows of the cohort.
    layout
        With entries to compare.
    k, max_k
        As in :func:`causalfm.metrics.robustness_index`.
    neighbours
        A search of the whole cohort to use again.
    whole_grid
        Search as far as ``k="auto"`` would, also where k is given.

    Raises
    ------
    DataError
        ``k`` beyond the candidates, or ``neighbours`` that do not fit.
    """
    check_whole(max_k, "max_k", 1, why="the grid of k ends below it")
    if neighbours is not None:
        check_type(neighbours, Neighbours, "neighbours", "search with knn(cohort.X, k, exclude=group codes)")
    given = neighbours if layout.design.rows is None else None
    grid = _grid(layout.design, k, max_k, given, whole_grid)
    layout = _long_enough(layout, grid[-1])
    found = neighbour_lists(X, layout.design, grid[-1], given)
    accuracy = _accuracy(found, layout.design, grid)
    chosen = grid[int(np.argmax(accuracy))] if k == "auto" else int(k)
    choice = "best vote for the biology; treated as fixed by the interval" if k == "auto" else "given"
    roles = layout.design
    return TypedLists(
        layout,
        found,
        chosen,
        grid,
        accuracy,
        longer_lists(X, roles, chosen),
        choice,
        neighbour_kinds(found, roles.biology, roles.confounder),
        candidates(roles.biology, roles.confounder, roles.groups, roles.within),
    )


def grid_below(k: int) -> list[int]:
    """Return the published grid 1, 3, 5, 7, 9, 11, 21, 31, ... below ``k``."""
    return [j for j in [1, 3, 5, 7, 9, *range(11, k, 10)] if j < k]


def _grid(design: Design, k: ListLength, max_k: int, given: Neighbours | None, whole: bool) -> list[int]:
    if k != "auto" and (isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1):
        raise DataError(f"k={k!r}: choose 'auto' or a positive whole number.")
    if k != "auto" and not whole:
        return [*grid_below(int(k)), int(k)]
    shortest = _usual_list(design) if given is None else min(_usual_list(design), 4 * given.k)
    grid = [j for j in grid_below(max_k) if j <= shortest // 4]
    if k != "auto":
        return sorted({*grid_below(int(k)), int(k), *grid})
    if not grid:
        raise DataError(
            f"k='auto' looks up to a quarter of the shortest candidate list ({shortest} rows) and below max_k={max_k}: "
            "nothing is left. Give k, or more rows."
        )
    return grid


def _usual_list(design: Design) -> int:
    """Return the list length that at least half of the entries have: small strata must not cut everybody's k."""
    if design.rows is None:
        return shortest_list(design)
    lengths = np.sort(candidates_by_stratum(design)[design.within])
    return int(lengths[len(lengths) // 2])


def _long_enough(layout: Layout, k: int) -> Layout:
    """Keep the strata or tables with ``k`` candidates outside every group, and report the others."""
    design = layout.design
    if design.rows is None:
        return layout
    length = candidates_by_stratum(design)
    keep = length >= k
    if not keep[design.within].any():
        raise DataError(
            f"none of the strata ({' x '.join(design.within_names)}) has k={k} candidates outside every "
            f"{design.unit}; the longest lists have {length.max()}: choose a smaller k."
        )
    details, kept = dict(layout.details), only_entries(design, np.flatnonzero(keep[design.within]))
    reason = f"fewer than k={k} candidates"
    if "tables" in details:
        details["tables"] = [one for one, fits in zip(details["tables"], keep, strict=True) if fits]
        dropped = [one for one, fits in zip(layout.details["tables"], keep, strict=True) if not fits]
        details["tables_left_out"] = [{**one, "reason": reason} for one in dropped]
        kept = replace(kept, within=np.cumsum(keep)[kept.within] - 1)
    else:
        short = [w for w in np.unique(design.within).tolist() if not keep[w]]
        left = [{"stratum": design.within_levels[w], "reason": reason} for w in short]
        details["strata_left_out"] = [*details["strata_left_out"], *left]
    return Layout(layout.whole, kept, "", details)


def _accuracy(found: Neighbours, design: Design, grid: list[int]) -> np.ndarray:
    """Vote for the biology; with tables the mean over the tables, as in PathoROB."""
    if TABLES not in design.within_names:
        return vote_accuracy(found, design.biology, grid)
    table = design.within[found.queries]
    parts = [take(found, np.flatnonzero(table == t), grid[-1]) for t in np.unique(table)]
    return np.asarray(np.mean([vote_accuracy(part, design.biology, grid) for part in parts], axis=0))
