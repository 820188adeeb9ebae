"""Where shards go: rows of one ``.npy`` matrix, or one file per shard. Each has a checksum."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from causalfm.cohort import Cohort
from causalfm.formats.arrays import table_beside
from causalfm.formats.durable import settle_name
from causalfm.formats.extractions import MATRIX, part_name
from causalfm.io import write
from causalfm.tables import atomic, to_arrow

HEADER, CHUNK = 128, 2**22
Record = Mapping[str, Any]


class Store(Protocol):
    """Keeps shards; a shard is there once :meth:`put` has returned and the journal holds what it returned."""

    def put(self, number: int, X: np.ndarray, obs: pd.DataFrame, before: int) -> str | None:
        """Write a shard so that a power cut leaves it, and return its checksum (None: it has no rows)."""

    def sound(self, number: int, record: Record, before: int) -> bool:
        """Whether a shard is as it was written. ``before``: rows of the shards before it."""

    def finish(self, n: int, obs: pd.DataFrame) -> None:
        """Make the files readable as a whole."""


class MatrixStore:
    """One matrix, float32, which grows under another name until it is whole: a memory map for whoever reads it."""

    def __init__(self, folder: Path, dimension: int) -> None:
        self._final = folder / MATRIX
        self._growing = folder / f"{MATRIX}.unfinished"
        self._dimension = dimension

    @property
    def _path(self) -> Path:
        return self._final if self._final.exists() else self._growing

    def _start(self, before: int) -> int:
        return HEADER + 4 * self._dimension * before

    def put(self, number: int, X: np.ndarray, obs: pd.DataFrame, before: int) -> str | None:
        """Write the rows in their place; what a kill leaves there counts for nothing without the journal's line."""
        content = np.ascontiguousarray(X, dtype="<f4").tobytes()
        if self._final.exists():  # a damaged shard is written again
            self._final.replace(self._growing)
        descriptor = os.open(self._growing, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            write_at(descriptor, content, self._start(before))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        settle_name(self._growing)
        return hashlib.sha256(content).hexdigest() if len(X) else None

    def sound(self, number: int, record: Record, before: int) -> bool:
        """Whether the rows of a shard have the checksum of the journal."""
        if not record["rows"]:
            return True
        if not self._path.is_file():
            return False
        with self._path.open("rb") as file:
            file.seek(self._start(before))
            return bool(_digest(_chunks(file, 4 * self._dimension * record["rows"])) == record["sha256"])

    def finish(self, n: int, obs: pd.DataFrame) -> None:
        """Write the header and the table, then give the matrix its name."""
        import pyarrow.parquet as pq

        with atomic(table_beside(self._final)) as temporary:
            pq.write_table(to_arrow(obs), temporary, write_page_checksum=True)
        descriptor = os.open(self._path, os.O_RDWR)
        try:
            os.ftruncate(descriptor, self._start(n))
            write_at(descriptor, _header(n, self._dimension), 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._path.replace(self._final)
        settle_name(self._final)


class PartStore:
    """One file per shard with its rows of the table, in a format of :func:`causalfm.io.write`."""

    def __init__(self, folder: Path, kind: str) -> None:
        self._folder = folder
        self._kind = kind

    def put(self, number: int, X: np.ndarray, obs: pd.DataFrame, before: int) -> str | None:
        """Write the part under another name, flush it, and give it its name."""
        if not len(X):
            return None
        path = self._folder / part_name(number, self._kind)
        write(Cohort(X, obs), path)
        return _digest(_tree(path))

    def sound(self, number: int, record: Record, before: int) -> bool:
        """Whether a part has the checksum of the journal."""
        path = self._folder / part_name(number, self._kind)
        return bool(not record["rows"] or (path.exists() and _digest(_tree(path)) == record["sha256"]))

    def finish(self, n: int, obs: pd.DataFrame) -> None:
        """Do nothing: the parts hold everything."""


def store_of(folder: Path, kind: str, dimension: int) -> Store:
    """Return the store of a format, ``"npy"`` or that of parts."""
    return MatrixStore(folder, dimension) if kind == "npy" else PartStore(folder, kind)


def _header(n: int, dimension: int) -> bytes:
    """Return the header of a ``.npy`` file, of one length whatever the number of rows."""
    words = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({n}, {dimension}), }}"
    return b"\x93NUMPY\x01\x00" + (HEADER - 10).to_bytes(2, "little") + f"{words:<{HEADER - 11}}\n".encode("latin1")


def write_at(descriptor: int, content: bytes, at: int) -> None:
    """Write all of the content at an offset, however little the system takes at once."""
    view = memoryview(content)
    while view:  # a nearly full disk takes a part
        done = os.pwrite(descriptor, view, at)
        view, at = view[done:], at + done


def _chunks(file: Any, size: int) -> Iterator[bytes]:
    while size > 0:
        content = file.read(min(CHUNK, size))
        if not content:
            return
        yield content
        size -= len(content)


def _tree(path: Path) -> Iterator[bytes]:
    """Yield the bytes of a file, or names and bytes of all files of a store."""
    for inner in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        if inner != path:
            yield inner.relative_to(path).as_posix().encode() + b"\0"
        with inner.open("rb") as file:
            yield from _chunks(file, inner.stat().st_size)


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
