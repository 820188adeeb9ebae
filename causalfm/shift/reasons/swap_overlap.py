"""Which mechanisms can be swapped by reweighting, and which cannot: overlap first, nothing clipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from causalfm.shift.domains import Domains
from causalfm.shift.reasons.graph_players import Player, players_of
from causalfm.shift.reasons.swap_ratios import Ratios, beyond, cross_fitted_ratios, effective_of
from causalfm.shift.reasons.swap_table import DEPLOYMENT, REFERENCE, SwapTable

MINIMUM = 20  # effective units behind a share, and labelled units of the deployment
OUTSIDE = 0.05  # share of a domain's units that may lie beyond anything in the other


@dataclass(frozen=True, eq=False)
class Gate:
    """What can be swapped.

    Attributes
    ----------
    table
        Items that take part: those of the deployment at unseen levels are off.
    units
        ``(units of table,)`` their codes in the whole table.
    kept
        ``(m,)`` which items of the whole table take part.
    players, ratios
        Mechanisms that can be swapped.
    effective
        Effective units behind each player's own reweighting.
    orders, why_orders
        ``"all"`` or ``"causal"``, and why.
    left_out, reasons
        Players that cannot be swapped on their own, and the reason for each node.
    new_levels, new_units
        Unseen levels by node whose rows are a share of their own, and the number of units with such rows.
    """

    table: SwapTable
    units: np.ndarray
    kept: np.ndarray
    players: tuple[Player, ...]
    ratios: Ratios
    effective: tuple[float, ...]
    orders: str
    why_orders: str
    left_out: tuple[Player, ...]
    reasons: Mapping[str, str]
    new_levels: Mapping[str, tuple[str, ...]]
    new_units: float


def overlap_gate(domains: Domains, table: SwapTable, folds: np.ndarray, orders: str) -> Gate:
    """Leave out what the reference does not have, until every mechanism left can be swapped.

    Parameters
    ----------
    domains
        For the graph and the site.
    table, folds
        Items and their folds.
    orders
        ``"auto"``, ``"all"`` or ``"causal"``.

    Returns
    -------
    Gate
        An unseen site is left out. Rows at unseen levels of other columns are a share of their own if enough units
        have others, else the column is left out. So is a player, if reweighting the reference by it leaves too few
        effective units or does not reach the deployment.
    """
    kept, new, reasons = _unseen(domains, table)
    part, units = table.subset(kept)
    part_folds = folds[kept]
    while True:
        players = players_of(domains.graph, reasons)
        ratios = cross_fitted_ratios(part, players, part_folds)
        forward = _failures(part, players, ratios, DEPLOYMENT)
        if forward:  # the first cause alone: what comes after it may fail only given it
            first = next(player for player in players if set(player.nodes) & set(forward))
            reasons |= {node: forward[node] for node in first.nodes if node in forward}
            continue
        effective = [effective_of(ratios.log[:, i], part, REFERENCE) for i in range(len(players))]
        whole = min((effective_of(log, part, REFERENCE) for log in ratios.log.cumsum(axis=1).T), default=np.inf)
        if whole >= MINIMUM:
            break
        least = players[int(np.argmin(effective))]
        reasons |= dict.fromkeys(
            least.nodes, f"with the other mechanisms it leaves {whole:.0f} effective units of the reference"
        )
    backward = _failures(part, players, ratios, REFERENCE)
    chosen = "causal" if backward or orders == "causal" else "all"
    why = "; ".join(f"{node}: {reason}" for node, reason in backward.items()) or "the two domains overlap both ways"
    full = players_of(domains.graph)
    left = tuple(player for player in full if set(player.nodes) & set(reasons))
    counted = float(len(np.unique(table.units[~kept])))
    return Gate(part, units, kept, players, ratios, tuple(effective), chosen, why, left, dict(reasons), new, counted)


def _unseen(domains: Domains, table: SwapTable) -> tuple[np.ndarray, dict[str, tuple[str, ...]], dict[str, str]]:
    """Return the rows that stay, levels whose rows are split off, and nodes that are left out."""
    kept = np.ones(len(table.domain), dtype=bool)
    new: dict[str, tuple[str, ...]] = {}
    reasons: dict[str, str] = {}
    for node in table.levels:
        if not (unseen := table.missing_levels(node, of=DEPLOYMENT, among=REFERENCE)):
            continue
        codes = [table.levels[node].index(level) for level in unseen]
        rows = (table.domain == DEPLOYMENT) & np.isin(table.columns[node], codes)
        left = len(np.unique(table.units[(table.domain == DEPLOYMENT) & kept & ~rows]))
        words = f"the reference does not have {node} {', '.join(unseen)}"
        if node == domains.site or left < MINIMUM:
            reasons[node] = words
        else:
            kept &= ~rows
            new[node] = unseen
    return kept, new, reasons


def _failures(table: SwapTable, players: Sequence[Player], ratios: Ratios, of: int) -> dict[str, str]:
    """Say of which nodes one domain has values that the other cannot be reweighted to."""
    other = 1 - of
    here, there = ("deployment", "reference") if of == DEPLOYMENT else ("reference", "deployment")
    out: dict[str, str] = {}
    for i, player in enumerate(players):
        log = ratios.log[:, i]
        effective, far = effective_of(log, table, other), beyond(log, table, of)
        missing = {node: table.missing_levels(node, of=of, among=other) for node in player.nodes}
        if any(missing.values()):
            out |= {node: f"the {there} does not have {node} {', '.join(m)}" for node, m in missing.items() if m}
        elif effective < MINIMUM:
            words = f"reweighting the {there} by it leaves {effective:.0f} effective units of {MINIMUM} needed"
            out |= dict.fromkeys(player.nodes, words)
        elif far > OUTSIDE:
            words = f"{far:.0%} of the {here}'s units lie beyond anything in the {there}"
            out |= dict.fromkeys(player.nodes, words)
    return out
