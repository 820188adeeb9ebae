"""The page: tables of all estimators, and what follows from them; made from the published rows alone."""

from __future__ import annotations

import math
import textwrap

import numpy as np
import pandas as pd
from scipy import stats

from experiments.shift_across_hospitals.study import CHOSEN, MARGIN, PATIENTS, TASKS

SITE_LEVEL = "site level"
HEAD = """# Can the accuracy at a new hospital be predicted without its labels?

Written by `python -m experiments.shift_across_hospitals DATA --out docs`; every number and every sentence with one is
made from `shift_across_hospitals.csv`, which that run writes. DATA holds the TCGA slides as HIPT embeddings
(`datasets/tcga_hipt.md`): 192 numbers per slide, real patients, real hospitals. Only sums over patients are shown.

**The question.** A model is trained on some hospitals and goes to another one. Without any label there, how much
accuracy will it lose, and which of the published estimators should be believed? Here every hospital with at least
{patients} patients plays the new one in turn ({deployments} deployments at {hospitals} hospitals, in {tasks} tasks):
a linear head is trained on all others, its accuracy at the hospital is predicted from scores alone, and then the
labels are looked at.

![Real against predicted drop, one panel per estimator](images/shift_across_hospitals.png)

*One mark per hospital and task; on the dotted line the prediction is right. Filled: the estimate may be used; hollow:
the library withholds it. Bars: 95 % prediction interval, made of the estimator's errors at the reference's own
hospitals, each held out in turn. The predicted drop has the mean of these errors taken off. ATC on the entropy is left
out: {entropy}.*

"""
NOTES = """## How to read the tables
- **Estimate** is the textbook number; **predicted** the same less its mean error at hospitals held out. Errors are
  predicted less real accuracy, in points of accuracy (0 to 1).
- **Own interval**: what the estimator's assumption allows, chance included. It is withdrawn where the reference's own
  hospitals refute the assumption, or the new one lies beyond them. **Calibrated interval**: made of
  errors at hospitals held out.
- **Slope**: real drop regressed on the predicted one. One is right; under one the estimator moves too much,
  over one too little. {site} has none: the mean of the others moves away from every hospital that is left
  out.
- **{site}** is no estimator of shift: it says that the hospital will be like those held out, whatever its scores.
- Accuracy is over the patients of that hospital, each weighing the same, and that is the truth here. A hospital of
  {patients} patients has an accuracy known to about .08 itself; intervals hold this part too.
- One hospital appears in several tasks, and tasks share patients: deployments are not independent, and the intervals
  of comparisons between estimators take hospitals as units.
- HIPT was pretrained on these slides, and several of the hospitals are tissue banks that collect from others: the
  numbers speak for this encoder on TCGA.
"""


def page(rows: pd.DataFrame) -> str:
    """Return the page as Markdown."""
    entropy, confidence = (rows[rows["estimator"] == f"ATC {name}"] for name in ("entropy", "confidence"))
    apart = np.abs(entropy["predicted"].to_numpy() - confidence["predicted"].to_numpy())
    head = HEAD.format(
        patients=PATIENTS,
        deployments=rows.groupby(["task", "hospital"]).ngroups,
        hospitals=rows["hospital"].nunique(),
        tasks=rows["task"].nunique(),
        entropy=f"it differs from ATC on the confidence by {np.nanmean(apart):.3f} on average",
    )
    parts = [head, "## In one sentence each\n", _sentences(rows), "\n## All deployments\n", _estimators(rows)]
    parts += ["\n## Verdicts\n", _verdicts(rows), "\n## By task\n", _tasks(rows), "\n"]
    return "".join(parts) + NOTES.format(site=SITE_LEVEL, patients=PATIENTS)


def summary(rows: pd.DataFrame) -> dict[str, float]:
    """Return what one estimator did over all deployments."""
    error, raw = (rows[name] - rows["accuracy"] for name in ("predicted", "estimate"))
    inside = (rows["low"] <= rows["accuracy"]) & (rows["accuracy"] <= rows["high"])
    own = rows["own_low"].notna()
    kept = (rows["own_low"] <= rows["accuracy"]) & (rows["accuracy"] <= rows["own_high"])
    used = rows["trusted"].astype(bool)
    drop = rows["reference"] - rows["predicted"]
    constant = (rows["estimator"] == SITE_LEVEL).all()  # a mean of the others moves away from every hospital left out
    slope = math.nan if constant or drop.std() < 1e-9 else float(np.polyfit(drop, rows["drop"], 1)[0])
    return {
        "n": len(rows),
        "raw_bias": raw.mean(),
        "raw_error": raw.abs().mean(),
        "bias": error.mean(),
        "error": error.abs().mean(),
        "slope": slope,
        "own_kept": own.mean(),
        "own_cover": kept[own].mean() if own.any() else math.nan,
        "cover": inside.mean(),
        "width": (rows["high"] - rows["low"]).mean(),
        "answered": used.mean(),
        "used_cover": inside[used].mean() if used.any() else math.nan,
        "used_error": error[used].abs().mean() if used.any() else math.nan,
    }


def _table(head: tuple[str, ...], lines: list[tuple[object, ...]]) -> str:
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in [head, ("---",) * len(head), *lines])


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.0f} %"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _estimators(rows: pd.DataFrame) -> str:
    head = ("estimator", "estimate: bias", "mean error", "predicted: bias", "mean error", "slope")
    head += ("own interval kept", "covers", "calibrated interval covers", "width", "may be used", "then covers")
    lines = []
    for name, part in rows.groupby("estimator", sort=False):
        s = summary(part)
        numbers = tuple(_number(s[k]) for k in ("raw_bias", "raw_error", "bias", "error"))
        own = _share(s["own_kept"]), _share(s["own_cover"]), _share(s["cover"]), _number(s["width"])
        lines.append((name, *numbers, _number(s["slope"]), *own, _share(s["answered"]), _share(s["used_cover"])))
    return _table(head, lines)


def _tasks(rows: pd.DataFrame) -> str:
    head = ("task", "hospitals", "accuracy of the reference", "mean real drop", "standard deviation")
    head += ("mean error: site level", "DoC", "CBPE", "importance weighting", "ATC confidence", CHOSEN)
    lines = []
    for task, part in rows.groupby("task", sort=False):
        one = part[part["estimator"] == CHOSEN]
        errors = (
            part[part["estimator"] == name].eval("predicted - accuracy").abs().mean()
            for name in (SITE_LEVEL, "DoC", "CBPE", "importance weighting", "ATC confidence", CHOSEN)
        )
        names = f"{task} ({', '.join(TASKS[str(task)])})"
        drop = one["drop"]
        means = _number(one["reference"].mean()), _number(drop.mean()), _number(drop.std())
        lines.append((names, len(one), *means, *map(_number, errors)))
    return _table(head, lines)


def _verdicts(rows: pd.DataFrame) -> str:
    text = (
        f"Largest acceptable drop {MARGIN:g}. Rows: the verdict without labels (by the estimate chosen); columns: that "
        "of all the hospital's labels.\n\n"
    )
    one, order = rows[rows["estimator"] == CHOSEN], ("pass", "fail", "cannot tell")
    lines = [
        (free, *(int(((one["verdict"] == free) & (one["measured_verdict"] == real)).sum()) for real in order))
        for free in order
    ]
    return text + _table(("without labels", *(f"labels: {name}" for name in order)), lines)


def compared(rows: pd.DataFrame, name: str, other: str = SITE_LEVEL) -> tuple[float, float, float]:
    """Return how much smaller an estimator's absolute error is than another's, with hospitals as units (t)."""
    parts = [rows[rows["estimator"] == n].set_index(["task", "hospital"]) for n in (other, name)]
    gains = (parts[0]["predicted"] - parts[0]["accuracy"]).abs() - (parts[1]["predicted"] - parts[1]["accuracy"]).abs()
    sums, counts = gains.groupby("hospital").sum(), gains.groupby("hospital").count()
    value, n = float(gains.mean()), len(sums)
    effects = (sums - value * counts) / counts.sum()
    half = float(stats.t.ppf(0.975, n - 1)) * math.sqrt(n / (n - 1) * float((effects**2).sum()))
    return value, value - half, value + half


def _sentences(rows: pd.DataFrame) -> str:
    out = []
    best = {name: compared(rows, name) for name in rows["estimator"].unique() if name != SITE_LEVEL}
    base = summary(rows[rows["estimator"] == SITE_LEVEL])
    for name, (gain, low, high) in best.items():
        s = summary(rows[rows["estimator"] == name])
        told = "better than" if low > 0 else "worse than" if high < 0 else "not told from"
        words = "The estimate that the library chooses" if name == CHOSEN else name
        text = (
            f"- **{words}** misses by {s['error']:.3f} on average, {told} the guess that the hospital is like those "
            f"held out ({base['error']:.3f}; gain {gain:.3f}, {low:.3f} to {high:.3f}). Its prediction intervals hold "
            f"{_share(s['cover'])} of the hospitals"
        )
        if name != CHOSEN and not math.isnan(s["own_cover"]):
            kept, hold = _share(1.0 - s["own_kept"]), _share(s["own_cover"])
            text += f"; its own were withdrawn in {kept}, and hold {hold} of the rest"
        elif name != CHOSEN:
            text += "; its own were withdrawn everywhere"
        out.append(text + ".")
    trusted = [name for name, (_, low, _) in best.items() if low > 0 and name != CHOSEN]
    one = rows[rows["estimator"] == CHOSEN]
    what = (
        f"{', '.join(trusted)}; each with its calibrated interval, not its own"
        if trusted
        else "none of them more than the mean of hospitals held out"
    )
    out.append(
        f"- **Which to trust here:** {what}. Without labels {_share((one['verdict'] != 'cannot tell').mean())} of the "
        f"deployments get a verdict at a margin of {MARGIN:g}; with all labels "
        f"{_share((one['measured_verdict'] != 'cannot tell').mean())} do."
    )
    lines = [line.replace(" %", "\N{NO-BREAK SPACE}%") for line in out]  # a line that begins with % is a comment
    return "".join(textwrap.fill(line, 118, subsequent_indent="  ") + "\n" for line in lines)
