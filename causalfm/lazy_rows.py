"""Rows that stay where they are: a Dask array that engines read like a memory map, a few chunks at a time."""

from __future__ import annotations

import math
import sys
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from causalfm.errors import DataError, MissingDependencyError

if TYPE_CHECKING:
    import dask.array

SHARE = 0.25  # of the memory that is free: what is taken where no limit is given
LEAST = 2**26  # bytes: with less nothing can be computed
HELD = 2  # chunks kept, so that small pieces in a row read each chunk once


class LazyRows:
    """A 2-D Dask array that gives NumPy arrays: what engines read of embeddings larger than memory.

    Rows are read with ``X[rows]``: a slice, a mask or positions, in the order given. ``np.asarray(X)`` reads all of it,
    if it fits the limit.

    Parameters
    ----------
    array
        ``(n, d)`` Dask array with known chunk sizes.
    limit
        Bytes that may be held at once; None: a quarter of the memory that is free now.

    Raises
    ------
    DataError
        Unknown chunk sizes, a limit below 64 MiB, or chunks of which two do not fit it.
    """

    __array_priority__ = 20.0  # arithmetic with it would read everything: NumPy gives up and says so

    def __init__(self, array: dask.array.Array, limit: int | None = None) -> None:
        if np.isnan(array.shape).any() or any(np.isnan(sizes).any() for sizes in array.chunks):
            raise DataError("X is a Dask array with chunks of unknown size: call X.compute_chunk_sizes() first.")
        self.array = array
        self.limit = free_memory() if limit is None else int(limit)
        if self.limit < LEAST:
            raise DataError(f"a memory limit of {self.limit} bytes is too small: give at least {LEAST // 2**20} MiB.")
        self.shape: tuple[int, ...] = tuple(int(n) for n in array.shape)
        self.dtype = np.dtype(array.dtype)
        self.ndim = array.ndim
        self.edges = np.append(0, np.cumsum(array.chunks[0])).astype(np.int64) if array.ndim else np.zeros(1, np.int64)
        self.memo: dict[Any, Any] = {}  # what was found in a pass over all rows, which do not change
        self.bytes_read = 0  # of its array so far, here or on workers
        self._held: OrderedDict[int, np.ndarray] = OrderedDict()
        if 2 * self.chunk_bytes > self.limit:
            raise DataError(
                f"a chunk of rows takes {size_text(self.chunk_bytes)} and the memory limit is {size_text(self.limit)}: "
                "cut the array into smaller chunks (X.rechunk), or raise the limit."
            )

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return int(self.size * self.dtype.itemsize)

    @property
    def size(self) -> int:
        """Numbers in all."""
        return math.prod(self.shape)

    @property
    def chunk_bytes(self) -> int:
        """Bytes of the largest chunk of rows, all dimensions of it."""
        rows = int(np.diff(self.edges).max(initial=0))
        return int(rows * math.prod(self.shape[1:]) * self.dtype.itemsize)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"LazyRows({self.shape}, {self.dtype}, {len(self.edges) - 1} chunks of rows)"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("rows on disk cannot be read without a copy")
        self.refuse_reading(len(self))
        return np.asarray(self[:], dtype=dtype)

    def __getitem__(self, index: Any) -> np.ndarray:
        """Read rows, or rows and columns, as a NumPy array that may be a view: never write to it."""
        if isinstance(index, tuple):
            found = np.asarray(_computed(self.array[index]))
            self.bytes_read += found.nbytes
            return found
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            return self._between(start, max(start, stop)) if step == 1 else self._at(np.arange(start, stop, step))
        rows = np.asarray(index)
        if rows.dtype == bool:
            if rows.shape != (len(self),):
                raise IndexError(f"a mask of shape {rows.shape} for {len(self)} rows")
            rows = np.flatnonzero(rows)
        found = self._at(rows.astype(np.int64).reshape(-1))
        return found.reshape(*rows.shape, *self.shape[1:])

    def part(self, rows: slice | np.ndarray) -> LazyRows | np.ndarray:
        """Return a slice, a mask or positions: read if an eighth of the limit holds them, else left where they are.

        Raises
        ------
        DataError
            Too many positions that do not ascend.
        """
        where = np.arange(len(self))[rows]
        if len(where) * self.shape[1] * self.dtype.itemsize <= self.limit // 8:
            return np.array(self[rows])
        if len(where) > 1 and (np.diff(where) <= 0).any():
            raise DataError(
                f"{len(where)} rows in another order do not fit the memory limit of {size_text(self.limit)}: name "
                "ascending positions, or write the data set in the order that is needed."
            )
        return self.kept(rows if isinstance(rows, slice) else where)

    def kept(self, rows: slice | np.ndarray) -> LazyRows:
        """Return a slice or ascending positions, left where they are however few they are."""
        return LazyRows(self.array[rows], self.limit)

    def refuse_reading(self, rows: int, dtype: Any = None) -> None:
        """Refuse to hold so many rows at once.

        Raises
        ------
        DataError
            More than half of the limit.
        """
        size = rows * math.prod(self.shape[1:]) * np.dtype(dtype or self.dtype).itemsize
        if size > self.limit // 2:
            raise DataError(
                f"this needs {rows} rows of {self.shape[-1]} dimensions in memory at once ({size_text(size)}), and the "
                f"memory limit is {size_text(self.limit)}: ask it of a sample of rows, cohort[rows], or raise the "
                "limit (causalfm.read(..., memory_limit=))."
            )

    def _between(self, start: int, stop: int) -> np.ndarray:
        first, last = np.searchsorted(self.edges, [start, max(start, stop - 1)], side="right") - 1
        if start >= stop:
            return np.empty((0, *self.shape[1:]), dtype=self.dtype)
        if first == last:
            at = self.edges[first]
            return self._chunk(int(first))[start - at : stop - at]
        out = np.empty((stop - start, *self.shape[1:]), dtype=self.dtype)
        for number in range(int(first), int(last) + 1):
            a, b = max(start, int(self.edges[number])), min(stop, int(self.edges[number + 1]))
            if a < b:
                out[a - start : b - start] = self._chunk(number)[a - self.edges[number] : b - self.edges[number]]
        return out

    def _at(self, rows: np.ndarray) -> np.ndarray:
        """Read rows at any positions, each chunk once."""
        rows = np.where(rows < 0, rows + len(self), rows)
        if len(rows) and (rows.min() < 0 or rows.max() >= len(self)):
            raise IndexError(f"row positions must lie between 0 and {len(self) - 1}")
        self.refuse_reading(len(rows))
        out = np.empty((len(rows), *self.shape[1:]), dtype=self.dtype)
        order = np.argsort(rows, kind="stable")
        number = np.searchsorted(self.edges, rows[order], side="right") - 1
        for at in np.split(order, np.flatnonzero(np.diff(number)) + 1) if len(rows) else ():
            chunk = int(np.searchsorted(self.edges, rows[at[0]], side="right")) - 1
            out[at] = self._chunk(chunk)[rows[at] - self.edges[chunk]]
        return out

    def _chunk(self, number: int) -> np.ndarray:
        if number in self._held:
            self._held.move_to_end(number)
            return self._held[number]
        while len(self._held) >= HELD:
            self._held.popitem(last=False)
        block = np.asarray(_computed(self.array[int(self.edges[number]) : int(self.edges[number + 1])]))
        block.flags.writeable = False
        self.bytes_read += block.nbytes
        self._held[number] = block
        return block


def is_dask(X: Any) -> bool:
    """Whether an object is a Dask array; looks at names only, so that nothing is imported."""
    module = sys.modules.get("dask.array")
    return module is not None and isinstance(X, module.Array)


def as_rows(X: Any, limit: int | None = None) -> Any:
    """Return a Dask array as rows to be read, anything else as it is."""
    return LazyRows(X, limit) if is_dask(X) else X


def is_lazy(X: Any) -> TypeGuard[LazyRows]:
    """Whether rows lie outside memory and are read as Dask arrays."""
    return isinstance(X, LazyRows)


def part_of(X: Any, rows: slice | np.ndarray) -> Any:
    """Return rows of an array, or a part of lazy rows as :meth:`LazyRows.part` does."""
    return X.part(rows) if is_lazy(X) else X[rows]


def empty_like(X: Any, dtype: Any) -> np.ndarray:
    """Return an empty array with a place for every number of ``X``, if memory holds it: see ``refuse_reading``."""
    if is_lazy(X):
        X.refuse_reading(len(X), dtype)
    return np.empty(X.shape, dtype=dtype)


def import_dask() -> Any:
    """Return ``dask.array``.

    Raises
    ------
    MissingDependencyError
        Dask is not installed.
    """
    try:
        import dask.array
    except ImportError:
        raise MissingDependencyError("data larger than memory need Dask: pip install 'causalfm[scale]'") from None
    return dask.array


def free_memory() -> int:
    """Bytes of the memory that may be taken if nobody says: a quarter of what is free now."""
    return max(LEAST, int(SHARE * available_memory()))


def available_memory() -> int:
    """Bytes that can be taken now: what the system says beside its cache, at most what a container leaves."""
    free = 2**33
    if (meminfo := Path("/proc/meminfo")).is_file():
        known = dict(line.split(":", 1) for line in meminfo.read_text(encoding="ascii").splitlines())
        free = 1024 * int(known["MemAvailable"].split()[0]) if "MemAvailable" in known else free
    group = Path("/sys/fs/cgroup")
    try:
        most, used = (int((group / f"memory.{name}").read_text(encoding="ascii")) for name in ("max", "current"))
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return free
    return max(0, min(free, most - used))


def size_text(size: float) -> str:
    """Return bytes in words, in the largest unit of which there is one at least."""
    for power, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if size >= 1024**power:
            return f"{size / 1024**power:.3g} {unit}"
    return f"{size:.0f} bytes"


def _computed(array: Any) -> Any:
    return array.compute()
