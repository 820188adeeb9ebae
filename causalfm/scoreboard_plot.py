"""Figure of a scoreboard: what is left of the site against what is kept of biology, one point per corrector."""

from __future__ import annotations

import math
from typing import Any

from causalfm.arguments import check_type
from causalfm.drawing import BLUE, GREY, INK, new_axes, short, write
from causalfm.errors import DataError
from causalfm.estimators.scoring.result import NONE, Score, Scoreboard

SIZE = 4.2, 3.4  # inches
WORDS = {
    "biology": "biology read from unseen patients (accuracy)",
    "biology_new_site": "biology read at unseen sites (accuracy)",
    "worst_new_site": "biology read at the worst unseen site (accuracy)",
    "robustness_index": "robustness index, balanced tables",
    "croma": "CRoMa, balanced tables",
}
READERS = {"linear": "a linear probe", "knn": "neighbours", "forest": "a forest"}


def plot_scoreboard(
    result: Scoreboard, ax: Any = None, *, site: str = "site_linear", accuracy: str = "biology_new_site"
) -> Any:
    """Draw each corrector by what is left of the site (left is better) and an accuracy (up is better), with intervals.

    Correctors that none beats in both numbers are blue circles, joined by a line; the others are grey diamonds; rows as
    they were are a square. Points compare the numbers only: whether a difference is one is in the table.

    Parameters
    ----------
    result
        From :func:`causalfm.estimators.scoreboard`.
    ax
        Axes to draw on; a new figure if None.
    site, accuracy
        Measures of the board, across and upwards.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    DataError
        Another kind of result, a measure that the board lacks, or no corrector with both numbers.
    """
    check_type(result, Scoreboard, "result", "make one with causalfm.estimators.scoreboard(...)")
    across, up = (_of(result, name) for name in (site, accuracy))
    names = [name for name in across if math.isfinite(across[name].value) and math.isfinite(up[name].value)]
    if not names:
        raise DataError(f"there is nothing to draw: no corrector has both {site!r} and {accuracy!r}.")
    front = sorted(_front(names, across, up), key=lambda name: across[name].value)
    ax = new_axes(ax, SIZE)
    ax.plot([across[n].value for n in front], [up[n].value for n in front], color=BLUE, lw=0.8, zorder=1)
    for name in names:
        x, y = across[name], up[name]
        colour = BLUE if name in front else GREY
        marker = "s" if name == NONE else "o" if name in front else "D"
        for bounds, at in (((x.low, x.high), (y.value, y.value)), ((x.value, x.value), (y.low, y.high))):
            ax.plot(bounds, at, color=colour, lw=0.6, alpha=0.5, zorder=1)
        ax.plot([x.value], [y.value], marker, color=colour, ms=5, zorder=2)
        write(ax, x.value, y.value, f" {short(name, 24)}", va="bottom", ha="left", fontsize=7, color=INK)
    if math.isfinite(chance := across[names[0]].chance):
        ax.axvline(chance, color=GREY, lw=0.8, ls=":", zorder=0)
    reader = READERS.get(site.rsplit("_", 1)[-1], site)
    new = "unseen sites told apart" if site.startswith("new_site_") else "site read from unseen patients"
    ax.set_xlabel(f"{new} by {reader} (accuracy; dotted: chance)", fontsize=8)
    ax.set_ylabel(WORDS.get(accuracy, accuracy), fontsize=8)
    return ax


def _of(result: Scoreboard, name: str) -> dict[str, Score]:
    found = {score.corrector: score for score in result.scores if score.name == name}
    if not found:
        known = ", ".join(dict.fromkeys(score.name for score in result.scores))
        raise DataError(f"the scoreboard has no measure {name!r}. Measures: {known}.")
    return found


def _front(names: list[str], across: dict[str, Score], up: dict[str, Score]) -> list[str]:
    """Return those that no other is at least as good as in both numbers, and better in one."""
    place = {name: (-across[name].value, up[name].value) for name in names}
    return [
        one
        for one in names
        if not any(
            place[other] != place[one] and all(a >= b for a, b in zip(place[other], place[one], strict=True))
            for other in names
        )
    ]
