"""Cross-confounder robustness margin (CRoMa): how much nearer the other-site twin is than the same-site impostor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.arguments import check_positive, check_seed, check_type, check_whole
from causalfm.errors import DataError
from causalfm.metrics.list_ratios import Ratio, ratio_influence, ratio_interval
from causalfm.metrics.lists import neighbour_lists, shortest_list
from causalfm.metrics.margin_lists import Margins, margin_changes, margins_of, mean_deletion
from causalfm.metrics.margin_reference import Chance, balanced_margins, chance_margins
from causalfm.metrics.margin_scores import AT_MEDIAN, F0, TAIL, median_interval, score_columns, summary_of
from causalfm.metrics.nearest_typed import unit_loader
from causalfm.metrics.typed_lists import Layout, Tables, Within, layout_of
from causalfm.neighbours import Loader, Neighbours
from causalfm.results import Estimate

if TYPE_CHECKING:
    from causalfm.cohort import Cohort
    from causalfm.graph import CausalGraph

START = 200  # entries of the shared lists that are looked through before a type is searched for itself


def croma(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    confounder: str | None = None,
    within: Within = "auto",
    design: Tables = "all",
    m: int = 5,
    alpha: float = 0.1,
    neighbours: Neighbours | None = None,
    standardised: bool = True,
    random_state: int = 0,
) -> Estimate:
    """Median over the rows of how much nearer the other-site twins are than the same-site impostors.

    Each row's margin is ``(d_OS - d_SO) / (d_OS + d_SO)``, ``d`` the mean cosine distance to its m nearest neighbours
    of the type, however far down the list they are: there is no k. Above 0 biology decides, below 0 the confounder.

    Parameters
    ----------
    cohort, graph, confounder, within, design, standardised, random_state
        As in :func:`causalfm.metrics.robustness_index`. With ``design="paired_2x2"`` the margins of all tables are
        summarised together; each table's own median is in ``details["tables"]``.
    m
        Neighbours of each type.
    alpha
        Share of rows in the lower tail.
    neighbours
        A search to use again, of any length; types that it does not reach are searched for themselves. Without it
        lists of 200 are searched.

    Returns
    -------
    Estimate
        The median. ``details["f0"]``: share of margins not above 0; ``details["ltm"]``: mean of the margins not above
        the ``alpha`` quantile; both are Estimates. ``chance``: mean over permutations of the groups' labels on this
        embedding (closed forms need the distribution of its distances). Intervals are for new patients of this design,
        by a delete-one-group jackknife on queries and lists: of the median by Woodruff's inversion, of the tail by its
        influence. ``details["support"]``: share of rows that have a margin; ``details["undefined"]``: why the others
        have none.

        The reference version takes as m a fifth of the rows per cell, so that it is the same share on every design.

    Raises
    ------
    DataError
        As :func:`causalfm.metrics.robustness_index`; no row has m candidates of both types.

    References
    ----------
    Grisi, van der Laak, Litjens, arXiv:2607.25497 (croma 1.0.1).
    """
    check_seed(random_state)
    check_whole(m, "m", 1, why="neighbours of each type")
    check_positive(alpha, "alpha", "the share of rows in the lower tail")
    if alpha >= 1:
        raise DataError(f"alpha={alpha!r}: choose a share of rows below 1.")
    layout = layout_of(cohort, graph, confounder, within, design)
    extra: dict[str, Any] = {"m": m, "alpha": alpha}
    if layout.reason:
        return layout.estimate(
            AT_MEDIAN.name, details=extra | _reference(cohort, layout, alpha, standardised, random_state)
        )
    shared = _shared(cohort.X, layout, neighbours)
    queries = np.arange(len(layout.design.groups)) if shared is None else shared.queries
    load = unit_loader(cohort.X)
    margins = margins_of(load, layout.design, m, queries, shared)
    if not len(margins.values):
        raise DataError(
            f"no row has m={m} candidates outside its {layout.whole.unit} that share its {layout.whole.biology_name} "
            f"but not its {layout.whole.confounder_name}, and {m} of the reverse, at a distance above 0: choose a "
            "smaller m."
        )
    chance = chance_margins(load, layout.design, m, alpha, queries, shared, random_state)
    extra |= _reference(cohort, layout, alpha, standardised, random_state)
    return _estimate(load, layout, margins, chance, m, alpha, extra)


def _reference(cohort: Cohort, layout: Layout, alpha: float, wanted: bool, seed: int) -> dict[str, Estimate]:
    return {"standardised": balanced_margins(cohort.X, layout.whole, alpha, seed)} if wanted else {}


def _shared(X: np.ndarray, layout: Layout, given: Neighbours | None) -> Neighbours | None:
    """Return lists to look through first; strata and tables are searched type by type at once."""
    if given is not None:
        check_type(given, Neighbours, "neighbours", "search with knn(cohort.X, k, exclude=group codes)")
    if layout.design.rows is not None:
        return None
    k = min(START, shortest_list(layout.design)) if given is None else given.k
    return neighbour_lists(X, layout.design, k, given)


def _estimate(
    load: Loader, layout: Layout, margins: Margins, chance: Chance, m: int, alpha: float, extra: dict[str, Any]
) -> Estimate:
    roles, strata, unit = layout.design, layout.strata, layout.whole.unit
    found = summary_of(margins.values, alpha)
    position, gone, changed = margin_changes(load, roles, margins, m, roles.groups)
    owner = roles.groups[margins.so.queries]
    scores, without = (score_columns(v, found.median, found.quantile, alpha) for v in (margins.values, changed))
    deletion = mean_deletion(scores, without, position, gone, owner, len(strata))
    totals = np.append(scores.sum(axis=0), len(owner))
    met = np.bincount(owner, minlength=len(strata)) + np.bincount(gone, minlength=len(strata))
    how: dict[str, Any] = {"chance": chance.how, "m": m, "interval": ""}

    def tell(ratio: Ratio, value: float, by_chance: float) -> Estimate:
        influence = ratio_influence(ratio, totals, deletion, strata, unit)
        low, high, note = ratio_interval(value, influence, ratio, lambda _: float(met.max() / len(owner)), unit)
        kept = None if isinstance(influence, str) else influence
        return layout.estimate(
            ratio.name, value, low, high, by_chance, influence=kept, details=how | {"interval": note}
        )

    influence = ratio_influence(AT_MEDIAN, totals, deletion, strata, unit)
    low, high, note, kept = median_interval(margins.values, np.ones(len(owner)), influence, unit)
    details = extra | {
        "f0": tell(F0, found.f0, chance.summary.f0),
        "ltm": tell(TAIL, found.ltm, chance.summary.ltm),
        "quantile": found.quantile,
        "support": len(owner) / margins.asked,
        "undefined": margins.undefined,
        "queries": margins.asked,
        "weights": "rows weigh equally",
        "chance": chance.how,
        "chance_error": chance.error,
        "interval": note,
    }
    details |= _parts(layout, margins)
    return layout.estimate(
        AT_MEDIAN.name, found.median, low, high, chance.summary.median, influence=kept, details=details
    )


def _parts(layout: Layout, margins: Margins) -> dict[str, Any]:
    """Return rows and median of every stratum or table."""
    if layout.design.rows is None:
        return {}
    code = layout.design.within[margins.so.queries]
    names = layout.details.get("tables") or [{"stratum": name} for name in layout.design.within_levels]
    parts = [
        {**names[w], "rows": int((code == w).sum()), "median": float(np.median(margins.values[code == w]))}
        for w in np.unique(code)
    ]
    return {"tables" if "tables" in layout.details else "strata": parts}
