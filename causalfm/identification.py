"""Which set to condition on: d-separation on the graph that the question leaves.

The rule and its reasons are in docs/adr/0002-conditioning-set.md.
"""

from __future__ import annotations

import itertools
import random
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import networkx as nx

from causalfm.arguments import did_you_mean
from causalfm.arrows import EMBEDDING, Pair, quote
from causalfm.errors import NotIdentifiedError
from causalfm.graph_checks import graph_error
from causalfm.results import Result
from causalfm.separation import back_door_edges, latent_dag, null_edges, open_path, without

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph

MAX_FREE = 10  # beyond this many candidates covariates enter in blocks: 2**n sets are tried


@dataclass(frozen=True)
class Adjustment(Result):
    """What to condition on, and why.

    Attributes
    ----------
    of
        Tested factor or treatment; several for the joint question.
    effect
        ``"total"`` or ``"direct"``.
    given
        The preferred set: the largest valid one.
    valid
        All valid sets, in order of preference. With more than ten candidates covariates enter in blocks, so that
        not every valid set is listed.
    minimal
        A smallest valid set.
    removed
        Edges deleted before asking for d-separation.
    recoverable
        False if selection biases the effect even within ``given``: effects are then "cannot tell".
    sentence
        The answer in words.

    Notes
    -----
    Selection nodes are conditioned on in every set and are not listed.
    """

    of: tuple[str, ...]
    effect: str
    given: tuple[str, ...]
    valid: tuple[tuple[str, ...], ...]
    minimal: tuple[str, ...]
    removed: tuple[Pair, ...]
    recoverable: bool
    sentence: str

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per valid set, the preferred one first."""
        of = " + ".join(self.of)
        return [
            {"of": of, "effect": self.effect, "given": ", ".join(s), "preferred": s == self.given} for s in self.valid
        ]


def identify(
    graph: CausalGraph,
    of: tuple[str, ...],
    effect: Literal["total", "direct"],
    question: Literal["invariance", "effect"],
) -> Adjustment:
    """Find the sets that answer a question.

    Parameters
    ----------
    graph
        Declared graph.
    of
        Tested factors or treatments.
    effect
        ``"total"`` or ``"direct"``.
    question
        ``"invariance"``: Z is independent of ``of`` given the set if no technical edge exists. ``"effect"``:
        the back-door criterion. Sets that serve both come first.

    Returns
    -------
    Adjustment
        The sets.

    Raises
    ------
    GraphError
        ``of`` is empty, repeated or not measured; unknown ``effect``.
    NotIdentifiedError
        No valid set.

    References
    ----------
    van der Zander, Liskiewicz, Textor: Separators and adjustment sets in causal graphs. Artificial Intelligence 270,
    2019.
    Bareinboim, Tian, Pearl: Recovering from selection bias in causal and statistical inference. AAAI 2014.
    """
    _check_question(graph, of, effect)
    full = latent_dag(graph)
    null, back = null_edges(graph, of, effect), back_door_edges(full, of)
    removed, second = (null, back) if question == "invariance" else (back, null)
    main, other = without(full, removed), without(full, second)
    below = {n for factor in of for n in graph.descendants(factor)}
    required = [t for t in graph.technical if effect == "direct" and t in below and t not in of]
    pool, reserve = _candidates(graph, full, of, below, required)
    order = [*pool, *required, *reserve]

    def blocks(dag: nx.DiGraph, chosen: Iterable[str]) -> bool:
        return bool(nx.is_d_separator(dag, set(of), {EMBEDDING}, {*chosen, *required, *graph.selected}))

    found = []
    for chosen in _subsets(pool, reserve, graph.covariates, nx.ancestors(main, EMBEDDING)):
        if blocks(main, chosen):
            once = effect == "total" and not blocks(other, chosen)
            ranks = sorted(order.index(n) for n in chosen)
            found.append((once, sum(n in reserve for n in chosen), -len(chosen), ranks))
    if not found:
        raise _not_identified(graph, main, of, order)
    found.sort()
    sets = [tuple(order[i] for i in sorted([*entry[3], *map(order.index, required)])) for entry in found]
    least = min((e for e in found if e[0] == found[0][0]), key=lambda e: (-e[2], e[1], e[3]))
    given = sets[0]
    recoverable = not graph.selected or nx.is_d_separator(full, {EMBEDDING}, set(graph.selected), {*of, *given})
    return Adjustment(
        of=of,
        effect=effect,
        given=given,
        valid=tuple(sets),
        minimal=sets[found.index(least)],
        removed=tuple(removed),
        recoverable=recoverable,
        sentence=_sentence(graph, of, effect, sets, recoverable),
    )


def is_valid_back_door(graph: CausalGraph, treatment: tuple[str, ...], given: tuple[str, ...]) -> bool:
    """Say whether ``given`` (and the selection nodes) blocks every back-door path from ``treatment`` to Z.

    Parameters
    ----------
    graph
        Declared graph.
    treatment, given
        Measured nodes.

    Returns
    -------
    bool
        False also if ``given`` holds the treatment or an effect of it.

    Raises
    ------
    GraphError
        A name that is not a measured node.
    """
    _check_question(graph, treatment, "total")
    _require_measured(graph, given)
    if any(n == t or n in graph.descendants(t) for t in treatment for n in given):
        return False
    full = latent_dag(graph)
    dag = without(full, back_door_edges(full, treatment))
    return bool(nx.is_d_separator(dag, set(treatment), {EMBEDDING}, {*given, *graph.selected}))


def dowhy_confirms(graph: CausalGraph, treatment: tuple[str, ...], given: tuple[str, ...]) -> bool:
    """Ask DoWhy whether ``given`` is a valid back-door set for the effect of ``treatment`` on Z.

    Parameters
    ----------
    graph
        Declared graph; each ``<->`` becomes a latent node, selection nodes are conditioned on.
    treatment, given
        Measured nodes.

    Returns
    -------
    bool
        DoWhy's answer; False if ``given`` holds an effect of the treatment, as in DoWhy's own search.
    """
    _check_question(graph, treatment, "total")
    _require_measured(graph, given)
    drawn = random.getstate()
    with (
        warnings.catch_warnings()
    ):  # DoWhy's imports warn about other packages, and draw from Python's global generator
        warnings.simplefilter("ignore")
        from dowhy.graph import check_valid_backdoor_set, get_descendants
    random.setstate(drawn)

    dag = latent_dag(graph, text=True)
    if set(given) & {*treatment, *get_descendants(dag, list(treatment))}:
        return False
    answer = check_valid_backdoor_set(dag, list(treatment), [EMBEDDING], [*given, *graph.selected])
    return bool(answer["is_dseparated"])


def _check_question(graph: CausalGraph, of: tuple[str, ...], effect: str) -> None:
    if not of or len(set(of)) < len(of):
        raise graph_error(graph, f"the question needs one node or several different ones, not {list(of)}.")
    _require_measured(graph, of)
    if effect not in ("total", "direct"):
        raise graph_error(graph, f"effect={effect!r} is not a question: choose 'total' or 'direct'.")


def _require_measured(graph: CausalGraph, nodes: Iterable[str]) -> None:
    for node in nodes:
        if node not in graph.measured:
            near = did_you_mean(node, graph.measured)
            message = f"{node!r} is not a measured node: choose one of {', '.join(graph.measured)}.{near}"
            raise graph_error(graph, message)


def _candidates(
    graph: CausalGraph, full: nx.DiGraph, of: Sequence[str], below: set[str], required: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Return what a set may hold, in order of preference, and what it holds only if nothing else helps.

    If any set is valid, one made of ancestors of the factor, of Z and of what is conditioned on anyway is valid too, so
    labels that cause nothing stay out. The reserve: technical siblings of the factor, and causes of what is
    conditioned on anyway.
    """
    above = set().union(*(nx.ancestors(full, n) for n in (*of, EMBEDDING)))
    wider = above.union(*(nx.ancestors(full, n) for n in (*required, *graph.selected)))
    causes = [t for t in graph.technical if any(t in graph.ancestors(factor) for factor in of)]
    siblings = [t for t in graph.technical if t not in causes]
    allowed = [n for n in (*causes, graph.biology, *graph.covariates, *siblings) if n not in {*of, *below, *required}]
    pool = [n for n in allowed if n in above and n not in siblings]
    return pool, [n for n in allowed if n in wider and n not in pool]


def _subsets(
    pool: Sequence[str], reserve: Sequence[str], covariates: Sequence[str], above: set[str]
) -> Iterator[tuple[str, ...]]:
    """Yield candidate sets; with many candidates covariates move in two blocks, causes of Z (``above``) and others."""
    free = [*pool, *reserve]
    units: list[tuple[str, ...]] = [(n,) for n in free]
    if len(free) > MAX_FREE:
        units = [(n,) for n in free if n not in covariates]
        split = [tuple(n for n in free if n in covariates and (n in above) is side) for side in (True, False)]
        units += [block for block in split if block]
    for size in range(len(units) + 1):
        for chosen in itertools.combinations(units, size):
            yield tuple(n for unit in chosen for n in unit)


def _not_identified(graph: CausalGraph, dag: nx.DiGraph, of: Sequence[str], given: Sequence[str]) -> NotIdentifiedError:
    path, arrows = open_path(dag, of, {*given, *graph.selected})
    shown = " ".join(itertools.chain.from_iterable(zip(map(quote, path), [*arrows, ""], strict=True))).strip()
    best = (
        f"given {', '.join([*given, *graph.selected])}" if given or graph.selected else "with nothing to condition on"
    )
    way_out = (
        "Measure what lies behind this path and declare it as a covariate, or remove an arrow you do not hold true."
    )
    mediators = [n for n in path[1:-1] if n not in graph.technical]
    if set(arrows) == {"->"} and mediators and path[0] in graph.technical:
        way_out = f"{mediators[0]} is declared an effect of {path[0]}: if not, write '<->' instead of '->'."
    elif set(arrows) == {"->"} and mediators:
        way_out = (
            f"{path[0]} acts through biology or covariates: ask for its effect with adjustment_set, not for invariance."
        )
    return NotIdentifiedError(
        f"no set of measured columns separates Z from {' + '.join(of)}: the path '{shown}' stays open {best}. "
        f"The question has no answer under this graph. {way_out}\nGraph: {graph}"
    )


def _sentence(
    graph: CausalGraph, of: Sequence[str], effect: str, sets: Sequence[Sequence[str]], recoverable: bool
) -> str:
    def text(names: Sequence[str]) -> str:
        return f"{{{', '.join(names)}}}" if names else "nothing"

    words = f"The {effect} question for {' + '.join(of)} is asked given {text(sets[0])}."
    if len(sets) > 1:
        words += f" Also valid: {'; '.join(map(text, sets[1:4]))}{' and others' if len(sets) > 4 else ''}."
    if graph.selected:
        words += f" Rows were selected by {', '.join(graph.selected)}, which is conditioned on."
        words += "" if recoverable else " The selection biases the effect even so: effects cannot be told."
    return words
