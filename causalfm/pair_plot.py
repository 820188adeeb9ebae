"""Figure of a curve of pairs: relative error by the patients whose pairs were learned from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from causalfm.drawing import BLUE, GREY, INK, new_axes, write

if TYPE_CHECKING:
    from causalfm.scm.pair_curves import PairCurve

SIZE = (3.8, 2.4)  # inches: as wide as the findings of an audit
NOTHING = "1: no better than doing nothing"


def plot_pair_curve(result: PairCurve, ax: Any = None) -> Any:
    """Draw relative error with its 95 % interval by the number of patients whose pairs were used.

    The unpaired mechanism is the grey diamond on the left and the dotted line; the dashed line is the error with all
    pairs. Steps along the axis are equal, not to scale: sizes grow by factors.

    Parameters
    ----------
    result
        From :func:`causalfm.scm.pair_curve`.
    ax
        Axes to draw on; a new figure if None.

    Returns
    -------
    matplotlib.axes.Axes
        The axes.
    """
    ax = new_axes(ax, SIZE)
    at = list(range(len(result.patients)))
    point = {"markersize": 7, "markeredgecolor": "white", "markeredgewidth": 0.6, "clip_on": False}
    ax.axhline(1.0, color=GREY, linewidth=0.7)
    ax.axhline(result.unpaired, color=GREY, linewidth=1.4, linestyle=(0, (1.2, 1.2)))
    ax.axhline(result.ceiling, color=BLUE, linewidth=1.0, linestyle=(0, (5, 3)))
    ax.plot(at, result.value, color=BLUE, linewidth=1.2)
    for x, value, low, high in zip(at, result.value, result.low, result.high, strict=True):
        colour, marker = (BLUE, "o") if x else (GREY, "D")
        ax.plot([x, x], [low, high], color=colour, linewidth=2, solid_capstyle="butt")
        ax.plot(x, value, marker, color=colour, **point)
    top = max(1.0, *result.high)
    ax.set(xlim=(-0.4, len(at) - 0.6), ylim=(min(0.0, *result.low), top + 0.06 * top))
    ax.set_xticks(at, [f"{p}\n{n:.0f}" for p, n in zip(result.patients, result.pairs, strict=True)])
    ax.set_xlabel(f"{result.unit}s with pairs; below, the pairs they bring", color=INK, fontsize=9, parse_math=False)
    ax.set_ylabel("relative error", color=INK, fontsize=9)
    edge = {"ha": "right", "fontsize": 8, "transform": ax.get_yaxis_transform()}
    write(ax, 1, 1.0, NOTHING, va="bottom", **edge)
    write(ax, 1, result.unpaired, "without pairs", va="bottom", **edge)
    write(ax, 0.02, result.ceiling, "all pairs", va="top", **edge | {"ha": "left"})
    ax.spines[["right", "top"]].set_visible(False)
    ax.spines[["left", "bottom"]].set(color=GREY, linewidth=0.7)
    ax.tick_params(colors=INK, color=GREY, length=2.5, labelsize=8)
    return ax
