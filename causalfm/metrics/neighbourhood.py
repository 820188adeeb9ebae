"""Robustness index: whether neighbours share the biology, or the hospital, the scanner or the stain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from causalfm.arguments import check_seed, check_type, check_whole
from causalfm.errors import DataError
from causalfm.metrics.design import Design, design_cells, design_of, interval_of
from causalfm.metrics.lists import longer_lists, neighbour_lists, shortest_list
from causalfm.metrics.reference import reference_index
from causalfm.metrics.typed import (
    OO,
    OS,
    SO,
    SS,
    deletion_effects,
    expected_counts,
    kind_counts,
    neighbour_kinds,
    vote_accuracy,
)
from causalfm.neighbours import Neighbours
from causalfm.results import Estimate, Influence

if TYPE_CHECKING:
    from causalfm.cohort import Cohort
    from causalfm.graph import CausalGraph


def robustness_index(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    confounder: str | None = None,
    k: int | Literal["auto"] = "auto",
    neighbours: Neighbours | None = None,
    max_k: int = 600,
    standardised: bool = True,
    random_state: int = 0,
) -> Estimate:
    """Measure whether nearest neighbours share the biology rather than the confounder.

    Among the k nearest rows of other groups (cosine), SO neighbours share the biology but not the confounder, OS the
    reverse. ``RI = sum SO / (sum SO + sum OS)``, counts summed over all rows first: rows, not patients, weigh equally,
    as in the published index. 1: biology alone orders the neighbourhood; 0: the confounder alone.

    Parameters
    ----------
    cohort, graph
        The data and the roles: biology, technical factors, group.
    confounder
        Technical column; the graph's first technical factor by default.
    k
        Neighbours, or ``"auto"``: the k of the grid 1, 3, 5, 7, 9, 11, 21, 31, ... with the best balanced accuracy of
        the majority vote for the biology without the own group; the smallest of equals. A tied vote goes to the
        class whose member is nearest.
    neighbours
        A search to use again (``knn(X, k, exclude=group codes, reserve=...)``); None searches.
    max_k
        The grid ends below it, and at a quarter of the shortest candidate list.
    standardised
        Add the reference version, which can be compared between designs, as ``details["standardised"]``.
    random_state
        Seed of the reference version's draws; the index itself has no randomness.

    Returns
    -------
    Estimate
        ``chance`` is the value that noise gives on this design; it is seldom 1/2. Never read one without the other.
        The 95 % interval is for new patients of the same design (n, k and the sites fixed), by a delete-one-group
        jackknife on queries and lists, groups stratified by design cell, less what it counts twice (pairs of groups,
        Efron and Stein 1981), t quantile on the logit scale with groups minus strata degrees of freedom. ``nan`` and
        ``details["reason"]`` where there is no typed neighbour.

    Raises
    ------
    DataError
        Missing columns or values, one level only, ``k`` beyond the candidates, ``neighbours`` that do not fit.

    References
    ----------
    Koemen, de Jong, Hense et al., Nature Communications 17, 5218 (2026).
    """
    check_seed(random_state)
    check_whole(max_k, "max_k", 1, why="the grid of k ends below it")
    if neighbours is not None:
        check_type(neighbours, Neighbours, "neighbours", "search with knn(cohort.X, k, exclude=group codes)")
    design = design_of(cohort, graph, confounder)
    shortest = shortest_list(design)
    if k == "auto":
        grid = _auto_grid(max_k, shortest if neighbours is None else min(shortest, 4 * neighbours.k))
    elif isinstance(k, (int, np.integer)) and not isinstance(k, bool) and k > 0:
        grid = [*_grid(int(k)), int(k)]
    else:
        raise DataError(f"k={k!r}: choose 'auto' or a positive whole number.")
    found = neighbour_lists(cohort.X, design, max(grid), neighbours)
    accuracy = vote_accuracy(found, design.biology, grid)
    chosen = grid[int(np.argmax(accuracy))] if k == "auto" else grid[-1]
    counts, support = kind_counts(neighbour_kinds(found, design.biology, design.confounder), grid)
    at = grid.index(chosen)
    value = _ratio(counts[at, SO], counts[at, OS])
    expected = expected_counts(found.queries, design.biology, design.confounder, design.groups)
    influence = _influence(cohort.X, found, design, chosen, counts[at, [SO, OS]])
    low, high, note = _interval(value, influence, design)
    details: dict[str, Any] = {
        "biology": design.biology_name,
        "confounder": design.confounder_name,
        "k": chosen,
        "k_choice": "best vote for the biology; treated as fixed by the interval" if k == "auto" else "given",
        "support": float(support[at]),
        "counts": {name: int(counts[at, kind]) for name, kind in (("SS", SS), ("SO", SO), ("OS", OS), ("OO", OO))},
        "curve": _curve(grid, counts, support, accuracy),
        "weights": "rows weigh equally, as in the published index",
        "queries": len(found.queries),
        "interval": note,
    }
    if np.isnan(value):
        details["reason"] = (
            f"none of the {chosen} nearest neighbours of any row is of the same {design.biology_name} and another "
            f"{design.confounder_name} or the reverse: there is nothing to compare at this k"
        )
    if standardised:
        details["standardised"] = reference_index(cohort, graph, confounder=confounder, random_state=random_state)
    n_groups = int(design.groups.max()) + 1
    return Estimate(
        "robustness_index",
        value,
        low,
        high,
        _ratio(*expected),
        len(cohort),
        n_groups,
        design.unit,
        details,
        None if isinstance(influence, str) else influence,
    )


def _interval(value: float, influence: Influence | str, design: Design) -> tuple[float, float, str]:
    if isinstance(influence, str):
        return float("nan"), float("nan"), influence
    low, high, note = interval_of(value, influence, design.unit)
    return low, high, f"{note}, k fixed" if low == low else note


def _influence(X: np.ndarray, found: Neighbours, design: Design, k: int, counts: np.ndarray) -> Influence | str:
    """Return what each unit adds to the index, or why there is no interval."""
    if counts.sum() == 0:
        return "none: no typed neighbour"
    search = longer_lists(X, design, k)
    deletion = deletion_effects(found, design.biology, design.confounder, design.groups, k, search)
    if deletion is None:
        return f"none: without one {design.unit} some rows have fewer than k={k} candidates; choose a smaller k"
    left = counts + deletion.effects
    if (left.sum(axis=1) == 0).any():
        return f"none: all typed neighbours hang on one {design.unit}"
    n, (so, os) = len(left), counts
    effects = (n - 1) / n * (so / (so + os) - left[:, 0] / left.sum(axis=1))
    pairs = (deletion.pairs[0] * os - deletion.pairs[1] * so) / (so + os) ** 2  # derivative of the ratio
    return Influence(effects, design_cells(design), pairs)


def _grid(below: int) -> list[int]:
    return [j for j in [1, 3, 5, 7, 9, *range(11, below, 10)] if j < below]


def _auto_grid(max_k: int, shortest: int) -> list[int]:
    grid = [j for j in _grid(max_k) if j <= shortest // 4]
    if not grid:
        raise DataError(
            f"k='auto' looks up to a quarter of the shortest candidate list ({shortest} rows) and below max_k={max_k}: "
            "nothing is left. Give k, or more rows."
        )
    return grid


def _curve(
    grid: Sequence[int], counts: np.ndarray, support: np.ndarray, accuracy: np.ndarray
) -> list[dict[str, float]]:
    return [
        {
            "k": j,
            "value": _ratio(counts[i, SO], counts[i, OS]),
            "so": int(counts[i, SO]),
            "os": int(counts[i, OS]),
            "support": float(support[i]),
            "biology_accuracy": float(accuracy[i]),
        }
        for i, j in enumerate(grid)
    ]


def _ratio(so: float, os: float) -> float:
    return float(so / (so + os)) if so + os > 0 else float("nan")
