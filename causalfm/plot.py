"""Figures of an audit: overlap, findings and the causal graph.

Figures are built on ``matplotlib.figure.Figure`` directly, so that no global pyplot state is touched.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from causalfm.auditing.findings import Audit, Finding
from causalfm.auditing.formatting import clean, interval, number
from causalfm.drawing import BLUE, GREY, INK, VERMILION, limits, new_axes, rgb, short, to_svg, write
from causalfm.graph_layout import BENDS, choose_bend, node_places, node_role

__all__ = ["plot_findings", "plot_graph", "plot_overlap", "to_svg"]

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph

VERDICT_STYLE = {  # colour and marker: the verdict is legible without colour
    "pass": ("#009e73", "o"),
    "fail": (VERMILION, "X"),
    "cannot tell": ("#b8860b", "D"),
}
ROLE_COLOUR = {"biology": BLUE, "technical": "#cc79a7", "covariate": GREY, "embedding": INK, "selection": GREY}
WIDTH = 3.8  # inches: the findings fit a phone without shrinking much
TITLE, ROW, AXIS, GAP = 0.19, 0.42, 0.22, 0.2  # inches: a line of a title, a finding, the axis, what is below it


def plot_overlap(table: Mapping[str, Any], ax: Any = None, *, factor: str = "", unit: str = "groups") -> Any:
    """Draw how many independent units each cell of biology x factor holds; empty cells are hatched.

    Parameters
    ----------
    table
        ``{"biology": [...], "levels": [...], "groups": [[...]]}``, one row of ``groups`` per biology level; text in
        place of a count is shown as it is.
    ax
        Axes to draw on; a new figure if None.
    factor
        Name of the technical factor, for the axis.
    unit
        What is counted, for the axis.

    Returns
    -------
    matplotlib.axes.Axes
        Levels of the factor downwards (their names are long), biology across.
    """
    from matplotlib.patches import Rectangle

    columns, rows, counts = table["biology"], table["levels"], table["groups"]
    steep = any(len(short(name, 24)) > 9 for name in columns)
    ax = new_axes(ax, ((0.85 if len(columns) <= 8 else 0.55) * len(columns), 0.36 * len(rows)))
    most = max([count for row in counts for count in row if not isinstance(count, str)], default=0)
    for x in range(len(columns)):
        for y in range(len(rows)):
            count = counts[x][y]
            known = 0 if isinstance(count, str) else count  # text: the count is hidden, the cell is not empty
            share = math.sqrt(known / most) if most else 0.0  # square root: small cells stay distinguishable
            face = (*rgb(BLUE), 0.06 + 0.5 * share) if count else "none"
            cell = Rectangle((x + 0.03, y + 0.04), 0.94, 0.92, facecolor=face, edgecolor=GREY if not count else "none")
            cell.set(linewidth=0.6, hatch=None if count else "////", hatch_linewidth=0.6)
            ax.add_patch(cell)
            if count:
                text = count if isinstance(count, str) else number(int(count))
                write(ax, x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=9)
    ax.set(xlim=(0, len(columns)), ylim=(len(rows), 0))
    _ticks(ax.xaxis, columns, rotation=35 if steep else 0, ha="left" if steep else "center")
    _ticks(ax.yaxis, rows, rotation=0, ha="right")
    ax.xaxis.tick_top()
    ax.spines[:].set_visible(False)
    ax.set_xlabel(short(f"{unit} per cell" + (f"; rows: {clean(factor)}" if factor else ""), 70), parse_math=False)
    _ink(ax)
    return ax


def plot_findings(audit_or_findings: Audit | Sequence[Finding], ax: Any = None, *, titled: bool = True) -> Any:
    """Draw every finding that has a number: value, 95 % interval, chance and margin.

    One panel per quantity, because quantities have different scales; within a panel the rows share an axis, so that
    factors compare. The side of the margin that fails is shaded where ``details["want"]`` names the side that passes.
    p-values are left out: no verdict rests on them.

    Parameters
    ----------
    audit_or_findings
        An audit, or findings.
    ax
        Axes to draw in (they become the frame of the panels); a new figure if None.
    titled
        Write the quantities above their panels and the key below; False for a page that has them in its own text.

    Returns
    -------
    matplotlib.axes.Axes
        The frame; panels are its ``child_axes``.
    """
    panels = by_quantity(audit_or_findings.findings if isinstance(audit_or_findings, Audit) else audit_or_findings)
    titles = [textwrap.wrap(short(quantity, 88), 44) if titled else [] for quantity in panels]
    below = AXIS + GAP * titled
    lines = zip(titles, panels.values(), strict=True)
    heights = [TITLE * len(title) + ROW * len(rows) + below for title, rows in lines]
    total = sum(heights) + 2 * GAP * titled or GAP
    ax = new_axes(ax, (WIDTH, total))
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.axis("off")
    if not panels:
        write(ax, 0.5, 0.5, "no finding has a number", ha="center", va="center")
        return ax
    top = total
    for title, rows, height in zip(titles, panels.values(), heights, strict=True):
        write(ax, 0, top / total, "\n".join(title), weight="bold", va="top")
        _panel(ax.inset_axes((0, (top - height + below) / total, 1, ROW * len(rows) / total)), rows)
        top -= height
    if titled:
        _findings_key(ax)
    return ax


def by_quantity(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    """Return the findings that have a number to draw, by quantity: what shares a quantity shares a scale.

    p-values are left out: no verdict rests on them.
    """
    panels: dict[str, list[Finding]] = {}
    for finding in findings:
        if math.isfinite(finding.value) and not finding.quantity.startswith("p-value"):
            panels.setdefault(finding.quantity, []).append(finding)
    return panels


def plot_graph(graph: CausalGraph, ax: Any = None) -> Any:
    """Draw the declared graph from left to right: causes before effects.

    Parameters
    ----------
    graph
        The graph. Solid arrows are effects, dashed double arrows unmeasured common causes, dashed frames selection.
    ax
        Axes to draw on; a new figure if None.

    Returns
    -------
    matplotlib.axes.Axes
    """
    from matplotlib.patches import FancyBboxPatch, Patch

    places = node_places(graph)
    xs, ys = zip(*places.values(), strict=True)
    ax = new_axes(ax, (1.4 + max(xs), 0.9 + max(ys) - min(ys)))
    boxes, seen = {}, {}
    for node, (x, y) in places.items():
        role = node_role(graph, node)
        seen[role] = Patch(facecolor=(*rgb(ROLE_COLOUR[role]), 0.18), edgecolor=ROLE_COLOUR[role], label=role)
        box = FancyBboxPatch((x - 0.55, y - 0.17), 1.1, 0.34, boxstyle="round,pad=0,rounding_size=0.08", zorder=3)
        box.set(facecolor=(*rgb(ROLE_COLOUR[role]), 0.18), edgecolor=ROLE_COLOUR[role], linewidth=1.4)
        box.set_linestyle("--" if node in graph.selected else "-")
        boxes[node] = ax.add_patch(box)
        write(ax, x, y, short(node, 14), ha="center", va="center", fontsize=9, zorder=4)
    for pair in graph.edges:
        _arrow(ax, places, boxes, pair, BENDS, arrowstyle="-|>", color=INK)
    for pair in graph.bidirected:
        upwards = sorted(pair, key=lambda node: places[node][1])
        bends = BENDS[1:] if {pair, pair[::-1]} & set(graph.edges) else BENDS  # not on top of the pair's own effect
        _arrow(ax, places, boxes, upwards, bends, arrowstyle="<|-|>", color=GREY, linestyle=(0, (4, 2.5)))
    ax.set(xlim=(min(xs) - 0.7, max(xs) + 0.7), ylim=(min(ys) - 0.45, max(ys) + 0.45), aspect="equal")
    ax.axis("off")
    order = [seen[role] for role in ROLE_COLOUR if role in seen]
    ax.legend(handles=order, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncol=len(order), **_KEY)
    return ax


_KEY: dict[str, Any] = {"frameon": False, "fontsize": 8.5, "labelcolor": INK, "handlelength": 1.4, "columnspacing": 1.4}


def _ticks(axis: Any, names: Sequence[object], **style: Any) -> None:
    labels = [short(name, 24) for name in names]
    axis.set_ticks([i + 0.5 for i in range(len(labels))], labels, parse_math=False, fontsize=9, **style)


def _ink(ax: Any) -> None:
    ax.tick_params(colors=INK, length=0)
    ax.xaxis.label.set(color=INK, fontsize=8.5)


def _panel(ax: Any, rows: list[Finding]) -> None:
    """Draw the rows of one quantity, first row on top: a line of text, and its interval below."""
    low, high = limits(v for f in rows for v in (f.value, f.low, f.high, f.chance, f.margin))
    ax.set(xlim=(low, high), ylim=(len(rows) - 0.5, -0.5))
    ax.patch.set_alpha(0)
    for y, finding in enumerate(rows):
        colour, marker = VERDICT_STYLE[finding.verdict]
        wants = finding.details.get("want")
        if math.isfinite(finding.margin):
            if wants in ("below", "above"):
                start, end = (finding.margin, high) if wants == "below" else (low, finding.margin)
                ax.fill_between([start, end], y, y + 0.46, color=VERDICT_STYLE["fail"][0], alpha=0.12, linewidth=0)
            ax.plot([finding.margin] * 2, [y, y + 0.46], color=INK, linewidth=1.2)
        if math.isfinite(finding.chance):
            ax.plot([finding.chance] * 2, [y, y + 0.46], color=GREY, linewidth=1.4, linestyle=(0, (1.2, 1.2)))
        if math.isfinite(finding.low) and math.isfinite(finding.high):
            ax.plot([finding.low, finding.high], [y + 0.23] * 2, color=colour, linewidth=2.2, solid_capstyle="butt")
        point = {"color": colour, "markersize": 7.5, "markeredgecolor": "white", "markeredgewidth": 0.6}
        ax.plot(finding.value, y + 0.23, marker, clip_on=False, **point)
        line = {"y": y - 0.22, "va": "center", "transform": ax.get_yaxis_transform()}
        write(ax, 0, text=short(finding.factor, 17), **line)
        write(ax, 0.75, text=interval(finding), ha="right", **line)
        write(ax, 1, text=finding.verdict.upper(), ha="right", fontsize=8, weight="bold", **line)
    ax.set_yticks([])
    ax.spines[["left", "right", "top"]].set_visible(False)
    ax.spines["bottom"].set(color=GREY, linewidth=0.7)
    ax.locator_params(axis="x", nbins=6)
    _ink(ax)
    ax.tick_params(axis="x", length=2.5, color=GREY, labelsize=8)


def _findings_key(ax: Any) -> None:
    from matplotlib.lines import Line2D

    def mark(verdict: str) -> Any:
        colour, marker = VERDICT_STYLE[verdict]
        return Line2D([], [], color=colour, marker=marker, linewidth=2, markersize=6.5, label=verdict)

    chance = Line2D([], [], color=GREY, linewidth=1.4, linestyle=(0, (1.2, 1.2)), label="chance")
    margin = Line2D([], [], color=INK, linewidth=1.2, label="margin, failing side shaded")
    passing, failing, undecided = (mark(verdict) for verdict in VERDICT_STYLE)
    handles = [passing, chance, failing, margin, undecided]  # filled by columns
    ax.legend(handles=handles, loc="lower left", bbox_to_anchor=(-0.01, 0), ncol=3, borderpad=0, **_KEY)


def _arrow(
    ax: Any,
    places: Mapping[str, Any],
    boxes: Mapping[str, Any],
    pair: Sequence[str],
    bends: Sequence[float],
    **style: Any,
) -> None:
    from matplotlib.patches import FancyArrowPatch

    start, end = places[pair[0]], places[pair[1]]
    clip = {"patchA": boxes[pair[0]], "patchB": boxes[pair[1]]}
    bend = 0.0
    if start[0] != end[0]:
        bend = choose_bend(places, pair[0], pair[1], bends)
    elif abs(start[1] - end[1]) > 1.2:  # not neighbours in their layer: around the left of those between
        start, end, clip, bend = (start[0] - 0.55, start[1]), (end[0] - 0.55, end[1]), {}, -0.3
    style |= {"connectionstyle": f"arc3,rad={bend}", "shrinkA": 2, "shrinkB": 2, "mutation_scale": 9, "linewidth": 1.1}
    ax.add_patch(FancyArrowPatch(start, end, clip_on=False, zorder=2, **clip, **style))
