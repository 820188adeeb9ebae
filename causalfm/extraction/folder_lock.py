"""One writer per folder. The system drops the lock with the process, however it ends."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from causalfm.errors import DataError

LOCK = ".lock"
_guard = threading.Lock()
_held: set[Path] = set()  # the system's lock knows processes, not threads


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder while the block runs.

    Raises
    ------
    DataError
        Another extraction is writing there.
    """
    path = folder.resolve() / LOCK
    busy = DataError(f"another extraction is writing to {folder.name!r}: wait for it, or choose another out=.")
    with _guard:
        if path in _held:
            raise busy
        _held.add(path)
    try:
        with _locked_file(path, folder.name, busy):
            yield
    finally:
        _held.discard(path)


@contextmanager
def _locked_file(path: Path, name: str, busy: DataError) -> Iterator[None]:
    # lockf, not flock: workers that were forked off and outlive a killed parent by seconds do not hold it
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise DataError(f"nothing can be written to {name!r}: {error.strerror}.") from None
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise busy from None
        except OSError as error:
            raise DataError(f"{name!r} cannot be locked: {error.strerror}. Choose another disk.") from None
        yield
    finally:
        os.close(descriptor)
