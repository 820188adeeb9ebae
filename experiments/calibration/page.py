"""``docs/calibration.csv``, ``docs/calibration.md`` and the figures: every number comes from the records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from experiments.calibration import methods_figure
from experiments.calibration.designs import EFFECT, FIRST_SEED
from experiments.calibration.scoreboards import HALVINGS
from experiments.calibration.summary import COVERAGE, FEW_COVERAGE, FEW_PATIENTS, OPEN, SIZE

SECTIONS = {
    "mean_test": (
        "Size of the mean test",
        "Share of cohorts without any effect in which p <= .05. *unstudentised*: the same permutations with the plain "
        "sum of squares. *rows as units*: the same test if every tile were a patient.",
    ),
    "effect": (
        "Intervals of the effect",
        "Share of 95 % intervals that hold the truth of the simulator. *joint*: mean squared distance over all pairs "
        "of sites; *ratio*: to the biology. *margin*: share of wrong verdicts where the largest pair lies exactly on "
        "the margin, 5 % allowed on each side; on the first cohorts only, as these bounds cost most: a check, no "
        "calibration. Joint intervals away from zero are slightly wide because the variance along the effect is taken "
        "at its least favourable; the ratio within patients combines two 97.5 % intervals (docs/adr/0003).",
    ),
    "effects": (
        "Intervals of the estimators of effects",
        "Share of 95 % intervals that hold the truth: *scalar*: the first dimension between the last and the first "
        "site; *norm*: the mean squared distance over all pairs of sites; *share*: the part of the variance between "
        "patients that sites cause. *effect*: root mean square distance .6 beside 1 between classes. AIPW gives no "
        "numbers where its weights leave fewer than three effective patients of a site.",
    ),
    "econml": (
        "The same scalar by EconML's LinearDML",
        "On the same designs, with ridge and logistic nuisances and the same columns: on all rows with the patients as "
        "`groups=`, which keeps folds whole but does not cluster the errors, and on the patients' means.",
    ),
    "index": (
        "Intervals of the robustness index",
        "The truth is the mean over all cohorts of the cell: the expected value for new patients of this design.",
    ),
    "readout": (
        "Intervals of the read-outs",
        "Balanced accuracy of every probe, over the cohort and *within* the case mix. The truth is the mean over all "
        "cohorts of the cell, which at chance lies below 1 / levels: a probe that leaves patients out sees their level "
        "more rarely. *above chance*: share of intervals above 1 / levels where nothing can be read. Intervals "
        "are wide where patients bring several tiles, because the effective size is capped at the number of patients, "
        "and with one tile each because pairs are counted at their worst (docs/adr/0007).",
    ),
    "neighbourhood": (
        "Intervals of the neighbourhood family",
        "15, 40 and 150 patients of two sites, where both biology and site are there; the truth is the mean over all "
        "cohorts of the cell.",
    ),
    "mixing": (
        "Intervals of the mixing family",
        "The same cohorts: LISI, kBET, connectivity, silhouettes and PC regression.",
    ),
    "contrast": (
        "Contrasts of two encoders",
        "Share of cohorts with p <= .05 for two encoders that differ by independent noise of the same size: no "
        "difference is true.",
    ),
    "methods": (
        "Size and power of the methods of the invariance test",
        "Share of cohorts in which `invariance_test` gives p <= .05 (199 draws). *mean*, *gcm* and *c2st* look for "
        "shifts; the others compare distributions and rightly find sites that differ by spread alone, which is no null "
        f"for them. *effect*: the root mean square distance between two sites is {EFFECT['site_effect']}, that between "
        f"the two classes 1, as are the standard deviations of patients and of rows.",
    ),
    "paired": (
        "Scanners that vary within patients",
        "Share of cohorts with p <= .05 where scanners do not differ, and share of intervals of the squared distance "
        "between scanners that hold the truth (*effect*: root mean square distance .5; patients answer each scanner in "
        "their own way, by .7).",
    ),
    "equivalence": (
        "Equivalence",
        "Share of cohorts in which `equivalence_test` gives p <= .05 where the farthest two levels lie exactly the "
        "margin apart. Below 5 % is expected: the distance between classes is uncertain too, and every pair must pass.",
    ),
    "dose": (
        "Continuous factors",
        "Share of cohorts with p <= .05 for the age as a technical factor that does nothing, given class and site.",
    ),
    "scoreboard": (
        "Scoreboards of correctors",
        f"Share of 95 % intervals, from {HALVINGS} halvings, that hold the truth: numbers without correction (*none*) "
        "and after it (*aligned*: MeanAligner, adapted to new sites; *erased*: LinearEraser), and their changes (*less "
        "none*). The truth is the mean over all cohorts of the cell; of *worst_new_site* it is the least of the true "
        "accuracies at single sites, and its bounds, which hold for all sites together, are wide. *recommended*: share "
        "of cohorts in which some corrector is recommended; an error where none gains on average; *low above the "
        "truth*: what it is where the true gain is 0. With so few cohorts a share is called outside its band where it "
        "is by two standard deviations. What a design is too small for has no interval, and is not listed.",
    ),
    "attribution": (
        "Why performance dropped",
        "A reference of 300 patients at three sites and 120 patients of a new one, three rows each (*60 and 40 "
        "patients*: fewer), and one fixed model. The mechanisms of age, tumour, scanner and *Z* given all three are "
        "the reference's or the deployment's, as the name says, so that the true share of each is known from 400,000 "
        "patients of every mixture. Share of 95 % intervals that hold it: *age*, *tumour*, *scanner*, *Z* (with the "
        "unseen site), *new support* (patients on a scanner that the reference does not have). *out of the reference*, "
        "*same inputs*, *new inputs*: the same for the split by the model's scores. *unmoved mechanism named*: share "
        "of cohorts in which a mechanism is named that did not change. The seeds are the same in every design, so "
        "that designs err together. A share is called outside its band where it is by two standard deviations.",
    ),
    "peers": (
        "Other software on the same cohorts",
        "Share of cohorts with p <= .05. hyppo's Dcorr gets embeddings less the mean of their class; dowhy's kernel "
        "test and causal-learn's KCI, with their own settings, get the class as conditioning set. Each gets the rows, "
        "of which patients bring several, and the means of patients, who differ between sites in nothing but what the "
        "design says.",
    ),
    "shift_cost": (
        "What a new hospital costs",
        "Twelve reference hospitals of 40 patients, a new one of 60; every cohort has its own hospitals. *measured*: "
        "share of intervals that hold the true accuracy of the head there, and its true drop. The other intervals are "
        "made without labels, and their truth is the accuracy of the very patients scored. *own interval*: under the "
        "estimator's assumption, withdrawn where the reference's hospitals refute it or the new one lies beyond "
        "them. *calibrated*: from errors at hospitals held out; answered where the estimate may be used. *chosen*: "
        "the one that the library rests on. "
        "*verdict*: share of cohorts with a verdict that the true drop contradicts (margin .05), and with any. "
        "Case mix (of .8 instead of .5), another scanner and classes less distinct are shifts unlike any between the "
        "reference's hospitals: no estimate without labels has to hold, and what counts is how often one is withheld. "
        "Few cohorts, as each holds out twelve hospitals: a share is read as outside its band where it is by two "
        "standard deviations.",
    ),
}
COLOURS = {"": "#0b5394", "unstudentised": "#b45f06", "rows as units": "#999999"}


def write_page(table: pd.DataFrame, docs: Path) -> None:
    """Write the table, the page and the figures.

    Parameters
    ----------
    table
        As from ``summarise``.
    docs
        The folder; the figures go to ``images/`` in it.
    """
    table = table.round(4)
    table.to_csv(docs / "calibration.csv", index=False)
    _draw(table, docs / "images" / "calibration.svg")
    methods_figure.draw(table, docs / "images" / methods_figure.NAME)
    (docs / "calibration.md").write_text(page(table), encoding="utf-8")


def page(table: pd.DataFrame) -> str:
    """Return the page in Markdown."""
    judged = table[(table["reading"] != "comparison") & (table["kind"] != "power")]
    counts = judged["reading"].value_counts()
    outside = judged[~judged["reading"].isin(["within", "conservative"])]
    parts = [
        "# Calibration",
        "",
        "Do the tests reject a true null as often as they say, and do the intervals hold the truth? Cohorts are drawn "
        "by `causalfm.datasets.linear_scm`, whose truth is known; patients bring several tiles each. "
        f"The seeds are {FIRST_SEED}, {FIRST_SEED + 1}, ... in every cell, fixed before the first run; every cell is "
        "shown. `make calibrate` runs or continues the study and writes this page, "
        "[calibration.csv](calibration.csv) and the figures.",
        "",
        f"Bands: size {SIZE[0]:.0%} to {SIZE[1]:.0%}; coverage {COVERAGE[0]:.0%} to {COVERAGE[1]:.0%}, above it only "
        f"for norms within three standard deviations of zero, {FEW_COVERAGE:.0%} with at most {FEW_PATIENTS} patients. "
        "*Conservative* (above a coverage band or below the size band) is a warning, the other side a failure.",
        "",
        f"**{counts.get('within', 0)} of {len(judged)} quantities lie within their band, "
        f"{counts.get('conservative', 0)} are conservative, {len(outside)} fail.**",
        "",
        "![Sizes and coverages of all cells](images/calibration.svg)",
    ]
    if len(outside):
        parts += ["", "Outside, and open:", ""]
    for row in outside.itertuples():
        reason = OPEN.get((row.measure, row.design, row.quantity), "not explained yet")
        where = f"{SECTIONS[row.measure][0].lower()}, {row.design}, {row.quantity}"
        parts.append(f"- {where}: {row.share:.3f} ({row.reading}): {reason}.")
    for measure, (title, words) in SECTIONS.items():
        part = table[table["measure"] == measure]
        if len(part):
            parts += ["", f"## {title}", "", words, ""]
            if measure == "peers":
                parts += [f"![Size and power beside other software](images/{methods_figure.NAME})", ""]
            parts += _markdown(part)
    return "\n".join(parts) + "\n"


def _markdown(part: pd.DataFrame) -> list[str]:
    head = ["design", "quantity", "share", "± 1 sd", "cohorts", "answered", "truth", "mean", "median width", "reading"]
    interval = bool(part["truth"].notna().any())
    keep = [name for name in head if interval or name not in ("answered", "truth", "mean", "median width")]
    out = ["| " + " | ".join(keep) + " |", "|" + "---|" * len(keep)]
    for row in part.itertuples():
        cells = {
            "design": row.design,
            "quantity": row.quantity,
            "share": f"{row.share:.3f}",
            "± 1 sd": f"{row.mc_error:.3f}",
            "cohorts": str(row.cohorts),
            "answered": f"{row.answered / row.cohorts:.1%}",
            "truth": _number(row.truth),
            "mean": _number(row.mean),
            "median width": _number(row.width),
            "reading": row.reading if row.reading not in ("comparison", "power") else "",
        }
        out.append("| " + " | ".join(cells[name] for name in keep) + " |")
    return out


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.3g}"


def _draw(table: pd.DataFrame, path: Path) -> None:
    """One panel per measure: designs downwards, shares to the right, the band shaded."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    shown = [m for m in SECTIONS if (table["measure"] == m).any()]
    heights = [table[table["measure"] == m]["design"].nunique() for m in shown]
    with mpl.rc_context(
        {"svg.hashsalt": "calibration", "font.size": 8, "svg.fonttype": "none", "font.family": "sans-serif"}
    ):
        figure, axes = plt.subplots(
            len(shown),
            1,
            figsize=(8.0, 0.24 * sum(heights) + 1.0 * len(shown)),
            height_ratios=heights,
            layout="constrained",
            squeeze=False,
        )
        for ax, measure in zip(axes[:, 0], shown, strict=True):
            part = table[(table["measure"] == measure) & (table["kind"] != "error")]
            designs = list(dict.fromkeys(part["design"]))[::-1]
            band, at = (SIZE, 0.05) if (part["kind"] == "size").any() else (COVERAGE, 0.95)
            ax.axvspan(*band, color="#d9ead3", lw=0)
            ax.axvline(at, color="#38761d", lw=0.8)
            for label, colour in COLOURS.items():
                own = part[[label in q if label else not any(c in q for c in COLOURS if c) for q in part["quantity"]]]
                y = [designs.index(d) for d in own["design"]]
                ax.plot(own["share"], y, "o", ms=4, alpha=0.7, color=colour, label=label or "as causalfm reports it")
            ax.set(yticks=range(len(designs)), yticklabels=designs, xlim=(-0.02, 1.02), title=SECTIONS[measure][0])
            ax.grid(axis="y", lw=0.3)
        axes[0, 0].legend(loc="lower right", frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)
