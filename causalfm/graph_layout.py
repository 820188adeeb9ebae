"""Where the nodes of a drawn graph stand, and which way round its arrows go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph

BENDS = (0.0, 0.06, -0.06, 0.12, -0.12, 0.2, -0.2, 0.3, -0.3, 0.42, -0.42, 0.55, -0.55)


def node_role(graph: CausalGraph, node: str) -> str:
    """Name the part that a node plays in the analysis."""
    if node == "Z":
        return "embedding"
    if node == graph.biology:
        return "biology"
    if node in graph.technical:
        return "technical"
    return "selection" if node in graph.selected else "covariate"


def node_places(graph: CausalGraph) -> dict[str, tuple[float, float]]:
    """Place nodes: layer = longest path from a root; within a layer covariates, biology, technical from the top."""
    depth = dict.fromkeys(graph.nodes, 0)
    for _ in graph.nodes:  # a longest path has fewer edges than there are nodes
        for tail, head in graph.edges:
            depth[head] = max(depth[head], depth[tail] + 1)
    rank = {"covariate": 0, "selection": 0, "biology": 1, "embedding": 1, "technical": 2}
    layers: dict[int, list[str]] = {}
    for node in sorted(graph.nodes, key=lambda node: rank[node_role(graph, node)]):
        layers.setdefault(depth[node], []).append(node)
    tallest = max(map(len, layers.values()))
    gap = {d: 0.9 if len(layer) == tallest else 1.1 for d, layer in layers.items()}  # unequal: fewer arrows align
    return {n: (1.85 * d, gap[d] * ((len(ns) - 1) / 2 - i)) for d, ns in layers.items() for i, n in enumerate(ns)}


def choose_bend(places: Mapping[str, tuple[float, float]], tail: str, head: str, bends: Sequence[float]) -> float:
    """Choose the bend of an arrow that runs through the fewest other nodes; straight wins ties."""
    (x0, y0), (x1, y1) = places[tail], places[head]
    others = [place for node, place in places.items() if node not in (tail, head)]

    def hits(bend: float) -> int:
        # matplotlib's arc3: a quadratic curve with its control point at right angles to the middle
        cx, cy = (x0 + x1) / 2 + bend * (y1 - y0), (y0 + y1) / 2 - bend * (x1 - x0)
        steps = [i / 24 for i in range(1, 24)]
        curve = [
            ((1 - t) ** 2 * x0 + 2 * t * (1 - t) * cx + t**2 * x1, (1 - t) ** 2 * y0 + 2 * t * (1 - t) * cy + t**2 * y1)
            for t in steps
        ]
        return sum(any(abs(x - a) < 0.62 and abs(y - b) < 0.21 for x, y in curve) for a, b in others)

    return min(bends, key=lambda bend: (hits(bend), abs(bend)))
