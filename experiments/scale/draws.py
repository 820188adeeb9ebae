"""What drawing rows adds to an interval: cohorts drawn anew, asked of all rows and of those that an audit draws.

The number that an interval must hold is the mean of the same question over all cohorts. Queries among all rows ask the
same question as all rows do; rows drawn ask it of thinner cohorts, so their number may be another, and is shown.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from causalfm import metrics
from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import linear_scm
from causalfm.graph import CausalGraph
from causalfm.metrics.probes import sample_rows
from causalfm.neighbours import knn
from causalfm.results import Estimate

GRAPH = CausalGraph.standard(biology="tumour", technical=["site"], group="patient")
PATIENTS, ROWS, KEPT, QUERIES, K, COHORTS, SEED = 60, 60, 10, 300, 30, 400, 20260101
DESIGN = {"n_groups": PATIENTS, "rows_per_group": ROWS, "d": 16, "n_sites": 3, "site_effect": 0.8, "group_effect": 0.7}
Asked = Callable[[Cohort, int], Estimate]


def _index(cohort: Cohort, seed: int, queries: int | None = None) -> Estimate:
    groups = cohort.factor("patient", private=True).codes
    lists = knn(cohort.X, K, exclude=groups, reserve=K, queries=queries, random_state=seed)
    return metrics.robustness_index(cohort, GRAPH, k=K, neighbours=lists, standardised=False)


def _drawn(cohort: Cohort, seed: int) -> Cohort:
    groups = cohort.factor("patient", private=True).codes
    return cohort[sample_rows(np.arange(len(cohort)), groups, PATIENTS * KEPT, seed)]


def _probe(cohort: Cohort, seed: int) -> Estimate:
    return metrics.readout(cohort, GRAPH, of="site", random_state=seed)


def _mixing(cohort: Cohort, seed: int) -> Estimate:
    return metrics.ilisi(cohort, GRAPH, k=K, standardised=False)


def _silhouette(cohort: Cohort, seed: int) -> Estimate:
    return metrics.silhouette_batch(cohort, GRAPH, standardised=False)


QUESTIONS: dict[str, tuple[Asked, Asked]] = {  # of all rows, and as an audit of a large cohort asks
    f"robustness index, {QUERIES} queries among all rows": (_index, lambda c, s: _index(c, s, QUERIES)),
    f"probe, {KEPT} rows of each patient": (_probe, lambda c, s: _probe(_drawn(c, s), s)),
    f"iLISI, {KEPT} rows of each patient": (_mixing, lambda c, s: _mixing(_drawn(c, s), s)),
    f"silhouette of the site, {KEPT} rows of each patient": (_silhouette, lambda c, s: _silhouette(_drawn(c, s), s)),
}


def draws(cohorts: int = COHORTS) -> dict[str, Any]:
    """Return for each question the mean, the coverage and the width of the intervals, of all rows and of rows drawn."""
    found: dict[str, list[list[tuple[float, float, float]]]] = {name: [] for name in QUESTIONS}
    for number in range(cohorts):
        cohort, _ = linear_scm(**DESIGN, random_state=SEED + number)
        for name, ways in QUESTIONS.items():
            answers = [ask(cohort, number) for ask in ways]
            found[name].append([(a.value, a.low, a.high) for a in answers])
        if (number + 1) % 50 == 0:
            print(number + 1, flush=True)
    design = {**DESIGN, "cohorts": cohorts, "rows drawn of each patient": KEPT, "queries": QUERIES, "k": K}
    return {"design": design, "answers": {name: _summary(np.array(values)) for name, values in found.items()}}


def _summary(values: np.ndarray) -> dict[str, Any]:
    """Summarise ``(cohorts, 2, 3)``: value, low and high of all rows and of rows drawn."""
    out = {}
    for way, own in zip(("all rows", "rows drawn"), values.transpose(1, 0, 2), strict=True):
        value, low, high = own.T
        there = np.isfinite(low)
        truth = float(value.mean())
        out[way] = {
            "mean": truth,
            "standard deviation": float(value.std(ddof=1)),
            "intervals": int(there.sum()),
            "coverage": float(((low <= truth) & (truth <= high))[there].mean()),
            "half width": float(np.median((high - low)[there] / 2)),
        }
    return out
