"""The figure: real against predicted drop, one panel per estimator."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from causalfm.drawing import BLUE, GREY, INK
from experiments.shift_across_hospitals.study import CHOSEN

MARKS = "osD^v"


def draw(rows: pd.DataFrame, path: Path) -> None:
    """Draw one mark per hospital and task, with the prediction interval, and save a ``.png`` file."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    names = [name for name in rows["estimator"].unique() if name != CHOSEN and name != "ATC entropy"] + [CHOSEN]
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(10.4, 7.0), layout="constrained")
        axes = figure.subplots(2, 3, sharex=True, sharey=True)
        for ax, name in zip(axes.flat, names, strict=True):
            ax.set(xlim=(-0.25, 0.5), ylim=(-0.25, rows["drop"].max() + 0.08))
            _panel(ax, rows[rows["estimator"] == name], name, list(rows["task"].unique()))
        for ax in axes[-1]:
            ax.set_xlabel("predicted drop of the accuracy, without labels")
        for ax in axes[:, 0]:
            ax.set_ylabel("real drop")
        axes[0, 0].legend(loc="upper left", fontsize=8, frameon=False)
        figure.savefig(path, dpi=110)


def _panel(ax, rows: pd.DataFrame, name: str, tasks: list[str]) -> None:  # type: ignore[no-untyped-def]
    ax.plot([-0.4, 0.9], [-0.4, 0.9], color=GREY, linewidth=0.8, linestyle=":")
    for task, mark in zip(tasks, MARKS, strict=False):
        part = rows[rows["task"] == task]
        x = part["reference"] - part["predicted"]
        left, right = x - (part["reference"] - part["high"]), (part["reference"] - part["low"]) - x
        ax.errorbar(
            x, part["drop"], xerr=[left.clip(lower=0), right.clip(lower=0)], fmt="none", ecolor=GREY, alpha=0.35, lw=0.7
        )
        for trusted, face in ((True, BLUE), (False, "none")):
            some = part["trusted"] == trusted
            ax.plot(
                x[some],
                part["drop"][some],
                mark,
                markerfacecolor=face,
                markeredgecolor=BLUE,
                markersize=4,
                label=task if trusted else None,
            )
    ax.set_title(name, loc="left", color=INK)
