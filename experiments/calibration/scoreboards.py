"""Scoreboards of correctors: numbers, changes against no correction, and what is recommended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from causalfm import estimators
from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import LinearTruth
from causalfm.estimators.scoring.result import HELPS, NONE
from causalfm.graph import CausalGraph

GRAPH = CausalGraph.standard(biology="tumour", technical=["site"], group="patient")
HALVINGS = 5  # the fewest that are allowed: more give the same variance with more degrees of freedom
CORRECTORS = {"aligned": estimators.MeanAligner(unseen="adapt"), "erased": estimators.LinearEraser()}
# What is simulated; site and class are as strong, so that both readers have errors to make.
BASE: dict[str, Any] = {"n_sites": 3, "d": 8, "rows_per_group": 2, "site_effect": 1.5, "biology_effect": 1.5}
RULE = {"correctors": ["aligned", "erased"], "parts": ["biology", "new_sites"]}  # what a recommendation rests on
NO_TABLES = {"parts": ["site", "biology", "new_sites"]}
SITE = {"parts": ["site"]}  # 40 patients at three sites have no cells for more
DESIGNS: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "120 patients, confounding 0.3": ({"n_groups": 120, "confounding": 0.3}, {}, 400),
    "120 patients, nothing helps": ({"n_groups": 120, "confounding": 0.3, "site_effect": 0.0}, RULE, 400),
    "120 patients, confounding 0.7": ({"n_groups": 120, "confounding": 0.7}, NO_TABLES, 40),
    "120 patients, unequal sites": ({"n_groups": 120, "confounding": 0.3, "groups_by_site": 2.0}, NO_TABLES, 40),
    "40 patients, confounding 0.3": ({"n_groups": 40, "confounding": 0.3}, SITE, 40),
    "40 patients, confounding 0.7": ({"n_groups": 40, "confounding": 0.7}, SITE, 40),
}
RECOMMENDED, WORST, AT = "recommended", "worst_new_site", "at "
ERROR = 0.05
NAN = float("nan")

Values = dict[str, Any]


def scoreboard_intervals(
    cohort: Cohort,
    truth: LinearTruth,
    seed: int,
    first: bool,
    design: dict[str, Any],
    correctors: Sequence[str] = ("aligned",),
    parts: Sequence[str] = ("site", "neighbours", "biology", "new_sites"),
) -> Values:
    """Intervals of every number and of every change, values at single sites, and 0 where something is recommended."""
    tried = {name: CORRECTORS[name] for name in correctors}
    board = estimators.scoreboard(
        cohort, GRAPH, tried, readers=["linear"], parts=parts, halvings=HALVINGS, random_state=seed
    )
    out: Values = {RECOMMENDED: float(board.recommended is None)}
    for score in board.scores:
        if score.name in ("seconds", "biology_lost"):
            continue
        who = "none" if score.corrector == NONE else score.corrector
        out[f"{score.name}, {who}"] = [score.value, score.low, score.high, NAN]
        if who != "none":
            out[f"{score.name}, {who} less none"] = [score.change, score.change_low, score.change_high, NAN]
    for corrector, sites in board.details["biology_at_new_site"].items():
        for site, value in sites.items():
            out[f"{AT}{site}, {'none' if corrector == NONE else corrector}"] = [value, NAN, NAN, NAN]
    return out


def readable(found: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, dict[str, str]]]:
    """Return the quantities that have intervals, with their truths, and how the rate of recommendations is to be read.

    Parameters
    ----------
    found
        ``(cohorts, 4)`` of every quantity, ``(cohorts,)`` of the recommendation.

    Returns
    -------
    quantities : dict
        The truth of the site with the least accuracy is the least of the true accuracies at single sites; designs too
        small for an interval are left out.
    about : dict
        A recommendation is an error where no mean gain is above 0, else power.
    """
    means = {
        name: float(np.nanmean(v[:, 0])) for name, v in found.items() if v.ndim == 2 and np.isfinite(v[:, 0]).any()
    }
    out = {}
    for name, values in found.items():
        if values.ndim == 2 and not np.isfinite(values[:, 1]).any():
            continue
        out[name] = values.copy()
        if name.startswith(WORST):
            out[name][:, 3] = _least(means, name.removeprefix(f"{WORST}, "))
    gains = {name: found[name] for name in means if name.startswith(HELPS) and name.endswith("less none")}
    about = {}
    for name, values in gains.items():
        # what a recommendation does where the true gain is exactly 0, whatever it is here
        out[f"{name}, low above the truth"] = (values[:, 1] <= means[name]).astype(float)
        about[f"{name}, low above the truth"] = {"kind": "error"}
    if not gains:
        out.pop(RECOMMENDED, None)
    else:
        about[RECOMMENDED] = {"kind": "power" if max(means[name] for name in gains) > 0.0 else "error"}
    return out, about


def _least(means: dict[str, float], who: str) -> float:
    """Return the least true accuracy at single sites, or the change in it."""
    least = []
    for one in who.split(" less "):
        least.append(min(value for name, value in means.items() if name.startswith(AT) and name.endswith(f", {one}")))
    return least[0] - least[1] if len(least) > 1 else least[0]


def judged(row: dict[str, Any], band: tuple[float, float]) -> str:
    """Read a share of few cohorts: a coverage is outside its band where it is by two of its own standard deviations.

    That standard deviation is taken at the edge of the band: a share of 1 has none of its own.
    """
    if row["kind"] != "coverage":
        return "power" if row["kind"] == "power" else "within" if row["share"] <= ERROR else "too often"
    low, high = (
        edge - side * 2.0 * np.sqrt(edge * (1.0 - edge) / row["answered"])
        for edge, side in zip(band, (1, -1), strict=True)
    )
    return "too short" if row["share"] < low else "conservative" if row["share"] > high else "within"
