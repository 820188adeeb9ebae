"""The same tissue seen at several levels of technical factors: which rows show which specimen, and pairs of views."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from causalfm.errors import DataError, positions
from causalfm.graph_checks import check_inputs, rows_that_vary
from causalfm.strata import joint_factor, varies_within

if TYPE_CHECKING:
    from causalfm.cohort import Cohort
    from causalfm.graph import CausalGraph


@dataclass(frozen=True, eq=False)
class Pair:
    """Two views of the same specimens.

    Attributes
    ----------
    a, b
        Names of the views: joint levels of the factors that vary within specimens.
    differs
        The factors in which they differ.
    left, right
        ``(m,)`` rows of the specimens that have both views, in the same order.
    groups
        ``(m,)`` codes of their groups.
    missing
        Specimens with one of the two views only.
    """

    a: str
    b: str
    differs: str
    left: np.ndarray
    right: np.ndarray
    groups: np.ndarray
    missing: int

    def some(self, chosen: np.ndarray) -> Pair:
        """Return the pair with some of its specimens, in their order."""
        at = np.sort(chosen)
        return replace(self, left=self.left[at], right=self.right[at], groups=self.groups[at])


@dataclass(frozen=True, eq=False)
class Specimens:
    """The paired design of a cohort.

    Attributes
    ----------
    pairs
        All pairs of views.
    factors
        The technical factors that vary within specimens.
    total, alone
        Specimens, and those seen in one view only.
    n_groups, unit
        Independent units in the cohort, and what they are.
    """

    pairs: tuple[Pair, ...]
    factors: tuple[str, ...]
    total: int
    alone: int
    n_groups: int
    unit: str


def specimens_of(cohort: Cohort, graph: CausalGraph, confounder: str | None = None) -> Specimens:
    """Read the paired design from the graph's ``specimen``.

    Parameters
    ----------
    cohort, graph
        Data and roles.
    confounder
        Keep the pairs that differ in this technical factor alone; None keeps all.

    Raises
    ------
    DataError
        No specimen is declared, a specimen lies in several groups or has several rows in one view, or no technical
        factor (or not this one, or never by itself) varies within specimens.
    """
    check_inputs(cohort, graph)
    if graph.specimen is None:
        raise DataError(
            "the graph declares no specimen: name the column that marks the same tissue seen at several levels of a "
            "technical factor, CausalGraph(..., specimen=...)."
        )
    specimen, group = cohort.factor(graph.specimen, private=True), cohort.factor(graph.group, private=True)
    rows, count, total = rows_that_vary(cohort, graph.group, graph.specimen)
    if count:
        raise DataError(
            f"{count} of {total} levels of {graph.specimen!r} lie in several levels of {graph.group!r} "
            f"({positions(rows)}): a specimen is a piece of one {graph.group}. Correct the table."
        )
    factors = tuple(t for t in graph.technical if varies_within(cohort.factor(t).codes, specimen).any())
    if not factors or (confounder is not None and confounder not in factors):
        wanted = ", ".join(map(repr, graph.technical)) if confounder is None else repr(confounder)
        raise DataError(
            f"no specimen is seen at several levels of {wanted}: paired metrics need the same tissue twice. Technical "
            f"factors that vary within {graph.specimen!r}: {', '.join(map(repr, factors)) or 'none'}."
            f"{' Choose one of these.' if factors else ' Declare the column that marks the same tissue.'}"
        )
    view = joint_factor(cohort, factors)
    where = np.full((specimen.n_levels, view.n_levels), -1)
    where[specimen.codes, view.codes] = np.arange(len(cohort))
    again = np.flatnonzero(where[specimen.codes, view.codes] != np.arange(len(cohort)))
    if len(again):
        raise DataError(
            f"{len(again)} rows repeat a specimen at the same {' and '.join(factors)} ({positions(again.tolist())}): "
            f"which rows match is open. Let {graph.specimen!r} mark what was registered, such as the tile, or average "
            "the rows first."
        )
    levels = np.stack([cohort.factor(t).codes for t in factors], axis=1)[np.unique(view.codes, return_index=True)[1]]
    owner = np.empty(specimen.n_levels, dtype=np.int64)
    owner[specimen.codes] = group.codes
    seen = where >= 0
    pairs = []
    for a, b in combinations(range(view.n_levels), 2):
        differs = tuple(t for t, differ in zip(factors, levels[a] != levels[b], strict=True) if differ)
        if confounder is not None and differs != (confounder,):
            continue
        both = np.flatnonzero(seen[:, a] & seen[:, b])
        missing = int((seen[:, a] ^ seen[:, b]).sum())
        rows_of = where[both, a], where[both, b]
        pairs.append(Pair(view.levels[a], view.levels[b], " + ".join(differs), *rows_of, owner[both], missing))
    if not pairs:
        others = ", ".join(repr(t) for t in factors if t != confounder)
        raise DataError(
            f"no two views of a {graph.specimen} differ in {confounder!r} alone: it changes together with {others}, so "
            "that what it does cannot be told from theirs. Leave confounder out for all pairs of views."
        )
    alone = int((seen.sum(axis=1) == 1).sum())
    return Specimens(tuple(pairs), factors, specimen.n_levels, alone, group.n_levels, graph.group)
