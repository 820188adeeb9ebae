"""Bridging studies: the same tissue under two or more levels of technical factors, as ordered pairs of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.arguments import check_type
from causalfm.cohort import Cohort
from causalfm.errors import DataError, positions
from causalfm.metrics.specimens import specimens_of
from causalfm.positivity import MIN_GROUPS
from causalfm.scm.parents import Parents, Values
from causalfm.strata import rank_within

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph

MOST_PAIRS = 1000  # ordered pairs that a fit uses: its cost grows with their cube


@dataclass(frozen=True, eq=False)
class Bridge:
    """Ordered pairs of rows of one tissue, each unordered pair in both directions.

    Attributes
    ----------
    cohort, values
        The rows, and their parents of ``Z``.
    source, target
        ``(N,)`` positions of the rows that are moved, and of where they should arrive.
    patient
        ``(N,)`` codes of the independent units.
    change
        ``(N, 2 T)`` codes of the levels before and after of each categorical technical parent; -1 where it stays.
    """

    cohort: Cohort
    values: Values
    source: np.ndarray
    target: np.ndarray
    patient: np.ndarray
    change: np.ndarray

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, chosen: Any) -> Bridge:
        patient = np.unique(self.patient[chosen], return_inverse=True)[1]
        return Bridge(self.cohort, self.values, self.source[chosen], self.target[chosen], patient, self.change[chosen])

    def weights(self) -> np.ndarray:
        """``(N,)``: pairs of a patient weigh 1 in all."""
        return np.asarray(1.0 / np.bincount(self.patient)[self.patient])

    def n_specimens(self) -> int:
        """Unordered pairs."""
        ends = np.sort(np.stack([self.source, self.target]), axis=0)
        return len(np.unique(ends, axis=1).T)


def technical_parents(graph: CausalGraph, parents: Parents) -> list[int]:
    """Positions of the technical factors among the categorical parents of ``Z``."""
    return [j for j, name in enumerate(parents.categorical) if name in graph.technical]


def changes(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Codes before and after ``(n, 2 T)`` from codes ``(n, T)`` each; -1 where a factor stays."""
    stays = source == target
    return np.concatenate([np.where(stays, -1, source), np.where(stays, -1, target)], axis=1)


def read_bridge(pairs: Cohort, graph: CausalGraph, parents: Parents, d: int) -> Bridge:
    """Lay out the pairs of a cohort in which the same tissue comes several times.

    Parameters
    ----------
    pairs
        Rows of one ``graph.specimen`` at different levels of technical factors are pairs.
    graph, parents
        Roles of the columns; regressors of the fitted model.
    d
        Dimensions of the model.

    Returns
    -------
    Bridge
        All ordered pairs.

    Raises
    ------
    DataError
        No cohort, other dimensions, no specimen declared or repeated, levels that the model never saw, tissue whose
        biology, covariates or numbers differ between its rows, fewer than three patients.
    """
    check_type(pairs, Cohort, "pairs", "pass the rows of the tissue seen several times as Cohort(X, obs)")
    if pairs.d != d:
        raise DataError(f"pairs have {pairs.d} dimensions and the model {d}: use embeddings of the same encoder.")
    specimens = specimens_of(pairs, graph)
    values = parents.read(pairs)
    one = np.concatenate([pair.left for pair in specimens.pairs])
    other = np.concatenate([pair.right for pair in specimens.pairs])
    patient = np.concatenate([pair.groups for pair in specimens.pairs])
    _refuse_other_tissue(graph, parents, values, one, other)
    technical = technical_parents(graph, parents)
    source, target = np.concatenate([one, other]), np.concatenate([other, one])
    change = changes(values.levels[source][:, technical], values.levels[target][:, technical])
    moves = (change >= 0).any(axis=1)
    if not moves.any():
        raise DataError(
            f"the rows of each {graph.specimen} differ in {', '.join(specimens.factors)} alone, no cause of Z in this "
            "graph: declare the arrow, or fit without pairs."
        )
    both = np.concatenate([patient, patient])
    found = Bridge(pairs, values, source, target, both, change)[moves]
    n = int(found.patient.max()) + 1
    if n < MIN_GROUPS:
        raise DataError(
            f"pairs come from {n} {graph.group}s: errors for new {graph.group}s need at least {MIN_GROUPS}. Add "
            f"pairs of other {graph.group}s, or fit without pairs."
        )
    return found


def spread_out(bridge: Bridge, most: int = MOST_PAIRS) -> Bridge:
    """Take at most ``most`` pairs: changes of few factors first, spread over patients and changes."""
    if len(bridge) <= most:
        return bridge
    _, key = np.unique(bridge.change, axis=0, return_inverse=True)
    key = key.reshape(-1)
    share = np.unique(key * (int(bridge.patient.max()) + 1) + bridge.patient, return_inverse=True)[1]
    within, n = rank_within(share), int(bridge.patient.max()) + 1
    order = np.lexsort(((bridge.patient - key * n // (int(key.max()) + 1)) % n, within))  # each change its own first
    turn = np.empty(len(order), dtype=np.int64)
    turn[order] = rank_within(key[order])  # of its change: patients in turn
    several = (bridge.change >= 0).sum(axis=1)
    first = np.lexsort((turn, several)) if len(np.unique(key)) > most // 8 else np.argsort(turn, kind="stable")
    return bridge[np.sort(first[:most])]


def _refuse_other_tissue(
    graph: CausalGraph, parents: Parents, values: Values, one: np.ndarray, other: np.ndarray
) -> None:
    """Refuse specimens whose rows differ in a cause of ``Z`` that is no technical factor with levels."""
    columns = [(name, values.levels[:, j]) for j, name in enumerate(parents.categorical) if name not in graph.technical]
    columns += [(name, values.numbers[:, j]) for j, name in enumerate(parents.continuous)]
    for name, column in columns:
        wrong = np.flatnonzero(column[one] != column[other])
        if len(wrong):
            why = "the same tissue has one value. Correct the table."
            if name in graph.technical:
                why = "pairs teach what levels do, at one number. Declare it in levels, or fit without pairs."
            raise DataError(
                f"column {name!r} differs between rows of the same {graph.specimen} in {len(wrong)} pairs "
                f"({positions(np.unique(one[wrong]).tolist())}): {why}"
            )
