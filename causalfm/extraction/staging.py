"""Shards that wait for their place: one file each, written by any process that sees the folder.

Where the rows of a shard belong is known when the shards before it are done, since images that cannot be used have no
row. So whoever makes a shard leaves it here, whole or not at all, and the one process that holds the folder's lock puts
shards in their place in order. A run that ends early leaves its shards here; the next run takes them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from causalfm.errors import DataError, FailedShard
from causalfm.extraction.shards import Job, Shard
from causalfm.formats.durable import atomic
from causalfm.model_files import read_model, write_model

FOLDER, FAILED = "shards.unfinished", "failed.json"
KIND = "causalfm.extraction.Shard"


def write_shard(folder: Path, shard: Shard, header: Mapping[str, Any]) -> None:
    """Write a shard under its final name; the same shard has the same bytes whoever writes it."""
    facts = {
        "shard": shard.number,
        "rows": [shard.rows.start, shard.rows.stop],
        "errors": [[int(row), cause] for row, cause in shard.errors],
        "batch_size": shard.batch_size,
        "images": shard.images,
        "extraction": _extraction(header),
    }
    write_model(_path(folder, shard.number), facts, {"X": shard.X}, KIND)


def read_shard(folder: Path, number: int, job: Job) -> Shard | None:
    """Return a shard that waits. None: not there, damaged, of images that have changed, or of another extraction."""
    rows, path = job.rows(number), _path(folder, number)
    if not path.is_file():
        return None
    try:
        facts, arrays = read_model(path, KIND)
    except DataError:
        return None
    errors = [(int(row), str(cause)) for row, cause in facts["errors"]]
    expected = {"shard": number, "rows": [rows.start, rows.stop], "extraction": _extraction(job.header)}
    if any(facts[name] != value for name, value in expected.items()) or facts["images"] != job.images(number):
        return None
    if errors and job.on_error == "raise":
        return None
    return Shard(number, rows, arrays["X"], errors, facts["batch_size"], facts["images"])


def waiting(folder: Path, numbers: Sequence[int], job: Job) -> set[int]:
    """Return which of these shards wait in the folder."""
    held = {path.name for path in (folder / FOLDER).glob("*.safetensors")}  # lists the folder: see on_cluster
    return {k for k in numbers if _path(folder, k).name in held and read_shard(folder, k, job) is not None}


def write_failures(folder: Path, failed: Sequence[FailedShard]) -> None:
    """List the shards that could not be made, for whoever finds the folder; rows and causes, no names."""
    with atomic(folder / FOLDER / FAILED) as temporary:
        temporary.write_text(json.dumps([asdict(each) for each in failed], indent=1) + "\n", encoding="utf-8")


def discard(folder: Path, number: int) -> None:
    """Remove a shard that has found its place."""
    _path(folder, number).unlink(missing_ok=True)


def clear(folder: Path) -> None:
    """Remove the folder of a finished extraction."""
    shutil.rmtree(folder / FOLDER, ignore_errors=True)


def _path(folder: Path, number: int) -> Path:
    return folder / FOLDER / f"{number:06d}.safetensors"


def _extraction(header: Mapping[str, Any]) -> str:
    """Return a digest of what else than its images decides a shard."""
    encoder = {key: value for key, value in header["identity"]["encoder"].items() if key != "answer"}
    facts = [encoder, *(header[name] for name in ("dimension", "shard_rows", "batch_size"))]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
