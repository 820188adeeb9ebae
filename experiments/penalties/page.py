"""The page and the figure of the study of penalties."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from causalfm.drawing import BLUE, GREY, INK
from experiments.penalties.cells import DECAYS, Plan
from experiments.penalties.designs import TCGA, WORDS

SHOWN = ("worst training", "worst new", "gain: worst training", "gain: worst new", "gain: mean new")
BRIEF = ("gain: mean new",)
MARKS = ("<!-- gains: written by experiments.penalties -->", "<!-- end of gains -->")
WIDEST = 0.3  # gains beyond it are cut off in the figure


def text(table: pd.DataFrame, plan: Plan) -> str:
    """Set the page: one table per design, in percent."""
    lines = [
        "# Penalties for a head on frozen embeddings",
        "",
        "Written, with [penalties.csv](penalties.csv) and the figure, by `python -m experiments.penalties DATA --out "
        "docs`. How to use penalties: [training.md](training.md).",
        "",
        "A linear head (`RobustHead`) is trained with every penalty of `causalfm.training`, and without (ERM), on "
        f"hospitals with {plan.patients} patients each, and judged at the worst of the three training hospitals, on "
        "new patients without the association of class and hospital, at the worst of three new hospitals, and in the "
        "mean of the new ones; both classes weigh the same. Simulated (`linear_scm`): intervals are those of a mean "
        f"over {plan.cohorts} cohorts (t), each with own effects and {plan.tested} test patients per hospital; gains "
        "are paired by cohort. TCGA: four hospitals with 16 training patients each, four new ones, jackknife by "
        f"patient over {plan.splits} training sets. Which hospital is the worst is not known beforehand: bounds of the "
        "worst hold for all four hospitals together (Bonferroni), bounds of its gain run from the least to the largest "
        "gain at any of them, and are wide.",
        "",
        f"**Settings are chosen alike for all**: of {len(DECAYS)} weight decays for ERM, and of three strengths for "
        "each penalty (which takes ERM's decay), the one with the best accuracy at the worst hospital where the "
        f"training hospitals are left out in turn, over {plan.pilots} other training sets of the design. No row that "
        "judges has a part in it. Of equals the weaker is taken. With few patients of the rarer class this choice is "
        "itself uncertain, and often falls on a strength that does next to nothing; that is part of the answer. All "
        f"heads: {plan.steps} steps of Adam. 16 penalties stand side by side in 5 designs: one interval in twenty "
        "would be off 0 without any effect.",
        "",
        "![Gains over ERM at the worst new hospital](images/penalties.svg)",
        "",
    ]
    for design in dict.fromkeys(table["design"]):
        lines += _section(design, table[table["design"] == design])
    return "\n".join(lines)


def _section(design: str, part: pd.DataFrame) -> list[str]:
    titles = ("worst training hospital", "worst new hospital", *SHOWN[2:])
    lines = [f"## {design}", "", f"{WORDS[design][0].upper()}{WORDS[design][1:]}.", ""]
    lines += ["| penalty | strength | " + " | ".join(titles) + " |", "|---" * (len(titles) + 2) + "|"]
    for method in dict.fromkeys(part["method"]):
        rows = part[part["method"] == method].set_index("measure")
        setting = f"decay {rows['setting'].iloc[0]:g}" if method == "erm" else f"{rows['setting'].iloc[0]:g}"
        cells = [_percent(rows, measure) for measure in SHOWN]
        lines.append(f"| {method} | {setting} | " + " | ".join(cells) + " |")
    for measure in SHOWN[2:]:
        rows = part[part["measure"] == measure]
        above, below = (", ".join(rows["method"][m]) or "none" for m in (rows["low"] > 0, rows["high"] < 0))
        lines += ["", f"{measure.removeprefix('gain: ').capitalize()}: above ERM: {above}. ERM wins against: {below}."]
    return [*lines, ""]


def short(table: pd.DataFrame) -> str:
    """Return the table of the how-to: gains over ERM in points, bold where the interval excludes 0."""
    shown = [(d, m) for d in dict.fromkeys(table["design"]) for m in (BRIEF if d == TCGA else SHOWN[2:4])]
    titles = [f"{design}: {measure.removeprefix('gain: ')}" for design, measure in shown]
    lines = ["| penalty | " + " | ".join(titles) + " |", "|---" * (len(titles) + 1) + "|"]
    for method in dict.fromkeys(table["method"]):
        if method == "erm":
            continue
        cells = []
        for design, measure in shown:
            rows = table[(table["design"] == design) & (table["method"] == method) & (table["measure"] == measure)]
            value, low, high = (100 * float(rows[c].iloc[0]) for c in ("value", "low", "high"))
            cells.append(f"**{value:+.1f}**" if low > 0 or high < 0 else f"{value:+.1f}")
        lines.append(f"| `{method}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _percent(rows: pd.DataFrame, measure: str) -> str:
    if measure not in rows.index:
        return ""
    value, low, high = (100 * rows.loc[measure, c] for c in ("value", "low", "high"))
    sign = "+" if measure.startswith("gain") else ""
    return f"{value:{sign}.1f} ({low:.1f} to {high:.1f})"


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw the gains over ERM at the worst new hospital: penalties downwards, designs side by side."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    gains = table[table["measure"] == "gain: worst new"]
    designs, methods = (list(dict.fromkeys(gains[c])) for c in ("design", "method"))
    style = {"svg.hashsalt": "penalties", "svg.fonttype": "none", "font.size": 8, "text.color": INK}
    with mpl.rc_context(style):
        size = (1.7 * len(designs) + 1.2, 0.2 * len(methods) + 0.8)
        figure, axes = plt.subplots(1, len(designs), figsize=size, sharey=True, layout="constrained", squeeze=False)
        for ax, design in zip(axes[0], designs, strict=True):
            rows = gains[gains["design"] == design].set_index("method").loc[methods[::-1]]
            at = np.arange(len(rows))
            off = (rows["low"] > 0) | (rows["high"] < 0)
            for mask, colour in ((off, BLUE), (~off, GREY)):
                ends = rows[["low", "high"]].clip(-WIDEST, WIDEST)[mask]
                ax.hlines(at[mask], 100 * ends["low"], 100 * ends["high"], color=colour, lw=1.2)
                ax.plot(100 * rows["value"][mask], at[mask], "o", color=colour, ms=3.5)
            ax.axvline(0, color=GREY, lw=0.8, ls=":", zorder=0)
            ax.set_xlim(-100 * WIDEST, 100 * WIDEST)
            ax.set_title(design + (" (joint bounds)" if design == TCGA else ""), fontsize=8)
            ax.set_yticks(at, list(rows.index))
            ax.spines[["top", "right"]].set_visible(False)
        figure.supxlabel(
            "gain over ERM at the worst new hospital, points of accuracy (95 %; blue: 0 is outside)", fontsize=8
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)
