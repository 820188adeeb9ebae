"""Ratios of neighbour types: the de Jong ratio and PathoROB's companion scalars."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from causalfm.arguments import check_seed
from causalfm.metrics.balanced import Balance
from causalfm.metrics.deletion import Deletion, deletion_of
from causalfm.metrics.list_ratios import (
    ListSums,
    Ratio,
    expected_of,
    list_sums,
    quotient,
    ratio_estimate,
    share,
)
from causalfm.metrics.list_report import described
from causalfm.metrics.lists import longer_lists
from causalfm.metrics.reference import balanced_versions, list_scorer
from causalfm.metrics.typed import OO, OS, SO, SS, kind_channels, kind_counts
from causalfm.metrics.typed_lists import ListLength, Tables, TypedLists, Within, layout_of, typed_lists
from causalfm.neighbours import Neighbours
from causalfm.results import Estimate

if TYPE_CHECKING:
    from causalfm.cohort import Cohort
    from causalfm.graph import CausalGraph

ALL = (SS, SO, OS, OO)
SAME = "no neighbour of the same confounder"
DE_JONG = Ratio("de_jong_ratio", share([SS, SO], [SS, OS]), (SS, OS), "ratio", SAME)


def _insensitivity_normalised(sums: np.ndarray) -> np.ndarray:
    """Divide other by same confounder, each by its own value at the largest k (channels 4 to 7)."""
    near, far = (share([SO + at, OO + at], [SS + at, OS + at])(sums) for at in (0, 4))
    return quotient(near, far)


def _generalisation(sums: np.ndarray) -> np.ndarray:
    """Divide how often biology is shared under another confounder by how often under the same."""
    ss, so, os, oo = np.moveaxis(sums[..., :4], -1, 0)
    return quotient(ss * so + so * os, ss * so + ss * oo)


SCALARS = (
    replace(DE_JONG, name="bio_vs_confounding"),
    Ratio("confounder_insensitivity", share([SO, OO], [SS, OS]), (SS, OS), "ratio", SAME),
    Ratio("confounder_insensitivity_normalised", _insensitivity_normalised, (SS, OS), "ratio", SAME),
    Ratio("generalization_index", _generalisation, (SS,), "ratio", "no neighbour of the same biology and confounder"),
    Ratio("prediction_performance", share([SS, SO], ALL), ALL),
    Ratio("ID_performance", share([SS], [SS, OS]), (SS, OS), lacks=SAME),
    Ratio("OOD_performance", share([SO], [SO, OO]), (SO, OO), lacks="no neighbour of another confounder"),
)


def de_jong_ratio(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    confounder: str | None = None,
    within: Within = "auto",
    design: Tables = "all",
    k: ListLength = "auto",
    neighbours: Neighbours | None = None,
    max_k: int = 600,
    standardised: bool = True,
    random_state: int = 0,
) -> Estimate:
    """Divide the number of neighbours that share the biology by the number that share the confounder.

    ``R = (SS + SO) / (SS + OS)``; above 1 biology dominates. SS neighbours are on both sides and pull it to 1.

    Parameters
    ----------
    cohort, graph, confounder, within, design, k, neighbours, max_k, standardised, random_state
        As in :func:`causalfm.metrics.robustness_index`.

    Returns
    -------
    Estimate
        ``chance`` is what noise gives on this design. The interval is that of the robustness index, on the log scale.
        ``nan`` and ``details["reason"]`` if no neighbour shares the confounder.

    Raises
    ------
    DataError
        As :func:`causalfm.metrics.robustness_index`.

    References
    ----------
    de Jong, Marcus, Teuwen, Current pathology foundation models are unrobust to medical center differences,
    arXiv:2501.18055 (2025).
    """
    check_seed(random_state)
    layout = layout_of(cohort, graph, confounder, within, design)
    lists = None if layout.reason else typed_lists(cohort.X, layout, k, max_k, neighbours)
    extra = {}
    if standardised:
        twin = replace(DE_JONG, name=f"{DE_JONG.name}_2x2")
        balance = Balance(random_state=random_state)
        extra["standardised"] = balanced_versions(cohort.X, layout.whole, [twin], list_scorer(ALL), balance)[0]
    if lists is None:
        return layout.estimate(DE_JONG.name, details=extra)
    curve = DE_JONG.of(kind_counts(lists.kinds, lists.grid)[0].astype(float))
    return ratio_estimate(lists, DE_JONG, _four_sums(lists), described(lists, curve) | extra)


def neighbour_scalars(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    confounder: str | None = None,
    within: Within = "auto",
    design: Tables = "all",
    k: ListLength = "auto",
    neighbours: Neighbours | None = None,
    max_k: int = 600,
    random_state: int = 0,
) -> dict[str, Estimate]:
    """Return the other scalars that PathoROB computes from the four types of neighbours.

    - ``bio_vs_confounding``: (SS + SO) / (SS + OS), the de Jong ratio.
    - ``confounder_insensitivity``: (SO + OO) / (SS + OS).
    - ``confounder_insensitivity_normalised``: the same, each side divided by its value at the largest k.
    - ``prediction_performance``: (SS + SO) / all.
    - ``ID_performance``: SS / (SS + OS), biology shared given the same confounder.
    - ``OOD_performance``: SO / (SO + OO), biology shared given another confounder.
    - ``generalization_index``: OOD by ID performance, (SS SO + SO OS) / (SS SO + SS OO).

    Parameters
    ----------
    cohort, graph, confounder, within, design, k, neighbours, max_k, random_state
        As in :func:`causalfm.metrics.robustness_index`; the largest k is the end of the grid of ``k="auto"``, or k.

    Returns
    -------
    dict of Estimate
        By name, each with its chance on this design and its interval: logit scale for shares, log scale for ratios.

    Raises
    ------
    DataError
        As :func:`causalfm.metrics.robustness_index`.
    """
    check_seed(random_state)
    layout = layout_of(cohort, graph, confounder, within, design)
    if layout.reason:
        return {ratio.name: layout.estimate(ratio.name) for ratio in SCALARS}
    lists = typed_lists(cohort.X, layout, k, max_k, neighbours, whole_grid=True)
    sums = _at_both_ends(cohort.X, lists)
    curves = kind_counts(lists.kinds, lists.grid)[0].astype(float)
    curves = np.hstack([curves, np.broadcast_to(curves[-1], curves.shape)])
    details = described(lists, np.zeros(len(curves))) | {"largest_k": lists.grid[-1]}
    found = {}
    for ratio in SCALARS:
        values = zip(details["curve"], ratio.of(curves).tolist(), strict=True)
        found[ratio.name] = ratio_estimate(
            lists, ratio, sums, details | {"curve": [o | {"value": v} for o, v in values]}
        )
    return found


def _four_sums(lists: TypedLists) -> ListSums:
    roles = lists.layout.design
    return list_sums(lists, kind_channels(roles.biology, roles.confounder, ALL), expected_of(lists, ALL))


def _at_both_ends(X: np.ndarray, lists: TypedLists) -> ListSums:
    """Return the four sums at k, then at the end of the grid."""
    near, roles, end = _four_sums(lists), lists.layout.design, lists.grid[-1]
    channels, n_units = kind_channels(roles.biology, roles.confounder, ALL), len(lists.layout.strata)
    search = longer_lists(X, roles, end)
    totals, far = deletion_of(lists.found, roles.groups, end, channels, search, n_units)
    deletion = None
    if near.deletion is not None and far is not None:
        deletion = Deletion(np.hstack([near.deletion.own, far.own]), (*near.deletion.pairs, *far.pairs))
    both = np.concatenate([near.totals, totals])
    return ListSums(both, np.tile(near.expected, 2), deletion, near.largest_share)
