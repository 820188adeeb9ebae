"""Robustness index and margin on balanced 2 x 2 tables, both from one search of each draw.

The values are those of ``reference_index`` and of ``croma``'s reference version on the same draws; their intervals by
deletion are left out, because here the whole procedure is repeated without blocks of patients.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from causalfm.metrics.balanced import Balance, Draw, complete_tables, draws_of, number_of_draws
from causalfm.metrics.deletion import take
from causalfm.metrics.design import Design, design_of
from causalfm.metrics.margin_lists import margins_of
from causalfm.metrics.margin_scores import summary_of
from causalfm.metrics.nearest_typed import unit_loader
from causalfm.metrics.typed import OS, SO, neighbour_kinds
from causalfm.neighbours import knn

if TYPE_CHECKING:
    from causalfm.cohort import Cohort
    from causalfm.graph import CausalGraph

TAIL = 0.1  # of the margins; only their median is used


def balanced_scores(
    cohort: Cohort, graph: CausalGraph, confounder: str, random_state: int, draws: int | None = None
) -> tuple[float, float]:
    """Return the robustness index and the median margin over all complete tables; ``nan`` if there is none."""
    balance, design = Balance(draws=draws, random_state=random_state), design_of(cohort, graph, confounder)
    tables = complete_tables(design, balance.fraction, balance.min_groups, balance.max_rows)[0]
    times = number_of_draws(balance, len(tables))
    ratios, margins, weights = [], [np.zeros(0)], [np.zeros(0)]
    for number, table in enumerate(tables):
        rng = np.random.default_rng([random_state, number])
        found = [_scores(draw) for draw in draws_of(cohort.X, design, table, times, rng)]
        so, both = np.sum([counts for counts, _ in found], axis=0)
        if both:
            ratios.append(so / both)
        margins.append(np.concatenate([values for _, values in found]))
        weights.append(np.full(len(margins[-1]), 1.0 / max(1, len(margins[-1]))))
    values, heavy = np.concatenate(margins), np.concatenate(weights)
    index = float(np.mean(ratios)) if ratios else float("nan")
    return index, summary_of(values, TAIL, heavy).median if len(values) else float("nan")


def _scores(draw: Draw) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours with the other site's own class, and these or the site's other class; margins of the rows."""
    lists = knn(draw.X, draw.k, exclude=draw.groups, reserve=len(draw.X))
    kinds = neighbour_kinds(take(lists, slice(None), draw.k), draw.biology, draw.confounder)
    so, os = (int((kinds == kind).sum()) for kind in (SO, OS))
    place = partial(Design, biology_levels=(), confounder_levels=(), biology_name="", confounder_name="", unit="")
    labels = place(draw.biology, draw.confounder, draw.groups, within=np.zeros(len(draw.groups), dtype=np.int64))
    found = margins_of(unit_loader(draw.X), labels, draw.k, lists.queries, lists, 0)
    return np.array([so, so + os]), found.values
