"""All lists of a table from half of its products: a similarity serves both of its rows, and few are worth keeping.

A sample of the columns tells each query how similar a row must be to be among its nearest; what is below is not looked
at again. Lists are exact all the same: a query that got too few, or too many, is reported and searched the plain way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from causalfm.hits import largest, reaching, sorted_lists
from causalfm.row_tasks import spans

if TYPE_CHECKING:
    import torch

SAMPLE = 1024  # columns; below four times as many rows there is nothing to be gained
SURPLUS = 1.9  # rows kept, as a multiple of the list's length
MOST = 8.0  # the same, at which a query is given up
HITS_MIB = 256  # held for all queries
TILE = 2000  # rows by columns of one product: 15 MiB, which caches hold while it is looked through

Hits = tuple[np.ndarray, np.ndarray, np.ndarray]  # query, position and similarity


def worthwhile(n: int, width: int) -> bool:
    """Say whether the sample is small beside the table, and what is kept fits."""
    return n >= 4 * SAMPLE and SURPLUS * width * n * 12 <= HITS_MIB * 2**20 and MOST * width < n


def symmetric_lists(
    table: torch.Tensor, groups: np.ndarray, width: int
) -> Iterator[tuple[slice, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield the lists of all queries, some queries at a time.

    Parameters
    ----------
    table
        ``(n, d)`` float32 rows of unit length.
    groups
        ``(n,)`` integer codes; rows that share the query's are no candidates.
    width
        Length of the lists.

    Yields
    ------
    rows : slice
        Queries.
    indices : numpy.ndarray
        ``(m, width)`` int64 positions of the nearest rows, of equal ones those of lower position first.
    similarity : numpy.ndarray
        ``(m, width)`` float32.
    unsure : numpy.ndarray
        Positions of the queries whose lists these are not.
    """
    import torch

    n = len(table)
    codes = torch.from_numpy(groups.astype(np.int32))
    least = _thresholds(table, codes, width)
    step = -(-n // -(-n // TILE))
    parts = spans(n, step)
    held: list[list[Hits]] = [[] for _ in parts]
    tile = torch.empty(step * step)
    for i, a in enumerate(parts):
        for j, b in enumerate(parts[i:], i):
            size = a.stop - a.start, b.stop - b.start
            block = torch.mm(table[a], table[b].T, out=tile[: size[0] * size[1]].view(size))
            if len(np.intersect1d(groups[a], groups[b])):
                block.masked_fill_(codes[a, None] == codes[b], -torch.inf)
            held[i].append(_hits(block.numpy(), least[a], b.start))
            if j > i:
                held[j].append(_hits(block.T.numpy(), least[b], a.start))
        yield (a, *_lists_of(held[i], a, width))
        held[i] = []


def _thresholds(table: torch.Tensor, codes: torch.Tensor, width: int) -> np.ndarray:
    """Return a similarity that about ``SURPLUS * width`` candidates of each query reach."""
    import torch

    n = len(table)
    drawn = torch.from_numpy(np.sort(np.random.default_rng(0).choice(n, SAMPLE, replace=False)))
    sample, rank = table[drawn], int(np.ceil(SURPLUS * width * SAMPLE / n)) + 1
    out = np.empty(n, dtype=np.float32)
    for start in range(0, n, TILE):
        rows = slice(start, start + TILE)
        block = (table[rows] @ sample.T).masked_fill_(codes[rows, None] == codes[drawn], -torch.inf)
        out[rows] = largest(block.numpy(), rank)
    return np.where(
        out == -np.inf, np.float32(np.inf), out
    )  # hardly any candidates in the sample: left to the plain way


def _hits(block: np.ndarray, least: np.ndarray, first: int) -> Hits:
    """Return query, position (columns are counted from ``first``) and similarity of what is large enough."""
    row, column, value = reaching(block, least)
    return row.astype(np.int32), (column + first).astype(np.int32), value


def _lists_of(hits: list[Hits], rows: slice, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sort the hits of each query; those with too few or too many are unsure."""
    query, position, value = (np.concatenate(parts) for parts in zip(*hits, strict=True))
    m = rows.stop - rows.start
    count = np.bincount(query, minlength=m)
    sure = (count >= width) & (count <= MOST * width)
    if not sure.all():
        kept = sure[query]
        query, position, value = query[kept], position[kept], value[kept]
    return *sorted_lists(query, position, value, m, width), np.flatnonzero(~sure) + rows.start
