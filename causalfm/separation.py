"""Surgery on the graph, and the paths that stay open."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import networkx as nx

from causalfm.arrows import EMBEDDING, Pair

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph


def latent_dag(graph: CausalGraph, *, text: bool = False) -> nx.DiGraph:
    """Return the graph with a latent parent ``("<->", a, b)`` for each ``a <-> b``.

    Parameters
    ----------
    graph
        Declared graph.
    text
        Name the latent nodes by text, ``"a <-> b"``.

    Returns
    -------
    networkx.DiGraph
        A directed acyclic graph.
    """
    dag = nx.DiGraph()
    dag.add_nodes_from(graph.nodes)
    dag.add_edges_from(graph.edges)
    for a, b in graph.bidirected:
        latent = f"{a} <-> {b}" if text else ("<->", a, b)
        dag.add_edges_from([(latent, a), (latent, b)])
    return dag


def without(dag: nx.DiGraph, edges: Iterable[tuple[Any, Any]]) -> nx.DiGraph:
    """Return a copy without the given edges."""
    copy = dag.copy()
    copy.remove_edges_from(edges)
    return copy


def null_edges(graph: CausalGraph, of: Sequence[str], effect: str) -> list[Pair]:
    """Return the edges into Z that the null denies: of the factors and, if total, of their technical descendants only.

    Deleting the other technical edges too would blame the scanner for what the site does.
    """
    denied = set(of)
    if effect == "total":
        denied |= {t for factor in of for t in graph.technical_descendants(factor)}
    return [(a, b) for a, b in graph.edges if a in denied and b == EMBEDDING]


def back_door_edges(full: nx.DiGraph, of: Sequence[str]) -> list[Pair]:
    """Return the first edges of the causal paths from the treatments to Z: what stays open without them is bias.

    Edges out of a treatment that do not lead to Z stay: conditioning on selection can open them.
    """
    into = without(full, list(full.in_edges(of)))
    out = without(full, list(full.out_edges(of)))
    reached = set().union(*(nx.descendants(into, factor) for factor in of)) - set(of)
    on_path = reached & {EMBEDDING, *nx.ancestors(out, EMBEDDING)}
    return [(a, b) for a, b in full.out_edges(of) if b in on_path]


def open_path(dag: nx.DiGraph, of: Sequence[str], given: set[str]) -> tuple[list[str], list[str]]:
    """Return a shortest d-connecting path to Z as node names and the arrows between them."""
    carried = given.union(*(nx.ancestors(dag, n) for n in given))  # colliders that conditioning opens
    free = set(dag) - given
    skeleton = dag.to_undirected()
    for factor in of:
        if not nx.has_path(skeleton, factor, EMBEDDING):
            continue
        for path in nx.shortest_simple_paths(skeleton, factor, EMBEDDING):
            triples = zip(path, path[1:], path[2:], strict=False)
            if all(n in (carried if dag.has_edge(a, n) and dag.has_edge(b, n) else free) for a, n, b in triples):
                return [n for n in path if not isinstance(n, tuple)], _arrows(dag, path)
    raise AssertionError("a set that does not d-separate leaves a path open")


def _arrows(dag: nx.DiGraph, path: Sequence[Any]) -> list[str]:
    steps = [(a, b) for a, b in itertools.pairwise(path) if not isinstance(b, tuple)]
    return ["<->" if isinstance(a, tuple) else "->" if dag.has_edge(a, b) else "<-" for a, b in steps]
