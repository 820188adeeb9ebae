"""Loss of accuracy predicted without labels against the real one, at each hospital of TCGA in turn.

``python -m experiments.figures.shift_across_hospitals [--fast]``. All hospitals take about half an hour: their numbers
come from ``docs/shift_across_hospitals.csv``, which ``experiments.shift_across_hospitals`` writes. This run deploys
anew at one hospital of each task (``--fast``: at one), and holds every number against that table.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from causalfm.datasets import tcga_hipt
from experiments.figures.command import main
from experiments.figures.forest import estimate, name_rows, words
from experiments.figures.paper import Check, PaperFigure, Result, committed, data_folder, records
from experiments.figures.style import BLUE, GREEN, GREY, LINE, VERMILION, panels
from experiments.shift_across_hospitals.page import SITE_LEVEL, compared, summary
from experiments.shift_across_hospitals.study import CHOSEN, MARGIN, TASKS, cohort_of, deployed_at

TABLE = "shift_across_hospitals.csv"
AGAIN = (("kidney", "Harvard"), ("lung", "Indivumed"), ("four cancers", "Indivumed"))  # the first in the fast version
EQUAL = ["estimate", "predicted", "low", "high", "accuracy", "reference"]
TOLERANCE = 2e-3  # of accuracies, 0 to 1: other processors and libraries
NAMES = {CHOSEN: "the library's choice", SITE_LEVEL: "guess: like the others"}
MARKS = (("o", BLUE), ("s", VERMILION), ("^", GREEN))  # of the tasks
PROMISED = 0.95


def compute(fast: bool, seed: int) -> Result:
    """Read the table, and deploy anew at some of its hospitals. Nothing is drawn by chance: the seed has no effect.

    Raises
    ------
    Unavailable
        The slides are not here.
    """
    folder, rows = data_folder(tcga_hipt.METADATA, tcga_hipt.EMBEDDINGS), committed(TABLE)
    again = [_anew(folder, rows, *where) for where in AGAIN[: 1 if fast else None]]
    sizes = {
        "deployments": len(rows[["task", "hospital"]].drop_duplicates()),
        "hospitals": int(rows["hospital"].nunique()),
        "deployed anew": len(again),
    }
    source = f"docs/{TABLE}; deployed anew at {len(again)} of its hospitals to hold it against"
    return {"source": source, "sizes": sizes, "margin": MARGIN, "rows": records(rows), "anew": again}


def _anew(folder: Path, rows: pd.DataFrame, task: str, hospital: str) -> dict[str, Any]:
    """Deploy at a hospital again; return the largest difference of any number from the table."""
    found = pd.DataFrame(deployed_at(cohort_of(folder, TASKS[task]), hospital)).set_index("estimator")
    there = rows[(rows["task"] == task) & (rows["hospital"] == hospital)].set_index("estimator")
    apart = (found[EQUAL].astype(float) - there.loc[found.index, EQUAL]).abs()
    return {"task": task, "hospital": hospital, "numbers": apart.size, "apart": float(apart.to_numpy().max())}


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
    gain = words({"value": one["gain"], "low": one["gain low"], "high": one["gain high"]}, 100, 1)
    return (
        f"Over {sizes['deployments']} deployments at {sizes['hospitals']} hospitals, the accuracy predicted without "
        f"any label missed the real one by {100 * one['mean error']:.1f} percentage points on average, the guess that "
        f"a hospital is like those held out by {100 * guess['mean error']:.1f}; the gain is {gain}, hospitals as "
        f"units. The 95 % prediction intervals held {one['covered']} of {one['deployments']}; of the others {worse} "
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
            bool(one["coverage high"] >= PROMISED),
            f"{one['covered']} of {one['deployments']}, exact interval to {100 * one['coverage high']:.1f} %",
        ),
        Check("no verdict that the labels contradict", wrong == 0 and len(told) > 0, f"{wrong} of {len(told)}"),
    ]
    for row in result["anew"]:
        name = f"{row['task']}, {row['hospital']}: as in the table"
        out.append(
            Check(name, row["apart"] <= TOLERANCE, f"{row['numbers']} numbers, largest difference {row['apart']:.1g}")
        )
    return [Check(check.name, bool(check.holds), check.detail) for check in out]


def draw(result: Result) -> Any:
    """Draw real against predicted losses, the gain over the guess, and the coverage."""
    found, (_, deployments) = table(result), _chosen(result)
    figure, axes = panels(3, height=2.7, width_ratios=[1.4, 1.0, 1.0])
    _losses(axes[0], deployments)
    names = list(found["estimator"])
    for row, one in enumerate(found.to_dict("records")):
        for ax, key in ((axes[1], "gain"), (axes[2], "coverage")):
            if not np.isnan(one[key]):
                ends = (100 * one[name] for name in (key, f"{key} low", f"{key} high"))
                estimate(ax, row, dict(zip(("value", "low", "high"), ends, strict=True)), BLUE if row == 0 else GREY)
    name_rows(axes[1], names, label="error less than the guess's\n(percentage points)", line=0.0)
    name_rows(axes[2], names, label="real accuracies within the\n95 % prediction intervals (%)", line=100 * PROMISED)
    axes[2].set_yticklabels([])
    return figure


def _losses(ax: Any, deployments: pd.DataFrame) -> None:
    at = 100 * (deployments["reference"] - deployments["predicted"])
    real = 100 * deployments["drop"]
    limits = min(at.min(), real.min()) - 5, max(at.max(), real.max()) + 5
    ax.plot(limits, limits, color=GREY, lw=LINE, ls=":", zorder=0)
    low, high = (100 * (deployments["reference"] - deployments[end]) for end in ("high", "low"))
    for task, (mark, colour) in zip(TASKS, MARKS, strict=True):
        here = deployments["task"] == task
        ax.hlines(real[here], low[here], high[here], color=colour, lw=0.4, alpha=0.35, zorder=1)
        style = {"color": colour, "mew": 0.6, "ms": 3, "zorder": 2}
        for trusted, face in ((True, colour), (False, "white")):
            some = here & (deployments["trusted"] == trusted)
            label = f"{task}, {int(here.sum())} hospitals" if trusted else None
            ax.plot(at[some], real[some], mark, mfc=face, label=label, **style)
    ax.plot([], [], "o", color=GREY, mfc="white", mew=0.6, ms=3, label="prediction withheld")
    ax.set(
        xlabel="predicted loss of accuracy (percentage points)",
        ylabel="real loss of accuracy (percentage points)",
        ylim=limits,
    )
    ax.legend(
        loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=2, handletextpad=0.2, columnspacing=1.0, borderaxespad=0.2
    )


FIGURE = PaperFigure(
    name="shift_across_hospitals",
    title="The loss at a new hospital, predicted without its labels",
    data="real",
    compute=compute,
    table=table,
    draw=draw,
    claim=claim,
    checks=checks,
)

if __name__ == "__main__":
    raise SystemExit(main([FIGURE]))
