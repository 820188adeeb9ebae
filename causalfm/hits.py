"""Pick what is similar enough out of blocks of products, and sort it into neighbour lists.

NumPy, not torch: on a CPU it finds the entries of a mask, and sorts plain numbers, several times faster.
"""

from __future__ import annotations

import numpy as np

SORTED = 2**18  # entries sorted at once: 2 MiB, which caches hold
ENDED = np.iinfo(np.int64).max


def largest(block: np.ndarray, rank: int) -> np.ndarray:
    """Return the value of this rank, from 1, in each row of ``(m, c)`` similarities: ``(m,)``."""
    turned = np.negative(block, order="C")  # partition is slow where the many that do not count come first
    return np.asarray(-np.partition(turned, rank - 1, axis=1)[:, rank - 1])


def reaching(block: np.ndarray, least: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return row, column and value of the entries that are large enough.

    Parameters
    ----------
    block
        ``(m, c)`` float32 similarities; contiguous, or the other side of such a product.
    least
        ``(m,)`` smallest value that counts in each row.

    Returns
    -------
    row, column : numpy.ndarray
        ``(h,)`` int64; the columns of one row ascend.
    value : numpy.ndarray
        ``(h,)``.
    """
    turned = not block.flags.c_contiguous
    laid, bound = (block.T, least) if turned else (block, least[:, None])
    laid = np.ascontiguousarray(laid)
    at = np.flatnonzero(laid >= bound)
    row = at // laid.shape[1]
    column, value = at - row * laid.shape[1], laid.ravel()[at]
    return (column, row, value) if turned else (row, column, value)


def sorted_lists(
    at: np.ndarray, entry: np.ndarray, value: np.ndarray, n_lists: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``width`` entries of largest value of each list; of equal ones those given first come first.

    Parameters
    ----------
    at, entry, value
        ``(h,)`` list, entry and float32 value.
    n_lists, width
        Lists, and their length.

    Returns
    -------
    indices : numpy.ndarray
        ``(n_lists, width)`` int64; -1 where a list has ended.
    similarity : numpy.ndarray
        ``(n_lists, width)`` float32; ``-inf`` where a list has ended.
    """
    indices = np.full((n_lists, width), -1, dtype=np.int64)
    similarity = np.full((n_lists, width), -np.inf, dtype=np.float32)
    if not len(at):
        return indices, similarity
    small = at.astype(np.uint16) if n_lists <= 2**16 else at  # which NumPy sorts by radix
    order, count = np.argsort(small, kind="stable"), np.bincount(at, minlength=n_lists)
    start = np.append(0, np.cumsum(count))
    key = _falling(value).astype(np.int64) << 32
    key |= np.arange(len(at))  # one number: the value, then the order
    places = np.arange(max(width, int(count.max())))
    step = max(1, SORTED // len(places))
    for first in range(0, n_lists, step):
        rows = slice(first, min(first + step, n_lists))
        table = np.full((rows.stop - first, len(places)), ENDED)
        table[places < count[rows, None]] = key[order[start[rows.start] : start[rows.stop]]]
        table.sort(axis=1)
        ended = table[:, :width] == ENDED
        found = np.where(ended, 0, table[:, :width] & (2**32 - 1))
        indices[rows] = np.where(ended, -1, entry[found])
        similarity[rows] = np.where(ended, -np.inf, value[found])
    return indices, similarity


def _falling(value: np.ndarray) -> np.ndarray:
    """Return int32 that fall as float32 rise, by their bits; those of negative values are ordered the other way."""
    bits = (value + np.float32(0.0)).view(np.int32)  # -0 becomes 0
    return ~np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits)
