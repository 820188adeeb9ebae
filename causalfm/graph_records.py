"""A causal graph as plain data, and back; what makes two equal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from causalfm.errors import GraphError

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph

PARSED = ("nodes", "edges", "bidirected")


def record_of(graph: CausalGraph) -> dict[str, Any]:
    """Return arrows, roles and edges as plain, JSON-ready data."""
    body: dict[str, Any] = {"arrows": str(graph), **{f.name: getattr(graph, f.name) for f in fields(graph)}}
    body |= {"kinds": dict(graph.kinds)} | {n: [list(p) for p in body[n]] for n in ("edges", "bidirected")}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in body.items()}


def graph_of(record: Mapping[str, Any]) -> CausalGraph:
    """Build the graph that a record describes.

    Parameters
    ----------
    record
        From :meth:`causalfm.CausalGraph.to_dict`, or read back from a report.

    Returns
    -------
    CausalGraph
        Equal to the one that was written, its nodes and edges in the same order: it is drawn in the same way.

    Raises
    ------
    GraphError
        An entry is missing, roles do not fit, or nodes, edges and arrows say different things.
    """
    from causalfm.graph import CausalGraph

    lacking = [name for name in ("arrows", *CausalGraph.__dataclass_fields__) if name not in record]
    if lacking := [name for name in lacking if name != "declared_by"]:
        raise GraphError(f"the record of the graph lacks {', '.join(map(repr, lacking))}: write it with to_dict().")
    roles = {name: record[name] for name in ("biology", "technical", "covariates", "specimen", "selected", "kinds")}
    graph = CausalGraph(record["arrows"], group=record["groups"], **roles)
    before = key_of(graph)
    kept = {name: tuple(tuple(x) if isinstance(x, list) else x for x in record[name]) for name in PARSED}
    kept |= {name: record[name] for name in ("declared_by",) if name in record}
    graph.__dict__.update(kept)  # arrows alone would put nodes into another order
    if key_of(graph) != before:
        raise GraphError("the record's arrows say something else than its nodes, edges or bidirected: it was edited.")
    return graph


def key_of(graph: CausalGraph) -> tuple[Any, ...]:
    """Return what makes two graphs equal: roles, kinds, nodes and edges, these in any order."""
    roles = (graph.biology, graph.technical, frozenset(graph.covariates), graph.groups, graph.specimen, graph.selected)
    both = frozenset(frozenset(pair) for pair in graph.bidirected)
    return (*roles, frozenset(graph.kinds.items()), frozenset(graph.nodes), frozenset(graph.edges), both)
