"""Trained where the hospital gives the cancer away: what corrections regain for patients whom the shortcut misleads.

Confounded designs of ``experiments.balanced_augmentation`` run anew and held against its table
``docs/augmentation_study.csv``. The fast version runs the first of the training sets for three methods, and draws the
table.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from experiments.balanced_augmentation.__main__ import one_training
from experiments.balanced_augmentation.hospitals import load_pool
from experiments.balanced_augmentation.methods import METHODS
from experiments.figures.command import run
from experiments.figures.forest import estimate, name_rows
from experiments.figures.paper import Check, Data, Result, committed, data_folder, records
from experiments.figures.style import BLUE, GREY, VERMILION, key, mark, panels
from experiments.figures.wording import ENDS, ends, words

TITLE = "Training where the hospital gives the cancer away"
DATA: Data = "real"
TABLE = "augmentation_study.csv"
C = 0.01  # the classifier fixed before the study
PARTLY, FULLY = "75/25", "full"
TITLES = {PARTLY: "three quarters agree", FULLY: "all agree: hospital and cancer are one"}
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
FAST = (PLAIN, REWEIGHTED, AUGMENTED)
SPLITS = {False: 100, True: 10}  # training sets per design, by fast
GAINS = ("difference", "difference_low", "difference_high")
LOOK = {"agreeing": ("s", VERMILION, -0.15), "conflicting": ("o", BLUE, 0.15)}  # place in the row last
ROUNDING = 5e-5  # of the table
BLANK = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}  # words on a line


def compute(fast: bool, seed: int) -> Result:
    """Train on both confounded designs.

    Raises
    ------
    Unavailable
        The slides are not here.
    """
    pool, known = load_pool(data_folder()), committed(TABLE)
    known = known[(known["C"] == C) & known["method"].isin(NAMES) & known["training"].isin([PARTLY, FULLY])]
    methods = {name: METHODS[name] for name in (FAST if fast else NAMES)}
    per_class, keys = int(known["per_class"].iloc[0]), ["training", "method", "measure"]
    anew = pd.concat(
        one_training(pool, training, SPLITS[fast], per_class, [C], methods=methods, seed=seed)
        for training in (PARTLY, FULLY)
    )
    both = known[[*keys, "refused", *ENDS]].merge(anew[[*keys, "refused", "value"]], on=keys, suffixes=("", " anew"))
    rows = known if fast else anew
    return {
        "source": f"docs/{TABLE}, held against some of its training sets" if fast else "computed by this run",
        "sizes": {
            "patients": int(rows["patients"].iloc[0]),
            "training patients per class": per_class,
            "training sets per design": int(rows["splits"].iloc[0]),
            "run anew": SPLITS[fast],
        },
        "rows": records(rows[[*keys, "refused", *ENDS, *GAINS]]),
        "anew": records(both.fillna({"refused": "", "refused anew": ""})),
    }


def table(result: Result) -> pd.DataFrame:
    """One row per design, method and measure: accuracy with its interval, and the paired gain over no correction."""
    return pd.DataFrame(result["rows"]).fillna({"refused": ""})


def _cell(result: Result, training: str, method: str, measure: str, *, gain: bool = False) -> dict[str, Any]:
    names = GAINS if gain else ENDS
    for row in result["rows"]:
        if (row["training"], row["method"], row["measure"]) == (training, method, measure):
            return ends(row, *names) | {"refused": row["refused"]}
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
    for training in (PARTLY, FULLY):
        rows = [row for row in result["anew"] if row["training"] == training]
        answered = [row for row in rows if not row["refused"] and not row["refused anew"]]
        same = sum(row["refused"] == row["refused anew"] for row in rows if row not in answered)
        inside = sum(row["low"] - ROUNDING <= row["value anew"] <= row["high"] + ROUNDING for row in answered)
        apart = max(abs(row["value anew"] - row["value"]) for row in answered)
        detail = f"{inside} of {len(answered)} values, largest difference {apart:.3f}"
        detail += f"; {same} of {len(rows) - len(answered)} refusals"
        name = f"{training}: in the intervals of the documentation's table"
        out.append(Check(name, inside + same == len(rows), detail))
    return out


def draw(result: Result) -> Any:
    """Draw both kinds of patients under partial and full confounding, and the gain over no correction."""
    figure, axes = panels(3, height=2.9, sharey=True, width_ratios=[1.2, 0.9, 1.2])
    for ax, training in ((axes[0], PARTLY), (axes[2], FULLY)):
        _both(ax, result, training)
        ax.set_title(TITLES[training])
    for row, method in enumerate(NAMES):
        if method != PLAIN:
            gain = _cell(result, PARTLY, method, "accuracy", gain=True)
            colour, shape = (BLUE, "o") if method == AUGMENTED else (GREY, "s")
            estimate(axes[1], row, gain, colour, scale=100, marker=shape)
    axes[1].set_title(TITLES[PARTLY])
    name_rows(axes[1], list(NAMES.values()), label="gain of accuracy\n(percentage points)", line=0.0)
    marks = [mark(f"{of} patients", *look[:2]) for of, look in LOOK.items()]
    key(figure, [*marks, mark("* changes test rows too, by their hospital")], columns=3)
    return figure


def _both(ax: Any, result: Result, training: str) -> None:
    for row, method in enumerate(NAMES):
        for measure, (shape, colour, shift) in LOOK.items():
            found = _cell(result, training, method, measure)
            if found["refused"]:
                ax.annotate(found["refused"], (50, row), ha="center", va="center", fontsize=6, bbox=BLANK)
                break
            estimate(ax, row + shift, found, colour, scale=100, marker=shape)
    name_rows(ax, list(NAMES.values()), label="accuracy (%)", line=50.0)
    ax.set_xlim(-4, 104)


if __name__ == "__main__":
    run(__file__)
