"""Nearest neighbours of some queries among rows that are read once, block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.lazy_rows import LazyRows
from causalfm.row_tasks import map_blocks, spans
from causalfm.unit_vectors import unit_block, without_direction

if TYPE_CHECKING:
    import torch

QUERIES = 2**12  # answered in one pass over the rows
CANDIDATES = 2**13  # rows compared with them at once: 128 MiB of similarities

Top = Callable[["torch.Tensor", int], tuple["torch.Tensor", "torch.Tensor"]]


def streamed_lists(
    X: LazyRows, queries: np.ndarray, groups: np.ndarray, width: int, top: Top
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Search all rows for the nearest of other groups.

    Parameters
    ----------
    X
        ``(n, d)``.
    queries
        ``(m,)`` row positions.
    groups
        ``(n,)`` codes; rows of a query's own group are no candidates.
    width
        List length.
    top
        How the largest similarities are chosen, as in :mod:`causalfm.neighbours`.

    Returns
    -------
    similarity, indices, bad
        ``(m, width)`` each, ``-inf`` and -1 where a list has ended; and the rows that have no direction.
    """
    indices = np.full((len(queries), width), -1, dtype=np.int64)
    similarity = np.full((len(queries), width), -np.inf, dtype=np.float32)
    bad: list[int] = []
    for part in spans(len(queries), QUERIES):
        rows, best, where = queries[part], *(array[part] for array in (similarity, indices))
        asked = unit_block(_picked(X, rows))[0], groups[rows], width, top
        wrong: list[int] = []
        for stage in _stages(spans(len(X), CANDIDATES)):
            worst = best[:, -1].copy()  # what comes later must be nearer: of equals the first rows stay
            found = map_blocks(X, stage, _nearest, aligned=(groups,), shared=(*asked, worst))
            for block, (values, columns, no_direction) in found:
                wrong += [i + block.start for i in no_direction]
                _merge(best, where, values, columns + block.start)
        if part.start == 0 and wrong:
            return similarity, indices, wrong
    indices[similarity == -np.inf] = -1
    return similarity, indices, bad


def _picked(X: LazyRows, rows: np.ndarray) -> np.ndarray:
    """Return some rows, in their order; whoever reads blocks picks them there."""
    wanted = np.zeros(len(X), dtype=bool)
    wanted[rows] = True
    blocks = [block for block in spans(len(X), CANDIDATES) if wanted[block].any()]
    found = np.concatenate([part for _, part in map_blocks(X, blocks, _those, aligned=(wanted,))])
    return np.asarray(found[np.unique(rows, return_inverse=True)[1]])


def _those(block: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    return np.asarray(block[wanted])


def _stages(blocks: list[slice]) -> Iterator[list[slice]]:
    """Yield runs of blocks, each as long as all before it: what is known after one spares work in the next."""
    start, stop = 0, 1
    while start < len(blocks):
        yield blocks[start:stop]
        start, stop = stop, 2 * stop


def _nearest(
    block: np.ndarray,
    groups: np.ndarray,
    query: np.ndarray,
    query_groups: np.ndarray,
    width: int,
    top: Top,
    worst: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Return similarities and columns of the nearest candidates of one block, and which of these have no direction.

    Of a query's list, known so far, ``worst (m,)`` is the last similarity; as many candidates are returned as the query
    with most has beyond its own.
    """
    import torch

    scaled, norms = unit_block(block)
    products = torch.mm(torch.from_numpy(query), torch.from_numpy(scaled).T)
    products.masked_fill_(torch.from_numpy(query_groups[:, None] == groups), -torch.inf)
    beyond = int((products > torch.from_numpy(worst)[:, None]).sum(1).max())
    values, columns = top(products, max(1, min(width, beyond)))
    return values.numpy(), columns.numpy(), without_direction(norms)


def _merge(best: np.ndarray, where: np.ndarray, values: np.ndarray, columns: np.ndarray) -> None:
    """Bring candidates into lists, in place; those of lower position come first and the sort is stable."""
    import torch

    both = torch.cat([torch.from_numpy(best), torch.from_numpy(values)], 1)
    rows = torch.cat([torch.from_numpy(where), torch.from_numpy(columns)], 1)
    order = both.sort(dim=1, descending=True, stable=True)
    best[:] = order.values[:, : best.shape[1]].numpy()
    where[:] = rows.gather(1, order.indices[:, : best.shape[1]]).numpy()


def no_direction(X: Any) -> list[int]:
    """Return the rows of length zero or that are not finite, in one pass."""
    found = map_blocks(X, spans(len(X), CANDIDATES), _without_direction)
    return [i + rows.start for rows, bad in found for i in bad]


def _without_direction(block: np.ndarray) -> list[int]:
    return without_direction(unit_block(block)[1])
