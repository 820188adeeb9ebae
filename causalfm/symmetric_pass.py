"""All lists of a table from half of its products: a similarity serves both of its rows, and few are worth keeping.

A sample of the columns tells each query how similar a row must be to be among its nearest; what is below is not looked
at again. Lists are exact all the same: a query that got too few, or too many, is reported and searched the plain way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

SAMPLE = 1024  # columns; below four times as many rows there is nothing to be gained
SURPLUS = 1.9  # rows kept, as a multiple of the list's length
MOST = 8.0  # the same, at which a query is given up
HITS_MIB = 256  # held for all queries
TILE = 2000  # rows by columns of one product: 15 MiB, which caches hold while it is looked through

Hits = tuple["torch.Tensor", "torch.Tensor", "torch.Tensor"]


def worthwhile(n: int, width: int) -> bool:
    """Say whether the sample is small beside the table, and what is kept fits."""
    return n >= 4 * SAMPLE and SURPLUS * width * n * 12 <= HITS_MIB * 2**20 and MOST * width < n


def symmetric_candidates(
    table: torch.Tensor, groups: np.ndarray, width: int
) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor, np.ndarray]]:
    """Yield the candidates of all queries, some queries at a time.

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
    similarity : torch.Tensor
        ``(m, c)``, at least the ``width`` largest of each query, in the order of the rows' positions; ``-inf`` beyond.
    where : torch.Tensor
        ``(m, c)`` int64 positions.
    unsure : numpy.ndarray
        Positions of the queries whose lists these may not be.
    """
    import torch

    n = len(table)
    codes = torch.from_numpy(groups.astype(np.int32))
    least = _thresholds(table, codes, width)
    step = -(-n // -(-n // TILE))
    parts = [slice(start, min(start + step, n)) for start in range(0, n, step)]
    held: list[list[Hits]] = [[] for _ in parts]
    tile = torch.empty(step * step)
    for i, a in enumerate(parts):
        for j, b in enumerate(parts[i:], i):
            size = a.stop - a.start, b.stop - b.start
            block = torch.mm(table[a], table[b].T, out=tile[: size[0] * size[1]].view(size))
            if len(np.intersect1d(groups[a], groups[b])):
                block.masked_fill_(codes[a, None] == codes[b], -torch.inf)
            held[i].append(_hits(block, least[a, None], b.start))
            if j > i:
                own, position, value = _hits(block, least[b], 0)
                held[j].append((position, own + a.start, value))
        yield (a, *_table_of(held[i], a, width))
        held[i] = []


def _thresholds(table: torch.Tensor, codes: torch.Tensor, width: int) -> torch.Tensor:
    """Return a similarity that about ``SURPLUS * width`` candidates of each query reach."""
    import torch

    n = len(table)
    drawn = torch.from_numpy(np.sort(np.random.default_rng(0).choice(n, SAMPLE, replace=False)))
    sample, rank = table[drawn], int(np.ceil(SURPLUS * width * SAMPLE / n)) + 1
    out = torch.empty(n)
    for start in range(0, n, TILE):
        rows = slice(start, start + TILE)
        block = (table[rows] @ sample.T).masked_fill_(codes[rows, None] == codes[drawn], -torch.inf)
        out[rows] = block.topk(rank, dim=1).values[:, -1]
    return torch.where(out == -torch.inf, torch.inf, out)  # hardly any candidates in the sample: left to the plain way


def _hits(block: torch.Tensor, least: torch.Tensor, first: int) -> Hits:
    """Return row, column (counted from ``first``) and value of the entries that are large enough, row by row."""
    import torch

    at = torch.nonzero((block >= least).view(-1))[:, 0]
    row = torch.div(at, block.shape[1], rounding_mode="floor")
    return row.to(torch.int32), (at - row * block.shape[1] + first).to(torch.int32), block.view(-1)[at]


def _table_of(hits: list[Hits], rows: slice, width: int) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Put the hits of each query side by side, in the order in which they came."""
    import torch

    row, position, value = (torch.cat(parts) for parts in zip(*hits, strict=True))
    m = rows.stop - rows.start
    count = np.bincount(row.numpy(), minlength=m)
    unsure = (count < width) | (count > MOST * width)
    order = torch.from_numpy(np.argsort(row.numpy().astype(np.uint16), kind="stable"))  # radix: rows < 2**16
    start = torch.from_numpy(np.append(0, np.cumsum(count)[:-1]))
    row = row[order].long()
    place = torch.arange(len(order)) - start[row]
    kept = place < min(int(MOST * width), int(count.max(initial=0)))
    columns = max(width, int(place[kept].max()) + 1 if kept.any() else 0)
    similarity = torch.full((m, columns), -torch.inf)
    where = torch.zeros((m, columns), dtype=torch.int64)
    row, place, order = row[kept], place[kept], order[kept]
    similarity[row, place], where[row, place] = value[order], position[order].long()
    return similarity, where, np.flatnonzero(unsure) + rows.start
