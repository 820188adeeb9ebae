"""What the declared graph implies for its columns: the independences that a table can contradict."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import networkx as nx

from causalfm.separation import latent_dag

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph


@dataclass(frozen=True)
class Independence:
    """``a`` is independent of ``b`` given ``given`` (and the selection nodes)."""

    a: str
    b: str
    given: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.a} independent of {self.b}" + (f" given {', '.join(self.given)}" if self.given else "")


def implied_independences(graph: CausalGraph) -> tuple[Independence, ...]:
    """List one independence for each pair of measured columns that some measured columns d-separate.

    Parameters
    ----------
    graph
        Declared graph; each ``a <-> b`` is an unmeasured common cause, selection nodes are conditioned on.

    Returns
    -------
    tuple of Independence
        In the order of ``graph.measured``, each with a set from which no column can be left out. Empty for a saturated
        graph, which no table of these columns can contradict.

    Notes
    -----
    A missing edge between measured columns is visible if some set separates them; without latent causes these
    independences imply all others (pairwise Markov property), with them they are those of the pairs.

    References
    ----------
    van der Zander, Liskiewicz and Textor, Artificial Intelligence 270 (2019) 1-40.
    """
    dag = latent_dag(graph)
    columns, selected = set(graph.measured), set(graph.selected)
    out = []
    for a, b in itertools.combinations(graph.measured, 2):
        if {(a, b), (b, a)} & {*graph.edges, *graph.bidirected}:
            continue
        found = nx.find_minimal_d_separator(dag, a, b, included=selected, restricted=columns | selected)
        if found is not None:
            out.append(Independence(a, b, tuple(n for n in graph.measured if n in found)))
    return tuple(out)
