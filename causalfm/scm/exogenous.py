"""Exogenous noise of categorical nodes: the luck by which a hospital's patient meets one of its scanners.

A node takes the level at which the cumulated shares of its parents' levels pass a uniform number, the noise. Given what
was seen the noise is uniform in an interval; where in it is drawn once per independent unit, from its id and the seed,
so that neither row order nor the rest of the cohort matters. Levels stand in order of how common they are (ordinal
ones in their own), so that their names do not matter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from causalfm.cohort import Cohort, Factor
from causalfm.errors import DataError, positions
from causalfm.scm.parents import known_codes


@dataclass(frozen=True, eq=False)
class NodeTable:
    """A categorical node given its categorical parents.

    Attributes
    ----------
    node, parents
        Names.
    levels, parent_levels
        Their levels.
    order
        ``(K,)`` levels in the order in which their shares are cumulated.
    configurations
        ``(Q, p)`` codes of the parents that occur together.
    count
        ``(Q, K)`` patients.
    """

    node: str
    parents: tuple[str, ...]
    levels: tuple[str, ...]
    parent_levels: tuple[tuple[str, ...], ...]
    order: np.ndarray
    configurations: np.ndarray
    count: np.ndarray

    def causes(self, cohort: Cohort) -> np.ndarray:
        """Read the parents' codes ``(n, p)``."""
        pairs = zip(self.parents, self.parent_levels, strict=True)
        return np.stack([known_codes(cohort, name, levels) for name, levels in pairs], axis=1)

    def seen(self, cohort: Cohort) -> np.ndarray:
        """Read the node's own codes ``(n,)``."""
        return known_codes(cohort, self.node, self.levels)

    def explains(self, noise: np.ndarray, parents: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """Tell in which rows the noise leads to the level seen."""
        inside = (noise >= 0.0) & (noise < 1.0)
        return np.asarray(inside & (self.predict(np.where(inside, noise, 0.0), parents) == seen))

    def follow(self, noise: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Level codes under new parents."""
        return self.predict(noise, after)

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw noise ``(n,)``."""
        return rng.random(n)

    def shares(self) -> np.ndarray:
        """Probability of each level per configuration ``(Q, K)``."""
        return np.asarray(self.count / self.count.sum(axis=1, keepdims=True))

    def locate(self, parents: np.ndarray) -> np.ndarray:
        """Position of parents' codes ``(n, p)`` among the configurations.

        Raises
        ------
        DataError
            A combination that was never seen.
        """
        sizes = tuple(len(levels) for levels in self.parent_levels)
        known = {key: q for q, key in enumerate(_keys(self.configurations, sizes).tolist())}
        distinct, where = np.unique(_keys(parents, sizes), return_inverse=True)
        found = np.array([known.get(key, -1) for key in distinct.tolist()], dtype=np.int64)
        at = found[where.reshape(-1)]
        new = np.flatnonzero(at < 0)
        if len(new):
            pairs = zip(self.parents, self.parent_levels, parents[new[0]], strict=True)
            shown = ", ".join(f"{name}={levels[code]}" for name, levels, code in pairs)
            raise DataError(
                f"no {self.node} was seen at {shown} ({len(new)} rows, {positions(new.tolist())}): what it would be "
                f"there is not known. Name it, do={{..., {self.node!r}: ...}}, or leave these rows out."
            )
        return np.asarray(at)

    def abduct(self, seen: np.ndarray, parents: np.ndarray, luck: np.ndarray) -> np.ndarray:
        """Noise ``(n,)`` that explains levels ``seen`` given the parents; ``luck`` in (0, 1) is the place within.

        Raises
        ------
        DataError
            A level that was never seen under these parents.
        """
        at = self.locate(parents)
        low, high = self._bounds()
        rank = np.argsort(self.order)[seen]
        low, high = low[at, rank], high[at, rank]
        never = np.flatnonzero(high <= low)
        if len(never):
            level = self.levels[seen[never[0]]]
            raise DataError(
                f"{self.node}={level} was never seen with the {' and '.join(self.parents)} of {len(never)} rows "
                f"({positions(never.tolist())}): the model cannot say what else would have led to it. Fit on a cohort "
                f"that holds this combination, or name {self.node!r} in do."
            )
        return np.asarray(low + (high - low) * luck)

    def predict(self, noise: np.ndarray, parents: np.ndarray) -> np.ndarray:
        """Level codes ``(n,)`` under the parents, given the noise."""
        at = self.locate(parents)
        high = self._bounds()[1][at]
        rank = np.minimum((noise[:, None] >= high).sum(axis=1), len(self.order) - 1)
        return np.asarray(self.order[rank])

    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        high = np.cumsum(self.count[:, self.order], axis=1)
        high = high / high[:, -1:]
        return np.concatenate([np.zeros((len(high), 1)), high[:, :-1]], axis=1), high


def node_table(node: Factor, parents: Sequence[Factor], groups: Factor, *, ordinal: bool = False) -> NodeTable:
    """Count a node by its parents, patients with equal weight.

    Parameters
    ----------
    node, parents
        Row by row.
    groups
        The independent unit, row by row.
    ordinal
        Keep the levels in their own order.

    Returns
    -------
    NodeTable
        Fractions of patients count where a patient's rows differ.
    """
    weight = 1.0 / groups.counts()[groups.codes]
    codes = np.stack([p.codes for p in parents], axis=1)
    configurations, at = np.unique(codes, axis=0, return_inverse=True)
    count = np.zeros((len(configurations), node.n_levels))
    np.add.at(count, (at.reshape(-1), node.codes), weight)
    count = np.round(count, 9)  # sums of fractions differ in their last bits with the order of rows
    order = np.arange(node.n_levels) if ordinal else np.argsort(-np.round(count.sum(axis=0), 6), kind="stable")
    names = tuple(p.name for p in parents)
    return NodeTable(node.name, names, node.levels, tuple(p.levels for p in parents), order, configurations, count)


def luck_of(node: str, groups: Factor, random_state: int) -> np.ndarray:
    """Draw a number in (0, 1) per row, the same for all rows of a unit, from the unit's id, the node and the seed."""
    draws = np.empty(groups.n_levels)
    for g, name in enumerate(groups.levels):
        digest = hashlib.blake2b(f"{random_state}\x1f{node}\x1f{name}".encode(), digest_size=8).digest()
        draws[g] = (int.from_bytes(digest, "big") // 2**12 + 0.5) / 2**52
    return np.asarray(draws[groups.codes])


def _keys(codes: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """One number per combination of codes ``(n, p)``."""
    key = np.zeros(len(codes), dtype=np.int64)
    for column, size in zip(codes.T, sizes, strict=True):
        key = key * size + column
    return key
