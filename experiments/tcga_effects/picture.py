"""The figure: what the hospital and the cancer type cause, and what became of the effect when it was attacked."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from experiments.tcga_effects.study import Case, shares

COLOURS = {"hospital": "#b5442c", "cancer type": "#2f6f8f"}
MARKS = {"standardised": "o", "AIPW": "s", "standardised, age and sex too": "^", "standardised, stage too": "v"}
MUTED = "#8a8a8a"


def draw(cases: list[Case], path: Path) -> None:
    """Draw aggregate numbers only, and save them as a picture.

    Parameters
    ----------
    cases
        The sets.
    path
        A ``.png`` file.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(10.4, 5.0), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=[1, 1.1])
        _shares(cases, left)
        _attempts(cases, right)
        figure.savefig(path, dpi=110)


def _shares(cases: list[Case], ax) -> None:  # type: ignore[no-untyped-def]
    table = shares(cases)
    table = table[table["of"] != "ratio"]
    for row in table.itertuples():
        variants = [v.name for v in cases[[c.name for c in cases].index(row.set)].variants]
        place = [c.name for c in cases].index(row.set) + 0.16 * (variants.index(row.variant) - 1.5)
        ax.errorbar(
            100 * row.value,
            place,
            xerr=[[100 * (row.value - row.low)], [100 * (row.high - row.value)]],
            fmt=MARKS[row.variant],
            color=COLOURS[row.of],
            markersize=5,
            capsize=2,
        )
    ax.set_yticks(range(len(cases)), [f"{c.name}\n({c.main.joint.n_groups} patients)" for c in cases])
    ax.set_ylim(len(cases) - 0.5, -0.5)
    ax.set_xlim(0, None)
    ax.set_xlabel("caused share of the variance between patients (%)")
    ax.set_title("What the hospital and the cancer type cause", loc="left")
    handles = [ax.plot([], [], "o", color=c, label=name)[0] for name, c in COLOURS.items()]
    handles += [ax.plot([], [], m, color=MUTED, label=name)[0] for name, m in MARKS.items()]
    ax.legend(handles=handles, loc="upper center", fontsize=8, frameon=False, ncols=2, bbox_to_anchor=(0.4, -0.13))


def _attempts(cases: list[Case], ax) -> None:  # type: ignore[no-untyped-def]
    names = [row.name for row in cases[0].refutation.attempts]
    for i, case in enumerate(cases):
        for row in case.refutation.attempts:
            place = names.index(row.name) + 0.2 * (i - 1)
            ends = np.array([row.low, row.high]) / row.before
            ax.plot(ends, [place, place], color=MUTED, linewidth=1.2)
            mark = "osD"[i]
            ax.plot(
                row.after / row.before,
                place,
                mark,
                color="black",
                markersize=4,
                label=case.name if row.name == names[0] else None,
            )
    ax.axvline(1.0, color=COLOURS["hospital"], linewidth=1)
    ax.axvline(0.0, color=MUTED, linewidth=1, linestyle=":")
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xlabel("distance, estimate = 1 (mean, 95 % of draws)")
    ax.set_title("What attempts to overturn it gave", loc="left")
    ax.legend(loc="upper center", fontsize=8, frameon=False, bbox_to_anchor=(0.4, -0.13))
