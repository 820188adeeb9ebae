"""Figure of a counterfactual audit: decisions that change from each level to each other one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from causalfm.arguments import check_type
from causalfm.drawing import GREY, INK, VERMILION, new_axes, rgb, short, write

if TYPE_CHECKING:
    from causalfm.scm.decision_flips import Flips


def plot_flips(result: Flips, ax: Any = None) -> Any:
    """Draw how many of 1,000 decisions change, from the level seen (rows) to the level set (columns).

    Each cell holds the rate and its 95 % interval; the worst pair is framed, pairs without a row that could be moved
    are hatched. Colour is drawn from 0 to the largest rate, by square root, so that small rates stay distinguishable.

    Parameters
    ----------
    result
        From :func:`causalfm.scm.flips`.
    ax
        Axes to draw on; a new figure if None.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    DataError
        Another kind of result.
    """
    from matplotlib.patches import Rectangle

    from causalfm.scm.decision_flips import Flips

    check_type(result, Flips, "result", "make one with causalfm.scm.flips(scm, cohort, model)")
    levels, L = result.levels, len(result.levels)
    ax = new_axes(ax, (0.95 * L, 0.5 * L))
    most = max((p.flips for p in result.pairs if math.isfinite(p.flips)), default=0.0)
    for pair in result.pairs:
        x, y = levels.index(pair.target), levels.index(pair.source)
        seen = math.isfinite(pair.flips)
        share = math.sqrt(pair.flips / most) if seen and most else 0.0
        cell = Rectangle((x + 0.03, y + 0.04), 0.94, 0.92, linewidth=0.6, hatch_linewidth=0.6)
        cell.set(facecolor=(*rgb(VERMILION), 0.04 + 0.46 * share) if seen else "none")
        cell.set(edgecolor="none" if seen else GREY, hatch=None if seen else "////")
        worst = result.worst is not None and (pair.source, pair.target) == (result.worst.source, result.worst.target)
        if worst:
            cell.set(edgecolor=INK, linewidth=1.4)
        ax.add_patch(cell)
        if seen:
            weight = "bold" if worst else "normal"
            write(ax, x + 0.5, y + 0.36, f"{pair.flips:.0f}", ha="center", va="center", weight=weight)
            text = f"{pair.low:.0f} to {pair.high:.0f}"
            write(ax, x + 0.5, y + 0.7, text, ha="center", va="center", fontsize=7)
    ax.set(xlim=(0, L), ylim=(L, 0))
    steep = any(len(short(name, 24)) > 9 for name in levels)
    for axis, style in (
        (ax.xaxis, {"rotation": 35 if steep else 0, "ha": "left" if steep else "center"}),
        (ax.yaxis, {}),
    ):
        axis.set_ticks([i + 0.5 for i in range(L)])
        axis.set_ticklabels([short(name, 24) for name in levels], parse_math=False, **style)
    ax.xaxis.tick_top()
    ax.xaxis.set_label_position("top")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0, colors=INK, labelsize=9)
    ax.set_xlabel(
        short(f"{result.of} set; decisions of 1,000 that change", 70), parse_math=False, color=INK, fontsize=9
    )
    ax.set_ylabel(short(f"{result.of} seen", 40), parse_math=False, color=INK, fontsize=9)
    return ax
