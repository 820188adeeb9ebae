"""Shards made by the workers of a Dask cluster, put in order again, and the shards that could not be made."""

from __future__ import annotations

import os
import time
import warnings
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from causalfm import __version__
from causalfm.clusters import LOCAL, client_of, require_dask
from causalfm.errors import CausalFMError, DataError, FailedShard, ImageError, ShardError, positions
from causalfm.extraction.cluster_tasks import TOKEN, Failed, Order, Recipe, describe, look, make_shard, reason_of
from causalfm.extraction.encoders import Encoder, spec_of, torch_device
from causalfm.extraction.here import Facts
from causalfm.extraction.pace import Pace
from causalfm.extraction.scattering import GPU, POLL, WAIT, no_workers, outcomes, places_of, told_of_scheduler
from causalfm.extraction.shards import Job, Shard
from causalfm.extraction.sources.protocol import part_of
from causalfm.extraction.staging import FOLDER, read_shard, write_failures
from causalfm.formats.durable import atomic

if TYPE_CHECKING:
    from distributed import Client, Future

IN_A_ROW = 8  # so many shards that fail one after the other are no accidents
SETTLED = 60.0  # seconds until this machine must see what a worker has written: NFS remembers for 30 what is not there


def recipe_of(encoder: Any, *, precision: str | None, compile: bool, weights: str | Path | None) -> Recipe:
    """Return how workers get an encoder.

    Raises
    ------
    DataError
        It is loaded already, or cannot be sent to another process.
    MissingDependencyError
        Dask is not installed.
    """
    require_dask()
    if isinstance(encoder, Encoder):
        raise DataError(
            f"{encoder.name!r} is loaded in this process, and the workers of a cluster load their own: give its name "
            "or spec, with device, precision, compile and weights."
        )
    spec = spec_of(encoder)
    path = None if weights is None else str(weights)
    path = path if path in (None, "", "random") else os.path.abspath(path)  # noqa: PTH100
    return Recipe(_sent(spec, f"the network of {spec.name!r}"), spec.name, None, precision, compile, path)


@contextmanager
def cluster(scheduler: Any, recipe: Recipe, device: Any, *, workers_per_gpu: int, retries: int) -> Iterator[Cluster]:
    """Yield what makes shards on a cluster; processes on this machine end with the block."""
    local = isinstance(scheduler, str) and LOCAL.fullmatch(scheduler)
    gpus = _gpus(device) * workers_per_gpu if local else []
    if workers_per_gpu > 1 and (not gpus or scheduler != "local"):
        raise DataError(
            "workers_per_gpu= goes with scheduler='local' and GPUs: 'local:N' says how many processes there are, and a "
            "running cluster has the workers that it was started with (dask worker --nworkers)."
        )
    with client_of(scheduler, gpus=gpus) as client:
        if local:
            places = len(places_of(client, gpu=False))
            chosen = "cuda" if gpus else str(device or "cpu")
            yield Cluster(client, replace(recipe, device=chosen, threads=None if gpus else _threads(places)), retries)
        else:
            yield Cluster(client, replace(recipe, device=_device(client, device)), retries)


class Cluster:
    """Makes shards on the workers of a client, through a folder that all of them see."""

    def __init__(self, client: Client, recipe: Recipe, retries: int) -> None:
        self._client, self._retries = client, retries
        self._gpu = str(recipe.device).startswith("cuda")
        self._resources = {"resources": {GPU: 1}} if self._gpu else {}
        with told_of_scheduler(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sending large graph", category=UserWarning)  # a network of MB
            # a task, not scattered data: when its workers are killed the scheduler makes it again
            self._recipe = client.submit(_same, recipe, key=f"causalfm-encoder-{recipe.fingerprint}", pure=False)
            described = client.submit(describe, self._recipe, pure=False, **self._resources)
        self.facts = _described(described)

    def shards(self, job: Job, numbers: Sequence[int], folder: Path | None, pace: Pace) -> Generator[Shard]:
        """Yield shards in order, as far as there is no gap.

        Raises
        ------
        ShardError
            Some could not be made, after all others were.
        DataError
            Workers that do not see the folder or the images, or have another causalfm; a lost scheduler.
        """
        if not numbers or folder is None:
            return
        folder, token = folder.absolute(), uuid4().hex
        with atomic(folder / FOLDER / TOKEN) as temporary:
            temporary.write_text(token, encoding="ascii")
        self._look_around(job, folder, token)
        order, ready, failed, in_a_row = deque(numbers), set(), list[FailedShard](), 0
        submit = self._submitter(job, folder, token)
        with closing(outcomes(self._client, submit, numbers, retries=self._retries, gpu=self._gpu)) as ended:
            for outcome, attempts in ended:
                if isinstance(outcome, Failed):
                    failed.append(_listed(outcome, job, attempts))
                    in_a_row += 1
                    if in_a_row == IN_A_ROW:
                        break
                    continue
                in_a_row = 0
                ready.add(outcome.number)
                pace.step(len(job.rows(outcome.number)))
                while order and order[0] in ready:
                    yield _awaited(folder, order.popleft(), job)
        if failed:
            write_failures(folder, failed)
            raise ShardError(_words(failed, len(numbers), stopped=in_a_row == IN_A_ROW), tuple(failed))

    def _submitter(self, job: Job, folder: Path, token: str) -> Any:
        def submit(number: int, options: dict[str, Any]) -> Future:
            part = replace(job, source=part_of(job.source, job.rows(number)))
            order = Order(number, _sent(part, "the images"), folder, token)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Sending large graph", category=UserWarning)
                return self._client.submit(make_shard, order, self._recipe, self.facts, pure=False, **options)

        return submit

    def _look_around(self, job: Job, folder: Path, token: str) -> None:
        """Refuse workers that do not see the folder or the images before anything is computed."""
        rows = _readable(job)
        sources = [(_sent(part_of(job.source, range(row, row + 1)), "the images"), row) for row in rows]
        with told_of_scheduler():
            sights = list(self._client.run(look, folder, token, sources).values())
        for found, what, hint in (
            (
                [s.version != __version__ for s in sights],
                f"have another causalfm than this process ({__version__})",
                "install one version everywhere",
            ),
            (
                [not s.folder for s in sights],
                f"do not see the folder {folder.name!r}",
                "choose an out= on a file system that all machines share, under one path",
            ),
            (
                [s.image is not None for s in sights],
                f"cannot read images that this process reads ({next((s.image for s in sights if s.image), '')})",
                "put the images on a file system that all machines share, under one path",
            ),
        ):
            if any(found):
                raise DataError(f"{sum(found)} of {len(found)} workers {what}: {hint}.")


def _same(recipe: Recipe) -> Recipe:
    return recipe


def _sent(item: Any, what: str) -> bytes:
    """Pickle what travels to workers, functions of a script included."""
    import cloudpickle

    try:
        content: bytes = cloudpickle.dumps(item)
    except Exception as error:  # whatever the objects of the user raise
        raise DataError(
            f"{what} cannot be sent to another process ({type(error).__name__}): give a name or a spec with weights, a "
            "torch module, or a function of a module, without open files, locks and GPU handles; images as paths. Or "
            "leave scheduler= out."
        ) from None
    return content


def _gpus(device: Any) -> list[str]:
    """Return the GPUs of local processes, as ``CUDA_VISIBLE_DEVICES`` names them."""
    import torch

    places = [torch_device(each) for each in (device if isinstance(device, (list, tuple)) else [device or "cuda"])]
    if any(place.type != "cuda" for place in places):
        if len(places) > 1:
            raise DataError("several devices of a local cluster are GPUs: name those, or 'cpu' alone.")
        return []
    count = torch.cuda.device_count()
    if not count:
        if device is None:
            return []
        raise DataError(f"device {device!r}: torch finds no GPU here; causalfm doctor shows what it finds.")
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [name.strip() for name in given.split(",")] if given else [str(i) for i in range(count)]
    if any((place.index or 0) >= count for place in places):
        raise DataError(f"device {device!r}: torch finds {count} GPUs here.")
    return [name for place in places for name in (names[:count] if place.index is None else [names[place.index]])]


def _device(client: Client, device: Any) -> str:
    """Wait for a worker, and return the device of all."""
    if device not in (None, "cpu", "cuda"):
        raise DataError(
            f"device={device!r}: on a running cluster it is 'cpu' or 'cuda'; which GPU a worker takes is said when it "
            "is started (CUDA_VISIBLE_DEVICES)."
        )
    end = time.monotonic() + WAIT
    with told_of_scheduler():
        while not places_of(client, gpu=device == "cuda"):
            if time.monotonic() > end or (device == "cuda" and places_of(client, gpu=False)):
                raise no_workers(gpu=device == "cuda")
            time.sleep(POLL / 4)
        return device or ("cuda" if places_of(client, gpu=True) else "cpu")


def _threads(places: int) -> int:
    """Share this process's threads among local ones."""
    import torch

    return max(1, torch.get_num_threads() // places)


def _described(future: Future) -> Facts:
    """Return what a worker says of the encoder; its errors are those of ``load_encoder``."""
    from distributed import KilledWorker

    with told_of_scheduler():
        error = future.exception()
    if isinstance(error, KilledWorker):
        raise DataError("the workers that loaded the encoder ended: killed, or out of memory.")
    if error is not None and not isinstance(error, CausalFMError) and isinstance(error, (ImportError, RuntimeError)):
        raise DataError(
            f"the cluster cannot load the encoder ({reason_of(error)}): the scheduler and all workers need the same "
            "causalfm and Dask as this process, and the workers torch with what the encoder is made of."
        ) from error
    if error is not None:
        raise error
    facts: Facts = future.result()
    return facts


def _readable(job: Job) -> list[int]:
    """Return the first, middle and last row, as far as this process can read their images."""
    found = []
    n = job.header["rows"]
    for row in sorted({0, n // 2, n - 1}):
        try:
            job.source.read(row)
        except ImageError:
            continue
        found.append(row)
    return found


def _awaited(folder: Path, number: int, job: Job) -> Shard:
    """Return a shard that a worker has written."""
    end = time.monotonic() + SETTLED
    while (shard := read_shard(folder, number, job)) is None:
        if time.monotonic() > end:
            raise DataError(
                f"shard {number}, which a worker has written to {folder.name!r}, does not come into sight here, or its "
                "images were changed in between. What is finished is kept: the same call goes on from there."
            )
        os.listdir(folder / FOLDER)  # makes a network file system look again  # noqa: PTH208
        time.sleep(0.5)
    return shard


def _listed(failed: Failed, job: Job, attempts: int) -> FailedShard:
    rows = job.rows(failed.number)
    return FailedShard(failed.number, (rows.start, rows.stop - 1), attempts, failed.reason, tuple(failed.errors))


def _words(failed: Sequence[FailedShard], asked: int, *, stopped: bool) -> str:
    shown = "; ".join(
        f"shard {each.number} (rows {each.rows[0]} to {each.rows[1]}, tried {each.attempts} times): {each.reason}"
        + (f" ({positions([row for row, _ in each.errors])}): {each.errors[0][1]}" if each.errors else "")
        for each in failed[:3]
    )
    more = f"; and {len(failed) - 3} more" if len(failed) > 3 else ""
    end = "They failed one after the other, so no others were tried" if stopped else "All others are kept"
    return (
        f"{len(failed)} of {asked} shards could not be made: {shown}{more}. {end}: mend what they say, and the same "
        f"call makes what is missing. The error's failed= lists them, and {FOLDER}/failed.json."
    )
