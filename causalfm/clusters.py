"""Dask schedulers by name: processes on this machine, a scheduler that is running, or a client of the caller's."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from causalfm.errors import DataError, MissingDependencyError

if TYPE_CHECKING:
    from distributed import Client, SpecCluster

LOCAL = re.compile(r"local(?::([1-9]\d*))?")
ADDRESS = re.compile(r"(tcp|tls|ucx|ws|wss)://\S+")
SPAWN = "distributed.nanny.pre-spawn-environ"
SECONDS = 10  # until a scheduler must have answered


@contextmanager
def client_of(
    scheduler: str | Client, *, memory_limit: int | str | None = None, gpus: Sequence[str] = ()
) -> Iterator[Client]:
    """Yield a Dask client, and close what was opened for it.

    Parameters
    ----------
    scheduler
        ``"local"`` or ``"local:N"``: N processes on this machine with one thread each (default: one per core, or per
        item of ``gpus``), which listen on the loopback address alone and end with the block. ``"tcp://host:port"``,
        ``"tls://..."``: a scheduler that is running. A ``distributed.Client`` is yielded as it is and stays open.
    memory_limit
        Of each local process: bytes, or text such as ``"4GiB"``. None: an equal share of this machine's memory.
    gpus
        For local processes: names of GPUs as ``CUDA_VISIBLE_DEVICES`` takes them. Process i sees the one GPU
        ``gpus[i % len(gpus)]`` and declares the Dask resource ``{"GPU": 1}``.

    Yields
    ------
    distributed.Client
        Not set as the default of the process: use ``with client.as_current():`` for Dask collections.

    Raises
    ------
    DataError
        Another scheduler; one that does not answer.
    MissingDependencyError
        Dask is not installed.
    """
    require_dask()
    from distributed import Client

    if isinstance(scheduler, Client):
        yield scheduler
        return
    if not isinstance(scheduler, str) or not (LOCAL.fullmatch(scheduler) or ADDRESS.fullmatch(scheduler)):
        raise DataError(
            f"scheduler={scheduler!r}: give 'local', 'local:N' with N processes, the address of a Dask scheduler "
            "('tcp://host:port'), or a distributed.Client."
        )
    if found := LOCAL.fullmatch(scheduler):
        count = int(found[1] or len(gpus) or cores())
        with _processes(count, memory_limit, gpus) as cluster, Client(cluster, set_as_default=False) as client:
            client.wait_for_workers(count)
            yield client
        return
    if memory_limit is not None or gpus:
        raise DataError("memory limits and GPUs of a running cluster are given to its workers when they are started.")
    try:
        client = Client(scheduler, timeout=SECONDS, set_as_default=False)
    except (OSError, TimeoutError):  # what distributed raises for no answer is an OSError
        raise DataError(f"no Dask scheduler answers at {scheduler!r} within {SECONDS} s: is it running?") from None
    with client:
        yield client


def cores() -> int:
    """Processor cores that this process may use; of a system that does not say, such as macOS, all there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def require_dask() -> None:
    """Raise a MissingDependencyError where Dask is not installed."""
    try:
        import distributed  # noqa: F401
    except ImportError:
        raise MissingDependencyError("a scheduler needs Dask: pip install 'causalfm[scale]'") from None


def _processes(count: int, memory_limit: int | str | None, gpus: Sequence[str]) -> SpecCluster:
    """Start processes of one thread each. LocalCluster cannot give each its own GPU, and opens a port to the world."""
    import dask.config
    from distributed import Nanny, Scheduler, SpecCluster
    from distributed.worker_memory import parse_memory_limit

    here = {"host": "127.0.0.1", "protocol": "tcp://", "dashboard": False, "dashboard_address": "127.0.0.1:0"}
    limit = parse_memory_limit(
        "auto" if memory_limit is None else memory_limit, 1, count, logger=logging.getLogger(__name__)
    )
    workers: dict[int, Any] = {}
    for i in range(count):
        options: dict[str, Any] = {**here, "nthreads": 1, "memory_limit": limit, "silence_logs": logging.ERROR}
        if gpus:
            options |= {"env": {"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]}, "resources": {"GPU": 1}}
        workers[i] = {"cls": Nanny, "options": options}
    scheduler = {"cls": Scheduler, "options": {**here, "port": 0}}
    # Dask's workers give memory back at once, also that of the next block: getting it again costs more than its sums
    spawn = {key: value for key, value in dask.config.get(SPAWN).items() if key != "MALLOC_TRIM_THRESHOLD_"}
    with dask.config.set({SPAWN: spawn}):
        return SpecCluster(workers=workers, scheduler=scheduler, silence_logs=logging.ERROR)
