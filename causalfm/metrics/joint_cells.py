"""Cells in which several columns of codes take the same values: what is one number for a cell need not be one a row."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class ByCell:
    """Numbers that are the same for all rows of a cell: ``self[rows]`` gives those of rows, ``(len(rows), c)``.

    Attributes
    ----------
    values
        ``(cells, c)``.
    cell
        ``(n,)`` cell of each row.
    """

    values: np.ndarray
    cell: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(self.values[self.cell[rows]])


def joint_codes(*columns: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Cross columns of codes, each ``(n,)``: the cell of every row, and for each column the code of every cell.

    Cells are in ascending order of the codes, the first column first; those without a row are none.
    """
    shape = tuple(int(column.max()) + 1 for column in columns)
    key = np.ravel_multi_index(columns, shape)
    if math.prod(shape) <= 4 * len(key):  # a place for every cell that there could be: less than sorting takes
        there = np.zeros(math.prod(shape), dtype=bool)
        there[key] = True
        cells = np.flatnonzero(there)
        number = np.cumsum(there, dtype=np.int32) - 1
        return number[key], tuple(np.unravel_index(cells, shape))
    cells, cell = np.unique(key, return_inverse=True)
    return cell, tuple(np.unravel_index(cells, shape))
