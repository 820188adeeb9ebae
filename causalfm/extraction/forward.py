"""Pass prepared images through encoders: one per device, in order, with batches that fit into memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.errors import DataError, positions
from causalfm.extraction.loading import PixelBatch

if TYPE_CHECKING:
    import torch

    from causalfm.extraction.encoders import Encoder

AHEAD = 2  # batches in flight per GPU: the next one is copied while one is computed
BATCH, BATCH_ELSEWHERE = {"cuda": 256}, 64  # where halving begins, by device
NO_MEMORY = ("out of memory", "alloc_failed", "can't allocate memory", "could not create a memory", "bad_alloc")


def check_batches(batch_size: Any, workers: Any) -> None:
    """Refuse what is no number of images per batch, or no number of processes that read them.

    Raises
    ------
    DataError
        Naming the argument, its value and what it may be.
    """
    if batch_size != "auto" and (not isinstance(batch_size, int) or batch_size < 1):
        raise DataError(f"batch_size={batch_size!r}: pass a number of images, at least 1, or 'auto'.")
    if not isinstance(workers, int) or workers < 0:
        raise DataError(f"workers={workers!r}: 0 reads in this process, more starts so many.")


class BatchSize:
    """Images per forward pass; halved where they do not fit, and kept so."""

    def __init__(self, value: int, *, may_shrink: bool) -> None:
        self.value = value
        self._may_shrink = may_shrink

    def shrink(self, failed: int, device: str) -> None:
        """Halve below a size that failed.

        Raises
        ------
        DataError
            One image does not fit, or the size was given by the user.
        """
        if failed == 1:
            raise DataError(
                f"not even one image fits into the memory of {device}: free memory there, or use precision='bf16' or a "
                "smaller encoder."
            )
        if not self._may_shrink:
            raise DataError(
                f"batch_size={failed} does not fit into the memory of {device}: pass a smaller one, or 'auto', which "
                "halves it until it fits."
            )
        self.value = failed // 2


def embed_batches(
    encoders: Sequence[Encoder], batches: Iterable[PixelBatch], size: BatchSize
) -> Iterator[tuple[PixelBatch, np.ndarray]]:
    """Yield each batch with its embeddings ``(b, d)`` float32, in order; batch i goes to encoder i modulo their number.

    Raises
    ------
    DataError
        An embedding is not finite; too little memory.
    """
    import torch

    on_gpu = any(encoder.device.type == "cuda" for encoder in encoders)
    most = AHEAD * len(encoders) if on_gpu else 1
    waiting: deque[tuple[PixelBatch, list[torch.Tensor], int]] = deque()
    for i, batch in enumerate(batches):
        encoder = encoders[i % len(encoders)]
        with torch.inference_mode():
            waiting.append((batch, passed(encoder, batch.pixels, size), encoder.dimension))
        if len(waiting) >= most:
            yield _collected(*waiting.popleft())
    while waiting:
        yield _collected(*waiting.popleft())


def passed(encoder: Encoder, pixels: np.ndarray | None, size: BatchSize) -> list[torch.Tensor]:
    """Return the embeddings of a batch in pieces, on the device; a GPU may still be at work on them."""
    if pixels is None:
        return []
    import torch

    tensor = torch.from_numpy(pixels)
    if encoder.device.type == "cuda":
        tensor = tensor.pin_memory()
    out: list[torch.Tensor] = []
    start = 0
    while start < len(tensor):
        piece = tensor[start : start + size.value]
        done = _tried(encoder, piece)
        if done is None:  # outside of the handler, whose traceback holds what filled the memory
            if encoder.device.type == "cuda":
                torch.cuda.empty_cache()
            size.shrink(len(piece), str(encoder.device))
            continue
        out.append(done)
        start += len(piece)
    return out


def _tried(encoder: Encoder, piece: torch.Tensor) -> torch.Tensor | None:
    """Embed, or return None where memory is out; other errors pass."""
    try:
        return encoder.embed(piece.to(encoder.device, non_blocking=True))
    except MemoryError:
        return None
    except RuntimeError as error:  # torch.OutOfMemoryError is one; CPUs and the GPU's libraries have other words
        if type(error).__name__ == "OutOfMemoryError" or any(words in str(error).lower() for words in NO_MEMORY):
            return None
        raise


def _collected(batch: PixelBatch, pieces: list[torch.Tensor], dimension: int) -> tuple[PixelBatch, np.ndarray]:
    if not pieces:
        return batch, np.empty((0, dimension), dtype=np.float32)
    X = np.concatenate([piece.cpu().numpy() for piece in pieces])
    if not np.isfinite(X).all():
        lost = {row for row, _ in batch.errors}
        used = [row for row in batch.rows if row not in lost]
        bad = [used[i] for i in np.flatnonzero(~np.isfinite(X).all(axis=1))]
        raise DataError(
            f"the encoder gave NaN or infinite numbers for {positions(bad)}: with precision='fp16' numbers overflow, "
            "use 'bf16' or 'fp32'; else look at these images and at the weights."
        )
    return batch, X
