"""Rows of balanced draws, read together: outside memory each draw by itself would cost a pass over all rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalfm.lazy_rows import is_lazy
from causalfm.metrics.balanced import Table

SHARE = 4  # of the limit: its part that may be held


@dataclass(frozen=True, eq=False)
class HeldRows:
    """Some rows of a large matrix, under the positions that they have in it."""

    positions: np.ndarray
    rows: np.ndarray

    def __getitem__(self, where: np.ndarray) -> np.ndarray:
        return np.asarray(self.rows[np.searchsorted(self.positions, where)])


def held_tables(X: Any, tables: Sequence[Table], draws: int, random_state: int) -> Iterator[tuple[int, Table, Any]]:
    """Yield each table with its number and what gives the rows of its draws.

    Parameters
    ----------
    X
        ``(n, d)``; an array in memory is given as it is.
    tables
        Complete tables; draw ``i`` of table ``t`` comes from the generator ``[random_state, t]``.
    draws
        Draws per table.
    random_state
        Seed.
    """
    if not is_lazy(X):
        yield from ((number, table, X) for number, table in enumerate(tables))
        return
    most = max(1, X.limit // SHARE // (X.shape[1] * X.dtype.itemsize))
    batch: list[int] = []
    positions = np.empty(0, dtype=np.int64)
    for number, table in enumerate(tables):
        rng = np.random.default_rng([random_state, number])
        own = np.unique(np.concatenate([table.draw(rng) for _ in range(draws)]))
        more = np.union1d(positions, own)
        if batch and len(more) > most:
            held = HeldRows(positions, X[positions])
            yield from ((i, tables[i], held) for i in batch)
            batch, more = [], own
        batch, positions = [*batch, number], more
    if batch:
        held = HeldRows(positions, X[positions])
        yield from ((i, tables[i], held) for i in batch)
