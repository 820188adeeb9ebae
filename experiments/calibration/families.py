"""The families of metrics on one cohort, and contrasts of two encoders that are equally good."""

from __future__ import annotations

from typing import Any

import numpy as np

from causalfm import metrics
from causalfm.auditing.contrasting import contrast_all
from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import LinearTruth
from causalfm.graph import CausalGraph
from causalfm.neighbours import knn
from causalfm.results import Estimate

GRAPH = CausalGraph.standard(biology="tumour", technical=["site"], group="patient")
K = 9
LISI_K = 15  # perplexity 5
NOISE = 0.7  # standard deviation of what an encoder adds to every dimension of a row

Values = dict[str, Any]


def neighbourhood_intervals(
    cohort: Cohort, truth: LinearTruth, seed: int, first: bool, design: dict[str, Any]
) -> Values:
    """Intervals of the measures that count or weigh neighbours by type, from one pass."""
    lists = search(cohort)
    at_k = {"k": K, "neighbours": lists, "standardised": False}
    margin = metrics.croma(cohort, GRAPH, neighbours=lists, standardised=False)
    found: dict[str, Estimate] = {
        "index": metrics.robustness_index(cohort, GRAPH, **at_k),
        "de Jong ratio": metrics.de_jong_ratio(cohort, GRAPH, **at_k),
        "MaRI": metrics.mari(cohort, GRAPH, **at_k),
        "CRoMa median": margin,
        "CRoMa F(0)": margin.details["f0"],
        "CRoMa lower tail": margin.details["ltm"],
    }
    scalars = metrics.neighbour_scalars(cohort, GRAPH, k=K, neighbours=lists)
    return _rows(found | {name.replace("_", " "): estimate for name, estimate in scalars.items()})


def mixing_intervals(cohort: Cohort, truth: LinearTruth, seed: int, first: bool, design: dict[str, Any]) -> Values:
    """Intervals of the mixing measures and the silhouettes."""
    lists = {"k": LISI_K, "neighbours": search(cohort), "random_state": seed}
    plain = {"standardised": False, "random_state": seed}
    return _rows(
        {
            "iLISI": metrics.ilisi(cohort, GRAPH, standardised=False, **lists),
            "cLISI": metrics.clisi(cohort, GRAPH, standardised=False, **lists),
            "kBET": metrics.kbet(cohort, GRAPH, standardised=False, **lists),
            "graph connectivity": metrics.graph_connectivity(cohort, GRAPH, **lists),
            "silhouette of the biology": metrics.silhouette_label(cohort, GRAPH, **plain),
            "silhouette of the site": metrics.silhouette_batch(cohort, GRAPH, **plain),
            "BRAS": metrics.bras(cohort, GRAPH, **plain),
            "PC regression": metrics.pc_regression(cohort, GRAPH, **plain),
        }
    )


def _rows(found: dict[str, Estimate]) -> Values:
    """No truth is known: it is the mean over the cohorts of the cell."""
    return {name: [float(e.value), float(e.low), float(e.high), float("nan")] for name, e in found.items()}


def contrast_p_values(cohort: Cohort, truth: LinearTruth, seed: int, first: bool, design: dict[str, Any]) -> Values:
    """p-values of the difference between two encoders that differ by independent noise of the same size only."""
    rng = np.random.default_rng([seed, 1])
    encoders = [cohort.replace(X=cohort.X + NOISE * rng.standard_normal(cohort.X.shape)) for _ in range(2)]
    measured: dict[str, list[Estimate]] = {}
    for encoder in encoders:
        lists = search(encoder)
        index = metrics.robustness_index(encoder, GRAPH, k=K, neighbours=lists, random_state=seed)
        margin = metrics.croma(encoder, GRAPH, neighbours=lists, standardised=False)
        both = {
            "robustness index": index,
            "2 x 2 reference": index.details["standardised"],
            "MaRI": metrics.mari(encoder, GRAPH, k=K, neighbours=lists, standardised=False),
            "CRoMa median": margin,
            "iLISI": metrics.ilisi(encoder, GRAPH, k=LISI_K, neighbours=lists, standardised=False, random_state=seed),
            "read-out of the biology": metrics.readout(encoder, GRAPH, of="tumour", random_state=seed),
            "read-out of the site": metrics.readout(encoder, GRAPH, of="site", random_state=seed),
        }
        for name, estimate in both.items():
            measured.setdefault(name, []).append(estimate)
    return {name: _p_value(pair, seed) for name, pair in measured.items()}


def search(cohort: Cohort) -> Any:
    """Search once for all metrics of a cohort, with a reserve for the jackknife."""
    groups = cohort.factor("patient", private=True)
    shortest = len(cohort) - int(groups.counts().max())
    return knn(cohort.X, LISI_K, exclude=groups.codes, reserve=min(2 * LISI_K, shortest - LISI_K))


def _p_value(pair: list[Estimate], seed: int) -> float:
    """Return the p-value of one contrast; ``nan`` where one of the estimates has no interval."""
    influences = [estimate.influence for estimate in pair]
    if any(i is None for i in influences):
        return float("nan")
    values = np.array([estimate.value for estimate in pair])
    return float(contrast_all(values, [i for i in influences if i is not None], seed).p_value[0])
