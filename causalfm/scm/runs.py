"""Runs: rows beside each other, of one patient, that share all causes of ``Z`` and so their mean and their weight.

Sums over a run are all that a fit needs of rows where causes are the patient's: regressors then come once a run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike
from scipy import sparse

from causalfm.moments import ordered_blocks
from causalfm.scm.cells import Cells
from causalfm.scm.parents import Parents, Values


@dataclass(frozen=True, eq=False)
class Runs:
    """Runs of the rows in the order of ``cells``.

    Attributes
    ----------
    order
        ``(n,)`` rows, those of a run beside each other.
    of
        ``(n,)`` run of each row of ``order``, ascending.
    share
        ``(R,)`` share that a run is part of.
    cell
        ``(R,)`` its cell.
    weight
        ``(R,)`` weight of one of its rows.
    splines
        ``(R, q)`` its spline columns.
    levels
        ``(C, k)`` level codes of the cells.
    """

    order: np.ndarray
    of: np.ndarray
    share: np.ndarray
    cell: np.ndarray
    weight: np.ndarray
    splines: np.ndarray
    levels: np.ndarray

    def design(self, parents: Parents, which: slice) -> np.ndarray:
        """Regressors ``(runs, p)``."""
        cells = Values(self.levels[self.cell[which]], np.zeros((which.stop - which.start, 0)))
        out = parents.rows(cells, splines=False)
        out[:, 1 : 1 + parents.n_splines] = self.splines[which]
        return out

    def blocks(self, X: np.ndarray, width: int = 0) -> Iterator[tuple[slice, np.ndarray, slice, np.ndarray]]:
        """Yield slices of ``order``, their rows, the runs among them, and the run of each row, counted from the first.

        Rows come as in ``X``, in float32 or float64; they may be a view: never write to them.
        """
        for at, block in ordered_blocks(X, self.order, width):
            first, last = int(self.of[at.start]), int(self.of[at.stop - 1])
            yield at, block, slice(first, last + 1), self.of[at] - first


def lay_out_runs(values: Values, cells: Cells, parents: Parents) -> Runs:
    """Cut the rows of each share where numbers among the causes of ``Z`` change.

    Parameters
    ----------
    values, cells
        Causes of the rows, and their layout.
    parents
        Regressors.

    Returns
    -------
    Runs
        As few as one per share, as many as rows.
    """
    numbers = values.numbers[cells.order]
    new = np.diff(cells.share, prepend=-1) != 0
    new[1:] |= (numbers[1:] != numbers[:-1]).any(axis=1)
    first = np.flatnonzero(new)
    share = cells.share[first]
    return Runs(
        order=cells.order,
        of=np.cumsum(new) - 1,
        share=share,
        cell=cells.cell[share],
        weight=cells.row_weight[cells.order[first]],
        splines=parents.splines(numbers[first]),
        levels=cells.levels,
    )


def summing(code: np.ndarray, dtype: DTypeLike, weight: np.ndarray | None = None) -> Callable[[np.ndarray], np.ndarray]:
    """Return the sum of rows ``(n, d)`` by ``code (n,)``, which ascends from 0 without gaps, in float64.

    Float32 rows are added in float32 within a block of a few hundred: as precisely as they are stored.
    """
    n = len(code)
    if int(code[-1]) + 1 == n:  # each row is one of its own
        scale = None if weight is None else weight[:, None]
        return lambda rows: rows.astype(np.float64) if scale is None else rows * scale
    ends = np.flatnonzero(np.diff(code, prepend=-1, append=n))
    data = np.ones(n, dtype=dtype) if weight is None else weight
    onto = sparse.csr_array((data, np.arange(n), ends), shape=(int(code[-1]) + 1, n))
    return lambda rows: np.asarray(onto @ rows, dtype=np.float64)


def products(X: np.ndarray, parents: Parents, runs: Runs) -> tuple[np.ndarray, np.ndarray]:
    """Sum ``w f f'`` and ``w f x'`` in one pass: the normal equations of the mean of ``Z``.

    Parameters
    ----------
    X
        ``(n, d)`` floating, may be a memory map.
    parents, runs
        Regressors and layout.

    Returns
    -------
    gram, cross
        ``(p, p)`` and ``(p, d)``, in float64: embeddings may lie far from 0.
    """
    p = parents.width
    gram, cross = np.zeros((p, p)), np.zeros((p, X.shape[1]))
    for _, block, which, run in runs.blocks(X, p):
        f, weight = runs.design(parents, which), runs.weight[which]
        gram += (f * (weight * np.bincount(run))[:, None]).T @ f
        cross += (f * weight[:, None]).T @ summing(run, np.float64)(block.astype(np.float64))
    return gram, cross
