"""Spread of a mean over balanced tables: effects of single groups and of pairs of groups over draws and tables."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import sparse

from causalfm.metrics.balanced import Table
from causalfm.metrics.deletion import Deletion
from causalfm.metrics.design import Design, design_cells
from causalfm.metrics.list_ratios import Ratio, gradient_of
from causalfm.results import Influence

PAIRS_UP_TO = 3000  # groups; the pair part of the variance needs a square array of them


@dataclass(frozen=True, eq=False)
class Spread:
    """Effects of single groups and of pairs of groups on the sum of the tables' values."""

    effects: np.ndarray  # (G,)
    place: np.ndarray  # (G,) row of the group in ``pairs``
    pairs: np.ndarray | None  # (U, U) of the U groups in the tables; None beyond PAIRS_UP_TO

    @classmethod
    def of(cls, tables: list[Table], n_groups: int) -> Spread:
        """Return an empty one."""
        place = np.full(n_groups, -1)
        groups = sorted({group for table in tables for cell in table.cells for group in cell})
        place[groups] = np.arange(len(groups))
        pairs = np.zeros((len(groups), len(groups))) if len(groups) <= PAIRS_UP_TO else None
        return cls(np.zeros(n_groups), place, pairs)

    def add(self, owners: list[np.ndarray], deletions: list[Deletion], ratio: Ratio, totals: np.ndarray) -> None:
        """Add one table: its ratio, linearised at the sums pooled over its draws.

        ``owners``: of each draw, the group of each unit, four cells of equally many units one after the other.
        """
        slope = gradient_of(ratio, totals)
        effects = np.stack([(one.effects @ slope).reshape(4, -1) for one in deletions])
        effects -= effects.mean(axis=(0, 2), keepdims=True)  # cell sizes are fixed: a cell's mean effect is no spread
        for groups, one, effect in zip(owners, deletions, effects, strict=True):
            by_cell = groups.reshape(4, -1)
            np.add.at(self.effects, by_cell, effect)
            if self.pairs is None:
                continue
            changes = sum((pair * float(d) for pair, d in zip(one.pairs, slope, strict=True)), start=0)
            residual = _pair_residuals(changes.toarray(), by_cell.shape[1])
            for a, b in product(range(4), range(4)):
                self.pairs[np.ix_(self.place[by_cell[a]], self.place[by_cell[b]])] += residual[a, :, b]

    def influence(self, used: np.ndarray, n_tables: int, design: Design) -> Influence:
        """Return what each unit adds to the mean over the tables, its effects within cells."""
        strata = np.full(len(self.effects), -1)
        strata[used] = design_cells(design)[used]
        effects = self.effects / n_tables
        if self.pairs is None:
            return Influence(effects, strata)
        row, column = np.nonzero(self.pairs)
        groups = np.flatnonzero(self.place >= 0)
        where = groups[row], groups[column]
        pairs = sparse.csr_array((self.pairs[row, column] / n_tables, where), shape=(len(effects),) * 2)
        return Influence(effects, strata, pairs, pairs_are_residuals=True)


def _pair_residuals(pairs: np.ndarray, m: int) -> np.ndarray:
    """Take block means and main effects off ``pairs (4m, 4m)``; ``(4, m, 4, m)``, scaled to unbiased squares.

    The same as :func:`causalfm.metrics.design.pair_variance`, kept per pair because draws and tables share pairs.
    """
    both = (pairs + pairs.T).reshape(4, m, 4, m)
    off = both.mean(axis=1, keepdims=True)
    residual = (both - off - both.mean(axis=3, keepdims=True) + off.mean(axis=3, keepdims=True)) * (m / (m - 1))
    for cell in range(4):
        block = both[cell, :, cell]
        if m < 4:
            residual[cell, :, cell] = 0  # too few to tell main effects from pairs
            continue
        mean = block.sum() / (m * (m - 1))
        main = (block.sum(1) - (m - 1) * mean) / (m - 2)
        inner = (block - mean - main[:, None] - main) * ((m - 1) / (m - 3)) ** 0.5
        np.fill_diagonal(inner, 0)
        residual[cell, :, cell] = inner
    return np.asarray(residual)
