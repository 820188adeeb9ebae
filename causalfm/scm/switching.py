"""Send a factor's level along some of its arrows only, and share what that changes out over the arrows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import networkx as nx
import numpy as np

from causalfm.arrows import EMBEDDING
from causalfm.errors import DataError
from causalfm.scm.fitted import Fitted

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph

MOST_ARROWS = 6  # all their subsets are looked at


@dataclass(frozen=True, eq=False)
class Patients:
    """Patients of one level after some arrows carry another level.

    Attributes
    ----------
    cell
        ``(E,)`` row of ``fitted.joint`` where they were seen.
    codes
        ``(E, k)`` levels of the measured nodes now.
    weight
        ``(E,)``, adding up to 1.
    """

    cell: np.ndarray
    codes: np.ndarray
    weight: np.ndarray


def arrows_out(graph: CausalGraph, of: str) -> list[str]:
    """Nodes that a factor changes directly on its way to ``Z``, and the factor itself for its own arrow into ``Z``."""
    leading = {*graph.ancestors(EMBEDDING), EMBEDDING}
    children = [n for n in graph.children(of) if n in leading and n != EMBEDDING]
    return [of, *children] if EMBEDDING in graph.children(of) else children


def switched(fitted: Fitted, graph: CausalGraph, of: str, level: str, other: str, arrows: frozenset[str]) -> Patients:
    """Give the patients seen at ``level`` what ``other`` would send along some arrows of a factor.

    Parameters
    ----------
    fitted, graph
        Model and graph.
    of
        The factor.
    level, other
        Where the patients were seen, and what the arrows carry instead.
    arrows
        Out of :func:`arrows_out`.

    Returns
    -------
    Patients
        A node at the head of a switched arrow, and what follows from it, takes its shares given its causes: means need
        no abducted noise. Numbers stay.

    Raises
    ------
    DataError
        Causes of a node that were not seen together.
    """
    at, names = fitted.columns.index(of), fitted.levels[fitted.columns.index(of)]
    cell = np.flatnonzero(fitted.joint[:, at] == names.index(level))
    codes, weight = fitted.joint[cell].copy(), fitted.patients[cell] / fitted.patients[cell].sum()
    below = set(graph.descendants(of)) & set(graph.ancestors(EMBEDDING))
    moved: set[str] = set()
    for node in [n for n in nx.topological_sort(nx.DiGraph(graph.edges)) if n in below & set(fitted.tables)]:
        table = fitted.tables[node]
        if node not in arrows and not moved & set(table.parents):
            continue
        moved.add(node)
        causes = codes[:, [fitted.columns.index(p) for p in table.parents]]
        if node in arrows:
            causes[:, table.parents.index(of)] = names.index(other)
        shares = table.shares()[table.locate(causes)]
        K = shares.shape[1]
        cell, codes = np.repeat(cell, K), np.repeat(codes, K, axis=0)
        codes[:, fitted.columns.index(node)] = np.tile(np.arange(K), len(shares))
        weight = (weight[:, None] * shares).reshape(-1)
        kept = weight > 0
        cell, codes, weight = cell[kept], codes[kept], weight[kept]
    if of in arrows:
        codes[:, at] = names.index(other)
    return Patients(cell, codes, weight)


def share_out(
    value: Callable[[str, str, frozenset[str]], np.ndarray], groups: Sequence[tuple[str, ...]], a: str, b: str
) -> tuple[list[np.ndarray], np.ndarray]:
    """Split ``value(a, b, {}) - value(b, a, {})`` into what each group of arrows carries, and the rest.

    Parameters
    ----------
    value
        Mean over the patients of the first level after the arrows carry the second one.
    groups
        Arrows that are switched together.
    a, b
        The levels.

    Returns
    -------
    carried : list of numpy.ndarray
        Per group, averaged over all orders of switching (Shapley) and over both levels' patients.
    rest : numpy.ndarray
        The gap if all groups carried the same level: patients who differ.

    Raises
    ------
    DataError
        More than six groups.
    """
    if len(groups) > MOST_ARROWS:
        raise DataError(f"{len(groups)} arrows leave the factor: their order matters; merge nodes to {MOST_ARROWS}.")
    every = range(len(groups))
    subsets = [s for size in range(len(groups) + 1) for s in itertools.combinations(every, size)]
    sides = []
    for level, other in ((a, b), (b, a)):
        sides.append({s: value(level, other, frozenset().union(*(groups[g] for g in s))) for s in subsets})
    n, full = len(groups), tuple(every)
    carried = []
    for g in every:
        total = np.zeros_like(sides[0][()])
        for s in subsets:
            if g in s:
                continue
            weight = math.factorial(len(s)) * math.factorial(n - len(s) - 1) / math.factorial(n)
            joined = tuple(sorted((*s, g)))
            total = total + weight * (sides[0][s] - sides[0][joined] + sides[1][joined] - sides[1][s])
        carried.append(total / 2.0)
    rest = (sides[0][full] - sides[1][()] + sides[0][()] - sides[1][full]) / 2.0
    return carried, rest
