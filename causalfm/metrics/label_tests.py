"""kBET within each class: whether the confounder's levels are mixed among rows of the same biology."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from causalfm.metrics.batch_panels import Panel
from causalfm.metrics.batch_tests import check_options
from causalfm.metrics.bundles import unit_effects
from causalfm.metrics.connectivity import refuse_sampled
from causalfm.metrics.design import Design, design_of
from causalfm.metrics.diffusion import COMPONENTS, diffusion_map, euclidean_lists, fuzzy_graph
from causalfm.metrics.lisi_weights import distances_of
from causalfm.metrics.mixing import (
    group_cells,
    mixing_estimate,
    mixing_lists,
    no_estimate,
    noise_value,
    with_self,
)
from causalfm.metrics.typed_lists import Within
from causalfm.neighbours import Neighbours
from causalfm.results import Estimate, Influence

if TYPE_CHECKING:
    from causalfm.cohort import Cohort
    from causalfm.graph import CausalGraph

LEAST_ROWS = 10
LEAST_USABLE = 0.75
RESERVE = 32


def kbet_per_label(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    confounder: str | None = None,
    k: int = 50,
    alpha: float = 0.05,
    within: Within = "auto",
    exclude_groups: bool = True,
    neighbours: Neighbours | None = None,
    random_state: int = 0,
) -> Estimate:
    """Measure within each class in which share of the neighbourhoods the confounder's levels are mixed: kBET per label.

    The graph of the ``k`` nearest rows is cut down to one class; there the ``k0`` nearest by diffusion distance are
    tested as in :func:`kbet`, ``k0`` a quarter of the mean rows per level, between 10 and 70. The value is the mean
    over the classes. A class with less than 75 % of its rows in connected parts of ``3 k0`` rows scores 0; connected
    parts are searched one by one.

    Parameters
    ----------
    cohort, graph, confounder, k, alpha, within, exclude_groups, neighbours
        As in :func:`kbet`; ``k`` makes the graph.
    random_state
        Seed of the permutations behind ``chance`` and of the eigenvalue solver.

    Returns
    -------
    Estimate
        ``details["labels"]`` has one record per class: score, ``k0``, rows, or why it is left out (fewer than 10 rows,
        one level, too few rows of other groups). ``chance`` permutes the levels of groups within the class. The 95 %
        interval is the delete-one-group jackknife on queries, lists and expected shares, the diffusion map held fixed.
        ``nan`` with ``details["reason"]`` if every class is left out.

    Raises
    ------
    DataError
        As :func:`kbet`; also if ``neighbours`` lack rows.

    References
    ----------
    Luecken et al., Benchmarking atlas-level data integration in single-cell genomics, Nature Methods 19:41 (2022).
    """
    check_options(k, alpha, random_state)
    design = design_of(cohort, graph, confounder, within)
    found = mixing_lists(cohort.X, design, k, neighbours, exclude_groups)[0]
    links = _links(found, design)
    inside = design.biology * (int(design.within.max()) + 1) + design.within
    panels, records = [], []
    for code in np.unique(inside[found.queries]):
        rows = found.queries[inside[found.queries] == code]
        panel, record = _panel(links, rows, design, exclude_groups, random_state)
        if panel is not None:
            panels.append(panel)
            record["score"] = float(panel.accepted(design.confounder, alpha).mean())
        records.append({"label": _name(design, int(rows[0])), "rows": len(rows), **record})
    n_scored = sum("score" in record for record in records)
    details: dict[str, Any] = {"k": k, "alpha": alpha, "exclude_groups": exclude_groups, "labels": records}
    details |= {"weights": "classes weigh equally, as in the published index", "left_out": len(records) - n_scored}
    if not n_scored:
        reason = f"no level of {design.biology_name} can be tested; see details['labels']"
        return no_estimate("kbet_per_label", reason, design, details)

    def score(codes: np.ndarray) -> float:
        return float(sum(panel.accepted(codes, alpha).mean() for panel in panels) / n_scored)

    value = score(design.confounder)
    chance, how = noise_value(score, design.confounder, design.groups, inside, random_state)
    influence = _influence(panels, n_scored, design, alpha, value)
    return mixing_estimate("kbet_per_label", value, chance, influence, design, details | how)


def _influence(panels: list[Panel], n_scored: int, design: Design, alpha: float, value: float) -> Influence | str:
    n_groups = int(design.groups.max()) + 1
    without, pairs = np.zeros(n_groups), sparse.csr_array((n_groups, n_groups))
    for panel in panels:
        change = panel.without(design.confounder, alpha)
        if isinstance(change, str):
            return change.format(unit=design.unit)
        if not change.left.all():
            return f"none: all rows of a class belong to one {design.unit}"
        without += change.passed / change.left / n_scored
        pairs = pairs + change.pairs / (len(panel.lists.queries) * n_scored)
    return group_cells(design, unit_effects(value, without), pairs)


def _links(found: Neighbours, design: Design) -> sparse.csr_array:
    refuse_sampled(found, design)
    near = found.indices[:, : found.k]
    if (near[:, 0] == found.queries).all():
        near = near[:, 1:]
    distances = distances_of(found.similarity[:, found.k - near.shape[1] : found.k])
    return fuzzy_graph(distances, near, found.queries, len(design.groups))


def _name(design: Design, row: int) -> str:
    name = design.biology_levels[design.biology[row]]
    return f"{name}, {design.within_levels[design.within[row]]}" if design.within_names else name


def _panel(
    links: sparse.csr_array, rows: np.ndarray, design: Design, exclude_groups: bool, random_state: int
) -> tuple[Panel | None, dict[str, Any]]:
    """Return the tests of one class and its record; no panel if it is left out or scores 0."""
    levels = np.bincount(design.confounder[rows])
    levels = levels[levels > 0]
    if len(rows) < LEAST_ROWS or len(levels) == 1:
        reason = "one level only" if len(levels) == 1 else f"fewer than {LEAST_ROWS} rows"
        return None, {"left_out": reason}
    k0 = int(np.clip(levels.mean() // 4, 10, 70))
    groups = design.groups if exclude_groups else np.arange(len(design.groups))
    if len(rows) - np.bincount(groups[rows]).max() < k0:
        return None, {"left_out": f"fewer than k0={k0} rows outside one {design.unit}", "k0": k0}
    inner = sparse.csr_array(links[rows][:, rows])
    part = connected_components(inner, directed=False)[1]
    size = np.bincount(part)
    free = np.array([n - np.bincount(groups[rows[part == p]]).max() for p, n in enumerate(size)])
    # one connected part is searched whatever its size, as in scib-metrics
    usable = np.ones(1, dtype=bool) if len(size) == 1 else (size >= 3 * k0) & (free >= k0)
    share = float(usable[part].mean())
    record: dict[str, Any] = {"k0": k0, "parts": len(size), "usable": share}
    if share < LEAST_USABLE:
        return None, {**record, "score": 0.0}
    maps = []
    for p in np.flatnonzero(usable):
        mine = np.flatnonzero(part == p)
        maps.append((rows[mine], diffusion_map(sparse.csr_array(inner[mine][:, mine]), COMPONENTS, random_state)))

    def search(queries: np.ndarray, reserve: int) -> Neighbours:
        found = _lists(maps, k0, groups, reserve)
        place = np.searchsorted(found.queries, queries)
        lists = Neighbours(found.indices[place], found.similarity[place], queries, k0, found.n)
        return lists if exclude_groups else with_self(lists)

    used = np.sort(np.concatenate([mine for mine, _ in maps]))
    return Panel(search(used, RESERVE), search, used, design.groups), record


def _lists(maps: list[tuple[np.ndarray, np.ndarray]], k: int, groups: np.ndarray, reserve: int) -> Neighbours:
    """Search each connected part by itself; positions are those of the cohort, queries ascending."""
    indices, similarity = [], []
    for rows, Y in maps:
        found = euclidean_lists(Y, k, groups[rows], reserve)
        indices.append(np.where(found.indices < 0, -1, rows[found.indices]))
        similarity.append(found.similarity)
    queries = np.concatenate([rows for rows, _ in maps])
    order = np.argsort(queries)
    return Neighbours(np.vstack(indices)[order], np.vstack(similarity)[order], queries[order], k, len(groups))
