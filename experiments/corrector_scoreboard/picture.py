"""The figure: what is left of the hospital against accuracy at unseen hospitals, honest and with a leak."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from causalfm.drawing import GREY, INK
from causalfm.estimators.scoring.result import NONE

ACROSS, UP = "site_linear", "biology_new_site"
# Okabe and Ito's colours without yellow; every corrector has a marker of its own as well.
STYLES = {
    NONE: ("X", INK),
    "MeanAligner, adapt": ("o", "#0072b2"),
    "ComBat, adapt": ("s", "#d55e00"),
    "ComBat, shrink": ("D", "#e69f00"),
    "CausalComBat, adapt": ("p", "#cc79a7"),
    "TransportAligner, adapt": ("^", "#009e73"),
    "SCMCorrector, adapt": ("v", "#56b4e9"),
    "LinearEraser": ("P", "#0072b2"),
    "LinearEraser, quadratic, adapt": ("<", "#d55e00"),
    "NullspaceProjector": (">", "#009e73"),
    "NuisanceSubspace": ("h", "#e69f00"),
}


def draw(rows: pd.DataFrame, path: Path) -> None:
    """Draw one panel per set from aggregate numbers, and save them as a picture.

    Parameters
    ----------
    rows
        As in ``scoreboard.csv``.
    path
        A ``.png`` file.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    tables = list(dict.fromkeys(rows["table"]))
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(1.2 + 3.7 * len(tables), 5.6), layout="constrained")
        panels = figure.subplots(1, len(tables), squeeze=False)[0]
        for ax, table in zip(panels, tables, strict=True):
            _panel(rows[rows["table"] == table], ax)
            ax.set_title(table, loc="left")
            ax.set_xlabel("hospital read from unseen patients\nby a linear probe (accuracy)")
        panels[0].set_ylabel("cancer type read at unseen hospitals (accuracy)")
        used = [name for name in STYLES if name in set(rows["corrector"])]
        handles = [_mark(panels[0], [], [], name, True, label=name) for name in used]
        handles.append(panels[0].plot([], [], "o", mfc="white", mec=GREY, label="hollow: fitted on scored rows")[0])
        handles.append(panels[0].plot([], [], color=GREY, lw=1.2, label="front of the honest points")[0])
        figure.legend(
            handles=handles, loc="outside lower center", ncols=4 if len(tables) > 1 else 2, frameon=False, fontsize=8.5
        )
        figure.savefig(path, dpi=110)


def _mark(ax: Any, x: Any, y: Any, name: str, filled: bool, **more: Any) -> Any:
    marker, colour = STYLES[name]
    return ax.plot(x, y, marker, color=colour, mfc=colour if filled else "white", ms=7, mew=1.2, ls="", **more)[0]


def _panel(part: pd.DataFrame, ax: Any) -> None:
    scores = part.set_index(["name", "corrector"])
    names = [name for name in STYLES if (ACROSS, name) in scores.index]
    base = scores.loc[(UP, NONE)].value
    ax.axhline(base, color=GREY, lw=0.8, ls="--", zorder=0)
    ax.axvline(scores.loc[(ACROSS, NONE)].chance, color=GREY, lw=0.8, ls=":", zorder=0)
    for name in names:
        x, y = scores.loc[(ACROSS, name)], scores.loc[(UP, name)]
        faint = {"color": STYLES[name][1], "alpha": 0.5, "zorder": 1}
        ax.plot([x.low, x.high], [y.value, y.value], lw=0.8, **faint)
        ax.plot([x.value, x.value], [base + y.change_low, base + y.change_high], lw=0.8, **faint)
        ax.plot([x.leak, x.value], [y.leak, y.value], lw=0.8, ls=":", **faint)
        _mark(ax, [x.leak], [y.leak], name, False, zorder=2)
        _mark(ax, [x.value], [y.value], name, True, zorder=3)
    best = front({name: (scores.loc[(ACROSS, name)].value, scores.loc[(UP, name)].value) for name in names})
    ax.plot(*zip(*best, strict=True), color=GREY, lw=1.2, zorder=0)
    ax.set_xlim(0.0, 1.02)


def front(places: dict[str, tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points that no other beats in both numbers: less of the hospital, a better classifier."""
    kept: list[tuple[float, float]] = []
    for x, y in sorted(places.values(), key=lambda place: (place[0], -place[1])):
        if not kept or y > kept[-1][1]:
            kept.append((x, y))
    return kept
