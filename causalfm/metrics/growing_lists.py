"""Neighbour lists of some queries that grow as candidates are seen."""

from __future__ import annotations

import numpy as np

from causalfm.hits import largest, reaching, sorted_lists

UNKNOWN = np.float32(-2.0)  # no cosine is below
MANY = 8  # one entry in so many: then the least that counts is found anew
HELD = 2**22  # entries put aside: about 100 MiB, and twice that while they are sorted


class Lists:
    """Lists of ``width`` entries for each query.

    What is not nearer than ``width`` entries seen before is left out. The rest is put aside until :meth:`finish`: to
    compare and pick is several times faster than to select and sort.
    """

    def __init__(self, queries: np.ndarray, width: int) -> None:
        self.queries, self.width = queries, width
        self.indices = np.full((len(queries), width), -1, dtype=np.int64)
        self.similarity = np.full(self.indices.shape, -np.inf, dtype=np.float32)
        self.least = np.full(len(queries), UNKNOWN)
        self.held: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # list, entry and similarity

    def see(self, at: np.ndarray, block: np.ndarray, entries: np.ndarray) -> None:
        """Bring entries with similarities ``(len(at), len(entries))``, ``-inf`` for no candidate, into lists ``at``."""
        least = self.least[at]
        first = bool((least == UNKNOWN).any())
        row, column, value = reaching(block, self._raised(at, block) if first else least)
        if not first and len(row) > block.size // MANY:  # nearer than all before
            row, column, value = reaching(block, self._raised(at, block))
        self.held.append((at[row], entries[column], value))
        if sum(len(part[0]) for part in self.held) > HELD:
            self.finish()

    def _raised(self, at: np.ndarray, block: np.ndarray) -> np.ndarray:
        """Return what counts in this block, and of later ones let count only what is larger."""
        least: np.ndarray = self.least[at]
        if block.shape[1] <= self.width:
            return least
        last = largest(block, self.width)
        self.least[at] = np.maximum(least, _above(last))
        return np.asarray(np.maximum(least, last))

    def finish(self) -> None:
        """Sort in what was put aside."""
        if not self.held:
            return
        row, column = np.nonzero(self.indices >= 0)
        before = row, self.indices[row, column], self.similarity[row, column]
        at, entry, value = (np.concatenate(parts) for parts in zip(before, *self.held, strict=True))
        self.held = []
        self.indices, self.similarity = sorted_lists(at, entry, value, len(self.queries), self.width)
        self.least = np.maximum(self.least, _above(self.similarity[:, -1]))


def _above(value: np.ndarray) -> np.ndarray:
    """Return the next larger float32: what is equal and seen later does not count."""
    return np.asarray(np.nextafter(value, np.float32(np.inf)))
