"""The generated part of ``docs/monitoring.md`` and its figure: every number comes from ``docs/monitoring.csv``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binom

from experiments.monitoring.clean_streams import REFERENCE as CLEAN_REFERENCE
from experiments.monitoring.clean_streams import STREAM
from experiments.monitoring.delays import BATCH, CHANGED, QUIET, REFERENCE, SIZES
from experiments.monitoring.tcga import BATCH as TCGA_BATCH
from experiments.monitoring.tcga import REFERENCE as HOME
from experiments.monitoring.tcga import SPLITS

MARKS = ("<!-- from monitoring.csv: begin -->\n", "<!-- from monitoring.csv: end -->\n")
FIGURE = "monitoring.svg"
COLOURS = {"embedding": ("o", "#0b5394"), "scores": ("s", "#b45f06"), "errors": ("^", "#cc0000")}


def section(table: pd.DataFrame) -> str:
    """Return the text between the marks."""
    clean, late = table[table["part"] == "clean"], table[table["part"] == "delay"]
    lines = [
        "",
        "Written by `python -m experiments.monitoring`; do not edit.",
        "",
        f"**False alarms.** {CLEAN_REFERENCE} reference patients (half of them ranked), streams of {STREAM} patients, "
        "ten tracks on the embedding. The most that a rule with the promised level may show (99.9 % binomial bound) "
        "stands in brackets. Rows in italics break the assumption, or are other rules on the same streams.",
        "",
        "| stream | rule | streams | alarms at alpha = 5 % | at 1 % |",
        "|---|---|---|---|---|",
    ]
    for row in clean.itertuples():
        cells = [row.design, row.rule, f"{int(row.streams):,}"]
        for alarms, alpha in ((row.alarms_05, 0.05), (row.alarms_01, 0.01)):
            most = f" ({int(binom.ppf(0.999, int(row.streams), alpha))})" if row.promised else ""
            cells.append(f"{int(alarms)} = {100 * alarms / row.streams:.1f} %{most}")
        lines.append("| " + " | ".join(cells if row.promised else [f"*{cell}*" for cell in cells]) + " |")
    lines += [
        "",
        f"**Delay.** A hospital is watched in peace for {QUIET} patients, then changes; {CHANGED} patients follow, in "
        f"batches of {BATCH}. {REFERENCE} reference patients of the same hospital, a linear model trained at others, "
        "alpha = 1 % over all three streams, labels at once. Patients until the alarm: median (10 % to 90 %).",
        "",
        "| change | size | noticed | before the change | patients until the alarm | by embedding, scores, errors | "
        "batches by which the change is misdated, median |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in late.itertuples():
        low, middle, high = (_patients(value) for value in (row.delay_10, row.delay_50, row.delay_90))
        by = ", ".join(str(int(value)) for value in (row.by_embedding, row.by_scores, row.by_errors))
        off = "" if np.isnan(row.since_off_50) else f"{row.since_off_50:g}"
        lines.append(
            f"| {row.design}: {SIZES[row.design]} | {row.size:g} | {int(row.noticed)} of {int(row.streams)} | "
            f"{int(row.early)} | {middle} ({low} to {high}) | {by} | {off} |"
        )
    lines += ["", f"![Delays by kind and size of the change](images/{FIGURE})", "", *_hospitals(table)]
    return "\n".join([*lines, ""])


def _hospitals(table: pd.DataFrame) -> list[str]:
    found = table[table["part"] == "tcga"]
    lines = [
        f"**Real slides** (TCGA, slide embeddings of HIPT). {100 * HOME:.0f} % of a hospital's patients are the "
        f"reference, drawn at random {SPLITS} times; its other patients follow in batches of {TCGA_BATCH}, then those "
        "of another hospital instead. Embedding only, alpha = 1 %.",
        "",
        "| cancer | hospital | patients | splits with a false alarm | others noticed | their patients until then |",
        "|---|---|---|---|---|---|",
    ]
    for row in found.itertuples():
        noticed, until = "no other with patients enough", ""
        if row.changes:
            low, middle, high = (f"{value:.0f}" for value in (row.delay_10, row.delay_50, row.delay_90))
            noticed, until = f"{int(row.noticed)} of {int(row.changes)}", f"{middle} ({low} to {high})"
        lines.append(
            f"| {row.design} | {row.rule} | {int(row.patients)} | {int(row.alarms_01)} of {int(row.streams)} | "
            f"{noticed} | {until} |"
        )
    return lines


def _patients(value: float) -> str:
    return f"{int(value)}" if np.isfinite(value) else f"over {CHANGED}"


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw patients until the alarm against the size of the change, one panel per kind."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    late = table[table["part"] == "delay"]
    kinds = list(dict.fromkeys(late["design"]))
    style = {"svg.hashsalt": "monitoring", "font.size": 8, "svg.fonttype": "none", "font.family": "sans-serif"}
    with mpl.rc_context(style):
        figure, axes = plt.subplots(
            1, len(kinds), figsize=(2.1 * len(kinds) + 0.6, 2.9), sharey=True, layout="constrained", squeeze=False
        )
        for ax, kind in zip(axes[0], kinds, strict=True):
            own = late[late["design"] == kind]
            for row in own.itertuples():
                _one(ax, row)
            ax.set_title(kind.replace("_", " "))
            ax.set(xlabel="size", yscale="log", ylim=(BATCH * 0.7, CHANGED * 1.6), xticks=own["size"])
            ax.set_yticks([20, 50, 100, 200, 600], ["20", "50", "100", "200", "600"])
            ax.minorticks_off()
            ax.grid(lw=0.3)
        axes[0, 0].set_ylabel("patients until the alarm")
        handles = [
            plt.Line2D([], [], marker=mark, color=colour, ls="", ms=5, label=f"mostly by {stream}")
            for stream, (mark, colour) in COLOURS.items()
        ]
        handles.append(plt.Line2D([], [], marker="x", color="0.4", ls="", ms=5, label="fewer than half noticed"))
        figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


def _one(ax: object, row: object) -> None:
    """Draw the median with its range from 10 % to 90 %; a cross at the top where fewer than half were noticed."""
    by = {stream: getattr(row, f"by_{stream}") for stream in COLOURS}
    mark, colour = COLOURS[max(by, key=by.__getitem__)]
    size, low, middle, high = (getattr(row, name) for name in ("size", "delay_10", "delay_50", "delay_90"))
    if not np.isfinite(middle):
        ax.plot(size, CHANGED * 1.3, "x", color="0.4", ms=5)  # type: ignore[attr-defined]
        return
    ax.plot([size, size], [low, min(high, CHANGED * 1.3)], "-", color=colour, lw=1)  # type: ignore[attr-defined]
    ax.plot(size, middle, mark, color=colour, ms=5)  # type: ignore[attr-defined]


def publish(table: pd.DataFrame, folder: Path) -> None:
    """Write the figure and the generated part of the page."""
    draw(table, folder / "images" / FIGURE)
    path = folder / "monitoring.md"
    before, _, rest = path.read_text(encoding="utf-8").partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    path.write_text(before + MARKS[0] + section(table) + "\n" + MARKS[1] + after, encoding="utf-8")
