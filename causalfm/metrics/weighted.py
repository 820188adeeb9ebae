"""Margin-aware robustness index (MaRI): near typed neighbours count more than far ones."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from causalfm.arguments import check_positive, check_seed
from causalfm.metrics.balanced import Balance
from causalfm.metrics.deletion import blocks, take
from causalfm.metrics.list_ratios import Ratio, expected_of, list_sums, ratio_estimate, share
from causalfm.metrics.list_report import described
from causalfm.metrics.reference import balanced_versions, list_scorer
from causalfm.metrics.typed import OS, SO, Weigh, kind_channels
from causalfm.metrics.typed_lists import ListLength, Tables, TypedLists, Within, layout_of, typed_lists
from causalfm.neighbours import Neighbours
from causalfm.results import Estimate

if TYPE_CHECKING:
    from causalfm.cohort import Cohort
    from causalfm.graph import CausalGraph

RESOLUTION = 1e-6  # smallest cosine distance that float32 similarities of unit rows can tell from 0
TAU = "a cosine distance, at which a neighbour weighs 1/e"
MARI = Ratio("mari", share([0], [0, 1]), (0, 1))


def cosine_distances(neighbours: Neighbours) -> np.ndarray:
    """Return ``1 - similarity``, never below 0, ``(m, k + reserve)`` float64; ``inf`` where a list has ended."""
    return np.maximum(1.0 - neighbours.similarity.astype(np.float64), 0.0)


def typed_temperature(neighbours: Neighbours, kinds: np.ndarray) -> float:
    """Return the median cosine distance of the SO and OS neighbours: the temperature of MaRI.

    Parameters
    ----------
    neighbours
        Lists of m queries.
    kinds
        ``(m, k)`` types of the first k neighbours.

    Returns
    -------
    float
        ``nan`` without a typed neighbour; ``inf``, which weighs all alike, if half of the typed neighbours are at a
        distance that float32 cannot tell from 0 (a collapsed embedding, or rows that come twice).
    """
    distance = cosine_distances(take(neighbours, slice(None), kinds.shape[1]))[(kinds == SO) | (kinds == OS)]
    tau = float(np.median(distance)) if distance.size else float("nan")
    return float("inf") if tau <= RESOLUTION else tau


def mari(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    confounder: str | None = None,
    within: Within = "auto",
    design: Tables = "all",
    k: ListLength = "auto",
    tau: float | None = None,
    neighbours: Neighbours | None = None,
    max_k: int = 600,
    standardised: bool = True,
    random_state: int = 0,
) -> Estimate:
    """Robustness index in which each typed neighbour weighs ``exp(-d / tau)``, d its cosine distance.

    Parameters
    ----------
    cohort, graph, confounder, within, design, k, neighbours, max_k, standardised, random_state
        As in :func:`causalfm.metrics.robustness_index`.
    tau
        Temperature. None: the embedding's own median distance of typed neighbours at k, so that models whose distances
        differ in scale can be compared. It is the same at every k of ``details["curve"]``. The reference version finds
        its own in each draw unless it is given.

    Returns
    -------
    Estimate
        ``chance``: neighbours drawn evenly from the candidates, the distances as they are. The interval is that of the
        robustness index; k and tau are treated as fixed. ``nan`` and ``details["reason"]`` without typed neighbours.

    Raises
    ------
    DataError
        As :func:`causalfm.metrics.robustness_index`, or ``tau`` not above 0.

    References
    ----------
    Grisi, van der Laak, Litjens, arXiv:2607.25497 (croma 1.0.1).
    """
    check_seed(random_state)
    if tau is not None:
        check_positive(tau, "tau", TAU)
    layout = layout_of(cohort, graph, confounder, within, design)
    lists = None if layout.reason else typed_lists(cohort.X, layout, k, max_k, neighbours)
    nearest = 0.0 if lists is None else _nearest(lists)
    extra = {}
    if standardised:
        scorer = list_scorer((SO, OS), lambda found, kinds: _own_decay(found, kinds, tau, nearest))
        twin, balance = replace(MARI, name="mari_2x2"), Balance(random_state=random_state)
        extra["standardised"] = balanced_versions(cohort.X, layout.whole, [twin], scorer, balance)[0]
    if lists is None:
        return layout.estimate(MARI.name, details=extra)
    used = typed_temperature(lists.found, lists.kinds[:, : lists.k]) if tau is None else float(tau)
    weigh = _decay(used if used == used else np.inf, nearest)  # nan: no typed neighbour, so nothing to weigh
    roles = lists.layout.design
    curve, list_weights = _curve(lists, weigh)
    sums = list_sums(
        lists,
        kind_channels(roles.biology, roles.confounder, (SO, OS), weigh),
        expected_of(lists, (SO, OS), list_weights),
    )
    choice = "given" if tau is not None else "median distance of typed neighbours; treated as fixed by the interval"
    details = {"tau": used, "tau_choice": choice, "weights": "rows weigh equally, neighbours exp(-distance / tau)"}
    return ratio_estimate(lists, MARI, sums, described(lists, curve) | details | extra)


def _decay(tau: float, nearest: np.ndarray | float) -> Weigh:
    """Return weights relative to those of a neighbour at distance ``nearest``: the ratio is the same, and defined."""

    def weigh(found: Neighbours, _: np.ndarray) -> np.ndarray:
        away = np.where(found.indices < 0, 0.0, cosine_distances(found) - nearest)
        return np.asarray(np.exp(-away / tau))

    return weigh


def _own_decay(found: Neighbours, kinds: np.ndarray, tau: float | None, nearest: float) -> Weigh:
    own = typed_temperature(found, kinds)
    return _decay(own if np.isfinite(own) else np.inf, 0.0) if tau is None else _decay(tau, nearest)


def _nearest(lists: TypedLists) -> float:
    """Return the distance of the nearest typed neighbour of all."""
    kinds = lists.kinds[:, : lists.k]
    distance = cosine_distances(take(lists.found, slice(None), lists.k))[(kinds == SO) | (kinds == OS)]
    return float(distance.min()) if distance.size else 0.0


def _curve(lists: TypedLists, weigh: Weigh) -> tuple[np.ndarray, np.ndarray]:
    """Return the index at each k of the grid, and the weight of each query's first k neighbours."""
    width = lists.grid[-1]
    by_rank, of_query = np.zeros((width, 2)), np.empty(len(lists.kinds))
    for rows in blocks(len(lists.kinds), width):
        kinds = lists.kinds[rows, :width]
        weights = weigh(take(lists.found, rows, width), kinds)
        of_query[rows] = weights[:, : lists.k].sum(axis=1)
        by_rank += np.stack([(weights * (kinds == kind)).sum(axis=0) for kind in (SO, OS)], axis=1)
    return MARI.of(by_rank.cumsum(axis=0)[np.asarray(lists.grid) - 1]), of_query
