"""Read and prepare images batch by batch, here or in worker processes, in order."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from causalfm.errors import DataError, ImageError
from causalfm.extraction.sources import ImageSource

if TYPE_CHECKING:
    from PIL import Image

    Transform = Callable[[Image.Image], np.ndarray]


@dataclass(frozen=True, eq=False)
class PixelBatch:
    """Prepared images of consecutive rows.

    Attributes
    ----------
    rows
        Rows of the source.
    pixels
        ``(b, 3, s, s)`` uint8, the images that could be read. None: there is none.
    errors
        ``(row, cause)`` of the others.
    fault
        What went wrong with the source as a whole: nothing more can be read.
    """

    rows: range
    pixels: np.ndarray | None
    errors: list[tuple[int, str]]
    fault: str | None = None


class Reader:
    """Makes the batch of a range of rows; travels to workers."""

    def __init__(self, source: ImageSource, transform: Transform) -> None:
        self.source = source
        self.transform = transform

    def __getitem__(self, rows: range) -> PixelBatch:
        pixels: list[np.ndarray] = []
        errors: list[tuple[int, str]] = []
        for row in rows:
            try:
                image = self.source.read(row)
            except ImageError as error:
                errors.append((row, error.cause))
                continue
            except DataError as error:  # as a value: across processes an error comes with a traceback for a message
                return PixelBatch(rows, None, [], str(error))
            try:
                pixels.append(self.transform(image))
            except DataError as error:  # its shape cannot be resized
                errors.append((row, str(error)))
        return PixelBatch(rows, np.stack(pixels) if pixels else None, errors)


def read_batches(
    source: ImageSource, transform: Transform, plan: Sequence[range], workers: int
) -> Iterator[PixelBatch]:
    """Yield the batches of a plan, in its order.

    Parameters
    ----------
    source, transform
        Images, and how one becomes pixels; both are pickled where workers are spawned.
    plan
        Rows of each batch.
    workers
        Processes that read. 0: this one.

    Raises
    ------
    DataError
        Workers cannot be started, or one died.
    """
    reader = Reader(source, transform)
    with told_of_workers():
        yield from _read(reader, plan, workers)


@contextmanager
def told_of_workers() -> Iterator[None]:
    """Say that a worker died. torch raises that from a signal, wherever the calling process happens to be.

    Raises
    ------
    DataError
        A worker died.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker (pid" not in str(error):
            raise
        raise DataError(
            "a worker process ended: out of memory, or it cannot import what the images and the encoder are made of. "
            "Use fewer workers, call extract under  if __name__ == '__main__':  and keep your own classes in a module, "
            "or pass workers=0."
        ) from error


def _read(reader: Reader, plan: Sequence[range], workers: int) -> Iterator[PixelBatch]:
    if workers == 0 or len(plan) < 2:
        batches: Iterator[PixelBatch] = map(reader.__getitem__, plan)
    else:
        batches = _started(reader, plan, workers)
    for batch in batches:
        if batch.fault is not None:
            raise DataError(batch.fault)
        yield batch


def _started(reader: Reader, plan: Sequence[range], workers: int) -> Iterator[PixelBatch]:
    """Start workers and return what they will have read, in order."""
    from torch.utils.data import DataLoader

    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise DataError(
            "extract(workers=...) is called while its own workers start, because they import your script again: put "
            "the call under  if __name__ == '__main__':  or pass workers=0."
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create", category=UserWarning)
        warnings.filterwarnings("ignore", message="Got pickle error", category=UserWarning)  # said below
        # Python 3.12 warns of every fork beside threads; the workers decode with Pillow and use no lock of torch
        warnings.filterwarnings("ignore", message=".*use of fork", category=DeprecationWarning)
        # arrays go through pipes: shared memory, which tensors use, is 64 MB in many containers and ends in a bus error
        loader: DataLoader[PixelBatch] = DataLoader(
            reader,  # type: ignore[arg-type]
            batch_size=None,
            sampler=plan,
            num_workers=min(workers, len(plan)),
            collate_fn=_as_it_is,  # type: ignore[arg-type]
            worker_init_fn=_end_with_parent,
            multiprocessing_context=start_method(),
        )
        try:
            return iter(loader)
        except (pickle.PicklingError, AttributeError, TypeError):
            raise DataError(
                "the images cannot be sent to worker processes: keep the class of your data set in a module, without "
                "lambdas and open files, or pass workers=0."
            ) from None


def start_method() -> str:
    """Return how workers start: as the program has set it, else by fork unless a GPU is in use (which forks break)."""
    import torch

    chosen = multiprocessing.get_start_method(allow_none=True)
    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    if chosen in (None, "fork") and (in_use or not sys.platform.startswith("linux")):
        return "spawn"
    return chosen or "fork"


def _as_it_is(batch: PixelBatch) -> PixelBatch:
    return batch


def _end_with_parent(number: int) -> None:
    """End this worker when its parent was killed: torch's own watch ends in waiting for a pipe that nobody reads."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
