"""What a new hospital costs: intervals of measured accuracy and of accuracy predicted without labels, with abstention.

Every cohort has its own hospitals (``effect_seed``), the new one among them exchangeable with those of the reference
but for what was planted.
"""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from causalfm.cohort import Cohort
from causalfm.datasets.planted_shifts import PlantedShift, planted_shift
from causalfm.shift import Domain, Domains, as_domains, label_free_performance, measured_performance

# Twelve hospitals of 40 patients; the new one has 60. Hospitals differ by .3 of a patient's own variation, or by .8.
BASE: dict[str, Any] = {"n_sites": 12, "n_groups": 480, "new_groups": 60, "rows_per_group": 2, "biology_effect": 1.0}
COSTS: dict[str, dict[str, Any]] = {
    "nothing": {"planted": "nothing"},
    "nothing, hospitals differ more": {"planted": "nothing", "site_spread": 0.8},
    "older patients": {"planted": "covariate"},
    "case mix": {"planted": "case_mix"},
    "another scanner": {"planted": "scanner", "size": 1.5},
    "classes less distinct": {"planted": "fading", "size": 0.5},
}
TRUE_PATIENTS = 1000  # behind every true accuracy, one row each: its standard error is at most .016, of .9 .009
MARGIN = 0.05
VIOLATED = ("case_mix", "scanner", "fading")  # planted shifts under which no label-free estimate has to hold
NOT_ASSUMED = "its assumption does not hold"
TOLD = "verdict, told"
NAN = float("nan")
ERROR, COVERED = 0.05, (0.93, 0.97)

Values = dict[str, Any]


def planted_domains(planted: str, random_state: int, **design: Any) -> tuple[Domains, tuple[float, float]]:
    """Draw reference and deployment, and the true accuracy of the head for new patients of either."""
    settings = BASE | design
    reference, deployment, graph, truth = planted_shift(
        planted, effect_seed=random_state, random_state=random_state, **settings
    )
    more = [_named(truth, side, random_state) for side in ("reference", "deployment")]
    everyone = [deployment, *more]
    together = Cohort(np.concatenate([cohort.X for cohort in everyone]), pd.concat([cohort.obs for cohort in everyone]))
    domains = as_domains(reference, together, graph)
    ends = np.cumsum([0, *(len(cohort) for cohort in everyone)])
    hits = domains.deployment.scores.argmax(axis=1) == domains.deployment.labels
    true = tuple(float(hits[a:b].mean()) for a, b in pairwise(ends[1:]))
    whole, first = domains.deployment, slice(0, ends[1])
    units = np.unique(whole.units[first], return_inverse=True)[1]
    small = Domain(deployment, whole.labels[first], units, whole.sites[first], whole.scores[first])
    return dataclasses.replace(domains, deployment=small), (true[0], true[1])


def _named(truth: PlantedShift, side: str, seed: int) -> Cohort:
    cohort = truth.draw(side, TRUE_PATIENTS, 1, seed + 500_000_000)
    obs = cohort.obs.assign(patient=[f"more {side} {i}" for i in range(len(cohort))])
    return Cohort(cohort.X, obs.set_axis([f"more {side} {i}" for i in range(len(cohort))], axis=0))


def cost_intervals(
    domains: Domains, truth: tuple[float, float], seed: int, first: bool, design: dict[str, Any]
) -> Values:
    """Intervals of measured accuracy and drop, and of label-free estimates where they may be used.

    The truth of an estimate without labels is the accuracy of the very patients whose scores were seen. A withdrawn or
    withheld interval is an abstention. ``false pass`` and ``false fail``: verdicts without labels that the true drop
    contradicts (kind ``error``: 0 where there is one).
    """
    measured = measured_performance(domains, margin=MARGIN)
    free = label_free_performance(domains, margin=MARGIN)
    here = measured.accuracy.value
    out: Values = {
        "measured accuracy": [here, measured.accuracy.low, measured.accuracy.high, truth[1]],
        "measured drop": [measured.drop.value, measured.drop.low, measured.drop.high, truth[0] - truth[1]],
    }
    for e in free.estimates:
        out[f"{e.name}, own interval"] = [e.value, e.own_low, e.own_high, here]
        low, high = (e.low, e.high) if e.trusted else (NAN, NAN)
        out[f"{e.name}, calibrated"] = [e.predicted, low, high, here]
    out["chosen"] = [free.value, free.low, free.high, here]
    drop = truth[0] - truth[1]
    out["verdict, false pass"] = float(not (free.verdict == "pass" and drop > MARGIN))
    out["verdict, false fail"] = float(not (free.verdict == "fail" and drop < MARGIN))
    out[TOLD] = float(free.verdict == "cannot tell")
    return out


def judged_costs(row: dict[str, Any], design: dict[str, Any]) -> dict[str, Any]:
    """Read a row; shares of verdicts are no coverage, and estimates whose assumption is violated need not cover."""
    if row["quantity"].startswith("verdict"):
        wrong = "too often" if row["share"] > ERROR else "within"
        return {**row, "kind": "error", "reading": "power" if row["quantity"] == TOLD else wrong}
    if design["planted"] in VIOLATED and not row["quantity"].startswith("measured"):
        return {**row, "reading": NOT_ASSUMED}
    low = COVERED[0] - 2.0 * (COVERED[0] * (1.0 - COVERED[0]) / max(row["answered"], 1)) ** 0.5
    if row["answered"]:
        row = {**row, "reading": "too short" if row["share"] < low else row["reading"].replace("too short", "within")}
    return row
