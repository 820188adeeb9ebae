"""Figure of a sensitivity analysis: what hidden causes of any strength would leave of an effect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from causalfm.arguments import check_type
from causalfm.drawing import BLUE, GREY, INK, VERMILION, new_axes, rgb, short
from causalfm.errors import DataError
from causalfm.estimators.robustness.benchmarks import Sensitivity
from causalfm.estimators.robustness.bias_bounds import bias_factor

POINTS = 200


def plot_sensitivity(result: Sensitivity, ax: Any = None) -> Any:
    """Draw what is left of an effect against the strength of a hidden cause, with declared columns as yardsticks.

    Thin lines: strengths at which the estimate is 3/4, 1/2, 1/4 of what it is. Thick line: nothing is left; beyond it
    (shaded) the effect is explained away. Its crossing with the diagonal is the robustness value. Dashed: the interval
    reaches 0. Diamonds: causes some times as strong as a declared column; those too strong to be bounded are named
    below.

    Parameters
    ----------
    result
        From ``Effect.sensitivity()``.
    ax
        Axes to draw on; a new figure if None.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    DataError
        Another kind of result, or one without an estimate.
    """
    check_type(result, Sensitivity, "result", "make one with causalfm.effect(...).sensitivity()")
    if not np.isfinite(result.scale):
        raise DataError(f"there is nothing to draw: {result.sentence}")
    ax = new_axes(ax, (4.4, 3.4))
    seen = [row for row in result.benchmarks if row["r2_treatment"] < 1.0]
    strongest = max([row[k] for row in seen for k in ("r2_treatment", "r2_outcome")], default=0.0)
    limit = float(np.clip(1.15 * max(strongest, 1.3 * result.robustness_value), 0.1, 1.0))
    grid = np.linspace(0.0, limit, POINTS)
    x, y = np.meshgrid(np.minimum(grid, 1.0 - 1e-9), grid)
    bias = result.scale * bias_factor(x, y)
    whole = abs(result.value)
    if whole > 0.0:
        ax.contourf(x, y, bias, [whole, np.inf], colors=[(*rgb(VERMILION), 0.12)])
        lines = ax.contour(x, y, bias, [whole * part for part in (0.25, 0.5, 0.75)], colors=GREY, linewidths=0.8)
        left = {level: f"{whole - level:.3g}" for level in lines.levels}
        for text in ax.clabel(lines, fmt=left, fontsize=7, colors=INK):
            text.set_parse_math(False)
        ax.contour(x, y, bias, [whole], colors=VERMILION, linewidths=2.0)
        _interval_line(result, x, y, ax)
    ax.plot([0, limit], [0, limit], color=GREY, linewidth=0.6, linestyle=(0, (1, 3)))
    if result.robustness_value < limit:
        ax.plot(result.robustness_value, result.robustness_value, "o", color=VERMILION, markersize=6, zorder=4)
        label = f"{result.robustness_value:.0%}"
        ax.annotate(label, [result.robustness_value] * 2, (7, -3), textcoords="offset points", fontsize=8, color=INK)
    _yardsticks(seen, ax, limit)
    _frame(result, ax, limit)
    return ax


def _yardsticks(rows: list[Mapping[str, Any]], ax: Any, limit: float) -> None:
    """Draw causes as strong as declared columns: one line of points per column, named at its first."""
    for name in dict.fromkeys(row["column"] for row in rows):
        own = [row for row in rows if row["column"] == name]
        d, y = [row["r2_treatment"] for row in own], [row["r2_outcome"] for row in own]
        ax.plot(d, y, "D-", color=BLUE, markersize=4, linewidth=0.6, clip_on=False, zorder=5)
        for place, row in enumerate(own):
            text = f"{row['times']:g} x" if place else f"{row['times']:g} x {short(name, 18)}"
            edge = d[place] > 0.8 * limit
            spot = (-6, -9) if y[place] > 0.97 * limit else (-6, 0) if edge else (6, 0)
            ax.annotate(
                text,
                (d[place], y[place]),
                spot,
                textcoords="offset points",
                parse_math=False,
                fontsize=7,
                color=INK,
                va="center",
                ha="right" if edge or y[place] > 0.97 * limit else "left",
                zorder=6,
            )


def _interval_line(result: Sensitivity, x: np.ndarray, y: np.ndarray, ax: Any) -> None:
    """Draw where the interval reaches zero; nothing if it does so already."""
    sign = 1.0 if result.value > 0 else -1.0
    near = min(sign * result.low, sign * result.high)
    if near <= 0.0:
        return
    step = max(1, POINTS // 50)  # a scalar's interval is computed point by point
    xs, ys = x[::step, ::step], y[::step, ::step]
    ends = np.array(
        [result.at(float(a), float(b))["low" if sign > 0 else "high"] for a, b in zip(xs.flat, ys.flat, strict=True)]
    )
    if "error" not in result.details:  # a distance ends at zero: the line is where the bias equals its lower end
        ends = near - result.scale * bias_factor(xs, ys).ravel()
    ax.contour(xs, ys, sign * ends.reshape(xs.shape), [0.0], colors=INK, linewidths=1.1, linestyles="--")


def _frame(result: Sensitivity, ax: Any, limit: float) -> None:
    """Set axes, title and the line on what could not be drawn."""
    ax.set(xlim=(0, limit), ylim=(0, limit))
    a, b = (short(name, 20) for name in result.pair)
    ax.set_xlabel(
        short(f"share of {a} against {b} that a hidden cause explains", 66), parse_math=False, color=INK, fontsize=8.5
    )
    what = "the embedding" if result.outcome == "Z" else result.outcome
    ax.set_ylabel(short(f"share of {what} that it explains", 50), parse_math=False, color=INK, fontsize=8.5)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.locator_params(nbins=6)
    ax.spines[["right", "top"]].set_visible(False)
    ax.spines[["left", "bottom"]].set(color=GREY, linewidth=0.7)
    ax.tick_params(colors=INK, color=GREY, length=2.5, labelsize=8)
    kind = "distance" if result.outcome == "Z" else "effect"
    ax.set_title(
        f"{kind} {result.value:.3g}: what a hidden cause leaves of it",
        loc="left",
        fontsize=9,
        color=INK,
        parse_math=False,
    )
    over = [f"{row['times']:g} x {short(row['column'], 18)}" for row in result.benchmarks if row["r2_treatment"] >= 1.0]
    lines = ["thick: nothing is left; dashed: the interval reaches 0; thin: what is left on it"]
    if over:
        lines.append(f"too strong to be bounded: {', '.join(over[:4])}{' and others' if len(over) > 4 else ''}")
    ax.annotate(
        "\n".join(lines),
        (0, 0),
        (0, -36),
        xycoords="axes fraction",
        textcoords="offset points",
        parse_math=False,
        fontsize=7,
        color=INK,
        va="top",
    )
