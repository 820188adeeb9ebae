"""Continuous technical factors in an audit: what is asked about them, and the graph on which levels are asked about."""

from __future__ import annotations

import itertools

from causalfm.arrows import EMBEDDING, Arrows, names, render_arrows
from causalfm.cohort import Cohort
from causalfm.graph import CausalGraph

NOTE = (
    "{} is continuous: of it the audit asks whether and how far the embedding moves with its values, given the rest of "
    "the graph, and how accuracy differs between bands of it. All other questions are asked on the graph without it, "
    "whose causes act through it."
)


def graph_of_levels(cohort: Cohort, graph: CausalGraph) -> tuple[CausalGraph, tuple[str, ...]]:
    """Check a cohort, and take continuous technical factors out of the graph.

    Parameters
    ----------
    cohort, graph
        Data and declared graph.

    Returns
    -------
    graph : CausalGraph
        Without them: what causes a factor taken out causes what that causes (latent projection). The graph itself if
        there are none.
    continuous : tuple of str
        The factors taken out, which the test of invariance answers.

    Raises
    ------
    DataError, GraphError
        The cohort does not fit the graph. Continuous factors are refused, with the ways out, where no factor with
        levels is left, or where without them something measured and the embedding had an unmeasured common cause.

    References
    ----------
    Verma and Pearl, UAI (1990) 220-227 (latent projection).
    """
    continuous = tuple(t for t in graph.technical if t in cohort.obs.columns and graph.kind(t, cohort) == "continuous")
    rest = graph
    for name in continuous:
        if len(rest.technical) == 1:
            break
        rest = without(rest, name)
    confounded = [pair for pair in rest.bidirected if EMBEDDING in pair and pair not in graph.bidirected]
    if len(rest.technical) + len(continuous) > len(graph.technical) or confounded:
        graph.check(cohort)  # refuses the continuous factor
    graph.check(cohort, doses=True)
    return rest, continuous


def without(graph: CausalGraph, node: str) -> CausalGraph:
    """Take a technical factor out of a graph by latent projection."""
    siblings = [a if b == node else b for a, b in graph.bidirected if node in (a, b)]
    children = graph.children(node)
    edges = [pair for pair in graph.edges if node not in pair]
    edges += [pair for pair in itertools.product(graph.parents(node), children) if pair not in edges]
    both = [pair for pair in graph.bidirected if node not in pair]
    for a, b in (*itertools.combinations(children, 2), *itertools.product(siblings, children)):
        if a != b and (a, b) not in both and (b, a) not in both:
            both.append((a, b))
    nodes = tuple(n for n in graph.nodes if n != node)
    return CausalGraph(
        render_arrows(Arrows(nodes, tuple(edges), tuple(both))),
        biology=graph.biology,
        technical=[t for t in graph.technical if t != node],
        group=graph.groups,
        covariates=graph.covariates,
        specimen=graph.specimen,
        selected=names(graph.selected),
        kinds={name: kind for name, kind in graph.kinds.items() if name != node},
        declared_by=graph.declared_by,
    )


def note(continuous: tuple[str, ...]) -> list[str]:
    """Say in the report how continuous factors were treated."""
    return [NOTE.format(name) for name in continuous]
