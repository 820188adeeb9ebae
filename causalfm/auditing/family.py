"""The measures beside the headline of a question: one table per factor, each with its interval and chance value."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from causalfm import metrics
from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.metrics.probes import sample_rows
from causalfm.neighbours import Neighbours
from causalfm.results import Estimate

Row = dict[str, Any]
LISI_K, KBET_K, GRAPH_K = 90, 50, 15  # as in scib-metrics; fewer where the cohort has fewer candidates
CLUSTERING: Row = {"runs": 10, "cap": 10, "max_rows": 20, "max_tables": 30}  # seconds; all of it takes minutes
COLLAPSE_ROWS = 5_000  # with their own unit's rows among the candidates: a search of its own


def neighbourhood_family(
    cohort: Cohort, graph: CausalGraph, factor: str, k: int, neighbours: Neighbours, seed: int
) -> list[Row]:
    """Measure what peers report of neighbourhoods, mixing, silhouettes, clusters and feature collapse.

    Parameters
    ----------
    cohort, graph
        Data and declared graph.
    factor
        Technical factor.
    k
        Neighbours of the robustness index: its relatives use the same.
    neighbours
        The audit's search.
    seed
        Seed of permutations and samples.

    Returns
    -------
    list of dict
        Measure, value, 95 % interval, chance and what the ends of the scale mean; why there is no number, and what was
        left out for cost.
    """
    typed: dict[str, Any] = {"confounder": factor, "neighbours": neighbours, "standardised": False}
    lists: dict[str, Any] = {"confounder": factor, "neighbours": neighbours, "random_state": seed}
    mixing = {**lists, "standardised": False}
    passed: dict[str, Any] = {"confounder": factor, "standardised": False, "random_state": seed}

    def upto(most: int) -> int:
        return min(most, neighbours.k)

    asked: list[tuple[str, str, Callable[[], Estimate]]] = [
        ("MaRI", "1: biology, 0: factor", partial(metrics.mari, cohort, graph, k=k, **typed)),
        ("de Jong ratio", "above 1: biology", partial(metrics.de_jong_ratio, cohort, graph, k=k, **typed)),
        ("iLISI", "1: levels mixed, 0: apart", partial(metrics.ilisi, cohort, graph, k=upto(LISI_K), **mixing)),
        ("cLISI", "1: classes pure, 0: mixed", partial(metrics.clisi, cohort, graph, k=upto(LISI_K), **mixing)),
        ("kBET", "1: levels mixed, 0: apart", partial(metrics.kbet, cohort, graph, k=upto(KBET_K), **mixing)),
        (
            "graph connectivity",
            "1: classes in one piece",
            partial(metrics.graph_connectivity, cohort, graph, k=upto(GRAPH_K), **lists),
        ),
        (
            "silhouette of the biology",
            ".5: no classes, 1: apart",
            partial(metrics.silhouette_label, cohort, graph, **passed),
        ),
        (
            "silhouette of the factor",
            "1: levels mixed, 0: apart",
            partial(metrics.silhouette_batch, cohort, graph, **passed),
        ),
        ("BRAS", "1: levels mixed, 0: apart", partial(metrics.bras, cohort, graph, **passed)),
        ("variance by the factor", "share of all variance", partial(metrics.pc_regression, cohort, graph, **passed)),
    ]
    rows = _margins(cohort, graph, typed)
    for name, scale, ask in asked:
        rows.append(_row(name, scale, ask))
    return [*rows, _clusters(cohort, graph, factor, seed), *_collapse(cohort, graph, factor, seed)]


def _clusters(cohort: Cohort, graph: CausalGraph, factor: str, seed: int) -> Row:
    """Lay out the clustering score, with what was cut for cost."""
    scale = "1: clusters are classes, -1: levels"
    try:
        found = metrics.clustering_score(cohort, graph, confounder=factor, random_state=seed, **CLUSTERING)
    except DataError as error:
        return {"measure": "clustering score", "reads": scale, "note": str(error)}
    row, tables = _shown("clustering score", scale, found), found.details["tables"]
    every = len(tables) + found.details["tables_not_sampled"]
    note = f"{len(tables)} of {every} tables of 2 x 2, {CLUSTERING['max_rows']} rows per cell at most; number of "
    note += f"clusters at the cap of {CLUSTERING['cap']} in {found.details['at_cap']}"
    return row if "note" in row else {**row, "note": note}


def _collapse(cohort: Cohort, graph: CausalGraph, factor: str, seed: int) -> list[Row]:
    """Lay out for each unit (slide, patient) what its own rows add to a vote, and its share of the variance."""
    groups = cohort.factor(graph.group, private=True).codes
    rows, note = sample_rows(np.arange(len(cohort)), groups, COLLAPSE_ROWS, seed), {}
    if len(rows) < len(cohort):
        cohort = cohort[rows]
        note = {"note": f"of {len(rows):,} rows, as many of each {graph.group}, drawn at random"}
    try:
        found = metrics.feature_collapse(cohort, graph, confounder=factor, random_state=seed)
    except DataError as error:
        return [{"measure": "feature collapse", "reads": "0: no unit is recognised", "note": str(error)}]
    gap, share = "accuracy that only its own rows give", "share of the variance within cells"
    asked = [(f"own {unit} among voters", gap) for unit in graph.groups]
    asked += [(f"variance by {unit}", share) for unit in graph.groups]
    return [note | _shown(*about, estimate) for about, estimate in zip(asked, found, strict=True)]


def _margins(cohort: Cohort, graph: CausalGraph, given: dict[str, Any]) -> list[Row]:
    """CRoMa has three numbers: the median margin, the share of rows on the wrong side, and the worst tenth."""
    try:
        found = metrics.croma(cohort, graph, **given)
    except DataError as error:
        return [{"measure": "CRoMa", "reads": "above 0: biology", "note": str(error)}]
    parts = {
        "CRoMa, median": (found, "above 0: biology"),
        "CRoMa, F(0)": (found.details.get("f0"), "share of rows that lean to the factor"),
        "CRoMa, lower tail": (found.details.get("ltm"), "mean of the worst tenth"),
    }
    return [
        _shown(name, scale, estimate) for name, (estimate, scale) in parts.items() if isinstance(estimate, Estimate)
    ]


def _row(name: str, scale: str, ask: Callable[[], Estimate]) -> Row:
    try:
        return _shown(name, scale, ask())
    except DataError as error:
        return {"measure": name, "reads": scale, "note": str(error)}


def _shown(name: str, scale: str, found: Estimate) -> Row:
    row = {"measure": name, "value": found.value, "low": found.low, "high": found.high, "chance": found.chance}
    why = found.details.get("reason") or (found.details.get("interval") if np.isnan(found.low) else None)
    return {**row, "reads": scale, **({"note": why} if why else {})}
