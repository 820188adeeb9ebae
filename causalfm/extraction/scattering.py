"""Tasks on a Dask cluster, a few more than its workers can do at once: what fails goes to another worker."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from causalfm.errors import DataError
from causalfm.extraction.cluster_tasks import Failed, Made, reason_of

if TYPE_CHECKING:
    from distributed import Client, Future

GPU = "GPU"  # the resource that workers with a GPU declare
AHEAD = 2  # tasks per place: the next one is there when one ends
POLL, WAIT = 2.0, 300.0  # seconds between looks at the cluster, and without any worker before giving up

Submit = Callable[[int, dict[str, Any]], "Future"]


def outcomes(
    client: Client, submit: Submit, numbers: Sequence[int], *, retries: int, gpu: bool
) -> Generator[tuple[Made | Failed, int]]:
    """Yield what became of each shard, as they end, with the number of attempts.

    Parameters
    ----------
    client
        Its scheduler gives the tasks of a worker that was killed to others by itself.
    submit
        Called with the number of a shard and options of ``client.submit`` that say where it may run.
    numbers
        Shards, the most wanted first.
    retries
        How often a shard that failed is tried again, on a worker where it has not failed if there is one.
    gpu
        Whether a task takes a GPU.

    Raises
    ------
    DataError
        The scheduler is gone, or there is no worker any more.
    """
    waiting: deque[tuple[int, tuple[str, ...]]] = deque((k, ()) for k in numbers)
    running: dict[Future, tuple[int, tuple[str, ...]]] = {}
    try:
        while waiting or running:
            with told_of_scheduler():
                places = places_of(client, gpu=gpu)
                while waiting and len(running) < max(1, AHEAD * sum(places.values())):
                    number, tried = waiting.popleft()
                    running[submit(number, _where(places, tried, gpu=gpu))] = (number, tried)
            for future in _ended(client, running, gpu=gpu):
                number, tried = running.pop(future)
                outcome, final = _outcome(future, number)
                if isinstance(outcome, Failed) and not final and len(tried) < retries:
                    waiting.appendleft((number, (*tried, outcome.worker)))
                else:
                    yield outcome, len(tried) + 1
    finally:
        if running and client.status == "running":
            client.cancel(list(running))


def places_of(client: Client, *, gpu: bool) -> dict[str, int]:
    """Return how many tasks each worker can do at once, by its address; workers that can do none are left out."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    found = {name: int(w["resources"].get(GPU, 0)) if gpu else int(w["nthreads"]) for name, w in workers.items()}
    return {name: count for name, count in found.items() if count}


@contextmanager
def told_of_scheduler() -> Iterator[None]:
    """Say that the scheduler is gone.

    Raises
    ------
    DataError
        The connection was lost.
    """
    try:
        yield
    except (CancelledError, OSError, TimeoutError):  # distributed's own are of these families
        raise DataError(
            "the connection to the scheduler was lost. What is finished is kept: the same call goes on from there when "
            "a scheduler runs."
        ) from None


def no_workers(gpu: bool) -> DataError:
    """Return the error of a cluster without workers."""
    what = f" that declares the resource {GPU} (dask worker ADDRESS --resources 'GPU=1')" if gpu else ""
    return DataError(
        f"the scheduler has had no worker{what} for {WAIT:.0f} s: start workers, then call again; what is finished is "
        "kept. A script can wait for a queue with client.wait_for_workers(1) and pass the client."
    )


def _where(places: Collection[str], tried: Sequence[str], *, gpu: bool) -> dict[str, Any]:
    options: dict[str, Any] = {"resources": {GPU: 1}} if gpu else {}
    others = [name for name in places if name not in tried]
    if tried and others:  # not strictly: these may be gone when the task comes
        options |= {"workers": others, "allow_other_workers": True}
    return options


def _ended(client: Client, running: Collection[Future], *, gpu: bool) -> Collection[Future]:
    """Wait for the first task that ends."""
    from distributed import wait

    alone = time.monotonic()
    while True:
        with told_of_scheduler():
            try:
                with client.as_current():
                    return list(wait(list(running), timeout=POLL, return_when="FIRST_COMPLETED").done)
            except TimeoutError:
                if client.status != "running":
                    raise
                if places_of(client, gpu=gpu):
                    alone = time.monotonic()
        if time.monotonic() - alone > WAIT:
            raise no_workers(gpu)


def _outcome(future: Future, number: int) -> tuple[Made | Failed, bool]:
    """Return what became of a shard, and whether trying again is pointless."""
    from distributed import KilledWorker

    error = future.exception()
    if error is None:
        return future.result(), False
    if isinstance(error, KilledWorker):  # Dask has tried it on several
        return Failed(number, "every worker that made it ended: killed, or out of memory"), True
    return Failed(number, reason_of(error)), False
