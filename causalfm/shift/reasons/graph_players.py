"""The declared graph as a product of mechanisms: who plays in the attribution, and given what."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import networkx as nx

from causalfm.arrows import EMBEDDING
from causalfm.separation import latent_dag

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph


@dataclass(frozen=True)
class Player:
    """One mechanism, ``P(nodes | given)``.

    Attributes
    ----------
    role
        ``"covariates"``, ``"biology"``, or the name of a technical factor.
    nodes
        Columns that the mechanism makes.
    given
        Columns made by players before it that it depends on.
    """

    role: str
    nodes: tuple[str, ...]
    given: tuple[str, ...]

    @property
    def mechanism(self) -> str:
        """The mechanism as a formula."""
        return formula(self.nodes, self.given)


def formula(nodes: Sequence[str], given: Sequence[str]) -> str:
    """Write ``P(nodes | given)``."""
    return f"P({', '.join(nodes)} | {', '.join(given)})" if given else f"P({', '.join(nodes)})"


def players_of(graph: CausalGraph, left_out: Collection[str] = ()) -> tuple[Player, ...]:
    """Factorise the distribution of the measured nodes, causes first.

    Parameters
    ----------
    graph
        Declared graph.
    left_out
        Nodes that are not known, or whose levels cannot be compared: the others are factorised as if unmeasured.

    Returns
    -------
    tuple of Player
        Covariates that stand together are one player. Among nodes that may stand in any order the covariates come
        first, then the site, the biology and the other technical factors. Nodes that cause neither ``Z`` nor the
        biology play no part.

    Notes
    -----
    A player is given the smallest set of earlier nodes that separates it from all others before it in the graph, with
    ``a <-> b`` as a latent cause and selection nodes given: this product is the joint distribution of every model of
    the graph.
    """
    order = [node for node in _order(graph) if node not in left_out]
    groups: list[list[str]] = []
    for node in order:
        together = groups and node in graph.covariates and groups[-1][0] in graph.covariates
        if together:
            groups[-1].append(node)
        else:
            groups.append([node])
    dag, found, before = latent_dag(graph), [], list[str]()
    for nodes in groups:
        given = list(before)
        for node in before:
            others = set(given) - {node}
            if nx.is_d_separator(dag, set(nodes), {node}, others | set(graph.selected)):
                given.remove(node)
        found.append(Player(_role(graph, nodes[0]), tuple(nodes), tuple(given)))
        before += nodes
    return tuple(found)


def _role(graph: CausalGraph, node: str) -> str:
    if node in graph.covariates:
        return "covariates"
    return "biology" if node == graph.biology else node


def _order(graph: CausalGraph) -> list[str]:
    """Sort the measured nodes: causes first, and what stands free in the order of the roles."""
    rank = [*graph.covariates, graph.technical[0], graph.biology, *graph.technical[1:]]
    plays = {*graph.ancestors(EMBEDDING), graph.biology, *graph.ancestors(graph.biology)}
    waiting, done = [node for node in rank if node in plays], list[str]()
    while waiting:
        # an ancestor that is no measured node (a selection node has none) never stands in the way
        free = next(node for node in waiting if not set(graph.ancestors(node)) & set(waiting))
        waiting.remove(free)
        done.append(free)
    return done
