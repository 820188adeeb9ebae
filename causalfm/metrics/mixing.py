"""What the mixing metrics share: lists with or without the own group, sums over lists, labels of permuted groups."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import sparse

from causalfm.arguments import check_flag, check_type
from causalfm.errors import DataError
from causalfm.metrics.bundles import bundle_note
from causalfm.metrics.deletion import Channels, LevelChannels, Search, list_changes, take
from causalfm.metrics.design import Design, design_cells, interval_of
from causalfm.metrics.lists import longer_lists, neighbour_lists
from causalfm.neighbours import Neighbours
from causalfm.resampling import permutations_within
from causalfm.results import Estimate, Influence

CHANCE_QUERIES = 5000  # their mean under permuted labels is much closer to that of all rows than groups allow to know
PERMUTATIONS = 20  # of the groups' labels: the value that noise gives needs no more digits than the interval
CHANNEL_VALUES = 2**24  # numbers that one call of a Channels function may return


def mixing_lists(
    X: np.ndarray, design: Design, k: int, given: Neighbours | None, exclude_groups: bool
) -> tuple[Neighbours, Search]:
    """Return lists of length ``k`` and the search for longer ones.

    Parameters
    ----------
    X
        ``(n, d)``.
    design
        Groups, and strata within which rows are searched.
    k
        List length. Without exclusion the query itself is the first of its list, as in scib-metrics.
    given
        A search to use again; only with ``exclude_groups``.
    exclude_groups
        Whether rows of the query's own group are left out.

    Raises
    ------
    DataError
        ``k`` beyond the candidates, or ``given`` does not fit.
    """
    check_flag(exclude_groups, "exclude_groups")
    if given is not None:
        check_type(given, Neighbours, "neighbours", "search with knn(cohort.X, k, exclude=group codes)")
    if exclude_groups:
        return neighbour_lists(X, design, k, given), longer_lists(X, design, k)
    if given is not None:
        raise DataError("exclude_groups=False searches lists of its own: leave neighbours out.")
    rows = replace(design, groups=np.arange(len(X)), unit="row")
    longer = longer_lists(X, rows, k - 1)
    return with_self(neighbour_lists(X, rows, k - 1)), lambda queries, more: with_self(longer(queries, more))


def with_self(found: Neighbours) -> Neighbours:
    """Put the query itself first in its list."""
    own = np.ones((len(found.queries), 1), dtype=found.similarity.dtype)
    indices = np.hstack([found.queries[:, None], found.indices])
    return replace(found, indices=indices, similarity=np.hstack([own, found.similarity]), k=found.k + 1)


def level_masses(indices: np.ndarray, weights: np.ndarray | None, codes: np.ndarray, n_levels: int) -> np.ndarray:
    """Sum the weights of each list by level, ``(m, n_levels)``.

    Parameters
    ----------
    indices
        ``(m, k)`` row positions.
    weights
        ``(m, k)``, or None to count.
    codes
        ``(n,)`` level of each row.
    n_levels
        Number of levels.

    Raises
    ------
    DataError
        Ended lists.
    """
    refuse_ended(indices)
    m, k = indices.shape
    values = np.ones(m * k) if weights is None else weights.ravel()
    lists = sparse.csr_array((values, indices.ravel(), np.arange(0, m * k + 1, k)), shape=(m, len(codes)))
    return np.asarray(lists @ (codes[:, None] == np.arange(n_levels)).astype(np.float64))


def refuse_ended(indices: np.ndarray) -> None:
    """Refuse the places after a list's end, which NumPy would read as the last rows of the cohort."""
    if ended := int((indices < 0).sum()):
        raise DataError(
            f"indices has {ended} entries below 0, where lists have ended: give the columns that all lists fill, "
            "neighbours.indices[:, :neighbours.k]."
        )


def changes_in_parts(
    lists: Neighbours, groups: np.ndarray, channels: Channels | LevelChannels, search: Search, n_channels: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Say what each group's absence changes in the lists of others, some lists at a time where channels are many."""
    step = max(1, CHANNEL_VALUES // (lists.indices.shape[1] * n_channels))
    for start in range(0, len(lists.queries), step):
        part = take(lists, slice(start, start + step), lists.indices.shape[1])
        for query, unit, change in list_changes(part, groups, lists.k, channels, search):
            other = groups[query] != unit
            yield query[other], unit[other], change[other]


def permuted_codes(
    codes: np.ndarray, groups: np.ndarray, strata: np.ndarray, random_state: int, n_permutations: int = PERMUTATIONS
) -> Iterator[np.ndarray]:
    """Yield labels as they could have come if the embedding had nothing to do with them.

    Groups of one stratum swap their labels. A group of another size takes the labels of its partner in the same shares;
    which of a group's rows carry which label is random, so that labels that vary within groups are mixed as well.

    Parameters
    ----------
    codes
        ``(n,)`` integer labels.
    groups
        ``(n,)`` integer group codes.
    strata
        ``(n,)`` integer codes; a group that lies in several strata is several units here.
    random_state
        Seed.
    n_permutations
        How many.

    Yields
    ------
    numpy.ndarray
        ``(n,)`` labels.
    """
    unit = np.unique(np.stack([strata, groups]), axis=1, return_inverse=True)[1].reshape(-1)
    size = np.bincount(unit)
    start = np.append(0, np.cumsum(size)[:-1])
    stratum = np.empty(len(size), dtype=np.int64)
    stratum[unit] = strata
    ordered = codes[np.lexsort((codes, unit))]
    alike = bool((ordered[start] == ordered[start + size - 1]).all())  # units of one label each: no rows to shuffle
    rng = np.random.default_rng(random_state)
    for batch in permutations_within(stratum, n_permutations, random_state, batch=n_permutations):
        for partner in batch:
            if alike:
                yield ordered[start][partner][unit]
                continue
            order = np.lexsort((rng.random(len(codes)), unit))
            place = np.arange(len(codes)) - start[unit[order]]
            source = partner[unit[order]]
            out = np.empty_like(codes)
            out[order] = ordered[start[source] + (place * size[source]) // size[unit[order]]]
            yield out


def some_queries(lists: Neighbours, random_state: int) -> Neighbours:
    """Return the lists of a random sample of the queries, if they are many: for values under permuted labels."""
    m = len(lists.queries)
    if m <= CHANCE_QUERIES:
        return lists
    rows = np.sort(np.random.default_rng(random_state).choice(m, CHANCE_QUERIES, replace=False))
    return take(lists, rows, lists.indices.shape[1])


def noise_value(
    score: Callable[[np.ndarray], float],
    codes: np.ndarray,
    groups: np.ndarray,
    strata: np.ndarray,
    random_state: int,
    n_permutations: int = PERMUTATIONS,
) -> tuple[float, dict[str, Any]]:
    """Return the mean score over permuted labels, and how it was found with its Monte-Carlo error."""
    values = [score(labels) for labels in permuted_codes(codes, groups, strata, random_state, n_permutations)]
    error = float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else float("nan")
    how = f"mean over {len(values)} permutations of the groups' labels on this embedding"
    return float(np.mean(values)), {"chance": how, "chance_error": error}


def mixing_estimate(
    name: str,
    value: float,
    chance: float,
    influence: Influence | str,
    design: Design,
    details: dict[str, Any],
    *,
    interval: tuple[float, float, str] | None = None,
    bundle: np.ndarray | None = None,
    index: bool = True,
) -> Estimate:
    """Build the Estimate: ``influence`` may be the reason why there is none; ``interval`` where it has its own.

    ``bundle`` is what was left out in turn, if not single groups; ``index`` as in :func:`interval_of`.
    """
    nan = float("nan")
    if isinstance(influence, str):
        interval, kept = (nan, nan, influence), None
    else:
        kept = influence
        interval = interval_of(value, influence, design.unit, index=index) if interval is None else interval
    low, high, note = interval
    note = note if bundle is None else bundle_note(note, design.unit, bundle)
    details = {"biology": design.biology_name, "confounder": design.confounder_name, **details, "interval": note}
    if design.within_names:
        details["within"] = list(design.within_names)
    n_groups = int(design.groups.max()) + 1
    return Estimate(name, value, low, high, chance, len(design.groups), n_groups, design.unit, details, kept)


def no_estimate(name: str, reason: str, design: Design, details: dict[str, Any]) -> Estimate:
    """Return the Estimate of what cannot be told."""
    details = {**details, "reason": f"cannot tell: {reason}"}
    return mixing_estimate(name, float("nan"), float("nan"), "none: no value", design, details)


def group_cells(design: Design, effects: np.ndarray, pairs: sparse.csr_array | None) -> Influence:
    """Return effects ``(G,)`` of the groups as an Influence in the strata of the design."""
    return Influence(effects, design_cells(design), pairs)
