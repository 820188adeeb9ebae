"""The estimators of effects on one cohort: intervals of a scalar contrast, of the norm and of the share of variance."""

from __future__ import annotations

from typing import Any

import numpy as np

from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import LinearTruth, mean_square_distance
from causalfm.estimators import Effect, effect
from causalfm.graph import CausalGraph

ESTIMATORS = ("standardisation", "ridge", "aipw", "partially-linear")
PLAIN = CausalGraph.standard(biology="tumour", technical=["site"], group="patient")
AGED = CausalGraph.standard(biology="tumour", technical=["site"], covariates=["age"], group="patient")

Values = dict[str, Any]


def effect_estimates(cohort: Cohort, truth: LinearTruth, seed: int, first: bool, design: dict[str, Any]) -> Values:
    """Intervals of every estimator: the first dimension between the last and the first site, the norm, the share."""
    graph = AGED if "age_effect" in design else PLAIN
    out: Values = {}
    for name in ESTIMATORS:
        found = effect(cohort, graph, treatment="site", estimator=name, confirm=False, random_state=seed)
        out |= {f"{what}, {name}": row for what, row in _rows(cohort, truth, found, design).items()}
    return out


def _rows(cohort: Cohort, truth: LinearTruth, found: Effect, design: dict[str, Any]) -> Values:
    levels = [cohort.factor("site").levels.index(level) for level in found.overlap.levels]
    sites = truth.site_total()[levels]
    influence = found.influence
    if influence is None or found.share is None:
        nothing = [float("nan")] * 3
        return {what: [*nothing, float("nan")] for what in ("scalar", "norm", "share")}
    contrast = np.eye(len(levels))[[-1]] - np.eye(len(levels))[[0]]
    table = influence.contrast(contrast)
    low, high = table.interval()
    shares = np.array(list(found.share.details["levels"].values()))
    caused = float(shares @ ((sites - shares @ sites) ** 2).sum(axis=1))
    total = total_variance(cohort, truth, design)
    return {
        "scalar": _row(table.estimate[0, 0], low[0, 0], high[0, 0], (sites[-1] - sites[0])[0]),
        "norm": _row(found.joint.value, found.joint.low, found.joint.high, mean_square_distance(sites)),
        "share": _row(found.share.value, found.share.low, found.share.high, caused / total),
    }


def total_variance(cohort: Cohort, truth: LinearTruth, design: dict[str, Any]) -> float:
    """Return the expected variance between patients' means at this design of sites and classes."""
    patients = cohort.obs.groupby("patient", sort=False).agg(
        site=("site", "first"), tumour=("tumour", "first"), rows=("site", "size")
    )
    site = patients["site"].str.removeprefix("site").astype(int).to_numpy()
    means = truth.site_total()[site] + truth.biology[patients["tumour"].str.removeprefix("class").astype(int)]
    between = float(((means - means.mean(axis=0)) ** 2).sum()) / (len(means) - 1)
    rank = site / (len(truth.site) - 1)
    own = (design.get("group_effect", 1.0) * (1.0 + design.get("variance_by_site", 0.0) * rank)) ** 2
    ages = design.get("age_effect", 0.0) ** 2
    return between + float((own + design.get("noise", 1.0) ** 2 / patients["rows"]).mean()) + ages


def _row(value: float, low: float, high: float, truth: float) -> list[float]:
    return [float(value), float(low), float(high), float(truth)]
