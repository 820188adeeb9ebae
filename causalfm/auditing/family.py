"""The measures beside the headline of a question: one table per factor, each with its interval and chance value."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from causalfm import metrics
from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.neighbours import Neighbours
from causalfm.results import Estimate

LISI_K, KBET_K, GRAPH_K = 90, 50, 15  # as in scib-metrics; fewer where the cohort has fewer candidates
Row = dict[str, Any]


def neighbourhood_family(
    cohort: Cohort, graph: CausalGraph, factor: str, k: int, neighbours: Neighbours, seed: int
) -> list[Row]:
    """Measure what peers report of neighbourhoods, mixing and silhouettes.

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
        Measure, value, 95 % interval, chance and what the ends of the scale mean; a reason where there is no number.
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
    return rows


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
    note = {"note": found.details["reason"]} if "reason" in found.details else {}
    return {**row, "reads": scale, **note}
