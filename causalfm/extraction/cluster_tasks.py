"""What runs on a worker of a cluster: look around, load an encoder, make one shard. Needs no scheduler itself."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalfm import __version__
from causalfm.errors import DataError, ImageError
from causalfm.extraction.encoders import Encoder, EncoderSpec, load_encoder
from causalfm.extraction.here import Facts, facts_of
from causalfm.extraction.shards import Errors, Job, embedded
from causalfm.extraction.staging import FOLDER, read_shard, write_shard

if TYPE_CHECKING:
    from causalfm.extraction.sources import ImageSource

TOKEN = "token"  # of the run that holds the folder's lock, beside the shards that wait
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
PATIENCE = 3.0  # seconds until a file of another machine must have come into sight


@dataclass(frozen=True)
class Recipe:
    """How a worker gets its encoder.

    Attributes
    ----------
    spec
        The ``EncoderSpec``, pickled: only whoever can import what it is made of can read it.
    device, precision, compile, weights
        As in ``load_encoder``.
    threads
        Of torch, on a CPU. None: as the worker has it.
    """

    spec: bytes
    name: str
    device: str | None
    precision: str | None
    compile: bool
    weights: str | None
    threads: int | None = None

    @property
    def fingerprint(self) -> str:
        """Digest of all of it."""
        facts = {**asdict(self), "spec": hashlib.sha256(self.spec).hexdigest()}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Order:
    """All that a shard depends on besides the encoder; ``job`` is a pickled :class:`Job` with the shard's images."""

    number: int
    job: bytes
    folder: Path
    token: str


@dataclass(frozen=True)
class Made:
    """A shard waits for its place in the folder."""

    number: int


@dataclass(frozen=True)
class Failed:
    """A shard could not be made; ``errors`` names the images, where it is theirs."""

    number: int
    reason: str
    errors: Errors = ()
    worker: str = ""


@dataclass(frozen=True)
class Sight:
    """What a worker sees: its version of causalfm, the folder, the images (None: all that were looked at)."""

    version: str
    folder: bool
    image: str | None


def look(folder: Path, token: str, images: Sequence[tuple[bytes, int]]) -> Sight:
    """Tell whether this worker sees the folder of the run, and images (with their rows) that the caller has read."""
    found = None
    try:
        for content, row in images:
            source: ImageSource = _unpickled(content, "the images")
            source.read(row)
            source.close()
    except DataError as error:
        found = error.cause if isinstance(error, ImageError) and error.cause else str(error)
    except Exception as error:  # of a source of the user's own
        found = type(error).__name__
    return Sight(__version__, _is_there(folder, token), found)


def describe(recipe: Recipe) -> Facts:
    """Load the encoder and say what it is."""
    return facts_of([_loaded(recipe)], digests=True)


def make_shard(order: Order, recipe: Recipe, facts: Facts) -> Made | Failed:
    """Make a shard and leave it in the folder; the same order gives the same bytes, however often and wherever.

    A shard that waits already is not made again: the answer of a worker that was killed is lost, its shard is not.
    """
    try:
        return _make_shard(order, recipe, facts)
    except DataError as error:
        return Failed(order.number, str(error), worker=_address())
    except OSError as error:  # its text holds a path
        reason = f"{type(error).__name__}: {error.strerror or 'no reason given'}"
        return Failed(order.number, reason, worker=_address())
    except Exception as error:  # of a network of the user's, of torch, of the GPU
        return Failed(order.number, reason_of(error), worker=_address())


def reason_of(error: BaseException) -> str:
    """Name the kind of an error, with the first line of what it says."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"


def _make_shard(order: Order, recipe: Recipe, facts: Facts) -> Made | Failed:
    number, folder = order.number, order.folder
    if not _is_there(folder, order.token):
        return Failed(number, "the worker does not see the folder of the run", worker=_address())
    job: Job = _unpickled(order.job, "the images")
    if read_shard(folder, number, job) is not None:
        return Made(number)
    encoder = _loaded(recipe)
    found = facts_of([encoder], digests=False)
    ours = {key: value for key, value in facts.record.items() if key != "answer"}
    if found.record != ours or found.device != facts.device:
        differ = ", ".join(key for key in {**ours, **found.record} if ours.get(key) != found.record.get(key))
        reason = f"the worker has another encoder; what differs: {differ or 'the device'}"
        return Failed(number, reason, worker=_address())
    (shard,) = embedded(job, [encoder], [number], workers=0)
    job.source.close()
    if shard.errors and job.on_error == "raise":
        return Failed(number, f"{len(shard.errors)} images cannot be used", shard.errors, worker=_address())
    if not _is_there(folder, order.token):
        return Failed(number, "the run that asked for it has ended", worker=_address())
    write_shard(folder, shard, job.header)
    return Made(number)


_loading = threading.Lock()
_cache: dict[str, Encoder] = {}


def _loaded(recipe: Recipe) -> Encoder:
    """Return the encoder of this process. One is kept: two of them may not fit into the memory of a GPU."""
    with _loading:
        if recipe.fingerprint not in _cache:
            import torch

            if recipe.threads is not None:
                torch.set_num_threads(recipe.threads)
            if recipe.device == "cpu":
                _keep_memory()
            _cache.clear()
            spec: EncoderSpec = _unpickled(recipe.spec, f"the network of {recipe.name!r}")
            options: dict[str, Any] = {"precision": recipe.precision, "weights": recipe.weights}
            _cache[recipe.fingerprint] = load_encoder(spec, device=recipe.device, compile=recipe.compile, **options)
        return _cache[recipe.fingerprint]


def _keep_memory() -> None:
    """Let the C library keep what one layer gives back for the next, as it does by itself outside of Dask.

    Dask's workers have it returned to the system at once (``MALLOC_TRIM_THRESHOLD_``), and the page faults that follow
    take as much processor time as the network.
    """
    import ctypes

    with suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, 2**25)
        mallopt(M_TRIM_THRESHOLD, 2**30)


def _unpickled(content: bytes, what: str) -> Any:
    """Return what the caller has sent over the scheduler's own connection."""
    import pickle

    try:
        return pickle.loads(content)
    except (ImportError, AttributeError) as error:
        raise DataError(
            f"a worker cannot import what {what} is made of ({error}): put it into a package that every worker has, or "
            "add its folder to the workers' PYTHONPATH."
        ) from None


def _is_there(folder: Path, token: str) -> bool:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return (folder / FOLDER / TOKEN).read_text(encoding="ascii") == token
        except OSError:
            if time.monotonic() > end:
                return False
            time.sleep(0.2)


def _address() -> str:
    from distributed import get_worker

    try:
        return str(get_worker().address)
    except ValueError:  # called without a cluster
        return ""
