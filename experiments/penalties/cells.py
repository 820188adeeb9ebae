"""One cell of the study: a penalty in a design, its strength chosen without the rows it is judged on."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from causalfm.training import RobustHead
from experiments.balanced_augmentation.jackknife import interval
from experiments.penalties.designs import (
    NEW,
    SEEN,
    SITES,
    TCGA,
    TRAINING,
    Rows,
    lung,
    lung_split,
    test_set,
    training_set,
)

DECAYS = (0.01, 0.1, 1.0, 10.0)
STRENGTHS = {  # from nearly nothing to what rules the loss
    **dict.fromkeys(("irm", "vrex", "fishr", "iga"), (1.0, 30.0, 1000.0)),
    **dict.fromkeys(("coral", "mmd", "conditional_mmd", "rdm"), (0.3, 3.0, 30.0)),
    **dict.fromkeys(("hsic", "conditional_hsic"), (3.0, 30.0, 300.0)),
    **dict.fromkeys(("information_bottleneck", "spectral_decoupling"), (0.01, 0.1, 1.0)),
    **dict.fromkeys(("dann", "cdann"), (0.1, 0.5, 2.0)),
    "group_dro": (0.2, 2.0, 20.0),
    "eqrm": (0.25, 0.75, 2.0),
}
METHODS = ("erm", *sorted(STRENGTHS))
ERROR = 0.05


@dataclass(frozen=True)
class Plan:
    """How much is run.

    Attributes
    ----------
    pilots, cohorts
        Training sets that strengths are chosen on, and further ones that are judged.
    splits
        Of TCGA, to be judged.
    patients, tested
        Simulated patients per hospital, to train on and to test.
    steps, rate
        Of the heads.
    """

    pilots: int = 3
    cohorts: int = 8
    splits: int = 24
    patients: int = 60
    tested: int = 2000
    steps: int = 60
    rate: float = 0.05


def head_of(method: str, setting: float, decay: float, seed: int, plan: Plan) -> RobustHead:
    """Return an untrained head; the setting of ERM is its weight decay, of the others the strength."""
    if method == "erm":
        return RobustHead(decay=setting, steps=plan.steps, rate=plan.rate, random_state=seed)
    return RobustHead(method, strength=setting, decay=decay, steps=plan.steps, rate=plan.rate, random_state=seed)


def chosen(method: str, sets: list[Rows], decay: float, plan: Plan) -> tuple[float, dict[str, float]]:
    """Choose the setting with the best worst-site accuracy where training sites are left out in turn.

    Returns
    -------
    float, dict
        The setting, the weaker of equals; and the accuracy of each, a mean over training sets.
    """
    found = {}
    for setting in DECAYS if method == "erm" else STRENGTHS[method]:
        worst = []
        for number, rows in enumerate(sets):
            at = []
            for site in np.unique(rows.site):
                out = rows.site == site
                kept = rows[~out]
                head = head_of(method, setting, decay, number, plan).fit(kept.X, kept.y, env=kept.site)
                at.append(even_accuracy(head.predict(rows.X[out]) == rows.y[out], rows.y[out]))
            worst.append(min(at))
        found[setting] = float(np.mean(worst))
    best = max(found.values())
    return next(s for s, value in found.items() if value >= best - 1e-9), {str(s): v for s, v in found.items()}


def even_accuracy(right: np.ndarray, y: np.ndarray) -> float:
    """Mean over classes of the share of right answers."""
    return float(np.mean([right[y == c].mean() for c in np.unique(y)]))


def simulated(design: str, method: str, decay: float, plan: Plan) -> dict[str, Any]:
    """Accuracy by cohort and site: ``(cohorts, sites)``."""
    sets = [training_set(design, number, plan.patients) for number in range(plan.pilots + plan.cohorts)]
    setting, left_out = chosen(method, sets[: plan.pilots], decay, plan)
    accuracy = []
    for number in range(plan.pilots, len(sets)):
        rows, test = sets[number], test_set(design, number, plan.tested)
        head = head_of(method, setting, decay, number, plan).fit(rows.X, rows.y, env=rows.site)
        right = head.predict(test.X) == test.y
        accuracy.append([even_accuracy(right[test.site == s], test.y[test.site == s]) for s in range(SITES)])
    return {"setting": setting, "left_out": left_out, "accuracy": accuracy}


def real(pool: Rows, method: str, decay: float, plan: Plan) -> dict[str, Any]:
    """Which answers are right, by split and patient: 1, 0, or -1 for patients trained on."""
    pilots = [pool[lung_split(pool, number)] for number in range(plan.pilots)]
    setting, left_out = chosen(method, pilots, decay, plan)
    right = []
    for number in range(plan.pilots, plan.pilots + plan.splits):
        at = lung_split(pool, number)
        head = head_of(method, setting, decay, number, plan).fit(pool.X[at], pool.y[at], env=pool.site[at])
        answers = (head.predict(pool.X) == pool.y).astype(int)
        answers[at] = -1
        right.append(answers.tolist())
    return {"setting": setting, "left_out": left_out, "right": right}


def cell(design: str, method: str, folder: Path, state: Path, plan: Plan) -> dict[str, Any]:
    """Read a cell from ``state``, or run it and keep it there: a study that was stopped goes on."""
    key = {"design": design, "method": method, "plan": vars(plan), "grid": list(STRENGTHS.get(method, DECAYS))}
    path = state / f"{design.replace(' ', '-')}-{method}.json"
    if path.exists() and (kept := json.loads(path.read_text("utf-8")))["key"] == key:
        return dict(kept)
    decay = 0.0 if method == "erm" else cell(design, "erm", folder, state, plan)["setting"]
    done = real(_pool(folder), method, decay, plan) if design == TCGA else simulated(design, method, decay, plan)
    state.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps({"key": key, "decay": decay, **done}), "utf-8")
    part.replace(path)
    return cell(design, method, folder, state, plan)


_pool = cache(lung)


def summary(design: str, method: str, own: dict[str, Any], erm: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """Rows of the table: the worst training hospital, the worst new one, the mean of the new ones; gains over ERM."""
    parts = _real(own, erm, folder) if design == TCGA else _simulated(own, erm)
    head = {"design": design, "method": method, "setting": own["setting"]}
    return [{**head, **row} for row in parts if method != "erm" or not row["measure"].startswith("gain")]


def _simulated(own: dict[str, Any], erm: dict[str, Any]) -> list[dict[str, Any]]:
    values = {}
    for name, result in (("", own), ("erm", erm)):
        accuracy = np.array(result["accuracy"])
        seen, new = accuracy[:, :SEEN], accuracy[:, SEEN:]
        parts = {"worst training": seen.min(axis=1), "worst new": new.min(axis=1), "mean new": new.mean(axis=1)}
        values[name] = parts
    rows = []
    for name, found in values[""].items():
        for measure, each in ((name, found), (f"gain: {name}", found - values["erm"][name])):
            half = stats.t.ppf(1 - ERROR / 2, len(each) - 1) * each.std(ddof=1) / len(each) ** 0.5
            rows.append(
                {"measure": measure, "value": each.mean(), "low": each.mean() - half, "high": each.mean() + half}
            )
    return rows


def _real(own: dict[str, Any], erm: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    pool = _pool(folder)
    cells = 2 * pool.site + pool.y
    scores = [np.where(np.array(r["right"]) < 0, np.nan, np.array(r["right"], dtype=float)) for r in (own, erm)]
    used = np.isnan(scores[0])
    rows, n = [], len(TRAINING)
    for name, sites in (("training", range(n)), ("new", range(n, n + len(NEW)))):
        weights = [_weights([s]) for s in sites]
        error = ERROR / len(weights)  # all hospitals together: whichever is the worst is covered
        at, other, gaps = (
            [interval(x, used, cells, w, error=error) for w in weights] for x in (*scores, scores[0] - scores[1])
        )
        least, before = min(at, key=lambda i: i.value), min(other, key=lambda i: i.value)
        low, high = min(i.low for i in at), min(i.high for i in at)
        rows.append({"measure": f"worst {name}", "value": least.value, "low": low, "high": high})
        # two minima differ by no less than the least difference at a hospital, and by no more than the largest
        low, high = min(i.low for i in gaps), max(i.high for i in gaps)
        rows.append({"measure": f"gain: worst {name}", "value": least.value - before.value, "low": low, "high": high})
    for measure, x in (("mean new", scores[0]), ("gain: mean new", scores[0] - scores[1])):
        rows.append({"measure": measure, **vars(interval(x, used, cells, _weights(range(n, n + len(NEW)))))})
    return rows


def _weights(sites: Any) -> np.ndarray:
    weights = np.zeros(2 * (len(TRAINING) + len(NEW)))
    for s in sites:
        weights[2 * s : 2 * s + 2] = 0.5 / len(list(sites))
    return weights


def smaller(plan: Plan) -> Plan:
    """Return a plan that only shows that it runs."""
    return replace(plan, pilots=1, cohorts=2, splits=12, patients=20, tested=60, steps=8)
