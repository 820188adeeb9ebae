"""Loss of accuracy predicted without labels against the real one, at each hospital of TCGA in turn.

``experiments.shift_across_hospitals`` run anew, every number held against its table
``docs/shift_across_hospitals.csv``. The fast version deploys anew at one hospital, and draws the table.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from experiments.figures.command import run
from experiments.figures.forest import estimate, name_rows
from experiments.figures.paper import Check, Data, Result, committed, data_folder, records
from experiments.figures.style import BLUE, GREEN, GREY, LINE, VERMILION, key, mark, panels
from experiments.figures.wording import ends, words
from experiments.shift_across_hospitals.page import SITE_LEVEL, compared, summary
from experiments.shift_across_hospitals.study import CHOSEN, MARGIN, TASKS, cohort_of, deployed_at, study

TITLE = "The loss at a new hospital, predicted without its labels"
DATA: Data = "real"
TABLE = "shift_across_hospitals.csv"
ONE = "kidney", "Harvard"  # of the fast version
EQUAL = ["estimate", "predicted", "low", "high", "accuracy", "reference"]
TOLERANCE = 2e-3  # of accuracies, 0 to 1: other processors and libraries
NAMES = {CHOSEN: "the library's choice", SITE_LEVEL: "guess: like the others"}
LOOK = dict(zip(TASKS, (("o", BLUE), ("s", VERMILION), ("^", GREEN)), strict=True))  # marker, colour
PROMISED = 0.95


def compute(fast: bool, seed: int) -> Result:
    """Deploy at all hospitals, or at one. Nothing is drawn by chance: the seed has no effect.

    Raises
    ------
    Unavailable
        The slides are not here.
    """
    folder, known = data_folder(), committed(TABLE)
    anew = _one(folder) if fast else _all(folder)
    rows = known if fast else anew
    sizes = {
        "deployments": len(rows[["task", "hospital"]].drop_duplicates()),
        "hospitals": int(rows["hospital"].nunique()),
        "deployed anew": len(anew[["task", "hospital"]].drop_duplicates()),
    }
    source = f"docs/{TABLE}, held against one hospital deployed at anew" if fast else "computed by this run"
    apart = [_apart(known, task, part) for task, part in anew.groupby("task", sort=False)]
    return {"source": source, "sizes": sizes, "margin": MARGIN, "rows": records(rows), "anew": apart}


def _one(folder: Path) -> pd.DataFrame:
    task, hospital = ONE
    rows = deployed_at(cohort_of(folder, TASKS[task]), hospital)
    return pd.DataFrame([{"task": task, "hospital": hospital, **row} for row in rows])


def _all(folder: Path) -> pd.DataFrame:
    with tempfile.TemporaryDirectory() as state:
        return study(folder, list(TASKS), Path(state), lambda text: None)


def _apart(known: pd.DataFrame, task: object, anew: pd.DataFrame) -> dict[str, Any]:
    """Return the largest difference of any number from the table, and which rows only one of both has."""
    keys = ["task", "hospital", "estimator"]
    both = known[known["task"] == task].merge(anew, on=keys, suffixes=(" known", ""))
    apart = np.abs(both[EQUAL].to_numpy(float) - both[[f"{name} known" for name in EQUAL]].to_numpy(float))
    return {
        "task": task,
        "deployments": anew["hospital"].nunique(),
        "not in the table": len(anew) - len(both),
        "numbers": apart.size,
        "apart": float(apart.max()),
    }


def table(result: Result) -> pd.DataFrame:
    """One row per estimator: mean error, how much smaller than the guess's, how many hospitals its intervals hold."""
    rows, out = pd.DataFrame(result["rows"]), []
    names = [CHOSEN, *(name for name in rows["estimator"].unique() if name not in NAMES), SITE_LEVEL]
    for name in names:
        part = rows[rows["estimator"] == name].reset_index(drop=True).astype({"own_low": float, "own_high": float})
        found, n = summary(part), len(part)
        gain = [np.nan] * 3 if name == SITE_LEVEL else compared(rows, name)
        kept = round(n * found["cover"])
        cover = stats.binomtest(kept, n, PROMISED).proportion_ci()
        row = {"estimator": NAMES.get(name, name), "mean error": found["error"], "slope": found["slope"]}
        row |= dict(zip(("gain", "gain low", "gain high"), gain, strict=True))
        row |= {"covered": kept, "deployments": n, "coverage": kept / n, "coverage low": cover.low}
        out.append(row | {"coverage high": cover.high})
    return pd.DataFrame(out)


def _chosen(result: Result) -> tuple[pd.Series, pd.DataFrame]:
    """Return the table's row and the deployments of the estimate that the library chooses."""
    rows = pd.DataFrame(result["rows"])
    return table(result).iloc[0], rows[rows["estimator"] == CHOSEN]


def claim(result: Result) -> str:
    """Say by how much the prediction misses, beside the guess, and how often it decides."""
    (one, deployments), guess, sizes = _chosen(result), table(result).iloc[-1], result["sizes"]
    told = deployments[deployments["verdict"] != "cannot tell"]
    right = int((told["verdict"] == told["measured_verdict"]).sum())
    worse = int((deployments["accuracy"] < deployments["low"]).sum())
    gain = words(ends(one, "gain", "gain low", "gain high"), 100, 1)
    return (
        f"Over {sizes['deployments']} deployments at {sizes['hospitals']} hospitals, the accuracy predicted without "
        f"any label missed the real one by {100 * one['mean error']:.1f} percentage points on average, the guess that "
        f"a hospital is like those held out by {100 * guess['mean error']:.1f}; the gain is {gain} points, hospitals "
        f"as units. The 95 % prediction intervals held {one['covered']} of {one['deployments']}; of the others {worse} "
        f"lost more than predicted. A verdict at a margin of {100 * result['margin']:.0f} points was given "
        f"{len(told)} times, and the labels agreed {right} times."
    )


def checks(result: Result) -> list[Check]:
    """Try the gain over the guess, the promise of the intervals, the verdicts, and the table against this run."""
    one, deployments = _chosen(result)
    told = deployments[deployments["verdict"] != "cannot tell"]
    wrong = int((told["verdict"] != told["measured_verdict"]).sum())
    out = [
        Check(
            "predictions miss by less than the guess",
            one["gain low"] > 0,
            f"gain from {100 * one['gain low']:.1f} points",
        ),
        Check(
            "coverage of the prediction intervals does not refute 95 %",
            one["coverage high"] >= PROMISED,
            f"{one['covered']} of {one['deployments']}, exact interval to {100 * one['coverage high']:.1f} %",
        ),
        Check("no verdict that the labels contradict", wrong == 0 and len(told) > 0, f"{wrong} of {len(told)}"),
    ]
    for row in result["anew"]:
        same = row["apart"] <= TOLERANCE and row["not in the table"] == 0
        detail = f"{row['numbers']} numbers of {row['deployments']} deployments, largest difference {row['apart']:.1g}"
        out.append(Check(f"{row['task']}: as in the documentation's table", same, detail))
    return out


def draw(result: Result) -> Any:
    """Draw real against predicted losses, the gain over the guess, and the coverage."""
    found, (_, deployments) = table(result), _chosen(result)
    figure, axes = panels(3, height=3.0, width_ratios=[1.4, 1.0, 1.0])
    _losses(axes[0], deployments)
    names = list(found["estimator"])
    for row, one in enumerate(found.to_dict("records")):
        for ax, name in ((axes[1], "gain"), (axes[2], "coverage")):
            if not np.isnan(one[name]):
                colour, shape = (BLUE, "o") if row == 0 else (GREY, "s")
                estimate(ax, row, ends(one, name, f"{name} low", f"{name} high"), colour, scale=100, marker=shape)
    name_rows(axes[1], names, label="error less than the guess's\n(percentage points)", line=0.0)
    name_rows(axes[2], names, label="real accuracies within the\n95 % prediction intervals (%)", line=100 * PROMISED)
    axes[2].set_yticklabels([])
    sizes = deployments["task"].value_counts()
    marks = [mark(f"{task} ({sizes[task]})", *look) for task, look in LOOK.items() if task in sizes]
    key(figure, [*marks, mark("prediction withheld", "o", GREY, filled=False)], columns=4, side="left")
    return figure


def _losses(ax: Any, deployments: pd.DataFrame) -> None:
    rows = 100 * deployments[["reference", "predicted", "low", "high", "drop"]].astype(float)
    at, real = rows["reference"] - rows["predicted"], rows["drop"]
    limits = min(at.min(), real.min()) - 5, max(at.max(), real.max()) + 5
    ax.plot(limits, limits, color=GREY, lw=LINE, ls=":", zorder=0)
    for task, (shape, colour) in LOOK.items():
        here = deployments["task"] == task
        low, high = (rows["reference"][here] - rows[end][here] for end in ("high", "low"))
        ax.hlines(real[here], low, high, color=colour, lw=0.4, alpha=0.35, zorder=1)
        for trusted, face in ((True, colour), (False, "white")):
            some = here & (deployments["trusted"] == trusted)
            ax.plot(at[some], real[some], shape, color=colour, mfc=face, mew=0.6, ms=3, zorder=2)
    ax.set(xlabel="predicted loss of accuracy\n(percentage points)", ylabel="real loss of accuracy (percentage points)")
    ax.set_ylim(*limits)


if __name__ == "__main__":
    run(__file__)
