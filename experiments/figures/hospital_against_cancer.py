"""What the hospital causes in a pathology encoder's embeddings, beside what the cancer type causes: TCGA slides.

The study of ``experiments.tcga_effects``. The fast version takes one estimator and fewer draws; its estimates are the
same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from causalfm.estimators.refuting.refuters import REFUTERS
from causalfm.results import CAVEAT, plain
from experiments.encoder_comparison import SUBSETS
from experiments.figures.command import run
from experiments.figures.forest import estimate, name_rows
from experiments.figures.paper import Check, Data, Result, data_folder
from experiments.figures.style import BLUE, GREY, INK, LINE, VERMILION, key, mark, panels
from experiments.figures.wording import ends, span
from experiments.tcga_effects.study import Case, Variant, examine, load_set, main_effect, shares

TITLE = "What the hospital and the cancer type cause in TCGA embeddings"
DATA: Data = "real"
DRAWS = 40  # of the fast version
FACTORS = {"hospital": VERMILION, "cancer type": BLUE}
FILLED = "hospital"
MAIN = "standardised"
VARIANTS = {
    MAIN: ("o", "standardised over cancer types"),
    "AIPW": ("s", "doubly robust (AIPW)"),
    "standardised, age and sex too": ("^", "and over age and sex"),
    "standardised, stage too": ("v", "and over stage"),
}
KEEPING = ("random common cause", "data subset", "split half")  # attempts that must leave the estimate as it is
SET_MARKS = ("o", "s", "D")


def compute(fast: bool, seed: int) -> Result:
    """Estimate the shares of all sets and try to overturn them; sums over patients only.

    Raises
    ------
    Unavailable
        The slides are not here.
    """
    folder = data_folder()
    cases = [_small(folder, name, seed) if fast else examine(folder, name, random_state=seed) for name in SUBSETS]
    draws = next(row.details["draws"] for row in cases[0].refutation.attempts if "draws" in row.details)
    found: Result = plain(
        {
            "source": "computed by this run",
            "sizes": {"sets": len(cases), "draws per attempt": draws},
            "patients": {case.name: case.main.joint.n_groups for case in cases},
            "levels": {case.name: list(case.main.overlap.levels) for case in cases},
            "shares": shares(cases).to_dict("records"),
            "attempts": [{"set": case.name, **row} for case in cases for row in case.refutation.rows()],
            "hidden cause as strong as the declared could account for": {
                case.name: case.sensitivity.like_declared for case in cases
            },
        }
    )
    return found


def _small(folder: Path, name: str, seed: int) -> Case:
    effect = main_effect(load_set(folder, name))
    refutation = effect.refute(n_draws=DRAWS, random_state=seed)
    return Case(name, (Variant(MAIN, effect),), effect.sensitivity(), refutation, (), ())


def table(result: Result) -> pd.DataFrame:
    """One row per set, estimator and factor: caused share of the variance between patients, or the ratio of the two."""
    return pd.DataFrame(result["shares"])


def _reach(found: pd.DataFrame, of: str) -> str:
    scale, form = (1.0, ".1f") if of == "ratio" else (100.0, ".0f")
    return span(scale * found.loc[(found["variant"] == MAIN) & (found["of"] == of), "value"], form)


def claim(result: Result) -> str:
    """Say what both cause, what tried to overturn it, and what no statistic excludes."""
    found, attempts = table(result), result["attempts"]
    passed = sum(row["verdict"] == "pass" for row in attempts)
    hidden = result["hidden cause as strong as the declared could account for"]
    enough = [name for name, share in hidden.items() if share is None or share >= 1.0]
    return (
        f"In {result['sizes']['sets']} sets of TCGA slides the hospital causes {_reach(found, 'hospital')} % of the "
        f"variance between patients' embeddings and the cancer type {_reach(found, 'cancer type')} %: "
        f"{_reach(found, 'ratio')} times as much. {passed} of {len(attempts)} "
        "attempts to overturn it passed. A hidden cause as strong as the cancer type could account for all of the "
        f"distance between the two hospitals furthest apart in {len(enough)} of the sets. {CAVEAT}"
    )


def checks(result: Result) -> list[Check]:
    """Hold both shares, their ratio and the attempts to the claim."""
    found, out = table(result), []
    for (name, variant), rows in found.groupby(["set", "variant"], sort=False):
        by = rows.set_index("of")
        hospital, cancer, ratio = (by.loc[of] for of in (*FACTORS, "ratio"))
        detail = f"{100 * hospital['low']:.1f} % and more, {100 * cancer['high']:.1f} % and less"
        title = f"{name}, {variant}: the hospital causes more"
        out.append(Check(title, hospital["low"] > cancer["high"] and ratio["low"] > 1.0, detail))
    for name in SUBSETS:
        rows = [row for row in result["attempts"] if row["set"] == name]
        failed = [row["name"] for row in rows if row["verdict"] == "fail"]
        detail = f"{len(failed)} of {len(rows)} failed" + "".join(f"; {one}" for one in failed)
        out.append(Check(f"{name}: no attempt overturns it", not failed and len(rows) == len(REFUTERS), detail))
    return out


def draw(result: Result) -> Any:
    """Draw the shares of every set, and what became of the distance under attack."""
    figure, axes = panels(2, height=3.1)
    used = _shares(axes[0], result)
    _attempts(axes[1], result)
    key(figure, [mark(VARIANTS[name][1], VARIANTS[name][0], GREY) for name in used], columns=2, side="left")
    sets = [mark(_short(name), shape, filled=False) for name, shape in zip(SUBSETS, SET_MARKS, strict=True)]
    key(figure, sets, columns=3, side="right")
    return figure


def _shares(ax: Any, result: Result) -> list[str]:
    """Draw the left panel, and return the estimators in it."""
    found = table(result)
    for row in found[found["of"] != "ratio"].to_dict("records"):
        here = list(found.loc[found["set"] == row["set"], "variant"].unique())
        at = list(SUBSETS).index(row["set"]) + 0.17 * (here.index(row["variant"]) - (len(here) - 1) / 2)
        shape, filled = VARIANTS[row["variant"]][0], row["of"] == FILLED
        estimate(ax, at, row, FACTORS[row["of"]], scale=100, marker=shape, filled=filled)
    patients = result["patients"]
    hospitals = {name: len(levels) for name, levels in result["levels"].items()}  # one of the set may be left out
    names = [f"{_short(name)}\n{hospitals[name]} hospitals\n{patients[name]} patients" for name in SUBSETS]
    name_rows(ax, names, label="caused share of the variance between patients (%)")
    ax.set_xlim(0, None)
    ax.set_title("Caused by the hospital (filled) and by the cancer type (hollow)")
    return [name for name in VARIANTS if name in set(found["variant"])]


def _attempts(ax: Any, result: Result) -> None:
    names = [*(name for name in REFUTERS if name not in KEEPING), *KEEPING]
    for row in result["attempts"]:
        which, found = list(SUBSETS).index(row["set"]), ends(row, "after", "low", "high")
        at, shape = names.index(row["name"]) + 0.2 * (which - 1), SET_MARKS[which]
        estimate(ax, at, found, INK, scale=1.0 / row["before"], marker=shape, filled=False)
    name_rows(ax, names, label="distance between hospitals (estimate = 1)", line=0.0)
    ax.axvline(1.0, color=GREY, lw=LINE, ls="--", zorder=0)
    ax.set_title("The distance after an attempt to overturn it")


def _short(name: str) -> str:
    return name.split(",")[0]


if __name__ == "__main__":
    run(__file__)
