"""The comparison as a page and as Markdown, in the style of the audit's report."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from causalfm.auditing.about import title_of_comparison
from causalfm.auditing.comparison import Board, Comparison
from causalfm.auditing.comparison_metrics import METRICS
from causalfm.auditing.comparison_words import heading
from causalfm.auditing.formatting import DASH, beside_chance, bounds, number
from causalfm.auditing.templating import environment, tidied

if TYPE_CHECKING:
    from markupsafe import Markup


def render_html(result: Comparison) -> str:
    """Render one self-contained page: no script, nothing fetched, light and dark, printable.

    Parameters
    ----------
    result
        The comparison.

    Returns
    -------
    str
        The page. Every name from the data is escaped.
    """
    return _page("comparison.html.j2", result, figures=_figures(result))


def render_markdown(result: Comparison) -> str:
    """Render Markdown for a pull request, an issue or a laboratory notebook."""
    return tidied(_page("comparison.md.j2", result))


def _page(template: str, result: Comparison, **extra: Any) -> str:
    from markupsafe import Markup

    return (
        environment(markdown=template.endswith(".md.j2"))
        .get_template(template)
        .render(
            result=result,
            boards=[(f"board-{i}", board) for i, board in enumerate(result.boards, 1)],
            title=title_of_comparison(len(result.encoders), result.graph.biology, result.graph.technical),
            heading=heading,
            score=lambda estimate: Markup(beside_chance(estimate)),
            places=_places,
            contrasts=_contrasts,
            words={metric.title: metric.words for metric in METRICS.values()},
            number=number,
            **extra,
        )
    )


def _places(board: Board) -> list[dict[str, Any]]:
    """Lay out the encoders of a board, the best value first, those without a number last."""
    standings = {standing.encoder: standing for standing in board.standings}
    sign = 1 if board.better == "lower" else -1
    order = sorted(board.scores, key=lambda name: (not _known(board, name), sign * board.scores[name].value))
    rows = []
    for name in order:
        place = standings.get(name)
        ranks = (
            DASH if place is None else f"{place.rank_low}" + f"–{place.rank_high}" * (place.rank_high > place.rank_low)
        )
        rows.append(
            {
                "encoder": name,
                "score": beside_chance(board.scores[name]),
                "chance": number(board.scores[name].chance),
                "ranks": ranks,
                "first": DASH if place is None else f"{place.shares[0]:.0%}",
                "leads": place is not None and place.may_be_best,
            }
        )
    return rows


def _contrasts(board: Board) -> list[dict[str, str]]:
    rows = []
    for c in board.contrasts:
        better = (c.joint_low > 0) == (board.better == "higher")
        rows.append(
            {
                "pair": f"{c.a} − {c.b}",
                "difference": bounds(c.difference, c.low, c.high, 0.0),
                "joint": bounds(c.difference, c.joint_low, c.joint_high, 0.0).partition(" ")[2] or DASH,
                "p": _p_value(c.p_value),
                "answer": f"{c.a if better else c.b} is better" if c.told_apart else "not told apart",
            }
        )
    return rows


def _p_value(p: float) -> str:
    """Format a p-value; the draws tell nothing below 1 in 10,000."""
    return DASH if math.isnan(p) else "< 0.0001" if p < 1e-4 else f"{p:.4f}"


def _known(board: Board, name: str) -> bool:
    return board.scores[name].value == board.scores[name].value


def _figures(result: Comparison) -> dict[str, Any]:
    """Draw everything as inline SVG; our own SVG is the only text that enters the page unescaped."""
    from markupsafe import Markup

    from causalfm.comparison_plot import draw_board, has_numbers
    from causalfm.drawing import to_svg
    from causalfm.map_drawing import draw_panel

    boards: dict[int, Markup] = {}
    for i, board in enumerate(result.boards, 1):
        if has_numbers(board):
            seen = [f"{name} {beside_chance(e)}, chance {number(e.chance)}" for name, e in board.scores.items()]
            label = f"{heading(board)}, with interval and chance"
            boards[i] = Markup(to_svg(draw_board(board), label=label, description="; ".join(seen), ident=f"board {i}"))
    maps: dict[str, list[Markup]] = {}
    for i, (name, drawn) in enumerate(result.maps.items()):
        labels = [f"Map of {name} coloured by {column.name}" for column in drawn.columns]
        maps[name] = [
            Markup(to_svg(draw_panel(drawn, j), label=label, description=drawn.caption(), ident=f"map {i} {j}"))
            for j, label in enumerate(labels)
        ]
    return {"boards": boards, "maps": maps}
