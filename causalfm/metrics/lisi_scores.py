"""iLISI and cLISI: how many hospitals, or classes, the neighbourhoods of a cohort hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from causalfm.arguments import check_seed, check_whole
from causalfm.metrics.balanced import Draw
from causalfm.metrics.bundles import unit_effects
from causalfm.metrics.deletion import ListsTooShortError, Search, pair_sums, take
from causalfm.metrics.design import NO_SPREAD, Design, design_of, no_spread, t_quantile, variance_of
from causalfm.metrics.lisi_weights import LEAST_K, Tuned, distances_of, simpson_index, simpson_without, tuned_weights
from causalfm.metrics.mixing import (
    changes_in_parts,
    group_cells,
    level_masses,
    mixing_estimate,
    mixing_lists,
    no_estimate,
    noise_value,
    some_queries,
)
from causalfm.metrics.mixing_reference import DrawScore, draw_lists, mixing_reference, permuted_once
from causalfm.metrics.typed_lists import Within
from causalfm.neighbours import Neighbours
from causalfm.results import Estimate, Influence

if TYPE_CHECKING:
    from causalfm.cohort import Cohort
    from causalfm.graph import CausalGraph


def ilisi(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    confounder: str | None = None,
    k: int = 90,
    within: Within = "auto",
    exclude_groups: bool = True,
    neighbours: Neighbours | None = None,
    standardised: bool = True,
    random_state: int = 0,
) -> Estimate:
    """Measure how well the levels of the confounder mix in the neighbourhoods: integration LISI.

    The median over rows of :func:`lisi` of the confounder, rescaled: 0 if neighbourhoods hold one level, 1 if every
    level has the same weight in them. What can be reached depends on the design: compare with ``chance``.

    Parameters
    ----------
    cohort, graph
        The data and the roles: biology, technical factors, group.
    confounder
        Technical column; the graph's first technical factor by default.
    within
        Columns within whose joint levels rows are compared; ``"auto"``: the technical causes of the confounder. Levels
        in which the confounder does not vary are left out and their rows counted.
    k
        Neighbours; weights have the entropy of ``floor(k / 3)`` equal ones. Distances are Euclidean between rows of
        unit length.
    exclude_groups
        Leave rows of the query's own group out of its list. False as in scib-metrics, where the query itself is one of
        the ``k`` and rows of one patient make each other look unmixed.
    neighbours
        A search to use again (``knn(X, k, exclude=group codes, reserve=...)``); None searches.
    standardised
        Add the reference version, which can be compared between designs, as ``details["standardised"]``: the mean (not
        the median) over rows of balanced 2 x 2 tables, with a fifth of a cell's rows as perplexity.
    random_state
        Seed of the permutations behind ``chance``, and of the draws.

    Returns
    -------
    Estimate
        ``chance`` is the mean over 20 permutations of the groups' levels on the same lists: what is found if the
        embedding has nothing to do with the confounder, patients still being alike within themselves. The 95 % interval
        is for new groups of the same design: the delete-one-group jackknife of the share of rows at or below the
        median, turned into quantiles (Woodruff 1952), because the jackknife of a median itself fails. What a missing
        group changes in a list is taken to first order, refilled list and retuned weights included. ``nan`` with
        ``details["reason"]`` where the confounder does not vary.

    Raises
    ------
    DataError
        Missing columns or values, one level only, ``k`` below 6 or beyond the candidates, ``neighbours`` that do not
        fit.

    References
    ----------
    Luecken et al., Benchmarking atlas-level data integration in single-cell genomics, Nature Methods 19:41 (2022).
    Woodruff, Confidence intervals for medians and other position measures, JASA 47:635 (1952).
    """
    check_whole(k, "k", LEAST_K)
    check_seed(random_state)
    design = design_of(cohort, graph, confounder, within)
    lists = mixing_lists(cohort.X, design, k, neighbours, exclude_groups)
    extra: dict[str, Any] = {"exclude_groups": exclude_groups}
    if standardised:
        extra["standardised"] = _reference(cohort.X, design, "ilisi", random_state)
    return _estimate("ilisi", design, lists, random_state, extra)


def clisi(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    confounder: str | None = None,
    k: int = 90,
    within: Within = "auto",
    exclude_groups: bool = True,
    neighbours: Neighbours | None = None,
    standardised: bool = True,
    random_state: int = 0,
) -> Estimate:
    """Measure how pure neighbourhoods are in the biology: cell-type (here class) LISI.

    The median over rows of :func:`lisi` of the biology, rescaled: 1 if neighbourhoods hold one class, 0 if every class
    has the same weight in them. Parameters, interval and errors are those of :func:`ilisi`; the confounder matters only
    by its technical causes, within whose levels rows are compared.

    Returns
    -------
    Estimate
        ``chance`` is above 0 where classes are unequal.
    """
    check_whole(k, "k", LEAST_K)
    check_seed(random_state)
    design = design_of(cohort, graph, confounder, within)
    lists = mixing_lists(cohort.X, design, k, neighbours, exclude_groups)
    extra: dict[str, Any] = {"exclude_groups": exclude_groups}
    if standardised:
        extra["standardised"] = _reference(cohort.X, design, "clisi", random_state)
    return _estimate("clisi", design, lists, random_state, extra)


@dataclass(frozen=True, eq=False)
class _Scores:
    """Lists whose stratum holds several levels, and their index from 0 (one level) to 1 (all alike)."""

    lists: Neighbours  # the scored ones
    tuned: Tuned
    codes: np.ndarray
    levels: np.ndarray  # (m,) levels in the query's stratum

    @classmethod
    def of(cls, lists: Neighbours, codes: np.ndarray, levels: np.ndarray) -> _Scores:
        near, similarity = lists.indices[:, : lists.k], lists.similarity[:, : lists.k]
        return cls(lists, tuned_weights(distances_of(similarity), near != lists.queries[:, None]), codes, levels)

    def values(self, codes: np.ndarray) -> np.ndarray:
        k = self.lists.k
        masses = level_masses(self.lists.indices[:, :k], self.tuned.weights, codes, int(codes.max()) + 1)
        return rescaled(simpson_index(masses, self.levels), self.levels)


def rescaled(simpson: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Turn Simpson indices into ``(LISI - 1) / (levels - 1)``."""
    return np.asarray((1.0 / np.clip(simpson, 1.0 / levels, 1.0) - 1.0) / (levels - 1.0))


def _estimate(
    name: str, design: Design, lists: tuple[Neighbours, Search], random_state: int, details: dict[str, Any]
) -> Estimate:
    found, search = lists
    codes, pure = (design.confounder, 0.0) if name == "ilisi" else (design.biology, 1.0)
    n_strata = int(design.within.max()) + 1
    table = np.zeros((n_strata, int(codes.max()) + 1), dtype=bool)
    table[design.within, codes] = True
    levels_of = table.sum(axis=1)[design.within]
    levels = levels_of[found.queries]
    scored = np.flatnonzero(levels > 1)
    details |= {
        "k": found.k,
        "perplexity": found.k // 3,
        "queries": len(scored),
        "left_out": len(found.queries) - len(scored),
    }
    details["weights"] = "rows weigh equally, as in the published index"
    if not len(scored):
        return no_estimate(name, f"one level only within each of {' x '.join(design.within_names)}", design, details)
    kept = take(found, scored, found.indices.shape[1])
    scores = _Scores.of(kept, codes, levels[scored])
    values = scores.values(codes)

    def turned(value: float) -> float:
        return abs(pure - value)

    some = some_queries(kept, random_state)
    sampled = scores if some is kept else _Scores.of(some, codes, levels_of[some.queries])
    chance, how = noise_value(
        lambda c: float(np.median(sampled.values(c))), codes, design.groups, design.within, random_state
    )
    influence, interval = _median_influence(values, scores, search, design)
    if not isinstance(influence, str) and pure:
        influence = Influence(-influence.effects, influence.strata, influence.pairs)
        interval = (turned(interval[1]), turned(interval[0]), interval[2])
    value = turned(float(np.median(values)))
    return mixing_estimate(name, value, turned(chance), influence, design, details | how, interval=interval)


def _median_influence(
    values: np.ndarray, scores: _Scores, search: Search, design: Design
) -> tuple[Influence | str, tuple[float, float, str]]:
    """Return what each group adds to the median, and Woodruff's interval."""
    void = float("nan"), float("nan"), ""
    groups, queries, n_groups = design.groups, scores.lists.queries, int(design.groups.max()) + 1
    middle = float(np.median(values)) + 1e-9
    below = values <= middle
    own = np.bincount(groups[queries], minlength=n_groups), np.bincount(groups[queries], below, n_groups)
    try:
        flips = _flips(scores, below, middle, search, groups)
    except ListsTooShortError:
        return f"none: without one {design.unit} some rows have fewer than k candidates; choose a smaller k", void
    left = len(queries) - own[0]
    if not left.all():
        return f"none: all rows that can be scored belong to one {design.unit}", void
    without = (below.sum() - own[1] + flips.sum(axis=0)) / left
    share = group_cells(design, unit_effects(float(below.mean()), without), flips / len(queries))
    variance, df = variance_of(share)
    half = t_quantile(df) * variance**0.5 if variance > NO_SPREAD else 0.0
    low, high = np.quantile(values, np.clip([0.5 - half, 0.5 + half], 0.0, 1.0))
    if not high > low:
        return no_spread(design.unit, "median"), void
    slope = (high - low) / (2.0 * half)  # of the quantile against the share
    assert share.pairs is not None
    influence = Influence(-slope * share.effects, share.strata, -slope * share.pairs)
    note = f"delete-one-{design.unit} jackknife of the share below the median within cells, pairs counted once, "
    note += f"as quantiles (Woodruff), t with {df:.0f} degrees of freedom"
    return influence, (float(low), float(high), note)


def _flips(scores: _Scores, below: np.ndarray, middle: float, search: Search, groups: np.ndarray) -> sparse.csr_array:
    """Count rows that cross the median when a group is gone, ``(G, G)``: group of the row, group that is gone."""

    def step(at: np.ndarray, values: np.ndarray) -> np.ndarray:
        return np.asarray((values <= middle).astype(float) - below[at])

    return _changes(scores, search, groups, step)


def _changes(
    scores: _Scores, search: Search, groups: np.ndarray, step: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> sparse.csr_array:
    """Add up what each group's absence changes in other groups' lists: ``step(list, new value)``, ``(G, G)``."""
    lists, n_levels = scores.lists, int(scores.codes.max()) + 1
    place = np.full(lists.n, -1)
    place[lists.queries] = np.arange(len(lists.queries))
    channels, index = simpson_without(lists, scores.tuned, scores.codes, n_levels)

    def steps() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        for query, unit, change in changes_in_parts(lists, groups, channels, search, 3 * n_levels):
            at = place[query]
            yield query, unit, step(at, rescaled(index(at, change), scores.levels[at]))[:, None]

    return pair_sums(steps(), groups, 1)[0]


def _reference(X: np.ndarray, design: Design, name: str, random_state: int) -> Estimate:
    """Return the mean of the rescaled index over the rows of balanced draws, with the draws' k as perplexity."""
    sign, shift = (1.0, 0.0) if name == "ilisi" else (-1.0, 1.0)

    def score(draw: Draw, seed: int) -> DrawScore | None:
        if 3 * draw.k < LEAST_K:
            return None
        found, search = draw_lists(draw, 3 * draw.k)
        codes, n_units = draw.confounder if name == "ilisi" else draw.biology, len(draw.owners)
        scores = _Scores.of(found, codes, np.full(len(codes), 2))
        values = scores.values(codes)
        pairs = _changes(scores, search, draw.units, lambda at, new: new - values[at])
        rows = np.bincount(draw.units)
        without = (values.sum() - np.bincount(draw.units, values, n_units) + pairs.sum(axis=0)) / (len(codes) - rows)
        chance = scores.values(permuted_once(codes, draw, seed)).mean()
        value, chance = (shift + sign * float(x) for x in (values.mean(), chance))
        return DrawScore(value, chance, shift + sign * without, sign * pairs / len(codes))

    return mixing_reference(name, X, design, score, random_state, "a perplexity of 2")
