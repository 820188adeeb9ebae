"""Robustness index and margin on balanced 2 x 2 tables, both from one table of similarities of each draw.

The values are those of ``reference_index`` and of ``croma``'s reference version on the same draws; their intervals by
deletion are left out, because here the whole procedure is repeated without blocks of patients. A draw has some hundred
rows at most, so that all its similarities are held at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from causalfm.metrics.balanced import Balance, Draw, complete_tables, draws_of, number_of_draws
from causalfm.metrics.design import design_of
from causalfm.metrics.margin_lists import margin
from causalfm.metrics.margin_scores import summary_of
from causalfm.unit_vectors import unit_rows

if TYPE_CHECKING:
    from causalfm.cohort import Cohort
    from causalfm.graph import CausalGraph

TAIL = 0.1  # of the margins; only their median is used


def balanced_scores(
    cohort: Cohort, graph: CausalGraph, confounder: str, random_state: int, draws: int | None = None
) -> tuple[float, float]:
    """Return the robustness index and the median margin over all complete tables; ``nan`` if there is none.

    Raises
    ------
    DataError
        Rows without a direction.
    """
    balance, design = Balance(draws=draws, random_state=random_state), design_of(cohort, graph, confounder)
    tables = complete_tables(design, balance.fraction, balance.min_groups, balance.max_rows)[0]
    times = number_of_draws(balance, len(tables))
    unit = unit_rows(cohort.X)
    ratios, margins, weights = [], [np.zeros(0)], [np.zeros(0)]
    for number, table in enumerate(tables):
        rng = np.random.default_rng([random_state, number])
        found = [_scores(draw) for draw in draws_of(unit, design, table, times, rng)]
        so, both = np.sum([counts for counts, _ in found], axis=0)
        if both:
            ratios.append(so / both)
        margins.append(np.concatenate([values for _, values in found]))
        weights.append(np.full(len(margins[-1]), 1.0 / max(1, len(margins[-1]))))
    values, heavy = np.concatenate(margins), np.concatenate(weights)
    index = float(np.mean(ratios)) if ratios else float("nan")
    return index, summary_of(values, TAIL, heavy).median if len(values) else float("nan")


def _scores(draw: Draw) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours with the other site's own class, and these or the site's other class; margins of the rows.

    The draw has four cells of one size, in the order (class, site) 00, 01, 10, 11: the other site's own class is one
    bit away, the site's other class the other.
    """
    near = draw.X @ draw.X.T
    near[draw.groups[:, None] == draw.groups] = -np.inf
    chosen = _nearest(near, draw.k)
    size = len(near) // 4
    counts, sums = np.zeros(2), np.full((len(near), 2), np.nan)
    for cell in range(4):
        rows = slice(cell * size, (cell + 1) * size)
        for kind, other in enumerate((cell ^ 1, cell ^ 2)):
            columns = slice(other * size, (other + 1) * size)
            counts[kind] += chosen[rows, columns].sum()
            nearest = -np.partition(-near[rows, columns], draw.k - 1, axis=1)[:, : draw.k]
            distances = np.maximum(1.0 - nearest.astype(np.float64), 0.0)
            sums[rows, kind] = np.where(np.isfinite(distances).all(axis=1), distances.sum(axis=1), np.nan)
    values = margin(sums[np.isfinite(sums).all(axis=1)], draw.k)
    return np.array([counts[0], counts.sum()]), values[np.isfinite(values)]


def _nearest(near: np.ndarray, k: int) -> np.ndarray:
    """Mark the k most similar columns of every row, of equal ones those of lower position; ``-inf`` are none."""
    edge = -np.partition(-near, k - 1, axis=1)[:, k - 1 : k]
    above, level = near > edge, near == edge
    spare = k - above.sum(axis=1, keepdims=True)
    return np.asarray((above | (level & (np.cumsum(level, axis=1) <= spare))) & np.isfinite(near))
