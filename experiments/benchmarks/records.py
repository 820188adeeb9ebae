"""Results, a line of JSON each, appended as they come: a run that was cut goes on where it was."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

DONE = "done"


def append(path: Path, record: dict[str, Any]) -> None:
    """Add a record and wait until it is on the disk; half a line that a killed run left is ended first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        file.seek(0, os.SEEK_END)
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def load(path: Path) -> list[dict[str, Any]]:
    """Return all whole records, the oldest first; none where there is no file."""
    out = []
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            record = json.loads(line)
        except ValueError:  # half a line
            continue
        if isinstance(record, dict):
            out.append(record)
    return out


def of_run(records: list[dict[str, Any]], run: str) -> dict[str, dict[str, Any]]:
    """Return the latest record of each name in one run."""
    return {record["name"]: record for record in records if record.get("run") == run}
