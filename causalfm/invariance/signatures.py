"""Which invariances of a prediction the declared graph implies: the signature of a model that ignores a factor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import networkx as nx

from causalfm.arrows import EMBEDDING
from causalfm.errors import GraphError, NotIdentifiedError
from causalfm.separation import latent_dag, null_edges, without

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph

INDEPENDENCE, SEPARATION, SUFFICIENCY, STABILITY = KINDS = ("independence", "separation", "sufficiency", "stability")
Sets = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Signature:
    """What the graph implies for predictions of biology that do not react to a factor.

    Attributes
    ----------
    direction
        ``"anti-causal"``: biology is a cause of the embedding; ``"causal"``: it is not, and the label is read off the
        image or off what both show.
    association
        Ways in which factor and biology are associated: ``"confounded"`` (a common cause), ``"selected"`` (both decide
        which rows there are), ``"caused"`` (one is a cause of the other). Empty: not at all.
    sets
        Conditioning sets under which each invariance is implied, the preferred one first; empty if it is not implied.
    preferred
        The invariance that the design is judged by; None if none is implied.
    sentence
        The same in words.
    """

    direction: str
    association: tuple[str, ...]
    sets: Mapping[str, Sets]
    preferred: str | None
    sentence: str


def signature(graph: CausalGraph, of: Sequence[str]) -> Signature:
    """Derive the implied invariances by d-separation.

    Parameters
    ----------
    graph
        Declared graph.
    of
        Technical factor, or several.

    Returns
    -------
    Signature
        Of predictions ``f(Z)`` of biology.

    Raises
    ------
    GraphError
        A factor that is no measured node, or the biology itself.

    Notes
    -----
    A prediction that no change of the factor changes is a function of ``Z0``: the embedding without the arrows into it
    from the factor and its technical descendants. With ``S`` the factor, ``Y`` biology, ``W`` causes that have to be
    conditioned on, and selection always conditioned on:

    - independence: ``f`` of ``S`` given ``W``, if ``W`` separates ``Z0`` from ``S``;
    - separation: ``f`` of ``S`` given ``Y`` and ``W``, if these do;
    - sufficiency: ``Y`` of ``S`` given ``f``, if ``Z0`` separates them, for a model calibrated on all sites together;
    - stability: ``Y`` of ``S`` given ``Z``, if ``Z`` separates them in the graph as declared.

    For one site and one label these are the cases of Veitch et al.: anti-causal, separation; causal direction and
    confounded, independence; causal direction and selected, separation. All are necessary and none is sufficient.

    References
    ----------
    Veitch, D'Amour, Yadlowsky, Eisenstein: Counterfactual invariance to spurious correlations. NeurIPS 2021.
    """
    if graph.biology in of:
        raise GraphError(f"{graph.biology!r} is what is predicted: of= names technical factors.")
    try:
        valid: Sets = graph.invariance(of).valid
    except NotIdentifiedError:
        valid = ()
    full, label, factors = latent_dag(graph), graph.biology, set(of)
    null = without(full, null_edges(graph, of, "total"))

    def separated(dag: nx.DiGraph, node: str, given: Sequence[str]) -> bool:
        return bool(nx.is_d_separator(dag, factors, {node}, {*given, *graph.selected}))

    with_label = dict.fromkeys(tuple(dict.fromkeys((*s, label))) for s in (*valid, ()))
    sets: dict[str, Sets] = {
        INDEPENDENCE: tuple(s for s in valid if label not in s),
        SEPARATION: tuple(s for s in with_label if separated(null, EMBEDDING, s)),
        SUFFICIENCY: ((),) if separated(null, label, [EMBEDDING]) else (),
        STABILITY: ((),) if separated(full, label, [EMBEDDING]) else (),
    }
    anti_causal = label in graph.ancestors(EMBEDDING)
    order = (SEPARATION, INDEPENDENCE) if anti_causal else (INDEPENDENCE, SEPARATION)
    direction, association = "anti-causal" if anti_causal else "causal", _association(graph, full, of)
    return Signature(
        direction=direction,
        association=association,
        sets=sets,
        preferred=next((kind for kind in order if sets[kind]), None),
        sentence=_sentence(graph, " + ".join(of), direction, association, sets),
    )


def _association(graph: CausalGraph, full: nx.DiGraph, of: Sequence[str]) -> tuple[str, ...]:
    above = nx.ancestors(full, graph.biology)
    own = set().union(*(nx.ancestors(full, factor) for factor in of))
    selecting = [nx.ancestors(full, node) for node in graph.selected]
    ways = {
        "confounded": bool((above & own) - set(of)),
        "selected": any(graph.biology in causes and causes & set(of) for causes in selecting),
        "caused": bool(above & set(of)) or graph.biology in own,
    }
    return tuple(name for name, holds in ways.items() if holds)


def _sentence(
    graph: CausalGraph, factor: str, direction: str, association: Sequence[str], sets: Mapping[str, Sets]
) -> str:
    label = graph.biology
    why = {
        "anti-causal": f"The design is anti-causal: {label} is a cause of the embedding",
        "causal": f"The design has the causal direction: {label} is no cause of the embedding",
    }[direction]
    ways = {
        "confounded": f"{factor} and {label} have a common cause (confounded)",
        "selected": f"{factor} and {label} both decide which rows there are (selected)",
        "caused": f"of {factor} and {label} one is a cause of the other",
    }
    how = " and ".join(ways[name] for name in association) or f"{factor} and {label} are not associated"
    meaning = {
        INDEPENDENCE: f"f independent of {factor}",
        SEPARATION: f"f independent of {factor} given {label}",
        SUFFICIENCY: f"f calibrated at every level of {factor} if it is so overall",
        STABILITY: f"P({label} | Z) the same at every level of {factor}",
    }
    told: dict[bool, list[str]] = {True: [], False: []}
    for kind in KINDS:
        extra = ", ".join(n for n in sets[kind][0] if n != label) if sets[kind] else ""
        joint = f"{' and' if kind == SEPARATION else ' given'} {extra}" if extra else ""
        told[bool(sets[kind])].append(f"{meaning[kind]}{joint} ({kind})")
    is_so = f"it implies {'; '.join(told[True])}" if told[True] else "it implies nothing of this kind"
    is_not = f" Not implied: {'; '.join(told[False])}." if told[False] else ""
    return f"{why}; {how}. For a prediction f that does not react to {factor} {is_so}.{is_not}"
