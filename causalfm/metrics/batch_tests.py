"""kBET: in which share of the neighbourhoods the levels of the confounder could be a random draw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.arguments import check_seed, check_whole
from causalfm.errors import DataError
from causalfm.metrics.balanced import Draw
from causalfm.metrics.batch_panels import Panel
from causalfm.metrics.bundles import unit_effects
from causalfm.metrics.deletion import take
from causalfm.metrics.design import Design, design_of
from causalfm.metrics.mixing import (
    group_cells,
    mixing_estimate,
    mixing_lists,
    no_estimate,
    noise_value,
)
from causalfm.metrics.mixing_reference import DrawScore, draw_lists, mixing_reference, permuted_once
from causalfm.metrics.typed_lists import Within
from causalfm.neighbours import Neighbours
from causalfm.results import Estimate, Influence

if TYPE_CHECKING:
    from causalfm.cohort import Cohort
    from causalfm.graph import CausalGraph


def kbet(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    confounder: str | None = None,
    k: int = 50,
    alpha: float = 0.05,
    within: Within = "auto",
    exclude_groups: bool = True,
    neighbours: Neighbours | None = None,
    standardised: bool = True,
    random_state: int = 0,
) -> Estimate:
    """Measure in which share of the neighbourhoods the confounder's levels are mixed as in the whole cohort: kBET.

    The share of rows whose list passes :func:`causalfm.metrics.batch_panels.kbet_tests` at ``alpha``. 0: every
    neighbourhood has a mix of its own. Where classes are unevenly spread over the levels a good embedding fails the
    test as well: see :func:`kbet_per_label`.

    Parameters
    ----------
    cohort, graph
        The data and the roles: biology, technical factors, group.
    confounder
        Technical column; the graph's first technical factor by default.
    k
        Neighbours.
    alpha
        Level of the tests.
    within
        Columns within whose joint levels rows are compared and shares expected; ``"auto"``: the technical causes of the
        confounder. Levels in which the confounder does not vary are left out and their rows counted.
    exclude_groups
        Leave rows of the query's own group out of its list. False as in scib-metrics, where the query itself is one of
        the ``k``.
    neighbours
        A search to use again (``knn(X, k, exclude=group codes, reserve=...)``); None searches.
    standardised
        Add the reference version, which can be compared between designs, as ``details["standardised"]``.
    random_state
        Seed of the permutations behind ``chance``, and of the draws.

    Returns
    -------
    Estimate
        ``chance`` is the mean over 20 permutations of the groups' levels on the same lists; it is below 1 - ``alpha``
        where rows of one patient are alike, since the test takes neighbours as independent. The 95 % interval is for
        new groups of the same design, by an exact delete-one-group jackknife on queries, lists and expected shares.
        ``nan`` with ``details["reason"]`` where the confounder does not vary.

    Raises
    ------
    DataError
        Missing columns or values, one level only, ``k`` beyond the candidates, ``alpha`` outside 0 to 1.

    References
    ----------
    Büttner et al., A test metric for assessing single-cell RNA-seq batch correction, Nature Methods 16:43 (2019).
    """
    check_options(k, alpha, random_state)
    design = design_of(cohort, graph, confounder, within)
    found, search = mixing_lists(cohort.X, design, k, neighbours, exclude_groups)
    details: dict[str, Any] = {"k": k, "alpha": alpha, "exclude_groups": exclude_groups}
    if standardised:
        details["standardised"] = _reference(cohort.X, design, alpha, random_state)
    panels = []
    for stratum in np.unique(design.within[found.queries]):
        rows = np.flatnonzero(design.within == stratum)
        lists = take(found, design.within[found.queries] == stratum, found.indices.shape[1])
        if len(np.unique(design.confounder[rows])) > 1:
            panels.append(Panel(lists, search, rows, design.groups))
    scored = sum(len(panel.lists.queries) for panel in panels)
    details |= {"queries": scored, "left_out": len(found.queries) - scored}
    details["weights"] = "rows weigh equally, as in the published index"
    if not panels:
        return no_estimate("kbet", f"one level only within each of {' x '.join(design.within_names)}", design, details)

    def score(codes: np.ndarray) -> float:
        return float(np.concatenate([panel.accepted(codes, alpha) for panel in panels]).mean())

    value = score(design.confounder)
    chance, how = noise_value(score, design.confounder, design.groups, design.within, random_state)
    influence = _influence(panels, design, alpha, value)
    return mixing_estimate("kbet", value, chance, influence, design, details | how)


def _influence(panels: list[Panel], design: Design, alpha: float, value: float) -> Influence | str:
    """Return what each group adds to the share of all rows that pass, or why there is no interval."""
    changes = [panel.without(design.confounder, alpha) for panel in panels]
    for change in changes:
        if isinstance(change, str):
            return change.format(unit=design.unit)
    known = [change for change in changes if not isinstance(change, str)]
    left = np.sum([change.left for change in known], axis=0)
    if not left.all():
        return f"none: all rows that can be scored belong to one {design.unit}"
    without = np.sum([change.passed for change in known], axis=0) / left
    m = sum(len(panel.lists.queries) for panel in panels)
    pairs = sum((change.pairs for change in known[1:]), known[0].pairs)
    return group_cells(design, unit_effects(value, without), pairs / m)


def _reference(X: np.ndarray, design: Design, alpha: float, random_state: int) -> Estimate:
    """Return the share of rows of balanced draws that pass, lists as long as for the reference version of LISI."""

    def score(draw: Draw, seed: int) -> DrawScore | None:
        if draw.k < 2:
            return None
        panel = Panel(*draw_lists(draw, 3 * draw.k), np.arange(len(draw.units)), draw.units)
        change = panel.without(draw.confounder, alpha)
        assert not isinstance(change, str)  # a table has several groups in every cell
        value, chance = (
            float(panel.accepted(codes, alpha).mean())
            for codes in (draw.confounder, permuted_once(draw.confounder, draw, seed))
        )
        return DrawScore(value, chance, change.passed / change.left, change.pairs / len(draw.units))

    return mixing_reference("kbet", X, design, score, random_state, "lists of 6 neighbours")


def check_options(k: int, alpha: float, random_state: int) -> None:
    """Refuse options out of range."""
    check_whole(k, "k", 2)
    check_seed(random_state)
    if not isinstance(alpha, (float, np.floating)) or not 0.0 < alpha < 1.0:
        raise DataError(f"alpha={alpha!r}: choose a level of the tests between 0 and 1, such as 0.05.")
