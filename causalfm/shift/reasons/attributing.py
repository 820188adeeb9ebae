"""Why performance dropped: Shapley values over the mechanisms of the declared graph."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import stats

from causalfm.arguments import check_seed
from causalfm.arrows import EMBEDDING
from causalfm.confidence import bounds_in_force, level_in_force
from causalfm.errors import DataError
from causalfm.metrics.learners import grouped_folds
from causalfm.results import Verdict, verdict_against, worst
from causalfm.shift.costs.labelled_rows import pooled_drop
from causalfm.shift.domains import Domains
from causalfm.shift.reasons.attribution_result import (
    EMBEDDING_ROLE,
    NEW_SUPPORT,
    Attribution,
    Share,
    attribution_sentence,
    share_words,
)
from causalfm.shift.reasons.graph_players import Player, formula, players_of
from causalfm.shift.reasons.swap_overlap import MINIMUM, Gate, overlap_gate
from causalfm.shift.reasons.swap_refits import BLOCKS, refit_variance
from causalfm.shift.reasons.swap_table import DEPLOYMENT, REFERENCE, SwapTable, swap_table
from causalfm.shift.reasons.swap_values import Coalition, SwapValues, swap_values

Orders = Literal["auto", "all", "causal"]
FOLDS = 5
MOST = 8  # players: their coalitions are enumerated
RARE = 3  # units on the rarer side (all right, any wrong) below which a normal interval is too narrow
NAN = float("nan")
TARGET = "these hospitals: patients drawn anew from the reference's and the deployment's"


def attribution(
    domains: Domains,
    *,
    margin: float = 0.05,
    orders: Orders = "auto",
    second_opinion: bool = False,
    random_state: int | None = None,
) -> Attribution:
    """Share the drop in accuracy among the mechanisms of the declared graph.

    Parameters
    ----------
    domains
        Reference and deployment; the deployment's labelled patients are taken as a random sample of it.
    margin
        Loss that one mechanism may cause: the verdict of each share is against it.
    orders
        ``"all"``: every order of swapping the mechanisms (Shapley values; the reference must lie within the
        deployment's support as well); ``"causal"``: causes first, in the order of the rows, and the embedding
        last, so that what two changes do together belongs to the later one; ``"auto"``: all where the data allow it,
        else causal.
    second_opinion
        Ask DoWhy as well, on a sample: seconds to a minute.
    random_state
        Seed of the folds; the domains' by default.

    Returns
    -------
    Attribution
        Shares with intervals clustered by unit. A factor with no overlap is "cannot tell" on its own, and what it does
        is in the share of the embedding, which says so. With too few labels everything is.

    Raises
    ------
    DataError
        More than eight mechanisms, or a column that cannot be read.

    Notes
    -----
    Assumptions: the graph; within overlap, ratios or accuracies that are smooth in the numbers. The share of
    ``P(Z | parents)`` is what reweighting the reference by all other mechanisms leaves. See
    :func:`causalfm.shift.reasons.swap_values.swap_values`.

    References
    ----------
    Zhang et al., "Why did the model fail?": attributing model performance changes to distribution shifts, ICML 2023;
    Frye et al., Asymmetric Shapley values, NeurIPS 2020.
    """
    seed = domains.random_state if random_state is None else random_state
    check_seed(seed)
    if orders not in ("auto", "all", "causal"):
        raise DataError(f"orders={orders!r}: choose 'auto', 'all' or 'causal'.")
    unit, n = domains.graph.group, int(domains.reference.known.sum() + domains.deployment.known.sum())
    labelled = len(np.unique(domains.deployment.units[domains.deployment.known]))
    if labelled < MINIMUM:
        return _untold(domains, labelled, n)
    players = players_of(domains.graph)
    if len(players) >= MOST:
        raise DataError(f"the graph has {len(players) + 1} mechanisms and {MOST} can be swapped: declare fewer nodes.")
    whole = swap_table(domains, [node for player in players for node in player.nodes])
    folds = grouped_folds(whole.domain, whole.units, FOLDS, seed)
    gate = overlap_gate(domains, whole, folds, orders)
    values = swap_values(gate.table, gate.players, gate.ratios, _coalitions(gate))
    if gate.orders == "all" and values.effective < MINIMUM:
        why = f"some mixtures of the two domains leave {values.effective:.0f} effective {unit}s"
        gate = dataclasses.replace(gate, orders="causal", why_orders=why)
        values = swap_values(gate.table, gate.players, gate.ratios, _coalitions(gate))
    if orders == "all" and gate.orders == "causal":
        raise DataError(f"orders='all' is not possible: {gate.why_orders}. Choose 'auto' or 'causal'.")
    found = _contributions(whole, gate, values, seed)
    shares = _shares(gate, found, margin)
    drop = float(found.values[-1]), *pooled_drop(domains)[1:]
    named = sorted((s for s in shares if s.told and s.low_of_all > 0.0), key=lambda s: -s.value)
    details: dict[str, Any] = {"target": TARGET, "margin": margin, "labelled": labelled, "left_out": gate.reasons}
    details |= {"effective": values.effective, "folds": FOLDS, "orders": gate.why_orders, "random_state": seed}
    if second_opinion:
        from causalfm.shift.reasons.dowhy_opinion import dowhy_opinion

        details["second_opinion"] = dowhy_opinion(gate.table, gate.players, random_state=seed)
    names = tuple(s.mechanism for s in named)
    return Attribution(
        *drop,
        (whole.mean(REFERENCE), whole.mean(DEPLOYMENT)),
        shares,
        names,
        gate.orders,
        worst([s.verdict for s in shares if s.told]),
        attribution_sentence(drop, shares, names),
        n,
        int(whole.units.max()) + 1,
        unit,
        details,
    )


def _untold(domains: Domains, labelled: int, n: int) -> Attribution:
    known = domains.deployment.known
    words = (
        f"Cannot tell what the change comes from: {labelled} {domains.graph.group}s of the deployment have a "
        f"{domains.graph.biology}, and {MINIMUM} are needed. Label a random sample of them."
    )
    details = {"target": TARGET, "labelled": labelled, "needed": MINIMUM, "unlabelled_rows": int((~known).sum())}
    units = int(domains.reference.units.max()) + 1 + labelled
    nothing = (NAN, NAN, NAN, (NAN, NAN), (), (), "causal")
    return Attribution(*nothing, "cannot tell", words, n, units, domains.graph.group, details)


@dataclass(frozen=True, eq=False)
class _Contributions:
    """Shares of players, embedding, new support (if any) and, last, the drop.

    ``values (J,)``, ``influence (units, J)``, ``domain (units,)``, ``added (J,)`` variance beyond the influences', and
    the least variance.
    """

    values: np.ndarray
    influence: np.ndarray
    domain: np.ndarray
    added: np.ndarray
    floor: float

    def interval(self, j: int, looks: int = 1, level: float | None = None) -> tuple[float, float, float]:
        """Return value and t interval, Welch's degrees of freedom over the two domains."""
        parts, sizes = [], []
        for side in (REFERENCE, DEPLOYMENT):
            psi = self.influence[self.domain == side, j]
            sizes.append(len(psi))
            parts.append(float((psi**2).sum()) * len(psi) / (len(psi) - 1))
        extra = float(self.added[j])
        total = max(sum(parts) + extra, self.floor, 1e-24)
        squares = sum(p**2 / (m - 1) for p, m in zip(parts, sizes, strict=True)) + extra**2 / (BLOCKS - 1)
        df = total**2 / max(squares, 1e-48)
        tail = (1.0 - level_in_force(level)) / 2.0 / looks
        half = float(stats.t.ppf(1.0 - tail, min(df, sum(sizes) - 2))) * total**0.5
        value = float(self.values[j])
        return value, value - half, value + half


def _contributions(whole: SwapTable, gate: Gate, found: SwapValues, seed: int) -> _Contributions:
    weights = shapley_weights(gate, found.coalitions)
    added = refit_variance(gate.table, gate.players, gate.ratios.folds, found, weights, seed)
    shares, influence = -weights @ found.values, -found.influence @ weights.T
    n_units = int(whole.units.max()) + 1
    domain = np.zeros(n_units, dtype=np.int64)
    domain[whole.units] = whole.domain
    spread = np.zeros((n_units, len(shares)))
    spread[gate.units] = influence
    sides = [_mean_influence(whole, whole.domain == side, n_units) for side in (REFERENCE, DEPLOYMENT)]
    if gate.new_levels:
        kept = (whole.domain == DEPLOYMENT) & gate.kept
        inside = _mean_influence(whole, kept, n_units)
        shares = np.append(shares, inside[0] - sides[DEPLOYMENT][0])
        spread = np.column_stack([spread, inside[1] - sides[DEPLOYMENT][1]])
    values = np.append(shares, sides[REFERENCE][0] - sides[DEPLOYMENT][0])
    spread = np.column_stack([spread, sides[REFERENCE][1] - sides[DEPLOYMENT][1]])
    added = np.concatenate([added, np.zeros(len(values) - len(added))])
    return _Contributions(values, spread, domain, added, _floor(whole))


def _mean_influence(table: SwapTable, rows: np.ndarray, n_units: int) -> tuple[float, np.ndarray]:
    weights = table.weights[rows]
    mean = float(np.average(table.loss[rows], weights=weights))
    return mean, np.bincount(table.units[rows], weights * (table.loss[rows] - mean), n_units) / weights.sum()


def _floor(table: SwapTable) -> float:
    """Return the least variance of a share: 0, or that of one more error in each domain where errors or hits are rare.

    As in :func:`causalfm.metrics.recall.discordance_floor`.
    """
    out, rare = 0.0, False
    for side in (REFERENCE, DEPLOYMENT):
        rows = table.domain == side
        share = np.bincount(table.units[rows], table.weights[rows] * table.loss[rows])[np.unique(table.units[rows])]
        rare |= min(int((share < 1.0 - 1e-9).sum()), int((share > 1e-9).sum())) < RARE
        out += 1.0 / (len(share) + 2.0) ** 2
    return out if rare else 0.0


def shapley_weights(gate: Gate, coalitions: Sequence[Coalition]) -> np.ndarray:
    """``(players + 1, coalitions)``: what multiplies the values of coalitions in every player's mean contribution."""
    position = {coalition: i for i, coalition in enumerate(coalitions)}
    out = np.zeros((len(gate.players) + 1, len(coalitions)))
    orders = _orders(gate)
    for order in orders:
        for i, player in enumerate(order):
            out[player, position[frozenset(order[: i + 1])]] += 1.0 / len(orders)
            out[player, position[frozenset(order[:i])]] -= 1.0 / len(orders)
    return out


def _orders(gate: Gate) -> list[tuple[int, ...]]:
    last = len(gate.players)
    if gate.orders == "all":
        return list(itertools.permutations(range(last + 1)))
    return [tuple(range(last + 1))]


def _coalitions(gate: Gate) -> list[Coalition]:
    return list(dict.fromkeys(frozenset(order[:i]) for order in _orders(gate) for i in range(len(order) + 1)))


def _shares(gate: Gate, found: _Contributions, margin: float) -> tuple[Share, ...]:
    count = len(found.values) - 1
    measured = tuple(node for player in gate.players for node in player.nodes)
    unseen = tuple(gate.reasons)
    rows: list[tuple[str, str, tuple[str, ...], str, float]] = []
    for player, effective in zip(gate.players, gate.effective, strict=True):
        rows.append(_row(player.role, player.nodes, player.given, effective))
    label = (*unseen, EMBEDDING) if unseen else (EMBEDDING,)
    words = share_words(EMBEDDING_ROLE, (EMBEDDING,), measured)
    if unseen:
        words += f", and with {', '.join(unseen)}, which reweighting cannot express"
    everyone = float(gate.table.n_units(DEPLOYMENT))
    rows.append((formula(label, measured), EMBEDDING_ROLE, label, words, everyone))
    if gate.new_levels:
        nodes = tuple(gate.new_levels)
        rows.append((NEW_SUPPORT, NEW_SUPPORT, nodes, share_words(NEW_SUPPORT, nodes, ()), gate.new_units))
    out = []
    for j, (mechanism, role, nodes, words, effective) in enumerate(rows):
        value, low, high = found.interval(j)
        _, low_all, high_all = found.interval(j, count)
        verdict: Verdict = verdict_against(*found.interval(j, level=bounds_in_force())[1:], margin)
        out.append(Share(mechanism, role, nodes, value, low, high, low_all, high_all, effective, verdict, words))
    return (*out, *_left_out(gate.left_out, gate.reasons))


def _row(
    role: str, nodes: tuple[str, ...], given: tuple[str, ...], effective: float
) -> tuple[str, str, tuple[str, ...], str, float]:
    return formula(nodes, given), role, nodes, share_words(role, nodes, given), effective


def _left_out(players: Sequence[Player], reasons: Mapping[str, str]) -> list[Share]:
    out = []
    for player in players:
        why = "; ".join(reasons[node] for node in player.nodes if node in reasons)
        words = f"Cannot tell the share of {player.mechanism}: {why}."
        out.append(Share(player.mechanism, player.role, player.nodes, *(NAN,) * 5, NAN, "cannot tell", words))
    return out
