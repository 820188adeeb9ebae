"""Penalties for a head on frozen embeddings where the hospital is a shortcut: which help, and where ERM wins.

``python -m experiments.penalties DATA [--cohorts 16] [--splits 30] [--fast] [--out FOLDER]``

Simulated cohorts (:func:`causalfm.datasets.linear_scm`): training with and without association of site and class,
test patients of the same sites without it. TCGA: lung cancers of two hospitals
(:mod:`experiments.balanced_augmentation`), training sets of 24 patients. One linear head each, settings fixed
beforehand, the same for all: strength 10 (1 for adversaries), not chosen on test rows. Writes ``penalties.csv`` and
``penalties.md``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

import causalfm as cfm
from causalfm.datasets.linear_scm import linear_scm
from causalfm.training import RobustHead
from causalfm.training.head_steps import NAMES
from experiments.balanced_augmentation.hospitals import HOSPITALS, Pool, draw_split, load_pool
from experiments.balanced_augmentation.jackknife import interval

SETTINGS = {"steps": 200, "decay": 0.01, "batch": 128}
DESIGNS = {
    "simulated: no association": {"confounding": 0.0, "site_effect": 3.0},
    "simulated: nine of ten agree": {"confounding": 0.8, "site_effect": 3.0},
    "simulated: nine of ten agree, sites alike": {"confounding": 0.8, "site_effect": 0.0},
}
HOSPITAL = (np.array([0.5, 0.0, 0.5, 0.0]), np.array([0.0, 0.5, 0.0, 0.5]))  # classes at one hospital weigh the same


def head_of(method: str, seed: int) -> RobustHead:
    """Return the untrained head of a method."""
    return RobustHead(method, strength=1.0 if "dann" in method else 10.0, random_state=seed, **SETTINGS)


def simulated(name: str, cohorts: int) -> list[dict[str, object]]:
    """Worst-site accuracy over independent cohorts, t intervals, differences to ERM paired by cohort."""
    worst = {method: np.empty(cohorts) for method in NAMES}
    for number in range(cohorts):
        train, test = (_draw(name, number + 1000 * part) for part in (0, 1))
        codes = [train.factor(c).codes for c in ("tumour", "site", "patient")]
        truth, site = (test.factor(c).codes for c in ("tumour", "site"))
        for method in NAMES:
            head = head_of(method, number).fit(train.X, codes[0], env=codes[1], groups=codes[2])
            worst[method][number] = _worst(head.predict(test.X) == truth, truth, site)
    rows = []
    for method, values in worst.items():
        row = {"design": name, "method": method, "repeats": cohorts, **_t(values, "")}
        if method != "erm":
            row |= _t(values - worst["erm"], "gain")
        rows.append(row)
    return rows


def _draw(name: str, seed: int) -> cfm.Cohort:
    # the same effects in both; the test cohort has no association
    more = DESIGNS[name] if seed < 1000 else DESIGNS[name] | {"confounding": 0.0}
    shape = {"n_groups": 120 if seed < 1000 else 400, "rows_per_group": 2, "d": 16, "n_sites": 2, "biology_effect": 1.0}
    return linear_scm(**shape, **more, random_state=seed, effect_seed=seed % 1000)[0]


def _worst(right: np.ndarray, truth: np.ndarray, site: np.ndarray) -> float:
    return min(float(np.mean([right[(site == s) & (truth == c)].mean() for c in (0, 1)])) for s in (0, 1))


def _t(values: np.ndarray, prefix: str) -> dict[str, float]:
    mean, half = values.mean(), stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    name = prefix or "worst_site"
    return {name: mean, f"{name}_low": mean - half, f"{name}_high": mean + half}


def hospitals(pool: Pool, training: str, splits: int) -> list[dict[str, object]]:
    """Accuracy at the worse hospital, and difference to ERM at that hospital; jackknife by patient."""
    cell = pool.cell[pool.lung]
    n, used = len(cell), np.zeros((splits, len(cell)), dtype=bool)
    right = {method: np.full((splits, n), np.nan) for method in NAMES}
    for b in range(splits):
        split = draw_split(pool, training, 12, 0, b)
        used[b, split.train] = True
        for method in NAMES:
            head = head_of(method, b)
            head.fit(pool.cohort.X[split.train], pool.label[split.train], env=pool.hospital[split.train])
            right[method][b, split.test] = head.predict(pool.cohort.X[split.test]) == pool.label[split.test]
    rows = []
    for method in NAMES:
        at = [interval(right[method], used, cell, w) for w in HOSPITAL]
        where = int(at[1].value < at[0].value)
        row = {"design": f"TCGA lung: {training}", "method": method, "repeats": splits, "worst": HOSPITALS[where]}
        row |= {"worst_site": at[where].value, "worst_site_low": at[where].low, "worst_site_high": at[where].high}
        if method != "erm":
            gain = interval(right[method] - right["erm"], used, cell, HOSPITAL[where])
            row |= {"gain": gain.value, "gain_low": gain.low, "gain_high": gain.high}
        rows.append(row)
    return rows


def page(table: pd.DataFrame) -> str:
    """Set the page: one table per design, in percent."""
    lines = [
        "# Penalties for a head on frozen embeddings",
        "",
        "Written by `python -m experiments.penalties`. Accuracy in percent at the worse site, classes weighing the "
        "same within a site, with 95 % intervals; gain: paired difference to ERM (no penalty). Simulated: t intervals "
        "over independent cohorts, each with effects of its own (120 patients at two sites to train on, 400 without "
        "association to test). TCGA: two lung cancers at two hospitals, 24 patients to train on, all others to test, "
        "jackknife by patient; the gain is that at the hospital where the method is worse. HIPT was pretrained on "
        "TCGA. Settings were fixed beforehand and are not tuned for any method: what a penalty could do at its best "
        "strength is not shown. Many comparisons stand side by side: an interval just off 0 is little evidence.",
        "",
    ]
    for design, rows in table.groupby("design", sort=False):
        lines += [f"## {design}", "", "| penalty | worst site | gain over ERM |", "|---|---|---|"]
        for _, row in rows.iterrows():
            gain = "" if np.isnan(row["gain"]) else _percent(row, "gain", "+")
            lines.append(f"| {row['method']} | {_percent(row, 'worst_site', '')} | {gain} |")
        better, lower = (rows["method"][m].tolist() for m in (rows["gain_low"] > 0, rows["gain_high"] < 0))
        lines += ["", f"Above ERM: {', '.join(better) or 'none'}. ERM wins against: {', '.join(lower) or 'none'}.", ""]
    return "\n".join(lines)


def _percent(row: pd.Series, name: str, sign: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return f"{100 * row[name]:{sign}.1f} ({100 * low:{sign}.1f} to {100 * high:{sign}.1f})"


def main(arguments: list[str] | None = None) -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description="Penalties where the hospital is a shortcut.")
    parser.add_argument("data", type=Path, help="folder with the TCGA HIPT files")
    parser.add_argument("--cohorts", type=int, default=16)
    parser.add_argument("--splits", type=int, default=30)
    parser.add_argument("--fast", action="store_true", help="few repeats: does it run?")
    parser.add_argument("--out", type=Path, default=Path("penalties-study"))
    options = parser.parse_args(arguments)
    cohorts, splits = (3, 4) if options.fast else (options.cohorts, options.splits)
    rows = [row for name in DESIGNS for row in simulated(name, cohorts)]
    pool = load_pool(options.data)
    for training in ("balanced", "75/25"):
        rows += hospitals(pool, training, splits)
    table = pd.DataFrame(rows)
    options.out.mkdir(parents=True, exist_ok=True)
    table.round(4).to_csv(options.out / "penalties.csv", index=False)
    (options.out / "penalties.md").write_text(page(table), "utf-8")
    print(page(table))


if __name__ == "__main__":
    main()
