"""The state of a monitor on disk: whole or not at all, one writer at a time."""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from causalfm.errors import DataError
from causalfm.model_files import read_model, write_model

KIND = "causalfm.Monitor"
STATE_SCHEMA = 1


def write_state(path: Path, header: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    """Write a state; it is on the disk when this returns."""
    write_model(path, {**header, "state_schema": STATE_SCHEMA}, tensors, KIND)


def read_state(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read a state; errors as :func:`causalfm.model_files.read_model`."""
    header, tensors = read_model(path, KIND)
    if header["state_schema"] > STATE_SCHEMA:
        raise DataError(
            f"{Path(path).name!r} has state schema {header['state_schema']} and this version reads up to "
            f"{STATE_SCHEMA}: use a newer causalfm."
        )
    return header, tensors


@contextmanager
def sole_writer(path: Path, stamp: str) -> Iterator[None]:
    """Hold the state while it is replaced.

    Parameters
    ----------
    path
        The state.
    stamp
        Stamp of the state as this process knows it.

    Raises
    ------
    DataError
        Another process is writing, has written since, or the file is gone.
    """
    path = path.resolve()
    with _lock(path):
        found = stamp_of(path)
        if found != stamp:
            what = "is gone" if found is None else "was written by another process since it was loaded"
            raise DataError(f"{path.name!r} {what}: nothing was changed. Load it again, and update then.")
        for left in path.parent.iterdir():  # of a writer that was killed; nobody else writes now
            if re.fullmatch(rf"\.{re.escape(path.stem)}\.[0-9a-f]{{32}}{re.escape(path.suffix)}", left.name):
                left.unlink(missing_ok=True)
        yield


def stamp_of(path: Path) -> str | None:
    """Return the stamp of the state on disk, or None if there is none."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            return str(json.loads((file.metadata() or {})["header"])["stamp"])
    except (SafetensorError, KeyError, ValueError):
        raise DataError(f"{path.name!r} was damaged since it was loaded: copy it back; nothing was changed.") from None


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    try:
        descriptor = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise DataError(
            f"nothing can be written beside {path.name!r}: {error.strerror}. Choose another place."
        ) from None
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system drops it with the process
        except (BlockingIOError, PermissionError):
            raise DataError(f"another process is updating {path.name!r}: wait for it.") from None
        yield
    finally:
        os.close(descriptor)
