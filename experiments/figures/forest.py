"""Estimates on named rows, each a mark on its interval: what several figures are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.figures.style import GREY, LINE, interval


def name_rows(ax: Any, names: Sequence[str], *, label: str = "", line: float | None = None) -> None:
    """Give each row its name, the first on top.

    Parameters
    ----------
    ax
        Axes.
    names
        Of the rows at 0, 1, ...
    label
        Of the other axis, with its unit.
    line
        Where no effect, or chance, lies.
    """
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel(label)
    if line is not None:
        ax.axvline(line, color=GREY, lw=LINE, ls=":", zorder=0)


def estimate(
    ax: Any,
    row: float,
    found: Mapping[str, Any],
    colour: str,
    *,
    scale: float = 1.0,
    marker: str = "o",
    filled: bool = True,
) -> None:
    """Draw ``found["value"]`` on its interval ``low`` to ``high``; without one (None), the mark alone.

    Parameters
    ----------
    ax, row
        Axes, and the height in them.
    found
        ``value``, ``low`` and ``high``.
    colour, marker, filled
        Of the mark.
    scale
        Of the axis, for instance 100 for percent.
    """
    if found["low"] is not None and found["high"] is not None:
        interval(ax, row, scale * found["low"], scale * found["high"], colour=colour)
    face = colour if filled else "white"
    ax.plot([scale * found["value"]], [row], marker, color=colour, mfc=face, mew=0.8, zorder=3)
