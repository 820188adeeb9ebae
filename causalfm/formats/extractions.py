"""The folder that ``causalfm.extract`` writes: a journal, and the embeddings in one matrix or in parts.

The journal ``extraction.jsonl`` has one JSON object per line: a header, one line per finished shard with its checksum,
one per run, and one when all is done. A line that a kill cut short is no line; of two lines for one shard the last
counts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from causalfm.errors import DataError
from causalfm.formats.arrays import read_npy, read_table_beside
from causalfm.formats.loaded import Loaded
from causalfm.formats.parquet import stack
from causalfm.tables import join_tables, reading

JOURNAL, MATRIX, VERSION = "extraction.jsonl", "embeddings.npy", 1
PART_SUFFIX = {"parquet": ".parquet", "h5ad": ".h5ad", "zarr": ".zarr"}

Reader = Callable[[Path, str | None], Loaded]


@dataclass(frozen=True)
class Journal:
    """What a journal says.

    Attributes
    ----------
    header
        ``format``, ``rows``, ``dimension``, ``shard_rows``, ``batch_size``, ``identity`` (encoder, images, table).
    shards
        By number: ``rows`` kept, ``sha256``, ``batch_size``, ``errors`` (row, cause).
    runs
        Versions and devices of each run.
    finished
        All shards and the table are there.
    length
        Bytes of whole lines.
    """

    header: Mapping[str, Any]
    shards: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    runs: tuple[Mapping[str, Any], ...] = ()
    finished: bool = False
    length: int = 0

    @property
    def errors(self) -> list[tuple[int, str]]:
        """Images that could not be used, ``(row, cause)`` in order."""
        return [(row, cause) for k in sorted(self.shards) for row, cause in self.shards[k]["errors"]]

    @property
    def rows(self) -> int:
        """Rows that the finished shards hold."""
        return sum(shard["rows"] for shard in self.shards.values())

    def info(self) -> dict[str, Any]:
        """Return what a cohort keeps of the making of its embeddings."""
        record = self.header["identity"]["encoder"]
        kept = ("encoder", "precision", "weights", "sha256", "pooling", "licence")
        return {
            **{name: record[name] for name in kept if record.get(name)},
            "images": self.header["rows"],
            "images_unreadable": len(self.errors),
        }


def is_extraction(folder: Path) -> bool:
    """Whether a folder was written by ``causalfm.extract``."""
    return (folder / JOURNAL).is_file()


def read_journal(folder: Path) -> Journal:
    """Read the journal of a folder.

    Raises
    ------
    DataError
        Damaged, or written by a later version.
    """
    path = folder / JOURNAL
    with reading(path):
        content = path.read_bytes()
        length = content.rfind(b"\n") + 1
        header, *lines = [json.loads(line) for line in content[:length].splitlines()]
        if header["causalfm_extraction"] != VERSION:
            raise DataError(f"{path.name!r} was written by a later version of causalfm: read it with that version.")
        _refuse_odd_header(header)
        shards, runs, finished = {}, [], False
        for line in lines:
            if "shard" in line:
                shards[_shard_number(line, header)] = line
                finished = False
            elif "run" in line:
                runs.append(line["run"])
            else:
                finished = bool(line["finished"])
        return Journal(header, shards, tuple(runs), finished, length)


def _refuse_odd_header(header: Mapping[str, Any]) -> None:
    """Raise a ValueError, TypeError or KeyError unless a header has what the writer gives it."""
    sizes = [header[name] for name in ("rows", "dimension", "shard_rows", "batch_size")]
    identity = header["identity"]
    if not all(isinstance(size, int) and size > 0 for size in sizes) or not isinstance(identity["encoder"], dict):
        raise ValueError("sizes")
    if header["format"] not in ("npy", *PART_SUFFIX) or not {"images", "table"} <= set(identity):
        raise ValueError("format or identity")


def _shard_number(line: Mapping[str, Any], header: Mapping[str, Any]) -> int:
    """Return the number of a shard; raise as above unless its images are those that it stands for."""
    number, rows = line["shard"], line["rows"]
    first, last = number * header["shard_rows"], min((number + 1) * header["shard_rows"], header["rows"])
    lost = [row for row, cause in line["errors"] if isinstance(cause, str)]
    if not 0 <= first < last or rows + len(lost) != last - first or len(lost) != len(line["errors"]):
        raise ValueError("shard")
    if sorted(set(lost)) != lost or (lost and not first <= lost[0] <= lost[-1] < last) or line["batch_size"] < 1:
        raise ValueError("rows of a shard")
    return int(number)


def part_name(number: int, kind: str) -> str:
    """Return the name of a part; sorted by name they are in the order of the rows."""
    return f"part-{number:06d}{PART_SUFFIX[kind]}"


def read_extraction(folder: Path, readers: Mapping[str, Reader]) -> Loaded:
    """Read a finished extraction: a memory map if it is one matrix, else its parts one after the other.

    Raises
    ------
    DataError
        Not finished, or files that were changed or lost.
    """
    journal = read_journal(folder)
    kind, n = journal.header["format"], journal.header["rows"]
    if not journal.finished:
        done = journal.rows + len(journal.errors)
        raise DataError(
            f"the extraction in {folder.name!r} is not finished ({done} of {n} images): run it again with the same "
            "arguments, it goes on where it stopped."
        )
    if kind == "npy":
        X, obs = read_npy(folder / MATRIX).X, read_table_beside(folder / MATRIX)
    else:
        names = [part_name(k, kind) for k in sorted(journal.shards) if journal.shards[k]["rows"]]
        each = [readers[kind](folder / name, None) for name in names]
        X, obs = stack([part.X for part in each], names), join_tables([p.obs for p in each if p.obs is not None])
    if len(X) != journal.rows or X.shape[1] != journal.header["dimension"]:
        raise DataError(f"the embeddings in {folder.name!r} are not those that its journal lists: copy it again.")
    return Loaded(X, obs, journal.info())
