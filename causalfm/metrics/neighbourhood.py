"""Robustness index: whether neighbours share the biology, or the hospital, the scanner or the stain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.arguments import check_seed
from causalfm.metrics.joint_cells import ByCell, joint_codes
from causalfm.metrics.list_ratios import ListSums, Ratio, expected_of, list_sums, ratio_estimate, share
from causalfm.metrics.list_report import described
from causalfm.metrics.reference import reference_index
from causalfm.metrics.typed import OS, SO, kind_channels, kind_counts
from causalfm.metrics.typed_lists import ListLength, Tables, TypedLists, Within, layout_of, typed_lists
from causalfm.neighbours import Neighbours
from causalfm.results import Estimate

if TYPE_CHECKING:
    from causalfm.cohort import Cohort
    from causalfm.graph import CausalGraph

INDEX = Ratio("robustness_index", share([0], [0, 1]), (0, 1))
WEIGHTED = Ratio("robustness_index_weighted", share([2], [2, 3]), (2, 3), lacks="no query that could have both types")


def robustness_index(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    confounder: str | None = None,
    within: Within = "auto",
    design: Tables = "all",
    k: ListLength = "auto",
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
    within
        Columns within whose joint levels rows are compared. ``"auto"``: the technical causes of the confounder, so that
        a neighbour that shares the scanner is not mistaken for one that shares the scanner's hospital; ``()``: the
        whole cohort, as published. Levels in which nothing can be compared are left out and named.
    design
        ``"all"`` rows together, or ``"paired_2x2"``: neighbours are looked for in every table of two classes by two
        levels for itself, and the counts of all tables are summed before they are divided (PathoROB's TCGA design).
    k
        Neighbours, or ``"auto"``: the k of the grid 1, 3, 5, 7, 9, 11, 21, 31, ... with the best balanced accuracy of
        the majority vote for the biology without the own group (mean over the tables, if there are any); the smallest
        of equals. A tied vote goes to the class whose member is nearest.
    neighbours
        A search to use again (``knn(X, k, exclude=group codes, reserve=...)``); None searches. Strata and tables have
        lists of their own.
    max_k
        The grid ends below it, and at a quarter of the shortest candidate list (with strata or tables, of the list
        that half of the rows have).
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
        Efron and Stein 1981), t quantile on the logit scale with degrees of freedom after Satterthwaite; at exactly 0
        or 1 a one-sided bound from the number of groups. ``nan`` and ``details["reason"]`` where there is no typed
        neighbour.

        ``details["weighted"]``: every query with candidates of both types, its counts divided by the numbers of
        candidates, cells of biology by confounder equally heavy; its chance is 1/2 on every design.
        ``details["support"]`` and ``details["undefined"]``: share of rows with a typed neighbour, and why the others
        have none. ``details["strata"]`` or ``details["tables"]``: the counts of each.

    Raises
    ------
    DataError
        Missing columns or values, one level only, ``k`` beyond the candidates, ``neighbours`` that do not fit.

    References
    ----------
    Koemen, de Jong, Hense et al., Nature Communications 17, 5218 (2026).
    """
    check_seed(random_state)
    layout = layout_of(cohort, graph, confounder, within, design)
    lists = None if layout.reason else typed_lists(cohort.X, layout, k, max_k, neighbours)
    extra: dict[str, Any] = {}
    if standardised:
        extra["standardised"] = reference_index(
            cohort, graph, confounder=confounder, within=within, random_state=random_state
        )
    if lists is None:
        return layout.estimate(INDEX.name, details=extra)
    roles = lists.layout.design
    expected = np.append(expected_of(lists, (SO, OS)), (0.5, 0.5))
    channels = kind_channels(roles.biology, roles.confounder, (SO, OS))
    sums = list_sums(lists, channels, expected, _inverse_availability(lists))
    details = {
        **described(lists, INDEX.of(kind_counts(lists.kinds, lists.grid)[0][:, [SO, OS]])),
        "weights": "rows weigh equally, as in the published index",
        "weighted": _weighted(lists, sums),
    }
    return ratio_estimate(lists, INDEX, sums, details | extra)


def _inverse_availability(lists: TypedLists) -> ByCell:
    """Return the factors of each entry's SO and OS counts, ``(n, 2)``: 1 / (candidates of the type x rows of its cell).

    0 for entries that lack candidates of a type: they can only ever have the other.
    """
    design, available = lists.layout.design, lists.available.values[:, [SO, OS]].astype(np.float64)
    first = np.zeros(len(available), dtype=np.int64)  # some row of each cell
    first[lists.available.cell] = np.arange(len(lists.available.cell))
    wider = joint_codes(design.within[first], design.biology[first], design.confounder[first])[0]
    rows = np.bincount(wider, np.bincount(lists.available.cell, minlength=len(first)))
    both = np.all(available > 0, axis=1)
    factors = np.zeros_like(available)
    factors[both] = 1 / (available * rows[wider][:, None])[both]
    return ByCell(factors, lists.available.cell)


def _weighted(lists: TypedLists, sums: ListSums) -> Estimate:
    counted = (lists.available[lists.found.queries][:, [SO, OS]] > 0).all(axis=1)
    details = {
        "weights": "1 / (candidates of the type x rows of the query's cell); constants of the design in the interval",
        "queries_with_both_candidates": int(counted.sum()),
    }
    return ratio_estimate(lists, WEIGHTED, sums, details)
