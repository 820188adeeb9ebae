"""A function of every block of rows, in order: here, one after the other; on Dask's workers if a cluster is in force.

Blocks begin where they would begin in memory, and their results come back in their order. So whatever adds them up adds
the same numbers in the same order, however many workers there are and whichever of them is lost on the way.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalfm.lazy_rows import LazyRows, is_lazy

AHEAD = 2  # tasks per thread of the cluster that may run or wait to be collected


def spans(n: int, step: int) -> list[slice]:
    """Return consecutive slices of ``step`` rows; the last may be shorter."""
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def map_blocks(
    X: Any,
    blocks: Sequence[slice],
    function: Callable[..., Any],
    *,
    aligned: Sequence[np.ndarray] = (),
    shared: Sequence[Any] = (),
) -> Iterator[tuple[slice, Any]]:
    """Yield each slice with ``function(X[rows], *(a[rows] for a in aligned), *shared)``, in order.

    Parameters
    ----------
    X
        ``(n, d)`` array, memory map or :class:`causalfm.lazy_rows.LazyRows`.
    blocks
        Consecutive slices of rows.
    function
        Must not write to its rows. On a cluster it is sent to the workers: a function of a module, with what it needs
        in ``aligned`` and ``shared``.
    aligned
        Arrays ``(n, ...)`` of which each block gets its rows.
    shared
        What every block gets as it is.
    """
    client = cluster() if is_lazy(X) else None
    if client is None:
        for rows in blocks:
            yield rows, function(X[rows], *(values[rows] for values in aligned), *shared)
        return
    from distributed.client import futures_of

    on_workers = bool(futures_of(X.array))  # such rows are fetched by the cluster
    waiting: deque[tuple[list[slice], Any]] = deque()
    room = AHEAD * max(1, sum(client.nthreads().values()))
    constants = client.submit(tuple, tuple(shared), pure=False)  # a task, so that it can be run again elsewhere
    for group in _by_chunk(X, blocks):
        parts = [tuple(values[rows] for values in aligned) for rows in group]
        waiting.append((group, _submitted(client, X, on_workers, group, function, parts, constants)))
        if len(waiting) >= room:
            yield from _collected(*waiting.popleft())
    while waiting:
        yield from _collected(*waiting.popleft())


def cluster() -> Any:
    """Return the client of the Dask cluster in force, or None; Dask is not imported for it."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        return distributed.get_client()
    except ValueError:
        return None


def _by_chunk(X: LazyRows, blocks: Sequence[slice]) -> Iterator[list[slice]]:
    """Group blocks that begin in one chunk, so that it is read once."""
    first = np.searchsorted(X.edges, [rows.start for rows in blocks], side="right")
    for at in np.split(np.arange(len(blocks)), np.flatnonzero(np.diff(first)) + 1) if len(blocks) else ():
        yield [blocks[i] for i in at]


def _submitted(
    client: Any, X: LazyRows, on_workers: bool, group: list[slice], function: Any, parts: Any, constants: Any
) -> Any:
    """Send one task that reads its rows itself: as tasks of their own, chunks travel between workers."""
    from dask import optimize

    start, stop = group[0].start, group[-1].stop
    cuts = [slice(rows.start - start, rows.stop - start) for rows in group]
    rows = X.array[start:stop]
    X.bytes_read += rows.nbytes
    read = client.compute(rows) if on_workers else _Unread(optimize(rows)[0])
    return client.submit(_of_group, function, read, cuts, parts, constants, pure=False)


@dataclass(frozen=True)
class _Unread:
    """A Dask array that the cluster hands over as it is."""

    array: Any


def _of_group(function: Callable[..., Any], rows: Any, cuts: Any, parts: Any, shared: Any) -> list[Any]:
    rows = np.asarray(rows.array.compute(scheduler="synchronous") if isinstance(rows, _Unread) else rows)
    rows.flags.writeable = False
    return [function(rows[cut], *part, *shared) for cut, part in zip(cuts, parts, strict=True)]


def _collected(group: list[slice], future: Any) -> Iterator[tuple[slice, Any]]:
    yield from zip(group, future.result(), strict=True)
