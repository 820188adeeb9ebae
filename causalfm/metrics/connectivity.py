"""Graph connectivity: whether the neighbour graph holds each class together."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from causalfm.arguments import check_seed, check_whole
from causalfm.errors import DataError
from causalfm.metrics.bundles import bundle_influence, cell_bundles
from causalfm.metrics.deletion import ListsTooShortError, Search
from causalfm.metrics.design import Design, design_cells, design_of
from causalfm.metrics.mixing import mixing_estimate, mixing_lists, noise_value, refuse_ended
from causalfm.metrics.typed_lists import Within
from causalfm.neighbours import Neighbours
from causalfm.results import Estimate, Influence

if TYPE_CHECKING:
    from causalfm.cohort import Cohort
    from causalfm.graph import CausalGraph

BUNDLES = 30
CHANCE_PERMUTATIONS = 5


def connected_shares(indices: np.ndarray, queries: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Share of each label's rows in its largest strongly connected part: each reaches each along neighbour lists.

    Parameters
    ----------
    indices
        ``(m, k)`` row positions of the neighbours.
    queries
        ``(m,)`` row positions of the queries.
    codes
        ``(n,)`` integer labels from 0; only neighbours of the same label count.

    Returns
    -------
    numpy.ndarray
        ``(L,)``; ``nan`` where a label has no query.

    Raises
    ------
    DataError
        Ended lists.
    """
    refuse_ended(indices)
    same = codes[indices] == codes[queries, None]
    start = np.append(0, np.cumsum(same.sum(axis=1))).astype(np.int32)
    place = np.full(len(codes), -1, dtype=np.int32)
    place[queries] = np.arange(len(queries))
    ends = place[indices[same]]
    edges = sparse.csr_array((np.ones(len(ends)), ends, start), shape=(len(queries),) * 2)
    edges.has_canonical_format = True  # lists hold no row twice; spares a sort
    part = connected_components(edges, directed=True, connection="strong")[1]
    size = np.bincount(part)
    label = np.empty(len(size), dtype=np.int64)
    label[part] = codes[queries]
    rows = np.bincount(codes[queries], minlength=int(codes.max()) + 1)
    largest = np.zeros(len(rows))
    np.maximum.at(largest, label, size)
    return np.asarray(np.divide(largest, rows, out=np.full(len(rows), np.nan), where=rows > 0))


def graph_connectivity(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    confounder: str | None = None,
    k: int = 15,
    within: Within = "auto",
    exclude_groups: bool = True,
    neighbours: Neighbours | None = None,
    random_state: int = 0,
) -> Estimate:
    """Measure whether the rows of a class hang together in the neighbour graph, whatever their hospital.

    The mean over classes of :func:`connected_shares` of the ``k`` nearest rows. 1: along neighbour lists every row of a
    class reaches every other one. Lists are directed, so that a row that is nobody's neighbour is a part of its own.

    Parameters
    ----------
    cohort, graph
        The data and the roles: biology, technical factors, group.
    confounder
        Matters only by its technical causes.
    k
        Neighbours.
    within
        Columns within whose joint levels rows are linked and classes are taken; ``"auto"``: the technical causes of the
        confounder.
    exclude_groups
        Leave rows of the query's own group out of its list. False as in scib-metrics, where the query itself is one of
        the ``k``.
    neighbours
        A search of all rows to use again (``knn(X, k, exclude=group codes, reserve=...)``); None searches.
    random_state
        Seed of the permutations behind ``chance``.

    Returns
    -------
    Estimate
        ``details["labels"]`` has the share of every class. ``chance`` is the mean over 5 permutations of the groups'
        classes on the same lists: with few classes and many neighbours it is near 1. The 95 % interval is for new
        groups of the same design, by a jackknife over about 30 bundles of groups of one cell, lists refilled;
        it is too wide (twice, at k = 5 with 40 groups), because a few rows can link or part whole classes.

    Raises
    ------
    DataError
        Missing columns or values, one level only, ``k`` beyond the candidates, ``neighbours`` that lack rows.

    References
    ----------
    Luecken et al., Benchmarking atlas-level data integration in single-cell genomics, Nature Methods 19:41 (2022).
    """
    check_whole(k, "k", 2)
    check_seed(random_state)
    design = design_of(cohort, graph, confounder, within)
    found, search = mixing_lists(cohort.X, design, k, neighbours, exclude_groups)
    refuse_sampled(found, design)
    n_strata = int(design.within.max()) + 1

    def score(codes: np.ndarray) -> float:
        return float(
            np.nanmean(connected_shares(found.indices[:, :k], found.queries, codes * n_strata + design.within))
        )

    shares = connected_shares(found.indices[:, :k], found.queries, design.biology * n_strata + design.within)
    value = float(np.nanmean(shares))
    permutations = random_state, CHANCE_PERMUTATIONS
    chance, how = noise_value(score, design.biology, design.groups, design.within, *permutations)
    details: dict[str, Any] = {
        "k": k,
        "exclude_groups": exclude_groups,
        "weights": "classes weigh equally, as published",
    }
    details["labels"] = _named(shares, design, n_strata)
    bundle = cell_bundles(design_cells(design), BUNDLES)
    influence: Influence | str = f"none: without some {design.unit}s rows have fewer than k={k} candidates"
    with suppress(ListsTooShortError):
        without = _without_bundles(found, search, design, design.biology * n_strata + design.within, bundle)
        influence = bundle_influence(design_cells(design), bundle, value, without)
    return mixing_estimate("graph_connectivity", value, chance, influence, design, details | how, bundle=bundle)


def refuse_sampled(found: Neighbours, design: Design) -> None:
    """Refuse lists of some rows only; with strata, rows of strata that are too small have none."""
    if len(found.queries) < len(design.groups) and not design.within_names:
        raise DataError(
            f"neighbours hold {len(found.queries)} of {len(design.groups)} rows, but a graph needs the lists of all: "
            "search again without queries=."
        )


def _named(shares: np.ndarray, design: Design, n_strata: int) -> list[dict[str, Any]]:
    return [
        {"label": design.biology_levels[code // n_strata], "share": float(shares[code])}
        | ({"within": design.within_levels[code % n_strata]} if design.within_names else {})
        for code in np.flatnonzero(~np.isnan(shares))
    ]


def _without_bundles(
    found: Neighbours, search: Search, design: Design, codes: np.ndarray, bundle: np.ndarray
) -> np.ndarray:
    """Return the mean share without each bundle of groups; lists are refilled from their reserve."""
    k = found.k
    of_row = bundle[design.groups]
    of_entry = of_row[found.indices[:, :k]]
    values = []
    for gone in range(int(bundle.max()) + 1):
        kept = np.flatnonzero(of_row[found.queries] != gone)
        lists = found.indices[kept, :k]
        short = np.flatnonzero((of_entry[kept] == gone).any(axis=1))
        lists[short] = _refilled(found, kept[short], of_row == gone, search)
        values.append(np.nanmean(connected_shares(lists, found.queries[kept], codes)))
    return np.array(values)


def _refilled(found: Neighbours, which: np.ndarray, lost: np.ndarray, search: Search) -> np.ndarray:
    """Return the first k neighbours that are not lost of these lists, ``(len(which), k)``."""
    k = found.k
    out = np.empty((len(which), k), dtype=np.int64)
    pending, lists, width = np.arange(len(which)), found.indices[which], k + 8
    while True:
        part = lists[:, :width]
        stays = (part >= 0) & ~lost[part]
        rank = stays.cumsum(axis=1, dtype=np.int32)
        full = rank[:, -1] >= k
        chosen = stays & (rank <= k) & full[:, None]
        out[pending[full]] = part[chosen].reshape(-1, k)
        if full.all():
            return out
        pending, lists = pending[~full], lists[~full]
        if width < lists.shape[1]:
            width = lists.shape[1]
        elif (lists[:, -1] == -1).any():
            raise ListsTooShortError
        else:
            lists = search(found.queries[which[pending]], 2 * width).indices
            width = lists.shape[1]
