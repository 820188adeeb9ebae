"""Figures of effects: levels with their intervals and biology beside them, and the map of an effect over cells."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

from causalfm.drawing import BLUE, GREY, INK, VERMILION, new_axes, rgb, short, write
from causalfm.errors import DataError
from causalfm.estimators.effects import Effect
from causalfm.estimators.maps.effect_maps import EffectMap

WIDTH, ROW = 4.2, 0.34  # inches
MOST = 40  # rows: more cannot be read


def plot_effects(result: Effect | EffectMap, ax: Any = None) -> Any:
    """Draw an effect by level, with biology beside it, or its map over cells.

    An effect: one row per level (and outcome) with its 95 % interval, blue; classes of biology below, grey diamonds, on
    the same scale: for the embedding the distance, for other outcomes the difference, and of biology its typical size.
    A map: shrunk distance per cell with the cell's own interval, darker for larger; cells told from the others are
    framed, cells that cannot be told are hatched.

    Parameters
    ----------
    result
        From :func:`causalfm.effect` or :func:`causalfm.estimators.effect_map`.
    ax
        Axes to draw on; a new figure if None.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    DataError
        Another kind of result, or one without numbers.
    """
    if isinstance(result, EffectMap):
        return _draw_map(result, ax)
    if not isinstance(result, Effect):
        raise DataError(
            f"result must be an Effect or an EffectMap, not {type(result).__name__}: make one with causalfm.effect(...)"
            " or causalfm.estimators.effect_map(...)."
        )
    if not result.levels:
        raise DataError(f"there is nothing to draw: {result.details.get('reason', result.overlap.sentence)}")
    return _draw_levels(result, ax)


def _draw_levels(result: Effect, ax: Any) -> Any:
    one = len({row["outcome"] for row in result.levels}) == 1
    named = [str(row["level"]) if one else f"{row['level']}, {row['outcome']}" for row in result.levels]
    rows = [_level_row(row, name) for row, name in zip(result.levels[:MOST], named, strict=False)]
    vector = result.outcome == "Z"
    extra = []
    if vector and len(result.overlap.levels) > 2 and not result.overlap.continuous:
        extra.append(("all pairs of levels", *_roots(result.joint), GREY, "o"))
    if result.biology is not None and math.isfinite(result.biology.value):
        name = result._call["graph"].biology if result._call else "biology"
        extra.append((f"classes of {short(name, 20)}", *_roots(result.biology), GREY, "D"))
    rows += extra
    ax = new_axes(ax, (WIDTH, ROW * len(rows)))
    ends = [x for row in rows for x in row[1:4] if math.isfinite(x)]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    pad = 0.05 * ((high - low) or 1.0)
    ax.set(xlim=(low - pad, high + pad), ylim=(len(rows) - 0.5, -0.5))
    ax.axvline(0.0, color=GREY, linewidth=1.0, linestyle=(0, (1.2, 1.2)))
    for y, (_, value, start, end, colour, marker) in enumerate(rows):
        if math.isfinite(start) and math.isfinite(end):
            ax.plot([start, end], [y, y], color=colour, linewidth=2.2, solid_capstyle="butt")
        ax.plot(value, y, marker, color=colour, markersize=7, markeredgecolor="white", markeredgewidth=0.6)
    if extra:
        ax.axhline(len(rows) - len(extra) - 0.5, color=GREY, linewidth=0.5)
    ax.set_yticks(range(len(rows)))
    ax.set_yticklabels([short(row[0], 34) for row in rows], parse_math=False)
    what = "distance of mean embeddings" if vector else f"difference in {result.outcome}"
    against = result.reference if not result.overlap.continuous else "one standard deviation less"
    ax.set_xlabel(short(f"{what} from {result.treatment}={against}", 64), parse_math=False, color=INK, fontsize=8.5)
    ax.spines[["left", "right", "top"]].set_visible(False)
    ax.spines["bottom"].set(color=GREY, linewidth=0.7)
    ax.tick_params(axis="y", colors=INK, length=0, labelsize=8.5)
    ax.tick_params(axis="x", colors=INK, color=GREY, length=2.5, labelsize=8)
    if len(result.levels) > MOST:
        text = f"the first {MOST} of {len(result.levels)} rows"
        ax.annotate(text, (0, 0), (0, -38), xycoords="axes fraction", textcoords="offset points", fontsize=7, color=INK)
    return ax


def _level_row(row: Mapping[str, Any], name: str) -> tuple[str, float, float, float, str, str]:
    """Put value and interval, colour and mark to a level: distances of Z, differences of anything else."""
    keys = ("distance", "distance_low", "distance_high") if "distance" in row else ("value", "low", "high")
    value, low, high = (float(row[key]) for key in keys)
    return name, value, low, high, BLUE, "o"


def _roots(estimate: Any) -> tuple[float, float, float]:
    """Signed root of a squared distance, and the roots of its bounds."""
    value = math.copysign(math.sqrt(abs(estimate.value)), estimate.value)
    return value, math.sqrt(max(estimate.low, 0.0)), math.sqrt(max(estimate.high, 0.0))


def _draw_map(result: EffectMap, ax: Any) -> Any:
    """Draw the cells: first column down, the others across."""
    down, *others = result.by
    across = {c: _across(cell, others) for c, cell in enumerate(result.cells)}
    names = list(dict.fromkeys(str(cell[down]) for cell in result.cells)), sorted(set(across.values()))
    width, height = len(names[1]), len(names[0])
    ax = new_axes(ax, (max(1.05 * width, 1.6), 0.55 * height))
    most = max((cell["distance"] for cell in result.cells if cell["told"]), default=0.0)
    seen = set()
    for c, cell in enumerate(result.cells):
        x, y = names[1].index(across[c]), names[0].index(str(cell[down]))
        seen.add((x, y))
        _draw_cell(ax, cell, x, y, most)
    for x, y in set(itertools.product(range(width), range(height))) - seen:  # no row at all
        _draw_cell(ax, {"told": False}, x, y, most)
    _frame_map(result, ax, names)
    return ax


def _draw_cell(ax: Any, cell: Mapping[str, Any], x: int, y: int, most: float) -> None:
    """Draw one cell: its distance and interval, or hatching."""
    from matplotlib.patches import Rectangle

    patch = Rectangle((x + 0.03, y + 0.04), 0.94, 0.92, linewidth=0.6, hatch_linewidth=0.6)
    if cell["told"]:
        shade = 0.04 + 0.5 * (cell["distance"] / most if most else 0.0)
        patch.set(facecolor=(*rgb(VERMILION), shade), edgecolor=INK if cell["differs"] else "none")
        patch.set_linewidth(1.6 if cell["differs"] else 0.6)
        weight = "bold" if cell["differs"] else "normal"
        write(ax, x + 0.5, y + 0.36, f"{cell['distance']:.3g}", ha="center", va="center", weight=weight)
        ends = [math.sqrt(max(cell[key], 0.0)) for key in ("low", "high")]
        write(ax, x + 0.5, y + 0.72, f"{ends[0]:.3g} to {ends[1]:.3g}", ha="center", va="center", fontsize=7)
    else:
        patch.set(facecolor="none", edgecolor=GREY, hatch="////")
    ax.add_patch(patch)


def _frame_map(result: EffectMap, ax: Any, names: tuple[list[str], list[str]]) -> None:
    """Set axes, names of the levels and the key."""
    (down, *others), height, width = result.by, len(names[0]), len(names[1])
    ax.set(xlim=(0, width), ylim=(height, 0))
    steep = any(len(short(name, 24)) > 9 for name in names[1])
    tilted = {"rotation": 35, "ha": "left"} if steep else {}
    for axis, labels, style in ((ax.xaxis, names[1], tilted), (ax.yaxis, names[0], {})):
        axis.set_ticks([i + 0.5 for i in range(len(labels))])
        axis.set_ticklabels([short(name, 24) for name in labels], parse_math=False, **style)
    ax.xaxis.tick_top()
    ax.xaxis.set_label_position("top")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0, colors=INK, labelsize=9)
    ax.set_ylabel(short(down, 30), parse_math=False, color=INK, fontsize=9)
    ax.set_xlabel(short(" and ".join(others), 60), parse_math=False, color=INK, fontsize=9)
    compared = short(", ".join(result.levels), 50)
    note = f"distance between {result.treatment} {compared}, shrunk; own interval"
    note += "\nframed: differs from the others; hatched: cannot tell"
    place = {"xycoords": "axes fraction", "textcoords": "offset points", "parse_math": False}
    ax.annotate(note, (0, 0), (0, -6), fontsize=7, color=INK, va="top", **place)


def _across(cell: Mapping[str, Any], columns: list[str]) -> str:
    return ", ".join(str(cell[name]) for name in columns) or "all"
