"""Performance where some mechanisms come from the deployment and the others from the reference, with influences."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from causalfm.shift.reasons.graph_players import Player
from causalfm.shift.reasons.swap_ratios import Ratios, effective_units, normalised
from causalfm.shift.reasons.swap_table import DEPLOYMENT, MAIN, REFERENCE, SwapTable

Coalition = frozenset[int]  # positions of swapped players; the embedding is the last one
RIDGE = 1.0  # one patient's worth: an accuracy has a standard deviation of at most 1/2


@dataclass(frozen=True, eq=False)
class SwapValues:
    """Values of coalitions.

    Attributes
    ----------
    coalitions
        Which were asked for.
    values
        ``(coalitions,)`` performance under each.
    influence
        ``(units, coalitions)`` what a unit adds to the value; the columns add up to 0 in each domain. Or empty.
    effective
        Least effective number of units behind any of the values.
    """

    coalitions: tuple[Coalition, ...]
    values: np.ndarray
    influence: np.ndarray
    effective: float

    def at(self, coalition: Iterable[int]) -> int:
        """Return the position of a coalition."""
        return self.coalitions.index(frozenset(coalition))


def swap_values(
    table: SwapTable,
    players: Sequence[Player],
    ratios: Ratios,
    coalitions: Sequence[Coalition],
    *,
    influences: bool = True,
) -> SwapValues:
    """Estimate ``E[performance]`` where the mechanisms of a coalition are the deployment's.

    Parameters
    ----------
    table
        Items of both domains.
    players
        Scalar mechanisms, causes first; player ``len(players)`` is the embedding given all of them.
    ratios
        Of the players.
    coalitions
        Sets of positions.
    influences
        Whether they are wanted.

    Returns
    -------
    SwapValues
        Multiply robust: nested regressions of the performance on ever fewer nodes, each corrected by its residual in
        the domain that its mechanism comes from, reweighted to the mixed distribution. An error in the regressions
        counts only times an error in the ratios. Both are fitted without the patient at hand.

    Notes
    -----
    For players ``1..K`` with mechanisms from the domains ``c_1..c_K`` and the performance from ``z``: ``E_{c_1}[g_1] +
    sum_k E_{c_k}[W_k (g_k - g_{k-1})] + E_z[W (l - g_K)]``, with ``g_K = E_z[l | x]``, ``g_{k-1} = E_{c_k}[g_k | x_1
    .. x_{k-1}]`` and ``W_k`` the product of the ratios of the mechanisms before ``k`` whose domain is not ``c_k``. With
    one domain throughout the terms telescope to that domain's mean, so that contributions add up to the drop exactly.

    References
    ----------
    Zhang et al., "Why did the model fail?", ICML 2023, arXiv:2210.10769; Quintas-Martinez et al., Multiply-robust
    causal change attribution, ICML 2024.
    """
    predictions = _nested_regressions(table, players, ratios.folds)
    weigh = _Weigher(table, ratios.log)
    n_units = int(table.units.max()) + 1
    influence, values = np.zeros((n_units if influences else 0, len(coalitions))), np.zeros(len(coalitions))
    for c, coalition in enumerate(coalitions):
        source = tuple(DEPLOYMENT if i in coalition else REFERENCE for i in range(len(players) + 1))
        for k, domain in enumerate(source):
            rows, weights = weigh.towards(source[:k], domain)
            term = (predictions[k + 1, source[k + 1 :]] if k < len(players) else table.loss)[rows]
            if k:
                term = term - predictions[k, source[k:]][rows]
            mean = float(weights @ term)
            values[c] += mean
            if influences:
                influence[:, c] += np.bincount(table.units[rows], weights * (term - mean), n_units)
    return SwapValues(tuple(coalitions), values, influence, weigh.effective)


class _Weigher:
    """Rows of a domain and their weights, which add up to 1, towards mixed distributions; each is computed once."""

    def __init__(self, table: SwapTable, log: np.ndarray) -> None:
        self.table, self.log = table, log
        self.rows = [np.flatnonzero(table.domain == side) for side in (REFERENCE, DEPLOYMENT)]
        self.known: dict[tuple[int, tuple[int, ...]], np.ndarray] = {}
        self.effective = float("inf")

    def towards(self, before: Sequence[int], domain: int) -> tuple[np.ndarray, np.ndarray]:
        """Turn ``x_1 .. x_k`` of a domain into those whose mechanisms come from the domains ``before``."""
        rows = self.rows[domain]
        moved = tuple(k for k, source in enumerate(before) if source != domain)
        if (domain, moved) not in self.known:
            weights = self.table.weights[rows]
            log = self.log[rows][:, moved].sum(axis=1) * (1.0 if domain == REFERENCE else -1.0)
            ratio = normalised(log, weights)
            if moved:
                self.effective = min(self.effective, effective_units(ratio, weights, self.table.units[rows]))
            self.known[domain, moved] = weights * ratio / weights.sum()
        return rows, self.known[domain, moved]


def _nested_regressions(
    table: SwapTable, players: Sequence[Player], folds: np.ndarray
) -> Mapping[tuple[int, tuple[int, ...]], np.ndarray]:
    """Return ``g_k`` at every item, by ``k`` and the domains of the mechanisms ``k + 1 .. K`` and of the embedding."""
    count = len(players)
    nodes = [tuple(node for player in players[:k] for node in player.nodes) for k in range(count + 1)]
    designs = [table.regressors(names) for names in nodes]
    out = {
        (k, source): np.zeros(len(folds))
        for k in range(1, count + 1)
        for source in itertools.product((REFERENCE, DEPLOYMENT), repeat=count + 1 - k)
    }
    for fold in np.unique(folds):
        train, test = folds != fold, folds == fold
        known: dict[tuple[int, ...], np.ndarray] = {(): table.loss[train]}
        for k in range(count, 0, -1):
            design, above = designs[k][0][train], list(known)
            stacked = np.stack([known[source] for source in above], axis=1)
            known = {}
            for domain in (REFERENCE, DEPLOYMENT):
                rows = table.domain[train] == domain
                beta = _ridge(design[rows], designs[k][1], stacked[rows], table.weights[train][rows])
                fitted, held = design @ beta, designs[k][0][test] @ beta
                for j, source in enumerate(above):
                    known[domain, *source] = fitted[:, j]
                    out[k, (domain, *source)][test] = held[:, j]
    return out


def _ridge(design: np.ndarray, size: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted ridge regression of several targets; coefficients are expected as large as ``size / MAIN``."""
    penalty = RIDGE * (MAIN / size) ** 2
    weighted = design.T * weights
    return np.asarray(np.linalg.solve(weighted @ design + np.diag(penalty), weighted @ targets))
