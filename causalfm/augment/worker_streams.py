"""Random numbers of a DataLoader's workers: they differ between workers and epochs, and one seed repeats them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from causalfm.errors import DataError

SLOTS = 1025  # the main process and up to 1,024 workers of a loader


class WorkerStreams:
    """How many batches each worker has drawn so far, in memory that the processes share.

    A stream is ``(seed, worker, batches so far)``: workers that die after an epoch hand their count to the next ones,
    and each slot has one writer, so that no lock is needed.

    Parameters
    ----------
    n_counted
        Numbers that :meth:`count` adds up beside.
    """

    def __init__(self, n_counted: int) -> None:
        self._calls = torch.zeros(SLOTS, dtype=torch.int64)
        self._counted = torch.zeros((SLOTS, n_counted), dtype=torch.int64)
        self.share()

    def share(self) -> None:
        """Put the counts into shared memory."""
        self._calls.share_memory_()  # type: ignore[no-untyped-call]
        self._counted.share_memory_()  # type: ignore[no-untyped-call]

    def next(self, seed: int) -> np.random.Generator:
        """Return the generator of this worker's next batch."""
        slot = _slot()
        rng = np.random.default_rng([seed, slot, int(self._calls[slot])])
        self._calls[slot] += 1
        return rng

    def count(self, numbers: Sequence[int]) -> None:
        """Add to this worker's counts."""
        self._counted[_slot()] += torch.tensor(list(numbers))

    def totals(self) -> list[int]:
        """Sum the counts over workers."""
        return [int(n) for n in self._counted.sum(dim=0)]

    def state(self) -> dict[str, Any]:
        """Return all counts as lists."""
        used = int(self._calls.nonzero().max()) + 1 if bool(self._calls.any()) else 0
        return {"calls": self._calls[:used].tolist(), "counted": self._counted[:used].tolist()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take them back, in place: workers that live see them too."""
        self._calls.zero_()
        self._counted.zero_()
        if used := len(state["calls"]):
            self._calls[:used] = torch.tensor(state["calls"])
            self._counted[:used] = torch.tensor(state["counted"])

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Share anew: out of a file, or of another process, counts lie in memory of their own."""
        self.__dict__.update(state)
        self.share()

    def __deepcopy__(self, memo: dict[int, Any]) -> WorkerStreams:
        other = WorkerStreams(self._counted.shape[1])
        other.restore(self.state())
        return other


def _slot() -> int:
    info = torch.utils.data.get_worker_info()
    slot = 0 if info is None else info.id + 1
    if slot >= SLOTS:
        raise DataError(f"worker {slot - 1}: at most {SLOTS - 1} workers of one loader can draw.")
    return slot
