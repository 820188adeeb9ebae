"""One look for every figure: column widths, type sizes and colours of a journal page, and files equal to the byte.

Widths are those of Nature's journals (89 and 183 mm), type is 7 pt. The font is the one that matplotlib brings, so that
the same numbers give the same bytes on every machine. Colours are Okabe and Ito's [1]_, told apart by colour-blind
readers; none carries a meaning that a marker or a label does not carry too.

References
----------
.. [1] Okabe, Ito. Color Universal Design (2008). https://jfly.uni-koeln.de/color/
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from causalfm.drawing import BLUE, GREY, INK

ONE_COLUMN, TWO_COLUMNS = 3.50, 7.20  # inches
VERMILION, GREEN, ORANGE, SKY, PURPLE = "#d55e00", "#009e73", "#e69f00", "#56b4e9", "#cc79a7"
PALETTE = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY)  # yellow is left out: too pale for lines on paper
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
LINE, POINT = 0.8, 3.5  # points
NORMAL = 1.96  # standard errors
BAND = "#e4e7ea"  # where values are as they should be
LETTER = {"fontweight": "bold", "fontsize": 8.0, "ha": "right", "va": "baseline"}
RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 7.0,
    "axes.titlesize": 7.0,
    "axes.titlelocation": "left",
    "axes.labelsize": 7.0,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": LINE,
    "lines.markersize": POINT,
    "savefig.dpi": 300,
    "svg.hashsalt": "causalfm",  # else ids differ from run to run
    "svg.fonttype": "none",  # text stays text
    "pdf.fonttype": 42,  # TrueType, as journals ask
}


def paper_style() -> AbstractContextManager[None]:
    """Return the context in which figures are drawn and saved; settings outside of it do not count."""
    import matplotlib.style

    return matplotlib.style.context(["default", RC])  # type: ignore[no-any-return]


def panels(
    columns: int = 1, rows: int = 1, *, width: float = TWO_COLUMNS, height: float = 2.2, **grid: Any
) -> tuple[Any, Any]:
    """Return a figure with a grid of lettered panels.

    Parameters
    ----------
    columns, rows
        Of the grid.
    width, height
        Of the figure, inches: ``ONE_COLUMN`` or ``TWO_COLUMNS`` wide.
    **grid
        As of ``Figure.subplots``, for instance ``sharey``.

    Returns
    -------
    figure : matplotlib.figure.Figure
    axes : numpy.ndarray
        ``(rows * columns,)``, in reading order. A single panel has no letter.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **grid).ravel()
    if len(axes) > 1:
        for ax, name in zip(axes, "abcdefghijklmnop", strict=False):
            letter(ax, name)
    return figure, axes


def letter(ax: Any, name: str) -> None:
    """Put the letter of a panel left of its title."""
    ax.annotate(name, (0.0, 1.0), xycoords="axes fraction", xytext=(-8, 6), textcoords="offset points", **LETTER)


def interval(ax: Any, at: float, low: float, high: float, *, colour: str, upright: bool = False) -> None:
    """Draw an interval as a thin line at ``at``, flat unless ``upright``."""
    ends, place = [low, high], [at, at]
    ax.plot(*((place, ends) if upright else (ends, place)), color=colour, lw=LINE, solid_capstyle="butt", zorder=2)


def error_bar(ax: Any, at: float, value: float, error: float, *, colour: str, upright: bool = False) -> None:
    """Draw the 95 % interval of a mean or share whose standard error is known."""
    interval(ax, at, value - NORMAL * error, value + NORMAL * error, colour=colour, upright=upright)


def mark(label: str, marker: str = "", colour: str = INK, *, filled: bool = True, **line: Any) -> Any:
    """Return an entry of a key; without a marker it is a line (``ls=":"``) or words alone."""
    from matplotlib.lines import Line2D

    look = {"ls": "", "mfc": colour if filled else "white", "mew": 0.8} | line
    return Line2D([], [], marker=marker, color=colour, label=label, **look)


def key(figure: Any, marks: Sequence[Any], columns: int, *, side: str = "center") -> None:
    """Put a key below the panels: in the middle, or ``side`` "left" or "right" under the panel that it explains."""
    figure.legend(handles=list(marks), loc=f"outside lower {side}", ncols=columns, handletextpad=0.3, columnspacing=1.4)


def name_lines(ax: Any, ends: Sequence[tuple[float, float, str, str]], *, gap: float = 7.5) -> None:
    """Write names right of the ends of lines instead of a legend, moved apart where they would touch.

    Parameters
    ----------
    ax
        Axes whose limits are final.
    ends
        ``(x, y, name, colour)`` of each.
    gap
        Least distance of two names, points.
    """
    ax.figure.draw_without_rendering()  # the layout decides how long a unit is
    points = 72.0 / ax.figure.dpi
    placed = sorted((ax.transData.transform((x, y))[1] * points, x, y, name, colour) for x, y, name, colour in ends)
    heights: list[float] = []
    for height, *_ in placed:
        heights.append(max(height, heights[-1] + gap) if heights else height)
    shift = sum(h - one[0] for h, one in zip(heights, placed, strict=True)) / max(len(placed), 1)
    for height, (own, x, y, name, colour) in zip(heights, placed, strict=True):
        ax.annotate(
            name,
            (x, y),
            xytext=(4, height - shift - own),
            textcoords="offset points",
            color=colour,
            va="center",
            annotation_clip=False,
            parse_math=False,
        )


__all__ = [
    "BAND",
    "BLUE",
    "GREEN",
    "GREY",
    "INK",
    "MARKERS",
    "ONE_COLUMN",
    "ORANGE",
    "PALETTE",
    "PURPLE",
    "SKY",
    "TWO_COLUMNS",
    "VERMILION",
    "error_bar",
    "interval",
    "key",
    "letter",
    "mark",
    "name_lines",
    "panels",
    "paper_style",
]
