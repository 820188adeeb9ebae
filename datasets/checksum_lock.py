"""What was fetched from where, with checksums: written at the first download, compared ever after."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from causalfm.errors import DataError
from causalfm.formats.durable import atomic

LOCK = "causalfm-lock.json"
SCHEMA = 1
CHUNK = 2**20


def read_lock(folder: Path) -> dict[str, Any]:
    """Return the lock of a folder, with no files where there is none.

    Raises
    ------
    DataError
        A lock that is damaged or of a later version.
    """
    path = folder / LOCK
    if not path.is_file():
        return {"schema": SCHEMA, "files": {}}
    try:
        found: Any = json.loads(path.read_text("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError):
        found = None
    if not isinstance(found, dict) or found.get("schema") != SCHEMA or not isinstance(found.get("files"), dict):
        raise DataError(
            f"{LOCK} is damaged or of a later version: restore it, or remove it if you want to trust the files anew."
        )
    return found


def write_lock(folder: Path, lock: Mapping[str, Any]) -> None:
    """Write the lock as a whole, files sorted by name."""
    body = {**lock, "files": dict(sorted(lock["files"].items()))}
    with atomic(folder / LOCK) as path:
        path.write_text(json.dumps(body, indent=1) + "\n", "utf-8")


def digests(path: Path, kinds: Iterable[str]) -> dict[str, str]:
    """Return checksums of a file, read once; ``kinds`` such as ``"sha256"`` and ``"md5"``."""
    engines = {kind: hashlib.new(kind, usedforsecurity=False) for kind in kinds}
    with path.open("rb") as file:
        while content := file.read(CHUNK):
            for engine in engines.values():
                engine.update(content)
    return {kind: engine.hexdigest() for kind, engine in engines.items()}


def changed(folder: Path, progress: Callable[[str, int, int], None] | None = None) -> list[str]:
    """Return the names of locked files that are missing or not as they were.

    Raises
    ------
    DataError
        No lock in the folder.
    """
    files = read_lock(folder)["files"]
    if not files:
        raise DataError(f"the folder has no {LOCK} with files in it: nothing was fetched into it by causalfm.")
    odd = []
    for i, (name, facts) in enumerate(files.items()):
        if progress is not None:
            progress(name, i, len(files))
        if not is_as_locked(folder / name, facts):
            odd.append(name)
    return odd


def is_as_locked(path: Path, facts: Mapping[str, Any]) -> bool:
    """Tell whether a file is there with the size and the SHA-256 that were recorded."""
    return (
        path.is_file()
        and path.stat().st_size == facts["size"]
        and digests(path, ["sha256"])["sha256"] == facts["sha256"]
    )
