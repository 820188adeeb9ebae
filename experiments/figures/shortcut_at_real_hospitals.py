"""Trained where the hospital gives the cancer away: what corrections regain for patients whom the shortcut misleads.

``python -m experiments.figures.shortcut_at_real_hospitals [--fast]``. The 100 training sets of every design and method
take about an hour: their numbers come from ``docs/augmentation_study.csv``, which ``experiments.balanced_augmentation``
writes. This run trains on the first of them again, and holds what it finds against that table.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from causalfm.datasets import tcga_hipt
from experiments.balanced_augmentation.__main__ import one_training
from experiments.balanced_augmentation.hospitals import load_pool
from experiments.balanced_augmentation.methods import METHODS
from experiments.figures.command import main
from experiments.figures.forest import estimate, name_rows, words
from experiments.figures.paper import Check, PaperFigure, Result, committed, data_folder, records
from experiments.figures.style import BLUE, GREY, VERMILION, panels

TABLE = "augmentation_study.csv"
C = 0.01  # the classifier fixed before the study
PARTLY, FULLY = "75/25", "full"
PLAIN, REWEIGHTED, AUGMENTED = "no correction", "reweighting", "augmentation, additive"
NAMES = {
    PLAIN: "no correction",
    REWEIGHTED: "reweighting",
    "mean alignment": "mean alignment*",
    "ComBat": "ComBat*",
    "LEACE": "LEACE*",
    AUGMENTED: "augmentation",
    "augmentation, additive, other organs lent": "augmentation,\nother organs lent",
}
AGAIN = (PLAIN, REWEIGHTED, AUGMENTED)
SPLITS = {False: 40, True: 10}  # trained again, by fast
ENDS = ("value", "low", "high")
BLANK = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}  # words on a line


def compute(fast: bool, seed: int) -> Result:
    """Read the table, and train again on the first training sets of both confounded designs.

    Raises
    ------
    Unavailable
        The slides are not here.
    """
    pool, rows = load_pool(data_folder(tcga_hipt.METADATA, tcga_hipt.EMBEDDINGS)), committed(TABLE)
    rows = rows[(rows["C"] == C) & rows["method"].isin(NAMES)]
    methods = {name: METHODS[name] for name in AGAIN}
    per_class, keys = int(rows["per_class"].iloc[0]), ["training", "method", "measure"]
    again = pd.concat(
        one_training(pool, training, SPLITS[fast], per_class, [C], methods=methods, seed=seed)
        for training in (PARTLY, FULLY)
    )
    kept = [*keys, "refused", "value", "low", "high"]
    both = rows[kept].merge(again[[*keys, "refused", "value"]], on=keys, suffixes=("", " again"))
    sizes = {"patients": int(rows["patients"].iloc[0]), "training sets": int(rows["splits"].iloc[0])}
    return {
        "source": f"docs/{TABLE}; {SPLITS[fast]} of its training sets used again to hold it against",
        "sizes": sizes | {"training patients per class": per_class, "training sets used again": SPLITS[fast]},
        "rows": records(rows.drop(columns=["C", "splits", "per_class", "patients"])),
        "again": records(both.fillna({"refused": "", "refused again": ""})),
    }


def table(result: Result) -> pd.DataFrame:
    """One row per design, method and measure: accuracy with its interval, and the paired gain over no correction."""
    return pd.DataFrame(result["rows"]).fillna({"refused": ""})


def _cell(result: Result, training: str, method: str, measure: str, *, gain: bool = False) -> dict[str, Any]:
    names = ("difference", "difference_low", "difference_high") if gain else ENDS
    for row in result["rows"]:
        if (row["training"], row["method"], row["measure"]) == (training, method, measure):
            return {end: row[name] for end, name in zip(ENDS, names, strict=True)} | {"refused": row["refused"]}
    raise KeyError(f"the table has no row {training}, {method}, {measure}")


def claim(result: Result) -> str:
    """Say what augmentation regains, beside the simplest rival, and where it refuses."""
    plain = _cell(result, PARTLY, PLAIN, "conflicting")
    gains = [words(_cell(result, PARTLY, AUGMENTED, m, gain=True), 100, 1, "+") for m in ("conflicting", "accuracy")]
    rival = words(_cell(result, PARTLY, REWEIGHTED, "accuracy", gain=True), 100, 1, "+")
    refused = _cell(result, FULLY, AUGMENTED, "accuracy")["refused"]
    full = f"augmentation is {refused}" if refused else "augmentation gives an answer"
    return (
        f"Where three quarters of the training patients have the hospital that goes with their lung cancer, a "
        f"classifier is right for {100 * plain['value']:.0f} % of the patients whose hospital says the other one. "
        f"Balanced counterfactual augmentation changes that by {gains[0]} percentage points and accuracy over all four "
        f"cells by {gains[1]}; reweighting changes accuracy by {rival}, so that no lead of augmentation is claimed. "
        f"Where hospital and cancer are one, {full}."
    )


def checks(result: Result) -> list[Check]:
    """Try the gains, the comparison with reweighting, the refusal, and the table against this run."""
    out = []
    for measure in ("conflicting", "accuracy"):
        gain = _cell(result, PARTLY, AUGMENTED, measure, gain=True)
        out.append(Check(f"augmentation raises {measure}", gain["low"] > 0, f"{words(gain, 100, 1, '+')} points"))
    ours, rival = (_cell(result, PARTLY, name, "accuracy", gain=True) for name in (AUGMENTED, REWEIGHTED))
    alike = ours["low"] <= rival["value"] <= ours["high"] and rival["low"] <= ours["value"] <= rival["high"]
    out.append(Check("reweighting gains as much", alike, " and ".join(words(x, 100, 1, "+") for x in (ours, rival))))
    refused = _cell(result, FULLY, AUGMENTED, "accuracy")["refused"] or "answered"
    out.append(Check("augmentation refuses full confounding", refused.startswith("refused"), refused))
    for row in result["again"]:
        name = f"{row['training']}, {row['method']}, {row['measure']}: as in the table"
        if row["refused"] or row["refused again"]:
            out.append(Check(name, row["refused"] == row["refused again"], row["refused again"] or "answered"))
        else:
            inside = row["low"] <= row["value again"] <= row["high"]
            out.append(Check(name, inside, f"{row['value again']:.3f} in {words(row, 1, 3)}"))
    return out


def draw(result: Result) -> Any:
    """Draw both kinds of patients under partial and full confounding, and the gain over no correction."""
    figure, axes = panels(3, height=2.5, sharey=True, width_ratios=[1.2, 0.9, 1.2])
    for ax, training, title in (
        (axes[0], PARTLY, "three quarters agree"),
        (axes[2], FULLY, "hospital and cancer are one"),
    ):
        _both(ax, result, training)
        ax.set_title(title)
    for row, method in enumerate(NAMES):
        if method != PLAIN:
            gain = _cell(result, PARTLY, method, "accuracy", gain=True)
            estimate(axes[1], row, _percent(gain), BLUE if method == AUGMENTED else GREY)
    axes[1].set_title("three quarters agree")
    name_rows(axes[1], list(NAMES.values()), label="gain of accuracy\n(percentage points)", line=0.0)
    figure.text(
        0.995, 0.005, "* changes test rows too, by their hospital", ha="right", va="bottom", fontsize=6, color=GREY
    )
    return figure


def _both(ax: Any, result: Result, training: str) -> None:
    for row, method in enumerate(NAMES):
        for measure, colour, shift in (("agreeing", VERMILION, -0.15), ("conflicting", BLUE, 0.15)):
            found = _cell(result, training, method, measure)
            if found["refused"]:
                ax.annotate(found["refused"], (50, row), color=GREY, ha="center", va="center", fontsize=6, bbox=BLANK)
                break
            estimate(ax, row + shift, _percent(found), colour)
            if row == 0 and training == PARTLY:
                ax.annotate(
                    f"{measure} patients",
                    (100 * found["value"], row + shift),
                    xytext=(0, -7 if shift > 0 else 7),
                    textcoords="offset points",
                    color=colour,
                    ha="center",
                    va="center",
                    fontsize=6,
                )
    name_rows(ax, list(NAMES.values()), label="accuracy (%)", line=50.0)
    ax.set_xlim(-4, 104)


def _percent(found: dict[str, Any]) -> dict[str, float]:
    return {end: 100 * found[end] for end in ENDS}


FIGURE = PaperFigure(
    name="shortcut_at_real_hospitals",
    title="Training where the hospital gives the cancer away",
    data="real",
    compute=compute,
    table=table,
    draw=draw,
    claim=claim,
    checks=checks,
)

if __name__ == "__main__":
    raise SystemExit(main([FIGURE]))
