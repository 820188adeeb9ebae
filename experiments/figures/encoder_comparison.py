"""Three encoders on the same mitotic figures under three scanners: scores, and paired differences over patients.

:func:`causalfm.compare` as in ``experiments.encoder_comparison``. The fast version takes one of the measures; its
numbers are the same.
"""

from __future__ import annotations

import itertools
from typing import Any

import pandas as pd

from causalfm.auditing.formatting import listing
from causalfm.datasets import amibr
from experiments.encoder_comparison import compare_encoders
from experiments.figures.command import run
from experiments.figures.forest import estimate, name_rows
from experiments.figures.paper import Check, Data, Result, data_folder, records
from experiments.figures.style import BLUE, GREEN, GREY, INK, VERMILION, key, mark, panels
from experiments.figures.wording import ends, words

TITLE = "Three encoders under three scanners"
DATA: Data = "real"
INDICES = ("robustness_index", "reference_index")
FAST = INDICES[:1]
ENCODERS = {
    "lite0": ("EfficientNet-Lite0 (ImageNet)", "o", BLUE),
    "shell": ("SHELL (H&E)", "s", GREEN),
    "color": ("colour statistics", "^", VERMILION),
}
SHORT = {"lite0": "EfficientNet", "shell": "SHELL", "color": "colour"}
PAIRS = (("shell", "lite0"), ("color", "lite0"), ("color", "shell"))
PAIR_MARKS = ("o", "s", "^")


def compute(fast: bool, seed: int) -> Result:
    """Compare the encoders; sums over patients only.

    Raises
    ------
    Unavailable
        The embeddings are not here.
    """
    files = [name for parts, *_ in amibr.ENCODERS.values() for name in parts]
    folder = data_folder(amibr.METADATA, *files)
    found = compare_encoders(folder, metrics=FAST if fast else None, random_state=seed)
    about = ["metric", "factor", "better", "encoder", "value", "low", "high", "chance", "n", "n_groups"]
    ks = [board.details["k"] for board in found.boards if "k" in board.details]
    return {
        "source": "computed by this run",
        "sizes": {"rows": found.data["rows"], "patients": found.data["units"], "encoders": len(found.encoders)},
        "k": ks[0] if ks else None,
        "titles": {
            board.metric: board.title.replace(", 2 x 2 reference", " (2 x 2 reference)") for board in found.boards
        },
        "scores": records(found.to_frame()[about]),
        "contrasts": records(found.contrasts()),
    }


def table(result: Result) -> pd.DataFrame:
    """One row per measure and pair: scores of both, difference with its interval alone and jointly with all pairs."""
    scores = {(row["metric"], row["encoder"]): row for row in result["scores"]}
    rows = []
    for metric, title in result["titles"].items():
        for a, b in PAIRS:
            one = difference(result, metric, a, b)
            names = {"encoder": ENCODERS[a][0], "than": ENCODERS[b][0]}
            both = {"score": scores[metric, a]["value"], "score of the other": scores[metric, b]["value"]}
            rows.append({"measure": title, "better": scores[metric, a]["better"], **names, **both, **one})
    return pd.DataFrame(rows)


def difference(result: Result, metric: str, a: str, b: str) -> dict[str, float | None]:
    """Return ``a`` less ``b`` with its interval, alone and joint; None where the measure has none."""
    names = ("low", "high", "joint_low", "joint_high")
    turned = ("high", "low", "joint_high", "joint_low")
    for row in result["contrasts"]:
        if (row["metric"], row["a"], row["b"]) == (metric, a, b):
            return {"difference": row["difference"], **{name: row[name] for name in names}}
        if (row["metric"], row["a"], row["b"]) == (metric, b, a):
            return {"difference": -row["difference"], **{n: -row[t] for n, t in zip(names, turned, strict=True)}}
    return dict.fromkeys(("difference", *names))


def shown(result: Result, metric: str, a: str, b: str) -> str:
    """Return which of two encoders is shown to be better by the joint interval: ``a``, ``b`` or none (empty)."""
    one = difference(result, metric, a, b)
    if one["joint_low"] is None or one["joint_high"] is None or one["joint_low"] <= 0 <= one["joint_high"]:
        return ""
    higher = next(row["better"] for row in result["scores"] if row["metric"] == metric) == "higher"
    return a if (one["joint_low"] > 0) == higher else b


def _sides(result: Result, a: str, b: str) -> dict[str, list[str]]:
    """Return the titles of the measures under the encoder that each shows to be better, or under none (empty)."""
    out: dict[str, list[str]] = {a: [], b: [], "": []}
    for metric, title in result["titles"].items():
        out[shown(result, metric, a, b)].append(title)
    return out


def claim(result: Result) -> str:
    """Say which measures tell the two networks apart, and what both gain on mere colour."""
    sizes, sides = result["sizes"], _sides(result, "shell", "lite0")
    said = [
        f"{word} by {listing(sides[side])}"
        for side, word in (("shell", "shown to be better"), ("lite0", "shown to be worse"), ("", "not told apart"))
        if sides[side]
    ]
    losses = [set(_sides(result, "color", other)[other]) for other in ("lite0", "shell")]
    worse = [title for title in result["titles"].values() if all(title in loss for loss in losses)]
    unread = [row["low"] <= row["chance"] for row in result["scores"] if row["metric"] == "biology_readout"]
    biology = " None is shown to tell the kind of mitosis better than chance." if unread and all(unread) else ""
    below = _below_chance(result)
    return (
        f"On the same {sizes['rows']} mitotic figures of {sizes['patients']} patients under three scanners, SHELL (an "
        f"encoder trained on H&E) against EfficientNet-Lite0 (ImageNet) is {'; '.join(said)}. Colour statistics are "
        f"shown to be worse than both by {listing(worse) if worse else 'none'}. By the robustness index (k = "
        f"{result['k']}) {sum(below)} of {len(below)} lie below chance.{biology} Intervals are over patients and hold "
        "for all pairs of a measure together. Scanners were used on different patients: scanner and case mix are not "
        "strictly separable."
    )


def checks(result: Result) -> list[Check]:
    """Try what the two robustness indices say, and that every number stands on all patients."""
    out = []
    for metric in INDICES:
        for a, b in PAIRS:
            if a == "color" and metric in result["titles"]:
                one = difference(result, metric, a, b)
                name = f"{result['titles'][metric]}: colour statistics are worse than {ENCODERS[b][0]}"
                out.append(Check(name, shown(result, metric, a, b) == b, words(_joint(one), 1, 3, "+")))
    out.append(Check.each("the robustness index of every encoder is below chance", _below_chance(result)))
    units = {row["n_groups"] for row in result["scores"]}
    patients = result["sizes"]["patients"]
    detail = f"{', '.join(map(str, sorted(units)))} of {patients}"
    out.append(Check("every score stands on all patients", units == {patients}, detail))
    return out


def _below_chance(result: Result) -> list[bool]:
    return [row["high"] < row["chance"] for row in result["scores"] if row["metric"] == INDICES[0]]


def _joint(one: dict[str, float | None]) -> dict[str, float | None]:
    return ends(one, "difference", "joint_low", "joint_high")


def draw(result: Result) -> Any:
    """Draw the scores with chance, and the paired differences with their joint intervals."""
    lower = {row["metric"] for row in result["scores"] if row["better"] == "lower"}
    names = [title + "\n(lower is better)" * (metric in lower) for metric, title in result["titles"].items()]
    figure, axes = panels(2, height=1.2 + 0.35 * len(names), sharey=True)
    order, metrics = list(ENCODERS), list(result["titles"])
    for row in result["scores"]:
        at = metrics.index(row["metric"]) + 0.22 * (order.index(row["encoder"]) - 1)
        _, shape, colour = ENCODERS[row["encoder"]]
        if row["value"] is not None:
            estimate(axes[0], at, row, colour, marker=shape)
        if row["chance"] is not None:
            axes[0].plot([row["chance"]], [at], "|", color=GREY, ms=6, mew=0.8, zorder=1)
    for (i, metric), (j, (a, b)) in itertools.product(enumerate(metrics), enumerate(PAIRS)):
        one = difference(result, metric, a, b)
        if one["difference"] is not None:
            told = bool(shown(result, metric, a, b))
            estimate(axes[1], i + 0.22 * (j - 1), _joint(one), INK, marker=PAIR_MARKS[j], filled=told)
    name_rows(axes[0], names, label="score")
    name_rows(axes[1], names, label="difference of scores\n(joint 95 % intervals over patients)", line=0.0)
    encoders = [mark(*look) for look in ENCODERS.values()]
    key(figure, [*encoders, mark("chance", "|", GREY, ms=6)], columns=2, side="left")
    pairs = [mark(f"{SHORT[a]} - {SHORT[b]}", shape) for (a, b), shape in zip(PAIRS, PAIR_MARKS, strict=True)]
    key(figure, [*pairs, mark("hollow: not told apart", "o", filled=False)], columns=2, side="right")
    return figure


if __name__ == "__main__":
    run(__file__)
