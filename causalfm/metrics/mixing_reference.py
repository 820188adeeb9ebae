"""Reference version of a mixing metric: its mean over balanced draws of all complete 2 x 2 tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import sparse

from causalfm.metrics.balanced import Balance, Draw
from causalfm.metrics.deletion import Deletion, Search
from causalfm.metrics.design import Design
from causalfm.metrics.list_ratios import Ratio, share
from causalfm.metrics.mixing import permuted_codes
from causalfm.metrics.reference import Scored, balanced_versions, search_draw
from causalfm.neighbours import Neighbours
from causalfm.results import Estimate


@dataclass(frozen=True, eq=False)
class DrawScore:
    """A metric on one draw.

    Attributes
    ----------
    value, chance
        As it is, and with the units' labels permuted once.
    without
        ``(U,)`` the value without each unit.
    pairs
        ``(U, U)`` its change through rows of the row unit when the column unit is gone.
    """

    value: float
    chance: float
    without: np.ndarray
    pairs: np.ndarray | sparse.csr_array


# Scores a draw with labels permuted by a seed; None where lists are too short for the metric.
DrawScorer = Callable[[Draw, int], DrawScore | None]


def mixing_reference(
    name: str, X: np.ndarray, design: Design, score: DrawScorer, random_state: int, lacks: str = "no value"
) -> Estimate:
    """Average a metric over balanced draws: see :func:`causalfm.metrics.reference_index`.

    Parameters
    ----------
    name
        Of the metric; the Estimate's has ``_2x2`` behind it.
    X
        ``(n, d)`` rows of the cohort.
    design
        Of the whole cohort.
    score
        Scores one draw.
    random_state
        Seed of the draws and permutations.
    lacks
        What is missing where it cannot be scored.
    """
    ratio = Ratio(f"{name}_2x2", share([0], [1]), (1,), lacks=lacks)
    seeds = np.random.default_rng(random_state)

    def scored(draw: Draw) -> Scored:
        one, n_units = score(draw, int(seeds.integers(2**32))), len(draw.owners)
        nothing = sparse.csr_array((n_units, n_units))
        if one is None or np.isnan(one.value + one.without.sum()):
            empty = np.zeros((n_units, 2))
            return Scored(np.zeros(2), np.zeros(2), Deletion(empty, (nothing, nothing)), empty)
        pairs = sparse.csr_array(one.pairs)
        own = np.stack([pairs.sum(axis=0) - (one.without - one.value), np.zeros(n_units)], axis=1)
        met = np.full((n_units, 2), 2.0 / n_units)  # an entry has two units
        return Scored(np.array([one.value, 1.0]), np.array([one.chance, 1.0]), Deletion(own, (pairs, nothing)), met)

    return balanced_versions(X, design, [ratio], scored, Balance(random_state=random_state))[0]


def draw_lists(draw: Draw, k: int) -> tuple[Neighbours, Search]:
    """Return the lists of a draw, own groups excluded, and the search for longer ones."""
    search = partial(search_draw, draw, k)
    return search(None, max(32, len(draw.units) // len(draw.owners))), search


def permuted_once(codes: np.ndarray, draw: Draw, seed: int, within: np.ndarray | None = None) -> np.ndarray:
    """Return labels swapped between the groups of a draw."""
    strata = np.zeros(len(codes), dtype=np.int64) if within is None else within
    return next(permuted_codes(codes, draw.groups, strata, seed, 1))
