"""Where embeddings go, shard by shard: into memory, or into a folder that survives kills and full disks."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.extraction.shards import Job, Shard
from causalfm.extraction.staging import clear
from causalfm.extraction.stores import store_of, write_at
from causalfm.formats.durable import settle_name
from causalfm.formats.extractions import JOURNAL, VERSION, Journal, read_journal
from causalfm.io import read, write
from causalfm.tables import atomic

ERRORS = "errors.csv"
HALF_WRITTEN = re.compile(r"\.\.?probe\.|\.(extraction|errors|embeddings\.npy\.obs|part-\d{6})\.[0-9a-f]{32}\.")


class MemoryOutput:
    """Keeps every row in memory."""

    def __init__(self, header: Mapping[str, Any]) -> None:
        self.journal = Journal(header)
        self._X = np.empty((header["rows"], header["dimension"]), dtype=np.float32)

    def batch_sizes(self) -> list[int]:
        """Return nothing: there was no run before."""
        return []

    def todo(self) -> list[int]:
        """Return the numbers of all shards."""
        return list(range(n_shards(self.journal.header)))

    def put(self, shard: Shard, obs: pd.DataFrame) -> None:
        """Take the rows of a shard."""
        self._X[self.journal.rows : self.journal.rows + len(shard.X)] = shard.X
        self.journal = _with(self.journal, _line(shard, None))

    def finish(self, obs: pd.DataFrame) -> Cohort:
        """Return the cohort."""
        return Cohort(self._X[: len(obs)], obs, {"source": "memory", "format": "extraction", **self.journal.info()})


class FolderOutput:
    """Keeps finished shards in a folder; use it under :func:`causalfm.extraction.folder_lock.locked`."""

    def __init__(self, folder: Path, job: Job, run: Mapping[str, Any], obs: pd.DataFrame) -> None:
        self._folder, header = folder, job.header
        self.journal = Journal(header)
        _sweep(folder)
        if not (folder / JOURNAL).exists():
            with self._writing():
                _refuse_unstorable(folder, header, obs)
                with atomic(folder / JOURNAL) as temporary:
                    temporary.write_text(json.dumps(header) + "\n", encoding="utf-8")
        self.journal = read_journal(folder)
        _refuse_other(folder, self.journal, job)
        self._store = store_of(folder, self.journal.header["format"], self.journal.header["dimension"])
        with self._writing():
            self._append({"run": dict(run)})

    def batch_sizes(self) -> list[int]:
        """Return the batch size that a run before ended with."""
        shards = self.journal.shards
        return [shards[max(shards)]["batch_size"]] if shards else []

    def todo(self) -> list[int]:
        """Return the numbers of the shards that are not there or do not have their checksum."""
        shards = self.journal.shards
        return [
            k
            for k in range(n_shards(self.journal.header))
            if k not in shards or not self._store.sound(k, shards[k], self._before(k))
        ]

    def put(self, shard: Shard, obs: pd.DataFrame) -> None:
        """Write a shard, then its line in the journal."""
        known = self.journal.shards.get(shard.number)
        if known is not None and known["rows"] != len(shard.X):
            raise DataError(
                f"a damaged part of {self._folder.name!r} cannot be made again: {known['rows']} of its images could be "
                f"used then, {len(shard.X)} can now. Choose an empty folder."
            )
        with self._writing():
            checksum = self._store.put(shard.number, shard.X, obs, self._before(shard.number))
            self._append(_line(shard, checksum))

    def finish(self, obs: pd.DataFrame) -> Cohort:
        """Write what is left and return the cohort as anyone will read it."""
        with self._writing():  # also after a run that had finished: a file beside the shards may be gone
            self._store.finish(len(obs), obs)
            if self.journal.errors:
                with atomic(self._folder / ERRORS) as temporary, temporary.open("x", newline="") as file:
                    csv.writer(file).writerows([("row", "cause"), *self.journal.errors])
            if not self.journal.finished:
                self._append({"finished": True})
        clear(self._folder)
        return read(self._folder)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Say what is kept when the disk refuses."""
        try:
            yield
        except (OSError, DataError) as error:
            found = error if isinstance(error, OSError) else error.__context__
            if not isinstance(found, OSError):
                raise
            done = self.journal.rows + len(self.journal.errors)
            raise DataError(
                f"{self._folder.name!r} cannot be written: {found.strerror or type(found).__name__}. {done} of "
                f"{self.journal.header['rows']} images are stored and sound; when the disk has room again, the same "
                "call goes on from there."
            ) from None

    def _before(self, number: int) -> int:
        return sum(shard["rows"] for k, shard in self.journal.shards.items() if k < number)

    def _append(self, line: dict[str, Any]) -> None:
        content = (json.dumps(line) + "\n").encode()
        descriptor = os.open(self._folder / JOURNAL, os.O_RDWR)
        try:
            os.ftruncate(descriptor, self.journal.length)  # a line that was cut short
            try:
                write_at(descriptor, content, self.journal.length)
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, self.journal.length)
                raise
        finally:
            os.close(descriptor)
        self.journal = replace(_with(self.journal, line), length=self.journal.length + len(content))


Output = MemoryOutput | FolderOutput


def prepared(out: str | os.PathLike[str], *, resume: bool) -> Path:
    """Return the folder, made if it is not there.

    Raises
    ------
    DataError
        A file is in the way; the folder holds something else, or anything at all under ``resume=False``.
    """
    folder = Path(out)
    try:
        if folder.exists() and not folder.is_dir():
            raise DataError(f"out={folder.name!r} is a file: name a folder.")
        if not folder.exists():
            folder.mkdir(parents=True, exist_ok=True)
            settle_name(folder.resolve())
        held = [inner for inner in folder.iterdir() if not inner.name.startswith(".")]
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"the folder {folder.name!r} cannot be made or listed: {reason}.") from None
    if held and not resume:
        raise DataError(
            f"the folder {folder.name!r} is not empty ({len(held)} files), and resume=False: choose an empty folder. "
            "Nothing is ever deleted for you."
        )
    if held and not (folder / JOURNAL).is_file():
        raise DataError(
            f"the folder {folder.name!r} holds {len(held)} files that no extraction wrote: choose an empty folder."
        )
    return folder


def header_of(
    kind: str, n: int, dimension: int, shard_rows: int, batch_size: int, identity: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the first line of a journal."""
    return {
        "causalfm_extraction": VERSION,
        "format": kind,
        "rows": n,
        "dimension": dimension,
        "shard_rows": shard_rows,
        "batch_size": batch_size,
        "identity": json.loads(json.dumps(identity)),
    }


def n_shards(header: Mapping[str, Any]) -> int:
    """Return the number of shards."""
    return -(-int(header["rows"]) // int(header["shard_rows"]))


def table_digest(obs: pd.DataFrame) -> str:
    """Return a digest of the ids, names and values of a table."""
    digest = hashlib.sha256("\x1f".join(map(str, obs.dtypes)).encode())
    for start in range(0, len(obs), 2**16):
        digest.update(obs.iloc[start : start + 2**16].to_csv(header=start == 0).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _line(shard: Shard, checksum: str | None) -> dict[str, Any]:
    listed = [[int(row), cause] for row, cause in shard.errors]
    facts = {"shard": shard.number, "rows": len(shard.X), "sha256": checksum, "images": shard.images}
    return {**facts, "batch_size": shard.batch_size, "errors": listed}


def _with(journal: Journal, line: dict[str, Any]) -> Journal:
    if "shard" in line:
        return replace(journal, shards={**journal.shards, line["shard"]: line}, finished=False)
    return replace(journal, finished=journal.finished or "finished" in line)


def _refuse_other(folder: Path, journal: Journal, job: Job) -> None:
    """Refuse to mix embeddings of two encoders, two sets of images or two tables."""
    there, here = journal.header, job.header
    differ = [name for name in ("format", "shard_rows", "rows", "dimension") if there[name] != here[name]]
    if there["identity"]["images"] != here["identity"]["images"] and (differ or not _mended(journal, job)):
        differ.append("the images")
    if there["identity"]["table"] != here["identity"]["table"]:
        differ.append("the table")
    theirs, ours = there["identity"]["encoder"], here["identity"]["encoder"]
    differ += [
        f"{key} of the encoder"
        for key in {**theirs, **ours}
        if (not _close(theirs.get(key), ours.get(key)) if key == "answer" else theirs.get(key) != ours.get(key))
    ]
    if differ:
        raise DataError(
            f"{folder.name!r} holds another extraction; what differs: {', '.join(differ)}. Choose another out=, or "
            "repeat the arguments (and the images and weights) that it was begun with."
        )


def _mended(journal: Journal, job: Job) -> bool:
    """Whether the images that were changed are all of shards that are not there yet: that is no other extraction."""
    made = {k: line.get("images") for k, line in journal.shards.items()}
    then = replace(job, header=journal.header)
    piecewise = getattr(job.source, "piecewise", False)
    return piecewise and all(found is not None and found == then.images(k) for k, found in made.items())


def _close(there: Sequence[float] | None, here: Sequence[float] | None) -> bool:
    """Tell whether two answers are one, but for the rounding of another machine (bf16: two or three digits)."""
    if there is None or here is None or len(there) != len(here):
        return False
    a, b = np.asarray(there), np.asarray(here)
    return bool(np.linalg.norm(a - b) <= 0.02 * np.linalg.norm(a))


def _refuse_unstorable(folder: Path, header: Mapping[str, Any], obs: pd.DataFrame) -> None:
    """Write the table once for nothing: what it cannot hold must not come out after hours."""
    probe = folder / f".probe.{header['format']}"
    try:
        write(Cohort(np.zeros((len(obs), 1), dtype=np.float32), obs), probe)
    finally:
        _sweep(folder)


def _sweep(folder: Path) -> None:
    """Remove what an extraction that was killed has left half written under hidden names; nothing else."""
    for left in folder.iterdir():
        if HALF_WRITTEN.match(left.name):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
