"""Embed a validation set again and again while its encoder is trained, without touching the disk."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from causalfm.arguments import check_whole
from causalfm.cohort import Cohort
from causalfm.errors import DataError, positions
from causalfm.extraction.encoders import Encoder, EncoderSpec, load_encoder
from causalfm.extraction.forward import BATCH, BATCH_ELSEWHERE, BatchSize, check_batches, passed
from causalfm.extraction.loading import read_batches, told_of_workers
from causalfm.extraction.sources import open_images

if TYPE_CHECKING:
    import torch

READ = 64  # images per batch while they are decoded


class InMemory:
    """Embeds the same images at every call, or every so many calls.

    The images are decoded once and kept as 8-bit pixels: ``n * 3 * s * s`` bytes (150 kB each at 224 px).

    Parameters
    ----------
    images
        As for :func:`causalfm.extract`.
    encoder
        A name, a spec or a loaded ``Encoder``. A network in training is passed as
        ``own_encoder(network, input_size=..., mean=..., std=...)`` and used where it is, neither copied nor moved.
    obs
        Table of the images, joined by their names.
    every
        1: embed at every call; 5: at the first, the sixth ...
    batch_size
        As for :func:`causalfm.extract`.
    precision
        As for ``load_encoder``.
    workers
        Processes that decode, while the hook is made.

    Raises
    ------
    DataError
        Images that cannot be read, impossible arguments.

    Assumptions
    -----------
    Training modes, gradients, autocast and random states are as they were after a call, whatever the network does in
    evaluation mode; of a plain function that wraps a network, the training mode is the caller's matter.

    Examples
    --------
    >>> hook = InMemory(tiles, own_encoder(network), obs=table)  # doctest: +SKIP
    >>> cohort = hook()  # in each epoch  # doctest: +SKIP
    """

    def __init__(
        self,
        images: Any,
        encoder: str | EncoderSpec | Encoder,
        *,
        obs: pd.DataFrame | str | os.PathLike[str] | None = None,
        every: int = 1,
        batch_size: int | Literal["auto"] = "auto",
        precision: str | None = None,
        workers: int = 0,
    ) -> None:
        check_whole(every, "every", 1, why="1 embeds at every call, 5 at every fifth")
        check_batches(batch_size, workers)
        self._network = _network(encoder)
        place = None if self._network is None else device_of(self._network)
        with _as_found(self._network):
            self._encoder = load_encoder(encoder, device=place, precision=precision)
        source = open_images(images) if obs is None else open_images(images, obs=obs)
        with told_of_workers():
            self._pixels = _decoded(source, self._encoder, workers)
        self._obs = pd.DataFrame({"image": source.names}) if source.obs is None else source.obs
        source.close()
        start = BATCH.get(self._encoder.device.type, BATCH_ELSEWHERE) if batch_size == "auto" else batch_size
        self._size = BatchSize(start, may_shrink=batch_size == "auto")
        self._every = every
        self._calls = 0

    def __call__(self) -> Cohort | None:
        """Return the embeddings as they are now, or None where this call is passed over."""
        call, self._calls = self._calls, self._calls + 1
        if call % self._every:
            return None
        import torch

        encoder, network = self._encoder, self._network
        if network is not None:
            encoder = replace(encoder, device=device_of(network))
        X = np.empty((len(self._pixels), encoder.dimension), dtype=np.float32)
        # no_grad: what a network caches under inference_mode cannot be used in its next training step
        with _as_found(network), torch.no_grad(), torch.autocast(encoder.device.type, enabled=False):
            if network is not None:
                network.eval()
            step = self._size.value * 8  # the size may shrink on the way
            for start in range(0, len(X), step):
                rows = slice(start, start + step)
                X[rows] = np.concatenate([p.cpu().numpy() for p in passed(encoder, self._pixels[rows], self._size)])
        return Cohort(X, self._obs, {"source": "memory", "encoder": encoder.name, "call": call})


def device_of(network: torch.nn.Module) -> torch.device:
    """Return where a network lies."""
    import torch

    return next((tensor.device for tensor in network.parameters()), torch.device("cpu"))


def _network(encoder: Any) -> torch.nn.Module | None:
    import torch

    found = encoder.spec.loader if isinstance(encoder, Encoder) else getattr(encoder, "loader", None)
    return found if isinstance(found, torch.nn.Module) else None


@contextmanager
def _as_found(network: torch.nn.Module | None) -> Iterator[None]:
    """Put training modes and random states back."""
    import torch

    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    gpus = range(torch.cuda.device_count()) if in_use else range(0)
    modes = [] if network is None else [(part, part.training) for part in network.modules()]
    plain, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002  # the network's own use of them
    with torch.random.fork_rng(devices=gpus):
        try:
            yield
        finally:
            random.setstate(plain)
            np.random.set_state(legacy)  # noqa: NPY002
            for part, training in modes:
                part.training = training


def _decoded(source: Any, encoder: Encoder, workers: int) -> np.ndarray:
    side = encoder.input_size
    pixels = np.empty((len(source), 3, side, side), dtype=np.uint8)
    plan = [range(i, min(i + READ, len(source))) for i in range(0, len(source), READ)]
    errors = []
    for batch in read_batches(source, encoder.transform, plan, workers):
        errors += batch.errors
        if not errors and batch.pixels is not None:
            pixels[batch.rows.start : batch.rows.stop] = batch.pixels
    if errors:
        where = positions([row for row, _ in errors])
        raise DataError(f"{len(errors)} images cannot be used ({where}): {errors[0][1]}. Leave them out.")
    return pixels
