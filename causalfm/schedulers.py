"""Where the passes of a command run: in this process, in several of this machine, or on a Dask cluster."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from causalfm.clusters import ADDRESS, LOCAL, client_of, cores
from causalfm.errors import DataError
from causalfm.lazy_rows import LEAST, LazyRows, available_memory, size_text

if TYPE_CHECKING:
    import pandas as pd

    from causalfm.cohort import Cohort

Scheduler = Annotated[
    str,
    typer.Option(help="Read embeddings outside memory, on Dask: here, local (a process per core), local:N, tcp://..."),
]
MemoryLimit = Annotated[
    str, typer.Option(help="Memory of this command and its processes, such as 4GiB: embeddings stay outside.")
]
PlanOnly = Annotated[bool, typer.Option("--plan-only", help="Print what would be read and held, and stop.")]
ROW = 140  # bytes of a row of the table while questions are asked of its columns
IN_WORK = 192 * 2**20  # bytes of a worker for a block in double precision and its products, beside three chunks
OWN = 704 * 2**20  # bytes of a process before it reads a row
UNITS = {"": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def bytes_of(text: str) -> int:
    """Turn ``4GiB`` into bytes."""
    found = re.fullmatch(r"([0-9.]+)\s*([KMG]i?B)?", text.strip(), flags=re.IGNORECASE)
    try:
        size = int(float(found[1]) * UNITS[(found[2] or "").upper()]) if found else 0
    except ValueError:
        size = 0
    if size < LEAST:
        raise typer.BadParameter(f"--memory-limit {text!r}: give at least {size_text(LEAST)}, as in 4GiB or 800MB.")
    return size


def limit_of_rows(where: str, text: str) -> int:
    """Return what a limit leaves for embeddings and the table, once each process of this machine has what it needs.

    Parameters
    ----------
    where
        As of :func:`scheduled`.
    text
        Of all processes of this machine, such as ``"4GiB"``; empty: half of the memory that is available.

    Raises
    ------
    typer.BadParameter
        Nothing is left.
    """
    processes = 1 + _local_workers(where)
    limit = bytes_of(text) if text else available_memory() // 2
    if limit < processes * OWN + LEAST:
        said = f"--memory-limit {text}" if text else f"half of the memory that is available is {size_text(limit)}"
        raise typer.BadParameter(
            f"{said}: {processes} process{'es' * (processes > 1)} of this machine take {size_text(OWN)} each before "
            "reading a row. Give more than that with --memory-limit, or ask for fewer processes."
        )
    return limit - processes * OWN


def beside_table(cohort: Cohort, where: str = "") -> Cohort:
    """Take from the limit of rows outside memory what their table and the workers of this machine take.

    Raises
    ------
    DataError
        Too little is left.
    """
    from causalfm.cohort import Cohort

    rows: Any = cohort.X
    table = sum(_bytes(cohort.obs[name]) for name in cohort.obs.columns) + ROW * len(cohort)
    others = _local_workers(where) * (IN_WORK + 3 * rows.chunk_bytes)
    if rows.limit - table - others < LEAST:
        shared = f", blocks in the other processes {size_text(others)}" if others else ""
        raise DataError(
            f"the table of {len(cohort):,} rows takes about {size_text(table)}{shared}, and the memory limit leaves "
            f"{size_text(rows.limit)} for that and the embeddings: raise the limit, ask for fewer processes, leave "
            "out columns that the graph does not name, turn text columns into categories, or average rows first "
            "(cohort.aggregate)."
        )
    left: Any = LazyRows(rows.array, rows.limit - table - others)
    return Cohort._of_finite(left, cohort.obs, cohort.info)


def _bytes(column: pd.Series) -> int:
    """Bytes of a column; text that occurs many times is held once."""
    if column.dtype != object:
        return int(column.memory_usage(index=False, deep=True))
    return 8 * len(column) + sum(map(sys.getsizeof, column.dropna().unique()))


@contextmanager
def scheduled(where: str) -> Iterator[int]:
    """Put a Dask cluster in force; yields its processes.

    Parameters
    ----------
    where
        ``"here"`` or empty, ``"local"``, ``"local:N"``, or the address of a scheduler.

    Raises
    ------
    MissingDependencyError
        ``distributed`` is not installed.
    DataError
        A scheduler that does not answer.
    """
    if where in ("", "here"):
        yield 1
        return
    workers = _local_workers(where)
    with client_of(f"local:{workers}" if workers else where) as client, client.as_current():
        yield max(1, len(client.nthreads()))


def _local_workers(where: str) -> int:
    """Return how many processes of this machine are asked for beside this one.

    Raises
    ------
    typer.BadParameter
        No scheduler has such a name.
    """
    local = LOCAL.fullmatch(where)
    if where not in ("", "here") and not local and not ADDRESS.fullmatch(where):
        raise typer.BadParameter(
            f"--scheduler {where!r}: give here, local, local:N or an address such as tcp://host:8786."
        )
    return int(local[1] or cores()) if local else 0
