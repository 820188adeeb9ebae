"""What the fits of ratios and regressions add to the variance of the shares: refits without blocks of patients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from causalfm.metrics.learners import grouped_folds
from causalfm.shift.reasons.graph_players import Player
from causalfm.shift.reasons.swap_ratios import cross_fitted_ratios
from causalfm.shift.reasons.swap_table import SwapTable
from causalfm.shift.reasons.swap_values import SwapValues, swap_values

BLOCKS = 10


def refit_variance(
    table: SwapTable,
    players: Sequence[Player],
    folds: np.ndarray,
    values: SwapValues,
    weights: np.ndarray,
    random_state: int,
) -> np.ndarray:
    """Variance of the shares beyond that of their influences.

    Parameters
    ----------
    table, players, folds
        What the values were estimated from.
    values
        Of the coalitions, with influences.
    weights
        ``(shares, coalitions)``: shares are weighted sums of the values.
    random_state
        Seed of the blocks.

    Returns
    -------
    numpy.ndarray
        ``(shares,)``.

    Notes
    -----
    Influences hold to first order, where the errors of ratios and regressions multiply to nothing. A share is close to
    a product of two changes (the mechanism's, and the performance's along it); where both are about 0 its influence
    vanishes and the product of the errors is all there is: intervals from influences alone covered 77-88 % there. The
    delete-a-block jackknife of what the influences do not predict measures it, and is about 0 elsewhere.
    """
    units = np.arange(int(table.units.max()) + 1)
    domain = np.zeros(len(units), dtype=np.int64)
    domain[table.units] = table.domain
    blocks = grouped_folds(domain, units, BLOCKS, random_state)
    shares, psi = weights @ values.values, values.influence @ weights.T
    surprise = []
    for block in range(BLOCKS):
        out = blocks == block
        rows = ~out[table.units]
        part, _ = table.subset(rows)
        ratios = cross_fitted_ratios(part, players, folds[rows])
        without = weights @ swap_values(part, players, ratios, values.coalitions, influences=False).values
        sizes = np.bincount(domain)
        grown = (sizes / (sizes - np.bincount(domain[out], minlength=len(sizes))))[domain]
        surprise.append(without - (shares - (psi * (grown * out)[:, None]).sum(axis=0)))
    spread = np.stack(surprise)
    return np.asarray((BLOCKS - 1) / BLOCKS * ((spread - spread.mean(axis=0)) ** 2).sum(axis=0))
