"""DoWhy's own attribution of the same change, as a second opinion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from causalfm.arrows import EMBEDDING
from causalfm.shift.reasons.graph_players import Player
from causalfm.shift.reasons.swap_table import DEPLOYMENT, REFERENCE, SwapTable

MOST_UNITS = 500  # of a domain: DoWhy fits every mixture anew
MOST_NODES = 5


def dowhy_opinion(table: SwapTable, players: Sequence[Player], *, random_state: int = 0) -> dict[str, Any]:
    """Ask ``dowhy.gcm.distribution_change_robust`` for the shares of the drop.

    Parameters
    ----------
    table
        Items of both domains.
    players
        Mechanisms that can be swapped; the embedding's is the rest.
    random_state
        Seed of DoWhy's folds and of the sample.

    Returns
    -------
    dict
        ``"shares"`` by mechanism, the embedding's under ``"Z"``; ``"units"`` that were used. DoWhy gives no interval,
        its folds may split a patient's items, it crops probabilities at .001, and gives every node all before it.
    """
    from causalfm.estimators.peers.dowhy_change import dowhy_change

    nodes = [node for player in players for node in player.nodes]
    if not 1 <= len(nodes) <= MOST_NODES:
        return {"shares": {}, "reason": f"{len(nodes)} nodes: DoWhy is asked about 1 to {MOST_NODES}"}
    rng = np.random.default_rng(random_state)
    chosen = []
    for side in (REFERENCE, DEPLOYMENT):
        units = np.unique(table.units[table.domain == side])
        chosen.append(units if len(units) <= MOST_UNITS else rng.choice(units, MOST_UNITS, replace=False))
    part, used = table.subset(np.isin(table.units, np.concatenate(chosen)))
    found = -dowhy_change(
        [_codes(part, node) for node in nodes],
        [len(np.unique(part.columns[node])) if node in part.levels else 0 for node in nodes],
        part.loss,
        part.domain,
        weights=part.weights,
        random_state=random_state,
    )
    by_node = dict(zip(nodes, found[:-1].tolist(), strict=True))
    shares = {player.mechanism: sum(by_node[node] for node in player.nodes) for player in players}
    return {"shares": {**shares, EMBEDDING: float(found[-1])}, "units": len(used)}


def _codes(table: SwapTable, node: str) -> np.ndarray:
    values = table.columns[node]
    return np.unique(values, return_inverse=True)[1].reshape(-1) if node in table.levels else values
