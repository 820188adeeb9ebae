"""Figure of a comparison: every encoder's number with its interval and its chance, one panel per measure and factor."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING, Any

from causalfm.auditing.comparison_words import heading
from causalfm.auditing.formatting import beside_chance
from causalfm.drawing import BLUE, GREY, INK, limits, new_axes, short, write

if TYPE_CHECKING:
    from causalfm.auditing.comparison import Board, Comparison

WIDTH = 3.8  # inches: as the findings of an audit
TITLE, ROW, AXIS, GAP = 0.19, 0.36, 0.22, 0.2  # inches: a line of a title, an encoder, the axis, what is below it
KEY = "blue circles: no other encoder is shown to be better; dotted: chance"


def plot_comparison(result: Comparison, ax: Any = None) -> Any:
    """Draw every encoder's number with its 95 % interval and the value that chance gives.

    One panel per measure and factor; encoders keep their order, so that panels compare. Encoders that no other is
    shown to be better than (by the joint intervals of the differences) are blue circles, the others grey diamonds.
    Intervals of two encoders may overlap where their difference is clear: they see the same patients.

    Parameters
    ----------
    result
        A comparison.
    ax
        Axes to draw in (they become the frame of the panels); a new figure if None.

    Returns
    -------
    matplotlib.axes.Axes
        The frame; panels are its ``child_axes``.
    """
    boards = [board for board in result.boards if has_numbers(board)]
    titles = [textwrap.wrap(short(f"{heading(board)} ({board.better} is better)", 110), 46) for board in boards]
    heights = [TITLE * len(t) + ROW * len(b.scores) + AXIS + GAP for t, b in zip(titles, boards, strict=True)]
    total = sum(heights) + GAP
    ax = new_axes(ax, (WIDTH, total))
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.axis("off")
    if not boards:
        write(ax, 0.5, 0.5, "no measure has a number", ha="center", va="center")
        return ax
    top = total
    for title, board, height in zip(titles, boards, heights, strict=True):
        write(ax, 0, top / total, "\n".join(title), weight="bold", va="top")
        inner = ROW * len(board.scores)
        draw_board(board, ax.inset_axes((0, (top - height + AXIS + GAP) / total, 1, inner / total)))
        top -= height
    write(ax, 0, 0, KEY, va="bottom", fontsize=8)
    return ax


def has_numbers(board: Board) -> bool:
    """Whether any encoder has a number to draw."""
    return any(math.isfinite(estimate.value) for estimate in board.scores.values())


def draw_board(board: Board, ax: Any = None) -> Any:
    """Draw one board, first encoder on top: a line of text, and its interval below.

    Parameters
    ----------
    board
        The board.
    ax
        Axes to draw on; a new figure if None.
    """
    ax = new_axes(ax, (WIDTH, ROW * len(board.scores)))
    leaders = board.leaders()
    low, high = limits(v for e in board.scores.values() for v in (e.value, e.low, e.high, e.chance))
    ax.set(xlim=(low, high), ylim=(len(board.scores) - 0.5, -0.5))
    ax.patch.set_alpha(0)
    for y, (name, estimate) in enumerate(board.scores.items()):
        colour, marker = (BLUE, "o") if name in leaders else (GREY, "D")
        if math.isfinite(estimate.chance):
            ax.plot([estimate.chance] * 2, [y, y + 0.46], color=GREY, linewidth=1.4, linestyle=(0, (1.2, 1.2)))
        if math.isfinite(estimate.low) and math.isfinite(estimate.high):
            ax.plot([estimate.low, estimate.high], [y + 0.23] * 2, color=colour, linewidth=2, solid_capstyle="butt")
        point = {"color": colour, "markersize": 7, "markeredgecolor": "white", "markeredgewidth": 0.6}
        ax.plot(estimate.value, y + 0.23, marker, clip_on=False, **point)
        line = {"y": y - 0.2, "va": "center", "transform": ax.get_yaxis_transform()}
        write(ax, 0, text=short(name, 26), weight="bold" if name in leaders else "normal", **line)
        write(ax, 1, text=beside_chance(estimate), ha="right", **line)
    ax.set_yticks([])
    ax.spines[["left", "right", "top"]].set_visible(False)
    ax.spines["bottom"].set(color=GREY, linewidth=0.7)
    ax.locator_params(axis="x", nbins=6)
    ax.tick_params(axis="x", colors=INK, color=GREY, length=2.5, labelsize=8)
    return ax
