"""Paired designs: which rows of a unit can be compared with each other, because only the tested factor differs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from causalfm.arrows import names
from causalfm.cohort import Cohort, Factor
from causalfm.errors import DataError
from causalfm.strata import is_paired, joint_factor, varies_within

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph

MAX_SUBSETS = 4096  # sets of levels that are all tried: those of twelve levels


@dataclass(frozen=True, eq=False)
class Pairing:
    """The blocks of a paired design: rows of one unit that agree on everything the question conditions on.

    Attributes
    ----------
    level
        The factor whose levels are compared, row by row.
    groups
        The independent unit, row by row.
    block
        ``(n,)`` codes: the unit, crossed with the conditioning columns that vary within it, and the specimen where the
        same tissue was seen at several levels.
    columns
        Names of the columns that make the blocks besides the unit.
    """

    level: Factor
    groups: Factor
    block: np.ndarray
    columns: tuple[str, ...]

    def seen(self) -> sparse.csr_array:
        """``(blocks, L)`` 0/1: levels that each block shows."""
        shape = (int(self.block.max()) + 1, self.level.n_levels)
        cells = np.unique(self.block * shape[1] + self.level.codes)
        return sparse.csr_array((np.ones(len(cells)), (cells // shape[1], cells % shape[1])), shape=shape)

    def owner(self) -> np.ndarray:
        """``(blocks,)`` unit of each block."""
        owner = np.zeros(int(self.block.max()) + 1, dtype=np.int64)
        owner[self.block] = self.groups.codes
        return owner

    def together(self) -> np.ndarray:
        """``(L, L)`` units that show both levels in one block; the diagonal counts those that show the level."""
        seen, owner = self.seen(), self.owner()
        units = sparse.csr_array(
            (np.ones(len(owner)), (owner, np.arange(len(owner)))), shape=(self.groups.n_levels, len(owner))
        )
        columns = seen.tocsc()
        out = np.zeros((self.level.n_levels, self.level.n_levels), dtype=np.int64)
        for level in range(self.level.n_levels):
            blocks = columns[:, [level]].nonzero()[0]
            out[level] = np.asarray(((units[:, blocks] @ seen[blocks]) > 0).sum(axis=0)).reshape(-1)
        return out

    def informative(self, levels: Sequence[int]) -> np.ndarray:
        """Mask ``(G,)`` of the units with a block that shows two or more of these levels."""
        several = np.asarray(self.seen()[:, list(levels)].sum(axis=1)).reshape(-1) > 1
        return np.asarray(np.bincount(self.owner(), several, self.groups.n_levels) > 0)

    def compared(self, minimum: int) -> tuple[int, ...]:
        """Return the levels to compare: every pair seen together in ``minimum`` units, in as many units as possible.

        Among sets with equally many units the largest. More than twelve levels are not all tried: the one with the
        fewest partners is left out until all are partners. Empty if no two levels are.
        """
        partners = self.together() >= minimum
        levels = range(self.level.n_levels)
        if 2**self.level.n_levels > MAX_SUBSETS:
            return _prune(partners)
        found: list[tuple[int, int, tuple[int, ...]]] = []
        for size in range(self.level.n_levels, 1, -1):
            for chosen in itertools.combinations(levels, size):
                if partners[np.ix_(chosen, chosen)].all():
                    found.append((int(self.informative(chosen).sum()), size, chosen))
        return max(found, key=lambda item: item[:2])[2] if found else ()


def _prune(partners: np.ndarray) -> tuple[int, ...]:
    kept = np.flatnonzero(partners.sum(axis=1) > 1)
    while len(kept) and not partners[np.ix_(kept, kept)].all():
        kept = np.delete(kept, partners[np.ix_(kept, kept)].sum(axis=1).argmin())
    return tuple(kept.tolist()) if len(kept) > 1 else ()


def pair_rows(cohort: Cohort, graph: CausalGraph, of: Sequence[str], given: Sequence[str]) -> Pairing | None:
    """Lay out a paired design: most units were seen at several levels of the factor.

    Parameters
    ----------
    cohort, graph
        Data and declared graph. Its specimen makes the blocks if most units that can be compared can be so within a
        specimen; else different specimens of a unit are compared.
    of, given
        Tested factor (several are crossed) and conditioning columns. What is constant within a unit is held fixed by
        comparing within it; what varies makes blocks.

    Returns
    -------
    Pairing or None
        None if most units are at one level: their means are compared (see :func:`causalfm.strata.stratify`).

    Raises
    ------
    DataError
        A continuous conditioning column varies within units.
    """
    groups = cohort.factor(graph.group, private=True)
    level = joint_factor(cohort, of)
    if not is_paired(level.codes, groups):
        return None
    columns = [name for name in given if _varies(cohort, graph, name, groups)]
    plain = Pairing(level, groups, _blocks(cohort, [graph.group, *columns]), tuple(columns))
    tissue = names(graph.specimen)
    if not tissue:
        return plain
    fine = Pairing(level, groups, _blocks(cohort, [graph.group, *columns, *tissue]), (*columns, *tissue))
    every = range(level.n_levels)
    return fine if 2 * fine.informative(every).sum() > plain.informative(every).sum() else plain


def _varies(cohort: Cohort, graph: CausalGraph, name: str, groups: Factor) -> bool:
    if graph.kind(name, cohort) != "continuous":
        return bool(varies_within(cohort.factor(name).codes, groups).any())
    varies = varies_within(np.unique(cohort.numeric(name), return_inverse=True)[1], groups)
    if varies.any():
        raise DataError(
            f"column {name!r} is continuous and varies within {varies.sum()} of {groups.n_levels} {groups.name}s: in a "
            f"paired design it would have to be equal in the rows compared. Bin it with pandas.cut, or keep one value "
            f"per {groups.name}."
        )
    return False


def _blocks(cohort: Cohort, columns: Sequence[str]) -> np.ndarray:
    codes = np.stack([cohort.factor(name, private=True).codes for name in columns])
    return np.asarray(np.unique(codes, axis=1, return_inverse=True)[1].reshape(-1))
