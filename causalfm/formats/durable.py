"""Files that are there, and files written whole or not at all, onto the disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from causalfm.errors import DataError


def existing(path: str | os.PathLike[str], label: str | None = None) -> Path:
    """Return the path of a file that is there and holds something.

    Parameters
    ----------
    path
        The file.
    label
        What to call it where its name must not be printed.

    Raises
    ------
    DataError
        Missing or empty.
    """
    path = Path(path)
    name = label or repr(path.name)
    if not path.is_file():
        missing = f"{label} is not there" if label else f"there is no file {name} where you point"
        raise DataError(f"{missing}: check the path.")
    if path.stat().st_size == 0:
        raise DataError(f"{name} is empty (0 bytes): copy or export it again.")
    return path


def settle(path: Path) -> None:
    """Flush a file, or every file and folder below a folder: until then a power cut can undo what was written."""
    if path.is_dir():
        for inner in path.iterdir():
            settle(inner)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def settle_name(path: Path) -> None:
    """Flush the folder that holds the name of ``path``: a rename is not durable before."""
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces ``path`` if the block ends well, and is removed if it does not.

    Parameters
    ----------
    path
        Final file; missing parent folders are made. Where it is a link, what it points to is replaced.

    Yields
    ------
    Path
        A file name in the same folder, with the same ending.
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{uuid4().hex}{path.suffix}")
    try:
        yield temporary
        settle(temporary)
        _swap(temporary, path)
        settle_name(path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        temporary.unlink(missing_ok=True)


def _swap(new: Path, path: Path) -> None:
    """Put a file or folder in the place of another; only a full folder is in the way of a rename."""
    if not path.is_dir():
        new.replace(path)
        return
    old = path.with_name(f"{new.name}.old")
    path.replace(old)
    try:
        new.replace(path)
    except OSError:
        old.replace(path)
        raise
    shutil.rmtree(old, ignore_errors=True)  # the new one is in its place: the write has succeeded
