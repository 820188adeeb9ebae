"""The page: tables of all sets, and how to read them; made from the published rows alone."""

from __future__ import annotations

import math
import textwrap

import pandas as pd

from causalfm.estimators.scoring.result import NONE
from causalfm.estimators.scoring.trial import MINIMUM
from experiments.corrector_scoreboard.reading import readings

HEAD = """# Do correctors help at hospitals that they have not seen?

Written by `python -m experiments.corrector_scoreboard DATA --out docs`; every number and every sentence with one is
made from `scoreboard.csv`, which that run writes. DATA holds the TCGA slides as HIPT embeddings
(`datasets/tcga_hipt.md`): 192 numbers per slide, real patients, real hospitals. Only sums over many patients are
shown.

**The question.** A corrector takes the hospital out of embeddings. Is it gone for patients, and at hospitals, that
the corrector has not seen? Is the cancer type still there? And does a classifier of the cancer type do better at a
new hospital, which is why one corrects at all?

![Site leak against accuracy at unseen hospitals, one panel per set]({figure})

*Left is less of the hospital, up is a better classifier of the cancer type at a hospital that neither it nor the
corrector has seen. Filled: honest. Hollow: the same with the corrector fitted on the rows that are scored. Bars (95
percent): across, of the value; upwards, of the paired change against no correction, so that a bar clear of the dashed
line is a change that is told from 0. Dotted: chance.*

## In one sentence per set
{sentences}
A corrector is recommended only if its gain at unseen hospitals is told from 0 and its loss at known ones is below
.02, by intervals that hold for all correctors together, and if logistic regression in place of the discriminant says
the same of it.

## How to read it
{readings}
- **What the numbers are for.** Intervals are for new patients of these hospitals, not for another hospital: there
  are four or five. HIPT was pretrained on these slides, and several of the hospitals are tissue banks that collect
  from others: read hospital as the route a slide took. They speak for this encoder on TCGA.

"""
METHOD = """## How it was scored
`causalfm.estimators.scoreboard` with {halvings} random halvings of the patients for the intervals. The corrector is
fitted anew, on patients without those that are scored: on one half of the patients, the hospital read in the other
half, with readers trained there as well (`site`, RI, CRoMa); in each of five folds (`known hospitals`); without each
hospital in turn (`unseen hospitals`, `worst`, `told apart`); on the confounded training set itself (APD). The
hospital is read within cancer types and the cancer type within hospitals, cells weighing the same; cells with fewer
than {least} patients are not judged. Correctors are given the cancer type where they are fitted, never where they
are applied. *adapt*: effects of a new hospital are learned from a batch of its patients, without their labels;
*shrink*: it is moved as the average hospital. Settings are the defaults; nothing was tuned to these data.
{unsure}

"""
VALUES = {
    "site_linear": "site: linear",
    "site_knn": "site: neighbours",
    "site_forest": "site: forest",
    "robustness_index": "RI",
    "croma": "CRoMa",
    "biology": "known hospitals",
    "biology_new_site": "unseen hospitals",
    "worst_new_site": "worst",
    "unseen_by_logistic": "unseen, logistic",
    "apd": "APD",
    "seconds": "seconds",
}
CHANGES = {
    "site_linear": "site: linear",
    "robustness_index": "RI",
    "biology_lost": "lost at known hospitals",
    "biology_new_site": "unseen hospitals",
    "worst_new_site": "worst",
    "apd": "APD",
}
TOLD = {"new_site_linear": "linear", "new_site_knn": "neighbours", "new_site_forest": "forest"}
LEAKS = {"site_linear": "site: linear", "biology_new_site": "unseen hospitals"}


def page(rows: pd.DataFrame, figure: str = "images/scoreboard.png") -> str:
    """Return the page as Markdown.

    Parameters
    ----------
    rows
        As in ``scoreboard.csv``.
    figure
        Path of the figure as the page names it.
    """
    tables = list(dict.fromkeys(rows["table"]))
    parts = {table: rows[rows["table"] == table] for table in tables}
    sentences = "".join(_point(f"**{table}**: {_sentence(part)}") + "\n" for table, part in parts.items())
    words = "\n".join(_point(text) for text in readings(rows))
    out = HEAD.format(figure=figure, sentences=sentences, readings=words)
    out += METHOD.format(halvings=int(rows["halvings"].iloc[0]), least=MINIMUM, unsure=_unsure(rows))
    return out + "\n".join(_section(table, part) for table, part in parts.items())


def _point(text: str) -> str:
    return textwrap.fill(text, 125, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False)


def _sentence(part: pd.DataFrame) -> str:
    text = str(part["sentence"].iloc[0])
    return text[0].upper() + text[1:].rstrip(".") + "."


def _unsure(rows: pd.DataFrame) -> str:
    """Say what was scored without an interval, as it takes too long."""
    sure = rows[rows["low"].notna()]
    names = [name for name in dict.fromkeys(rows["corrector"]) if name not in set(sure["corrector"])]
    measured = [word for name, word in VALUES.items() if name.startswith("site") and name not in set(sure["name"])]
    measured = [word for word in measured if word in {VALUES[name] for name in set(rows["name"]) & set(VALUES)}]
    lacking = "; ".join([*names, *(f"`{word}`" for word in measured)])
    text = f"Without an interval, for the time that it takes, and so never recommended: {lacking}."
    return textwrap.fill(text, 118, break_on_hyphens=False) if lacking else ""


def _section(table: str, part: pd.DataFrame) -> str:
    first = part.iloc[0]
    scores = part.set_index(["corrector", "name"])
    names = list(dict.fromkeys(part["corrector"]))
    chance = {name: scores["chance"].get((NONE, name), math.nan) for name in VALUES}
    floor = ["**chance**", *(_number(chance[name]) for name in VALUES)]
    values = [[name, *(_number(_at(scores, name, key, "value")) for key in VALUES)] for name in names]
    changes = [[name, *(_change(scores, name, key) for key in CHANGES)] for name in names if name != NONE]
    told = [[name, *(_number(_at(scores, name, key, "value")) for key in TOLD)] for name in names]
    leaks = [
        [name, *(_number(_at(scores, name, key, column)) for key in LEAKS for column in ("value", "leak"))]
        for name in names
        if name != NONE
    ]
    both = [f"{word}, {kind}" for word in LEAKS.values() for kind in ("honest", "leak")]
    beside = ["corrector", *both, *(f"told apart: {word}" for word in TOLD.values())]
    return (
        f"## {table[0].upper()}{table[1:]}\n{first.slides} slides, {first.patients} patients.\n\n"
        f"**Values.** Accuracies of reading the hospital (less is better) and the cancer type (more is better).\n\n"
        f"{_table(['corrector', *VALUES.values()], [*values, floor])}\n"
        f"**Changes against no correction, on the same patients**, 95 %. `*`: the interval does not hold 0.\n\n"
        f"{_table(['corrector', *CHANGES.values()], changes)}\n"
        f"**Beside the leak** (corrector fitted on all rows; not honest), and with which accuracy a hospital that the\n"
        f"corrector has not seen is told apart from the others (chance .50).\n\n"
        f"{_table(beside, _beside(names, leaks, told))}"
        f"{_without(part)}"
    )


def _beside(names: list[str], leaks: list[list[str]], told: list[list[str]]) -> list[list[str]]:
    """Join the columns of the leak and of unseen hospitals; no correction has no leak."""
    by_name = {row[0]: row[1:] for row in leaks}
    empty = [""] * (2 * len(LEAKS))
    return [[name, *by_name.get(name, empty), *row[1:]] for name, row in zip(names, told, strict=True)]


def _without(part: pd.DataFrame) -> str:
    """Name the measures that have no value or no interval, with the reason."""
    odd = part[part["reason"].fillna("").astype(str) != ""]
    lines = [
        f"- {row.corrector}, {row.name_}: {row.reason}\n" for row in odd.rename(columns={"name": "name_"}).itertuples()
    ]
    return "\nWithout value or interval:\n\n" + "".join(lines) if lines else ""


def _at(scores: pd.DataFrame, corrector: str, name: str, column: str) -> float:
    return float(scores[column].get((corrector, name), math.nan))


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"


def _change(scores: pd.DataFrame, corrector: str, name: str) -> str:
    """Return a change with its interval; what is lost is a change already."""
    lost = name == "biology_lost"
    columns = ("value", "low", "high") if lost else ("change", "change_low", "change_high")
    value, low, high = (_at(scores, corrector, name, column) for column in columns)
    if math.isnan(value):
        return ""
    if math.isnan(low):
        return f"{value:+.3f}"
    return f"{value:+.3f} ({low:+.3f} to {high:+.3f}){'*' if low > 0 or high < 0 else ''}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    kept = [0, *(i for i in range(1, len(head)) if any(row[i] for row in rows))]  # what was not run has no column
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line[i] for i in kept) + " |\n" for line in lines)
