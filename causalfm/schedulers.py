"""Where the passes of a command run: in this process, in several of this machine, or on a Dask cluster."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from causalfm.clusters import ADDRESS, LOCAL, client_of
from causalfm.errors import DataError
from causalfm.lazy_rows import LEAST, LazyRows, free_memory, is_lazy, size_text

if TYPE_CHECKING:
    from causalfm.cohort import Cohort

Scheduler = Annotated[
    str,
    typer.Option(help="Read embeddings outside memory, on Dask: here, local (a process per core), local:N, tcp://..."),
]
MemoryLimit = Annotated[
    str, typer.Option(help="Memory of this command and its processes, such as 4GiB: embeddings stay outside.")
]
PlanOnly = Annotated[bool, typer.Option("--plan-only", help="Print what would be read and held, and stop.")]
ROW = 64  # bytes of a row of the table while questions are asked of its columns
OWN = 640 * 2**20  # bytes of a process before it reads a row
UNITS = {"": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def bytes_of(text: str) -> int:
    """Turn ``4GiB`` into bytes; an empty text is a quarter of the memory that is free."""
    if not text:
        return free_memory()
    found = re.fullmatch(r"([0-9.]+)\s*([KMG]i?B)?", text.strip(), flags=re.IGNORECASE)
    try:
        size = int(float(found[1]) * UNITS[(found[2] or "").upper()]) if found else 0
    except ValueError:
        size = 0
    if size < LEAST:
        raise typer.BadParameter(f"--memory-limit {text!r}: give at least {size_text(LEAST)}, as in 4GiB or 800MB.")
    return size


def limit_of_rows(where: str, limit: int) -> int:
    """Return what a limit leaves for embeddings and the table, once each process of this machine has what it needs.

    Parameters
    ----------
    where
        As of :func:`scheduled`.
    limit
        Bytes of all processes of this machine.

    Raises
    ------
    typer.BadParameter
        Too little is left.
    """
    processes = 1 + _local_workers(where)
    least = processes * (OWN + LEAST)
    if limit < least:
        raise typer.BadParameter(
            f"--memory-limit {size_text(limit)}: {processes} process{'es' * (processes > 1)} of this machine take "
            f"{size_text(OWN)} each before reading a row. Give at least {size_text(least)}, or fewer processes."
        )
    return limit - processes * OWN


def beside_table(cohort: Cohort) -> Cohort:
    """Take from the limit of rows outside memory what their table takes.

    Raises
    ------
    DataError
        Too little is left.
    """
    from causalfm.cohort import Cohort

    if not is_lazy(cohort.X):  # all of them were read: a few kept levels
        return cohort
    table = int(cohort.obs.memory_usage(deep=True).sum()) + ROW * len(cohort)
    if cohort.X.limit - table < LEAST:
        raise DataError(
            f"the table of {len(cohort):,} rows takes about {size_text(table)} and the memory limit leaves "
            f"{size_text(cohort.X.limit)} for it and the embeddings: raise the limit, leave out columns that the graph "
            "does not name, or average rows first (cohort.aggregate)."
        )
    X: Any = LazyRows(cohort.X.array, cohort.X.limit - table)
    return Cohort._of_finite(X, cohort.obs, cohort.info)


@contextmanager
def scheduled(where: str, limit: int) -> Iterator[int]:
    """Put a Dask cluster in force; yields its processes.

    Parameters
    ----------
    where
        ``"here"`` or empty, ``"local"``, ``"local:N"``, or the address of a scheduler.
    limit
        Bytes for rows in all processes of this machine together, as :func:`limit_of_rows` gives them.

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
    share = OWN + max(LEAST, limit // (workers + 1)) if workers else None
    with client_of(f"local:{workers}" if workers else where, memory_limit=share) as client, client.as_current():
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
    return int(local[1] or _cores()) if local else 0


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
