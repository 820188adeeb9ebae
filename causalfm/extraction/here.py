"""Shards made in this process, on one device or several; and what is known of a loaded encoder."""

from __future__ import annotations

import copy
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalfm import __version__
from causalfm.errors import DataError
from causalfm.extraction.encoders import Encoder, EncoderSpec, load_encoder
from causalfm.extraction.encoding import answer
from causalfm.extraction.loading import PixelBatch
from causalfm.extraction.pace import Pace
from causalfm.extraction.shards import Job, Shard, embedded, refuse

if TYPE_CHECKING:
    import torch

    Device = str | torch.device


@dataclass(frozen=True)
class Facts:
    """What a run needs to know of its encoder.

    Attributes
    ----------
    dimension, device
        Length of the embedding; kind of device, ``"cpu"`` or ``"cuda"``.
    record
        What must be the same for two runs to be one.
    run
        What may differ between runs, and is written down.
    """

    dimension: int
    device: str
    record: dict[str, Any]
    run: dict[str, Any]


def facts_of(encoders: Sequence[Encoder], *, digests: bool) -> Facts:
    """Look at loaded replicas of an encoder; ``digests``: also at what tells a function from another."""
    import torch

    first = encoders[0]
    found = first.record()
    record = {key: value for key, value in found.items() if key != "versions"}
    if digests and record.get("function"):  # its weights cannot be looked at
        record["answer"] = answer(first)
    names = [
        torch.cuda.get_device_name(each.device) if each.device.type == "cuda" else str(each.device) for each in encoders
    ]
    run = {"versions": found["versions"], "causalfm": __version__, "devices": names}
    return Facts(first.dimension, first.device.type, record, run)


class Here:
    """Makes shards in the calling process."""

    def __init__(self, encoders: Sequence[Encoder], workers: int, *, digests: bool) -> None:
        self.facts = facts_of(encoders, digests=digests)
        self._encoders = encoders
        self._workers = workers

    def shards(self, job: Job, numbers: Sequence[int], folder: Path | None, pace: Pace) -> Generator[Shard]:
        """Yield shards in order."""

        def seen(batch: PixelBatch) -> None:
            if job.on_error == "raise":
                refuse(batch.errors)
            pace.step(len(batch.rows))

        return embedded(job, self._encoders, numbers, self._workers, seen)


def replicas(
    encoder: str | EncoderSpec | Encoder, device: Device | Sequence[Device] | None, **options: Any
) -> list[Encoder]:
    """Return one encoder per device."""
    places: list[Any] = list(device) if isinstance(device, (list, tuple)) else [device]
    if not places:
        raise DataError("device=[] names no device: leave it out, or name one.")
    if isinstance(encoder, Encoder):
        if places != [None] or any(options.values()):
            raise DataError(
                f"{encoder.name!r} is loaded already: give device, precision, compile and weights to load_encoder, or "
                "pass its name or spec here."
            )
        return [encoder]
    loaded = [load_encoder(_copy(encoder, i), device=place, **options) for i, place in enumerate(places)]
    if len({(each.precision, each.dimension, each.device.type) for each in loaded}) > 1:
        raise DataError("the devices are of different kinds, and their numbers would differ: name devices of one kind.")
    return loaded


def _copy(encoder: Any, i: int) -> Any:
    """Return a spec of which the network can go to another device than the first's."""
    import torch

    if i == 0 or not isinstance(encoder, EncoderSpec) or isinstance(encoder.loader, str):
        return encoder
    if not isinstance(encoder.loader, torch.nn.Module):
        raise DataError(f"{encoder.name!r} is a function, which stays where it is: name one device, or pass a module.")
    return replace(encoder, loader=copy.deepcopy(encoder.loader))
