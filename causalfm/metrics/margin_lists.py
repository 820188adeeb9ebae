"""Margins between the nearest neighbours of both types, and what the absence of one unit changes in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy import sparse

from causalfm.metrics.deletion import Deletion, list_changes, pair_sums, take
from causalfm.metrics.design import Design
from causalfm.metrics.list_ratios import quotient
from causalfm.metrics.nearest_typed import Wanted, nearest_typed
from causalfm.metrics.typed import OS, SO, candidates
from causalfm.metrics.weighted import RESOLUTION, cosine_distances
from causalfm.neighbours import Loader, Neighbours


@dataclass(frozen=True, eq=False)
class Margins:
    """Margins of the queries that have one, and the lists they stand on.

    Attributes
    ----------
    values
        ``(q,)`` in [-1, 1].
    sums
        ``(q, 2)`` sums of the distances to the m nearest SO and OS neighbours.
    so, os
        Lists of these queries.
    asked
        Queries asked for.
    undefined
        Share of the queries without a margin by cause.
    """

    values: np.ndarray
    sums: np.ndarray
    so: Neighbours
    os: Neighbours
    asked: int
    undefined: dict[str, float]


def margins_of(
    load: Loader, design: Design, m: int, queries: np.ndarray, shared: Neighbours | None, reserve: int | None = None
) -> Margins:
    """Find the m nearest of both types, and a reserve, for all queries that have them.

    Parameters
    ----------
    load
        Unit rows of the cohort, see :func:`causalfm.metrics.nearest_typed.unit_loader`.
    design
        Entries, groups and strata.
    m
        Neighbours of each type.
    queries
        ``(q,)`` entries; those of ``shared`` if it is given.
    shared
        Lists of any type to be looked through first.
    reserve
        Entries beyond m; None: 3 m.
    """
    return margins_of_each(load, [design], m, queries, shared, reserve)[0]


def margins_of_each(
    load: Loader,
    designs: Sequence[Design],
    m: int,
    queries: np.ndarray,
    shared: Neighbours | None,
    reserve: int | None = None,
) -> list[Margins]:
    """Do the same for designs that differ by their labels, in one search."""
    wanted, counted = [], []
    for design in designs:
        enough = candidates(design.biology, design.confounder, design.groups, design.within)[queries][:, [SO, OS]] >= m
        use = np.flatnonzero(enough.all(axis=1))
        part = None if shared is None else take(shared, use, shared.indices.shape[1])
        wanted += [Wanted(design, kind, queries[use], part) for kind in (SO, OS)]
        counted.append(enough)
    lists = nearest_typed(load, wanted, m + (3 * m if reserve is None else reserve), m)
    return [_margins(so, os, m, enough) for so, os, enough in zip(lists[::2], lists[1::2], counted, strict=True)]


def _margins(so: Neighbours, os: Neighbours, m: int, enough: np.ndarray) -> Margins:
    """Margins from the lists of the queries that have ``enough (q, 2)`` candidates of both types."""
    sums = np.stack([cosine_distances(one)[:, :m].sum(axis=1) for one in (so, os)], axis=1).reshape(-1, 2)
    values = margin(sums, m)
    told = np.isfinite(values)
    undefined = {
        "no m SO candidates": float((~enough[:, 0]).mean()),
        "no m OS candidates": float((enough[:, 0] & ~enough[:, 1]).mean()),
        "all at distance 0": float((~told).sum() / max(1, len(enough))),
    }
    so, os = (take(one, np.flatnonzero(told), one.indices.shape[1]) for one in (so, os))
    return Margins(values[told], sums[told], so, os, len(enough), undefined)


def margin(sums: np.ndarray, m: int) -> np.ndarray:
    """Return the margin of sums of m SO and m OS distances ``(..., 2)``; ``nan`` where no distance can be told."""
    so, os = np.moveaxis(sums, -1, 0)
    total = os + so
    return quotient(os - so, np.where(total > 2 * m * RESOLUTION, total, 0.0))


def margin_changes(
    load: Loader, design: Design, margins: Margins, m: int, units: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Say what each query's margin would be without each unit that is in one of its lists.

    Parameters
    ----------
    load, design, m
        As in :func:`margins_of`.
    margins
        What it found.
    units
        ``(n,)`` codes of what is left out, the groups as a rule.

    Returns
    -------
    position : numpy.ndarray
        ``(p,)`` positions in ``margins.values``.
    unit : numpy.ndarray
        ``(p,)`` unit.
    value : numpy.ndarray
        ``(p,)`` the margin without the unit; ``nan`` if the query has none then.
    """
    if not len(margins.values):  # a balanced draw in which nobody has enough candidates
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0)
    n, n_units = len(units), int(units.max()) + 1
    padded = np.append(units, n_units)  # whose one entry stands for every place after a list's end
    keys, parts = [], []
    for kind, one in ((SO, margins.so), (OS, margins.os)):
        search = partial(_padded_search, load, design, kind, m)
        found = list(list_changes(replace(_padded(one, n), k=m), padded, m, partial(_distance_or_end, n), search))
        query, unit, change = (np.concatenate(columns) for columns in zip(*found, strict=True))
        keys.append(query * n_units + unit)
        parts.append(change)
    pair, at = np.unique(np.concatenate(keys), return_inverse=True)
    change = np.zeros((len(pair), 2))
    ended = np.zeros(len(pair), dtype=bool)
    for channel, (places, part) in enumerate(zip(np.split(at, [len(keys[0])]), parts, strict=True)):
        change[places, channel] = part[:, 0]
        ended[places] |= part[:, 1] > 0
    place = np.zeros(n, dtype=np.int64)
    place[margins.so.queries] = np.arange(len(margins.values))
    position = place[pair // n_units]
    value = margin(margins.sums[position] + change, m)
    value[ended] = np.nan
    return position, pair % n_units, value


def mean_deletion(
    scores: np.ndarray,
    changed: np.ndarray,
    position: np.ndarray,
    unit: np.ndarray,
    owner: np.ndarray,
    n_units: int,
) -> Deletion:
    """Return what each unit's absence changes in sums of scores over queries, and in the number of queries.

    Parameters
    ----------
    scores
        ``(q, c)`` scores of the queries.
    changed
        ``(p, c)`` scores of query ``position`` without ``unit``; ``nan`` where the query has none then.
    position, unit
        ``(p,)``.
    owner
        ``(q,)`` units of the queries.
    n_units
        Units of the design.

    Returns
    -------
    Deletion
        With ``c + 1`` channels, the last one the number of queries.
    """
    gone = np.isnan(changed[:, :1])
    new = np.hstack([np.where(gone, 0.0, changed), ~gone])
    old = np.hstack([scores, np.ones((len(scores), 1))])
    own = np.stack([np.bincount(owner, column, n_units) for column in old.T], axis=1)
    pairs: tuple[sparse.csr_array, ...] = pair_sums(
        [(position, unit, new - old[position])], owner, old.shape[1], n_units
    )
    return Deletion(own, pairs)


def _padded(lists: Neighbours, n: int) -> Neighbours:
    """Let ended lists go on with entries ``n``: to be without a neighbour is a change like any other."""
    return replace(lists, indices=np.where(lists.indices == -1, n, lists.indices))


def _padded_search(load: Loader, design: Design, kind: int, m: int, queries: np.ndarray, reserve: int) -> Neighbours:
    found = nearest_typed(load, [Wanted(design, kind, queries)], m + reserve, m)[0]
    return replace(_padded(found, len(design.groups)), k=m)


def _distance_or_end(n: int, lists: Neighbours) -> np.ndarray:
    """Return two channels: the distance of real neighbours, and 1 for places after the end."""
    real = (lists.indices >= 0) & (lists.indices < n)
    distance = np.where(real, cosine_distances(replace(lists, similarity=np.where(real, lists.similarity, 0))), 0.0)
    return np.stack([distance, lists.indices == n], axis=2)
