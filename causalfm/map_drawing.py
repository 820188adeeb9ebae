"""The map that people look at first: the embedding coloured by biology and by each technical factor, side by side."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.auditing.formatting import number
from causalfm.cohort import Cohort, Factor
from causalfm.drawing import BLUE, GREY, INK, VERMILION, new_axes, short, write
from causalfm.embedding_map import EmbeddingMap, Method, map_embedding
from causalfm.results import Estimate

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph

# Okabe and Ito's set without yellow, which is faint on white; every level has a marker too
STYLES = (
    (BLUE, "o"),
    (VERMILION, "^"),
    ("#009e73", "s"),
    ("#cc79a7", "D"),
    ("#e69f00", "v"),
    ("#56b4e9", "P"),
    (INK, "X"),
)
OTHERS = (GREY, ".")
KEY: dict[str, Any] = {"borderpad": 0, "frameon": False, "handlelength": 1, "handletextpad": 0.5}
SIDE, GAP, LINE = 2.5, 0.3, 0.165  # inches: a panel, the space between two, a line of text
PARTS = 8  # the points are drawn in so many random parts, so that no level lies on top of the others


def plot_map(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    method: Method = "pca",
    color: str | Sequence[str] | None = None,
    max_rows: int = 5000,
    estimates: Mapping[str, Estimate] | None = None,
    ax: Any = None,
    random_state: int = 0,
) -> Any:
    """Draw the embedding in two dimensions, coloured by biology and by each technical factor side by side.

    Parameters
    ----------
    cohort, graph
        Data and declared graph.
    method
        ``"pca"``: the two directions with the most variance of the embedding as it is. ``"umap"``: needs umap-learn;
        neighbours by cosine.
    color
        Columns to colour by; default the biology and all technical factors. Units are refused: a map never shows who
        is who.
    max_rows
        A random sample of so many rows is drawn where there are more.
    estimates
        Numbers for the caption by what they are called, for instance ``{"read-out of site": readout(...)}``; default
        the robustness index of every technical factor.
    ax
        Axes to draw in (they become the frame of the panels); a new figure if None.
    random_state
        Seed of the sample, of UMAP and of the numbers.

    Returns
    -------
    matplotlib.axes.Axes
        The frame; panels are its ``child_axes``. All have the same coordinates.

    Raises
    ------
    DataError
        A column that is a unit, continuous or not in the graph; equal rows; settings out of range.
    MissingDependencyError
        UMAP without umap-learn.
    """
    drawn = map_embedding(
        cohort, graph, method=method, color=color, max_rows=max_rows, estimates=estimates, random_state=random_state
    )
    width = len(drawn.columns) * (SIDE + GAP) - GAP
    text = textwrap.wrap(drawn.caption(), int(width * 15.5))
    legend = LINE * (2 + max(_entries(column) for column in drawn.columns))
    total = SIDE + legend + LINE * (len(text) + 1)
    ax = new_axes(ax, (width, total))
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.axis("off")
    for i in range(len(drawn.columns)):
        draw_panel(drawn, i, ax.inset_axes((i * (SIDE + GAP) / width, 1 - SIDE / total, SIDE / width, SIDE / total)))
    write(ax, 0, 0, "\n".join(text), va="bottom", fontsize=8, linespacing=1.35)
    return ax


def draw_panel(drawn: EmbeddingMap, place: int, ax: Any = None) -> Any:
    """Draw one panel of a map with its legend below.

    Parameters
    ----------
    drawn
        The map.
    place
        Which of its columns colours it.
    ax
        Axes to draw on; a new figure if None.
    """
    ax = new_axes(ax, (SIDE, SIDE))
    column, counts = drawn.columns[place], drawn.counts[place]
    kind = np.minimum(column.codes, len(STYLES)) if column.n_levels > len(STYLES) else column.codes
    size = float(np.clip(60 / np.sqrt(len(kind)), 1.6, 5))
    order = np.random.default_rng(0).permutation(len(kind))
    entries = _entries(column)
    for part in np.array_split(order, PARTS):
        for level in range(entries):
            at = drawn.points[part[kind[part] == level]]
            colour, marker = STYLES[level] if level < len(STYLES) else OTHERS
            ax.plot(at[:, 0], at[:, 1], marker, color=colour, alpha=0.7, markersize=size, markeredgewidth=0)
    ax.set_title(short(column.name, 34), loc="left", color=INK, fontsize=10, weight="bold", parse_math=False)
    ax.patch.set_alpha(0)
    ax.spines[:].set(color=GREY, linewidth=0.7)
    ax.set(xticks=[], yticks=[])
    ax.margins(0.04)
    axis = {"color": INK, "fontsize": 8, "labelpad": 3}
    if drawn.shares is not None:
        ax.set_aspect("equal", adjustable="datalim")  # distances on the map are those along the axes
    for i, label in enumerate((ax.set_xlabel, ax.set_ylabel)):
        label("UMAP" if drawn.shares is None else f"component {i + 1} ({drawn.shares[i]:.0%})", **axis)
    _legend(ax, column, counts, entries)
    return ax


def _legend(ax: Any, column: Factor, counts: np.ndarray, entries: int) -> None:
    from matplotlib.lines import Line2D

    handles = []
    for level in range(entries):
        colour, marker = STYLES[level] if level < len(STYLES) else OTHERS
        rest = f"{column.n_levels - len(STYLES)} more levels"
        name = short(column.levels[level], 30) if level < len(STYLES) else rest
        held = counts[level] if level < len(STYLES) else counts[level:].sum()
        point: dict[str, Any] = {
            "color": colour,
            "marker": marker,
            "markersize": 5,
            "markeredgewidth": 0,
            "linestyle": "",
        }
        handles.append(Line2D([], [], **point, label=f"{name} ({number(int(held))})"))
    legend = ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(-0.03, -0.07), **KEY)
    for text in legend.get_texts():
        text.set(color=INK, fontsize=8, parse_math=False)


def _entries(column: Factor) -> int:
    """Return the entries of a legend: the most frequent levels, and one for all others."""
    return min(column.n_levels, len(STYLES) + 1)
