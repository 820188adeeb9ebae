"""Counterfactual embeddings against the same tissue truly rendered under another hospital, stain or scanner.

The study is ``experiments.counterfactual_fidelity``, with another seed: its own (0) was in view when the mechanisms
were written. The whole study renders and encodes thousands of views, which it keeps in ``counterfactual-fidelity/``;
fast: fewer and smaller tiles, colours of blocks in place of a network, the first question.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import pandas as pd

from causalfm.errors import MissingDependencyError
from experiments.figures.command import run
from experiments.figures.forest import name_rows
from experiments.figures.paper import Check, Data, Result, Unavailable, records
from experiments.figures.style import BLUE, GREY, ONE_COLUMN, TWO_COLUMNS, VERMILION, interval, key, mark, panels
from experiments.figures.wording import span

TITLE = "Counterfactual embeddings against the truth"
DATA: Data = "rendered"
SEED = 1
KEPT = Path("counterfactual-fidelity")
OURS, PAIRED = "random-effects", "random-effects and 20 pairs"
SHIFT, NOTHING = "adjusted mean shift", "do nothing"
WITHOUT = ("mean shift", SHIFT, "ComBat")  # no causal model
WITH = ("additive", "location-scale", "optimal-transport", "interaction", OURS)
ERROR, GAIN = "relative_error", f"relative_error_difference from {SHIFT}"
SIZES = {False: (500, 224), True: (96, 64)}  # tissues, pixels
FARTHEST = 1.5  # relative error shown; an arrow stands for what lies beyond
FAST_QUESTIONS = slice(1)
MARGIN = 0.05  # of relative error that a causal model may lose against a shift of means; fixed before the first run
KINDS = {  # marker, colour
    "causal model": ("o", BLUE),
    "no causal model": ("D", VERMILION),
    "from tissue truly seen twice": ("s", GREY),
}


def compute(fast: bool, seed: int) -> Result:
    """Run the study; what it prints on its way is not shown."""
    from experiments.counterfactual_fidelity import QUESTIONS, block_means, study

    tissues, size = SIZES[fast]
    options: dict[str, Any] = {"size": size, "with_limits": False, "random_state": seed}
    if fast:
        options |= {"encode": block_means, "asked": QUESTIONS[FAST_QUESTIONS]}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) if fast else KEPT
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        try:
            found, facts = study(tissues, folder, **options)
        except MissingDependencyError as error:
            raise Unavailable(str(error)) from None
    rows = found[(found["target"] == "all") & (found["biology"] == "all")]
    rows = rows[rows["name"].isin([ERROR, GAIN, "retrieval", "coverage"])]
    sizes = {key: facts[key] for key in ("tissues", "training", "test", "views", "dimensions", "pairs")}
    return {
        "rows": records(rows[["question", "method", "name", "value", "low", "high"]]),
        "sizes": sizes,
        "source": "rendered and encoded now" if fast else f"rendered and encoded, views kept in {KEPT.name}/",
    }


def _by(result: Result, name: str) -> pd.DataFrame:
    rows = pd.DataFrame(result["rows"])
    rows = rows[rows["name"] == name]
    return rows.set_index(["question", "method"])[["value", "low", "high"]].astype(float)


def _questions(result: Result) -> list[str]:
    return list(dict.fromkeys(row["question"] for row in result["rows"]))


def table(result: Result) -> pd.DataFrame:
    """One row per question and method, the best first."""
    error, gain, found, held = (_by(result, name) for name in (ERROR, GAIN, "retrieval", "coverage"))
    out = error.add_prefix("relative error, ").rename(columns={"relative error, value": "relative error"})
    out = out.join(gain.add_prefix("less adjusted mean shift, ")).rename(
        columns={"less adjusted mean shift, value": "less adjusted mean shift"}
    )
    out["own tissue found"] = found["value"]
    out["dimensions within intervals"] = held["value"].reindex(out.index)
    order = {question: place for place, question in enumerate(_questions(result))}
    out = out.reset_index()
    return out.assign(at=out["question"].map(order)).sort_values(["at", "relative error"]).drop(columns="at")


def _facts(result: Result) -> dict[str, Any]:
    """Return the errors that the claim names, and in which questions each of its parts is so."""
    error, gain = _by(result, ERROR), _by(result, GAIN)
    ours, paired, shift = (error.xs(name, level="method") for name in (OURS, PAIRED, SHIFT))
    others = error[error.index.get_level_values("method").isin(WITHOUT)]["value"].groupby(level="question").min()
    against = gain.xs(OURS, level="method")
    return {
        "ours": ours["value"],
        "shift": shift["value"],
        "paired": paired["value"],
        "better_than_nothing": list(ours["high"] < 1.0),
        "lowest": list(ours["value"] < others.loc[ours.index]),
        "told": list(against["high"] < 0.0),
        "sure": list(against["high"] < MARGIN),
        "pairs_help": list(paired["value"] < ours["value"]),
    }


def checks(result: Result) -> list[Check]:
    """Hold the library's choice against doing nothing, against shifts of means and against true pairs."""
    facts, error = _facts(result), _by(result, ERROR)["value"]
    best = error.xs("ridge on all pairs", level="method")
    unpaired = error[error.index.get_level_values("method").isin(WITH + WITHOUT)].groupby(level="question").min()
    lowest = facts["lowest"]
    return [
        Check.each(
            "nearer to the truth than the row as seen", facts["better_than_nothing"], f": {_near(facts['ours'])}"
        ),
        Check.each(f"a loss of {MARGIN:g} against a shift of means is excluded", facts["sure"]),
        Check(
            "nearer than every rival without a causal model, in most questions",
            2 * sum(lowest) > len(lowest),
            f"{sum(lowest)} of {len(lowest)}",
        ),
        Check.each("twenty pairs bring it nearer", facts["pairs_help"]),
        Check.each("what many true pairs teach is nearer than anything without", list(best < unpaired.loc[best.index])),
    ]


def _near(values: pd.Series) -> str:
    return span(values, ".2f")


def claim(result: Result) -> str:
    """Say how near the predicted rows come, and how near they could."""
    facts, sizes = _facts(result), result["sizes"]
    return (
        f"On {sizes['test'][0]} rendered tissues of {sizes['test'][1]} unseen patients, rows moved by a causal model "
        f"(random effects, no pairs) miss {_near(facts['ours'])} of the squared distance to the same tissue truly "
        f"rendered again, a shift of means adjusted for the biology {_near(facts['shift'])} (told apart in "
        f"{sum(facts['told'])} of {len(facts['told'])} questions), and the causal model with {sizes['pairs']} tissues "
        f"seen twice {_near(facts['paired'])}."
    )


def draw(result: Result) -> Any:
    """One panel per question, methods in one order."""
    rows, questions = _by(result, ERROR), _questions(result)
    order = list(rows.xs(questions[0], level="question")["value"].drop(NOTHING).sort_values().index)
    several = len(questions) > 1
    width = TWO_COLUMNS if several else ONE_COLUMN
    figure, axes = panels(len(questions), width=width, height=2.9, sharey=True)
    for ax, question in zip(axes, questions, strict=True):
        for place, method in enumerate(order):
            row, (shape, colour) = rows.loc[question, method], _look(method)
            interval(ax, place, row["low"], row["high"], colour=colour)
            cut = row["value"] > FARTHEST
            ax.plot(min(row["value"], FARTHEST), place, ">" if cut else shape, color=colour, zorder=3, clip_on=False)
        name_rows(ax, order, label="relative error", line=1.0)
        ax.set(title=textwrap.fill(question, 24), xlim=(0.0, FARTHEST))
    marks = [mark(name, *look) for name, look in KINDS.items()]
    key(figure, [*marks, mark("no better than the row as seen", colour=GREY, ls=":")], columns=4 if several else 2)
    return figure


def _look(method: str) -> tuple[str, str]:
    paired, causal, none = "from tissue truly seen twice", "causal model", "no causal model"
    return KINDS[paired if "pairs" in method else causal if method in WITH else none]


if __name__ == "__main__":
    run(__file__)
