"""What a comparison shows and what it does not, in sentences made from its numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from causalfm.auditing.comparison import Board
from causalfm.auditing.formatting import beside_chance, listing, number
from causalfm.graph import CausalGraph
from causalfm.results import CAVEAT

CURVE = "robustness index over k"
UNLIKE = 0.02  # chance values that differ by more are not one


def headline(boards: Sequence[Board], graph: CausalGraph) -> tuple[str, ...]:
    """Say for every factor who is shown to be the best by how many measures, and where that has a price.

    Parameters
    ----------
    boards
        All boards.
    graph
        Declared graph.

    Returns
    -------
    tuple of str
    """
    out = []
    for factor in dict.fromkeys(board.factor for board in boards):
        compared = [board for board in boards if board.factor == factor and board.standings]
        if not compared:
            out.append(f"{factor}: no measure could be compared.")
            continue
        won: dict[str, list[str]] = {}
        for board in compared:
            if len(leaders := board.leaders()) == 1:
                won.setdefault(leaders[0], []).append(board.title)
        words = [
            f"{name} is shown to be the best by {len(titles)} of {len(compared)} measures ({listing(titles)})"
            for name, titles in sorted(won.items(), key=lambda item: -len(item[1]))
        ]
        measures = f"any of {len(compared)} measures"
        if len(compared) == 1:
            measures = f"the {compared[0].title}: {listing(compared[0].leaders())} may be"
        out.append(f"{factor}: {'; '.join(words) or f'no encoder is shown to be the best by {measures}'}.")
    return (*out, *_weak(boards, graph), *_prices(boards, graph))


def conclusions(boards: Sequence[Board]) -> tuple[str, ...]:
    """Say for every board who leads, and how the encoders lie to chance."""
    return tuple(f"{heading(board)}: {_leading(board)} {_chance(board)}".strip() for board in boards)


def open_questions(boards: Sequence[Board], graph: CausalGraph) -> tuple[str, ...]:
    """Say what the numbers leave open, and what no number of this page can show."""
    out = []
    contrasts = [contrast for board in boards for contrast in board.contrasts]
    equal = sum(not contrast.told_apart for contrast in contrasts)
    if equal:
        out.append(
            f"{equal} of {len(contrasts)} differences cannot be told from none: not shown to differ is not the same as "
            "shown to be equal."
        )
    out += _over_k(boards)
    for board in boards:
        chances = [e.chance for e in board.scores.values() if np.isfinite(e.chance)]
        if chances and max(chances) - min(chances) > UNLIKE:
            out.append(
                f"{heading(board)}: chance differs between encoders ({number(min(chances))} to "
                f"{number(max(chances))}), so a part of a difference can be one of chance: read each value against "
                "its own."
            )
    if len(boards) > 1:
        out.append(
            f"Joint intervals hold within one measure and factor. Over all {len(boards)} together, a difference that "
            "only just leaves 0 out can be chance."
        )
    unit = graph.group
    return (
        *out,
        f"Numbers hold for new {unit}s of these levels of {listing(graph.technical)}, not for a new one: with other "
        "hospitals or scanners the order can change.",
        f"The first place is no clearance. Whether an encoder's {listing(graph.technical)} may be left as it is, is a "
        "question of margins: audit the one that is chosen (causalfm.audit).",
        "An encoder whose training has seen these images, or others of these hospitals, may have an advantage or a "
        "disadvantage that no number here shows; one that was corrected with these rows looks better than on new ones.",
        CAVEAT,
    )


def heading(board: Board) -> str:
    """Name a board: measure and factor."""
    return f"{board.title[:1].upper()}{board.title[1:]}, {board.factor}"


def _leading(board: Board) -> str:
    if not board.standings:
        return f"cannot tell who leads ({board.reason or 'no number'})."
    leaders, compared = board.leaders(), [standing.encoder for standing in board.standings]
    best, wish = leaders[0], f"{board.better} is better"
    value = beside_chance(board.scores[best])
    rest = [name for name in compared if name not in leaders]
    if not rest:
        words = f"no encoder is shown to be better than another; {best} has the best value, {value} ({wish})."
    elif len(leaders) == 1:
        words = f"{best} is shown to be better than {listing(rest)}, with {value} ({wish})."
    else:
        words = (
            f"{listing(leaders)} cannot be told apart at the top ({best} {value}; {wish}); {listing(rest)} "
            f"{'is' if len(rest) == 1 else 'are'} shown to be worse than another."
        )
    return words + (f" Without a place: {board.reason}." if board.reason else "")


def _chance(board: Board) -> str:
    """Sort the encoders by how their intervals lie to chance."""
    known = {name: e for name, e in board.scores.items() if np.isfinite([e.low, e.high, e.chance]).all()}
    if not known:
        return ""
    groups = {
        "above chance": [name for name, e in known.items() if e.low > e.chance],
        "below chance": [name for name, e in known.items() if e.high < e.chance],
        "not told from chance": [name for name, e in known.items() if e.low <= e.chance <= e.high],
    }
    chances = sorted(number(c) for c in {e.chance for e in known.values()})
    level = chances[0] if len(chances) == 1 else f"{chances[0]} to {chances[-1]}"
    parts = [
        f"{where}: {'all' if len(who) == len(board.scores) else listing(who)}" for where, who in groups.items() if who
    ]
    words = "; ".join(parts)
    return f"{words[:1].upper()}{words[1:]} (chance {level})."


def _weak(boards: Sequence[Board], graph: CausalGraph) -> Iterable[str]:
    """Name the encoders that are not shown to carry the biology: their other numbers say little."""
    for board in boards:
        weak = [name for name, e in board.scores.items() if np.isfinite(e.chance) and not e.low > e.chance]
        if board.factor == graph.biology and weak:
            few = f"{listing(weak)} {'is' if len(weak) == 1 else 'are'} not"
            who = "No encoder is" if len(weak) == len(board.scores) else few
            yield (
                f"{who} shown to carry {graph.biology} beyond chance ({board.title}): where it cannot be read, a low "
                "index is partly weak biology, and a hidden factor is no merit."
            )


def _prices(boards: Sequence[Board], graph: CausalGraph) -> Iterable[str]:
    """Say where an encoder that is best on a technical factor is worse on the biology."""
    biology = [board for board in boards if board.factor == graph.biology and board.standings]
    best: dict[str, list[str]] = {}
    for board in boards:
        if board.factor != graph.biology and len(leaders := board.leaders()) == 1:
            best.setdefault(leaders[0], []).append(board.factor)
    for name, factors in best.items():
        for board in biology:
            if any(standing.encoder == name and not standing.may_be_best for standing in board.standings):
                yield (
                    f"{name} is the best on {listing(dict.fromkeys(factors))}, but shown to be worse than another in "
                    f"the {board.title}: what is gained on one side is paid on the other."
                )


def _over_k(boards: Sequence[Board]) -> Iterable[str]:
    """Say whether the order of the values hangs on k."""
    for board in {b.factor: b for b in boards if b.details.get(CURVE)}.values():
        curve = board.details[CURVE]
        names = [name for name in curve[0] if name != "k"]
        best = [max(names, key=lambda name: row[name]) for row in curve if all(np.isfinite(row[n]) for n in names)]
        own = ", ".join(f"{name} {k}" for name, k in board.details["k of each encoder"].items())
        words = (
            f"Robustness index, {board.factor}: one k = {board.details['k']} for all; alone they would choose {own}."
        )
        if len(set(best)) == 1:
            yield f"{words} {best[0]} has the best value at every k from {curve[0]['k']} to {curve[-1]['k']}."
        elif best:
            shares = ", ".join(f"{name} at {best.count(name)}" for name in dict.fromkeys(best))
            yield f"{words} Who has the best value depends on k: {shares} of {len(best)} values of k."
