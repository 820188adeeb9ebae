"""Which levels an intervention on a factor draws, how often, and whether the graph lets it break confounding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from causalfm.arguments import check_choice, did_you_mean
from causalfm.arrows import EMBEDDING
from causalfm.augment.move_tables import TARGETS
from causalfm.errors import DataError, positions

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph


def check_factor(graph: CausalGraph, factor: str) -> None:
    """Refuse a factor whose levels cannot be drawn independently of biology, or would change no image.

    Raises
    ------
    DataError
        No technical factor, or one with numbers for levels.
    GraphError
        A factor that does not cause ``Z``, that causes biology, or that decides with others which rows are in the data.
    """
    from causalfm.graph_checks import graph_error

    if factor not in graph.technical:
        near = did_you_mean(factor, graph.technical)
        raise DataError(f"{factor!r} is no technical factor: choose among {', '.join(graph.technical)}.{near}")
    if graph.kinds.get(factor) == "continuous":
        raise DataError(f"{factor!r} is continuous: levels are drawn, so cut it into a few, or leave it out.")
    below = graph.descendants(factor)
    if EMBEDDING not in below:
        raise graph_error(graph, f"{factor!r} does not cause Z in this graph: drawing it anew would change no image.")
    if graph.biology in below:
        message = (
            f"{factor!r} causes {graph.biology!r} in this graph: no draw is independent of the biology that follows. "
            f"If a hospital sees other patients, write {factor} <-> {graph.biology}, or {graph.biology} -> {factor}."
        )
        raise graph_error(graph, message)
    for node in graph.selected:
        if node in below and (others := _other_causes(graph, node, {factor, *below} - set(graph.selected))):
            message = (
                f"{factor!r} and {', '.join(others)} decide together which rows are in the data ({node!r}): a row "
                "shown at another level is the picture of a row that might not have been selected. Train with "
                "penalty_for(graph) instead; or, if the draw shall only break the association that selection left, "
                f"declare {factor} <-> {others[0]} in place of {node!r}."
            )
            raise graph_error(graph, message)


def _other_causes(graph: CausalGraph, node: str, without: set[str]) -> list[str]:
    """Find what causes a selection other than by the factor, or shares a cause with it."""
    found: list[str] = []
    todo = [node]
    while todo:
        here = todo.pop()
        hidden = [b if a == here else a for a, b in graph.bidirected if here in (a, b)]
        for cause in (*graph.parents(here), *hidden):
            if cause not in without and cause not in found:
                found.append(cause)
                todo.append(cause)
    return [name for name in graph.nodes if name in found]


def untouched(graph: CausalGraph, factors: Sequence[str]) -> tuple[str, ...]:
    """Return technical causes of ``Z`` that nobody draws: they keep their association with biology."""
    causes = [n for n in graph.technical if EMBEDDING in graph.children(n)]
    return tuple(n for n in causes if n not in factors)


def levels_of(obs: Any, factor: str) -> list[str]:
    """Return the levels of rows ``(n,)`` as text.

    Raises
    ------
    DataError
        No such column, or values missing.
    """
    if factor not in obs:
        raise DataError(f"obs has no column {factor!r}: pass the training table, or {{{factor!r}: levels}}.")
    values, gone = texts_of(obs[factor])
    if gone:
        raise DataError(f"{factor!r} is missing in {len(gone)} of {len(values)} rows ({positions(gone)}).")
    return values


def texts_of(values: Any) -> tuple[list[str], list[int]]:
    """Return values as text, and the positions of those that are missing; tensors give their numbers."""
    found = values.tolist() if isinstance(values, torch.Tensor) else list(values)
    found = [v.item() if isinstance(v, torch.Tensor) else v for v in found]
    # pandas.NA is equal to nothing, and neither True nor False
    there = [isinstance(same := v == v, (bool, np.bool_)) and bool(same) for v in found]
    gone = [i for i, v in enumerate(found) if v is None or not there[i] or str(v) == ""]
    return [str(v) for v in found], gone


def donors_of(factor: str, seen: Sequence[str], held: Sequence[str], donors: Sequence[str] | None) -> list[str]:
    """Return the levels to draw among.

    Parameters
    ----------
    factor
        Its name.
    seen
        Levels of the training rows ``(n,)``.
    held
        Levels that the change can show.
    donors
        What was asked for; None for all levels of the training rows.

    Raises
    ------
    DataError
        Levels that cannot be shown: no donor. Levels of training rows that cannot be undone.
    """
    lost = {level: count for level, count in Counter(seen).items() if level not in held}
    if lost:
        shown = ", ".join(f"{level!r} ({count} rows)" for level, count in sorted(lost.items()))
        raise DataError(
            f"{factor} {shown} has no donor: the change holds {', '.join(map(repr, held))}. Rows there could neither "
            "be changed nor be drawn, and their level would go on telling biology: fit the change on them too, or "
            "leave these rows out."
        )
    wanted = sorted(set(seen)) if donors is None else list(dict.fromkeys(map(str, donors)))
    wrong = [level for level in wanted if level not in held]
    if wrong:
        raise DataError(f"donors[{factor!r}] names {', '.join(map(repr, wrong))}: no donor; there are {list(held)}.")
    if len(wanted) < 2:
        raise DataError(f"{factor!r} has one level to draw: nothing would change. Name donors, or leave it out.")
    return wanted


def shares_of(
    factor: str, levels: Sequence[str], seen: Sequence[str], target: str | Mapping[str, float], units: Sequence[Any]
) -> np.ndarray:
    """Return the probability of each donor level ``(L,)``.

    Parameters
    ----------
    factor, levels
        Its name, and the donor levels.
    seen, units
        Levels and independent units of the training rows ``(n,)``.
    target
        ``"uniform"``, ``"marginal"`` (as many units as have a level), or weights by level.

    Raises
    ------
    DataError
        Unknown target, weights that miss a level, are negative or all zero.
    """
    if isinstance(target, Mapping):
        if set(target) != set(levels):
            raise DataError(f"target of {factor!r} names {sorted(target)}: weigh {sorted(levels)}, all and no others.")
        try:
            weights = np.array([float(target[level]) for level in levels])
        except (TypeError, ValueError):
            weights = np.full(len(levels), np.nan)
    else:
        check_choice(target, "target", TARGETS)
        weights = np.ones(len(levels))
        if target == "marginal":
            pairs = Counter(level for level, _ in set(zip(seen, units, strict=True)))
            weights = np.array([float(pairs[level]) for level in levels])
    if not np.isfinite(weights).all() or (weights < 0).any() or not weights.sum():
        raise DataError(f"target of {factor!r}: weights are finite, 0 or more, and not all 0.")
    return np.asarray(weights / weights.sum())
