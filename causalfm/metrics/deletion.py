"""What the absence of one unit changes in every neighbour list: the jackknife behind all neighbour metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from scipy import sparse

from causalfm.neighbours import Neighbours

BLOCK = 2**20  # list entries worked on at once, about 100 MiB

# ``search(queries, reserve)`` gives the neighbours of these row positions with ``k + reserve`` columns.
Search = Callable[[np.ndarray, int], Neighbours]
# ``channels(neighbours)`` gives ``(m, width, c)`` numbers, one per list entry and channel; 0 where a list has ended.
Channels = Callable[[Neighbours], np.ndarray]


class ListsTooShortError(Exception):
    """Without one unit some query has fewer than ``k`` candidates."""


def list_changes(
    neighbours: Neighbours, units: np.ndarray, k: int, channels: Channels, search: Search
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Say how the sums over a query's first ``k`` neighbours change when all rows of one unit are gone.

    Lists that lose rows are refilled from the reserve, exactly as a new search without the unit would. Queries whose
    reserve is too short are searched again with a longer one. Units that are not in a list change nothing in it.

    Parameters
    ----------
    neighbours
        Lists without the query's own unit, at least ``k`` long.
    units
        ``(n,)`` integer codes from 0.
    k
        Neighbours counted.
    channels
        What is summed over a list.
    search
        Longer lists.

    Yields
    ------
    query : numpy.ndarray
        ``(p,)`` row positions of queries.
    unit : numpy.ndarray
        ``(p,)`` code of the unit that is gone; a pair of query and unit comes once.
    change : numpy.ndarray
        ``(p, c)`` change of the query's sums.

    Raises
    ------
    ListsTooShortError
        Some list is known to its end and still too short.
    """
    pending, width = neighbours, min(neighbours.indices.shape[1], 2 * k + 32)
    while True:
        short = np.zeros(len(pending.queries), dtype=bool)
        for rows in blocks(len(short), width):
            part = take(pending, rows, width)
            values = channels(part)
            row, unit, change, short[rows] = _refill(part.indices, units, values, k)
            yield part.queries[row], unit, change
        if not short.any():
            return
        full = pending.indices.shape[1]
        if width < full:
            width, pending = min(2 * width, full), take(pending, np.flatnonzero(short), full)
        elif (pending.indices[short, -1] < 0).any():
            raise ListsTooShortError
        else:
            pending = search(pending.queries[short], 2 * width)
            width = pending.indices.shape[1]


def pair_sums(
    changes: Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]], units: np.ndarray, n_channels: int
) -> tuple[sparse.csr_array, ...]:
    """Add up changes by the query's unit and the unit that is gone: one sparse ``(U, U)`` array per channel."""
    n_units = int(units.max()) + 1
    sums = [sparse.csr_array((n_units, n_units)) for _ in range(n_channels)]
    for query, unit, change in changes:
        where = units[query], unit
        sums = [
            total + sparse.csr_array((change[:, channel], where), shape=total.shape)
            for channel, total in enumerate(sums)
        ]
    return tuple(sums)


def take(neighbours: Neighbours, rows: slice | np.ndarray, width: int) -> Neighbours:
    """Return some of the lists, and of each the first ``width`` entries."""
    return replace(
        neighbours,
        indices=neighbours.indices[rows, :width],
        similarity=neighbours.similarity[rows, :width],
        queries=neighbours.queries[rows],
    )


def blocks(n: int, width: int) -> Iterator[slice]:
    """Return slices of ``n`` lists of ``width`` entries that are worked on at once."""
    step = max(1, BLOCK // width)
    return (slice(start, start + step) for start in range(0, n, step))


def _refill(
    indices: np.ndarray, units: np.ndarray, values: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Say, for each (list, unit), what the unit's absence changes; and mark the lists that end too early to tell.

    The refilled list is the first k entries of other units. An entry of unit h lies before its end if fewer than k
    entries of other units precede it; with c such entries the refilled list ends at position k - 1 + c.
    """
    q, width = indices.shape
    owner = np.where(indices < 0, -1, units[indices])
    order = np.argsort(owner, axis=1, kind="stable")
    sorted_owner = np.take_along_axis(owner, order, axis=1)
    start = np.ones((q, width), dtype=bool)
    start[:, 1:] = sorted_owner[:, 1:] != sorted_owner[:, :-1]
    starts = np.flatnonzero(start)  # one run per (list, unit)
    lengths = np.diff(np.append(starts, q * width))
    before_end = order.ravel() - (np.arange(q * width) - np.repeat(starts, lengths)) < k
    row, unit = starts // width, sorted_owner.ravel()[starts]
    removed = np.add.reduceat(before_end, starts, dtype=np.int64)
    touched = (removed > 0) & (unit >= 0)
    end = k - 1 + removed
    short = np.zeros(q, dtype=bool)
    short[row[touched & (end >= (owner >= 0).sum(1)[row])]] = True
    use = np.flatnonzero(touched & ~short[row])
    change = np.empty((len(use), values.shape[2]))
    for channel in range(values.shape[2]):
        value = values[:, :, channel].astype(np.float64)
        running = value.cumsum(1)
        gone = np.add.reduceat(np.take_along_axis(value, order, 1).ravel() * before_end, starts)
        change[:, channel] = running[row[use], end[use]] - gone[use] - running[row[use], k - 1]
    return row[use], unit[use], change, short
