"""What the absence of one unit changes in every neighbour list: the jackknife behind all neighbour metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from causalfm.metrics.joint_cells import ByCell
from causalfm.neighbours import Neighbours
from causalfm.row_tasks import spans

BLOCK = 2**16  # list entries worked on at once: a few MiB, which caches hold
DENSE = 2**23  # pairs of units that are added up in a full array: 64 MiB per channel

# ``search(queries, reserve)`` gives the neighbours of these row positions with ``k + reserve`` columns.
Search = Callable[[np.ndarray, int], Neighbours]


@dataclass(frozen=True, eq=False)
class ByLevel:
    """Numbers that are summed apart for each level of an entry: ``c x n_levels`` channels, level by level in each.

    Attributes
    ----------
    values
        ``(c, m, width)``; of ended entries no level counts.
    levels
        ``(m, width)`` codes below ``n_levels``.
    n_levels
        Number of levels.
    """

    values: np.ndarray
    levels: np.ndarray
    n_levels: int


# ``channels(neighbours)`` gives ``(m, width, c)`` numbers, one per list entry and channel; 0 where a list has ended.
Channels = Callable[[Neighbours], np.ndarray]
LevelChannels = Callable[[Neighbours], ByLevel]


class ListsTooShortError(Exception):
    """Without one unit some query has fewer than ``k`` candidates."""


@dataclass(frozen=True, eq=False)
class Deletion:
    """What the absence of each unit changes in sums over lists.

    Attributes
    ----------
    own
        ``(U, c)`` sums over the unit's own queries, which go with it.
    pairs
        ``c`` sparse ``(U, U)`` arrays: change of the sums of the row unit's queries without the column unit.
    """

    own: np.ndarray
    pairs: tuple[sparse.csr_array, ...]

    @property
    def effects(self) -> np.ndarray:
        """Change of the sums without each unit, ``(U, c)``."""
        return np.asarray(np.stack([pair.sum(axis=0) for pair in self.pairs], axis=1) - self.own)


def deletion_of(
    neighbours: Neighbours,
    units: np.ndarray,
    k: int,
    channels: Channels,
    search: Search,
    n_units: int,
    factors: ByCell | None = None,
) -> tuple[np.ndarray, Deletion | None]:
    """Return the sums over the first ``k`` neighbours, ``(c,)``, and what each unit's absence changes in them.

    Parameters
    ----------
    neighbours
        Lists without the query's own unit, at least ``k`` long.
    units
        ``(n,)`` integer codes below ``n_units``.
    k
        Neighbours counted.
    channels
        What is summed over a list.
    search
        Longer lists, where the reserve is too short.
    n_units
        Units of the design; some may have no row here.
    factors
        ``(n, c)`` numbers by which a query's sums are multiplied to give another c channels.

    Returns
    -------
    totals : numpy.ndarray
        ``(c,)``, or ``(2 c,)`` with factors.
    deletion : Deletion or None
        None if without one unit some query has fewer than ``k`` candidates.
    """

    def both(query: np.ndarray, sums: np.ndarray) -> np.ndarray:
        return sums if factors is None else np.hstack([sums, sums * factors[query]])

    parts = [take(neighbours, rows, k) for rows in blocks(len(neighbours.queries), k)]
    sums = both(neighbours.queries, np.concatenate([channels(part).sum(axis=1, dtype=np.float64) for part in parts]))
    owner = units[neighbours.queries]
    own = np.stack([np.bincount(owner, column, n_units) for column in sums.T], axis=1)
    changes = list_changes(neighbours, units, k, channels, search)
    try:
        pairs = pair_sums(((q, u, both(q, change)) for q, u, change in changes), units, own.shape[1], n_units)
    except ListsTooShortError:
        return own.sum(axis=0), None
    return own.sum(axis=0), Deletion(own, pairs)


def list_changes(
    neighbours: Neighbours, units: np.ndarray, k: int, channels: Channels | LevelChannels, search: Search
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Say how the sums over a query's first ``k`` neighbours change when all rows of one unit are gone.

    Lists that lose rows are refilled from the reserve, exactly as a new search without the unit would. Queries whose
    reserve is too short are searched again with a longer one. Units that are not in a list change nothing in it.

    Parameters
    ----------
    neighbours
        Lists without the query's own unit, at least ``k`` long. An index of -1: the list has ended, there is no other
        candidate; -2: it was cut, and is searched again where that matters.
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
    pending, width = neighbours, min(neighbours.indices.shape[1], k + k // 4 + 16)  # enough for most lists
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
        elif (pending.indices[short, -1] == -1).any():
            raise ListsTooShortError
        else:
            pending = search(pending.queries[short], 2 * width)
            width = pending.indices.shape[1]


def pair_sums(
    changes: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]],
    units: np.ndarray,
    n_channels: int,
    n_units: int | None = None,
) -> tuple[sparse.csr_array, ...]:
    """Add up changes by the query's unit and the unit that is gone: one sparse ``(U, U)`` array per channel."""
    n_units = int(units.max()) + 1 if n_units is None else n_units
    shape = (n_units, n_units)
    if n_units**2 <= DENSE:  # adding up in place is several times faster than sorting sparse entries
        full = np.zeros((n_channels, n_units**2))
        for query, unit, change in changes:
            where = units[query] * n_units + unit
            for channel in range(n_channels):
                np.add.at(full[channel], where, change[:, channel])
        return tuple(sparse.csr_array(one.reshape(shape)) for one in full)
    sums = [sparse.csr_array(shape) for _ in range(n_channels)]
    for query, unit, change in changes:
        where = units[query], unit
        sums = [total + sparse.csr_array((change[:, i], where), shape=shape) for i, total in enumerate(sums)]
    return tuple(sums)


def take(neighbours: Neighbours, rows: slice | np.ndarray, width: int) -> Neighbours:
    """Return some of the lists, and of each the first ``width`` entries."""
    return replace(
        neighbours,
        indices=neighbours.indices[rows, :width],
        similarity=neighbours.similarity[rows, :width],
        queries=neighbours.queries[rows],
    )


def blocks(n: int, width: int) -> list[slice]:
    """Return slices of ``n`` lists of ``width`` entries that are worked on at once."""
    return spans(n, max(1, BLOCK // width))


def _refill(
    indices: np.ndarray, units: np.ndarray, values: np.ndarray | ByLevel, k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Say, for each (list, unit), what the unit's absence changes; and mark the lists that end too early to tell.

    The refilled list is the first k entries of other units. An entry of unit h lies before its end if fewer than k
    entries of other units precede it; with c such entries the refilled list ends at position k - 1 + c.
    """
    q, width = indices.shape
    owner = np.where(indices < 0, -1, units[indices])
    position, sorted_owner = _by_unit(owner)
    start = np.ones((q, width), dtype=bool)
    start[:, 1:] = sorted_owner[:, 1:] != sorted_owner[:, :-1]
    starts = np.flatnonzero(start).astype(np.int32)  # one run per (list, unit)
    run = np.cumsum(start, dtype=np.int32) - 1
    same_before = np.arange(q * width, dtype=np.int32) - starts[run]
    before_end = np.flatnonzero(position.ravel() - same_before < k)
    removed = np.bincount(run[before_end], minlength=len(starts))
    row, unit = starts // width, sorted_owner.ravel()[starts]
    touched = (removed > 0) & (unit >= 0)
    end = k - 1 + removed
    short = np.zeros(q, dtype=bool)
    short[row[touched & (end >= (owner >= 0).sum(1)[row])]] = True
    use = np.flatnonzero(touched & ~short[row])
    entry, of_run = before_end // width * width + position.ravel()[before_end], run[before_end]
    old_end = row[use] * width + k - 1
    found = entry, of_run, use, old_end, removed, len(starts)
    change = _sums_by_level(values, *found) if isinstance(values, ByLevel) else _sums(values, *found)
    return row[use], unit[use].astype(np.int64), change, short


def _sums(
    values: np.ndarray,
    entry: np.ndarray,
    of_run: np.ndarray,
    use: np.ndarray,
    old_end: np.ndarray,
    removed: np.ndarray,
    n_runs: int,
) -> np.ndarray:
    """Sum what comes after the old end of each used run, less all of the unit's entries."""
    change = np.empty((len(use), values.shape[2]))
    for channel in range(values.shape[2]):
        value = values[:, :, channel]
        gone = np.bincount(of_run, value.ravel()[entry], n_runs)
        running = value.cumsum(axis=1, dtype=np.float64).ravel()
        change[:, channel] = running[old_end + removed[use]] - running[old_end] - gone[use]
    return change


def _sums_by_level(
    values: ByLevel,
    entry: np.ndarray,
    of_run: np.ndarray,
    use: np.ndarray,
    old_end: np.ndarray,
    removed: np.ndarray,
    n_runs: int,
) -> np.ndarray:
    """Do the same level by level: the entries that come and go are few beside all entries times all levels."""
    used = np.full(n_runs, -1)
    used[use] = np.arange(len(use))
    going = used[of_run] >= 0
    entry, of_gone = entry[going], used[of_run[going]]
    coming = removed[use]
    of_new = np.repeat(np.arange(len(use)), coming)
    new = np.repeat(old_end + 1 - np.cumsum(coming) + coming, coming) + np.arange(len(of_new))
    level, n_levels = values.levels.ravel(), values.n_levels
    at = np.concatenate([of_new * n_levels + level[new], of_gone * n_levels + level[entry]])
    out = []
    for value in values.values.reshape(len(values.values), -1):
        out.append(np.bincount(at, np.concatenate([value[new], -value[entry]]), len(use) * n_levels))
    return np.concatenate([one.reshape(len(use), n_levels) for one in out], axis=1)


def _by_unit(owner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Order each list by unit, then position: packed in one number, since plain numbers sort ten times faster."""
    width = owner.shape[1]
    bits = (width - 1).bit_length()
    small = np.int32 if (int(owner.max()) + 2) << bits < 2**31 else np.int64
    packed = (((owner + 1) << bits) | np.arange(width)).astype(small)
    packed.sort(axis=1)
    return packed & ((1 << bits) - 1), (packed >> bits) - 1
