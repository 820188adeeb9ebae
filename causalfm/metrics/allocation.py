"""Which groups go to training, validation and test, when a group may have rows in several cells of a table."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

TRAIN, VALIDATION, TEST = range(3)


@dataclass(frozen=True, eq=False)
class Kinds:
    """Groups sorted by the cells in which they have rows.

    Attributes
    ----------
    members
        Codes of the groups of every kind.
    cells
        ``(P, K)`` whether a kind has rows in each of the K cells.
    """

    members: tuple[np.ndarray, ...]
    cells: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        """Groups of each kind, ``(P,)``."""
        return np.array([len(groups) for groups in self.members])


def kinds_of(cells: Sequence[Collection[int]]) -> Kinds:
    """Sort groups by their cells; ``cells`` holds the group codes of each."""
    groups = np.array(sorted({group for cell in cells for group in cell}), dtype=np.int64)
    present = np.array([[group in cell for cell in cells] for group in groups.tolist()]).reshape(-1, len(cells))
    patterns, kind = np.unique(present, axis=0, return_inverse=True)
    return Kinds(tuple(groups[kind.reshape(-1) == p] for p in range(len(patterns))), patterns)


def allocate(
    kinds: Kinds, train: np.ndarray, validation: np.ndarray, test: np.ndarray, parts: int = 1
) -> np.ndarray | None:
    """Give as few groups as possible to training and validation, so that every cell has what it needs.

    A group has one role in all its cells. (An integer programme: where every group has one cell, the sizes themselves.)

    Parameters
    ----------
    kinds
        P kinds of groups in K cells.
    train, validation, test
        ``(K,)`` groups that each cell needs.
    parts
        Training sets, each with its validation, that must have no group in common.

    Returns
    -------
    numpy.ndarray or None
        ``(P, 2)`` groups of each kind in training and in validation, all others test; None if there are too few.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    sizes, cover = kinds.sizes, kinds.cells.T.astype(float)
    if (cover @ sizes < train + validation + test).any():
        return None
    zero, one = np.zeros_like(cover), np.eye(len(sizes))
    rules = (
        LinearConstraint(np.hstack([cover, zero]), lb=train),
        LinearConstraint(np.hstack([zero, cover]), lb=validation),
        LinearConstraint(np.hstack([cover, cover]), ub=cover @ sizes - test),
        LinearConstraint(np.hstack([one, one]), ub=sizes // parts),
    )
    used = 2 * len(sizes)
    found = milp(np.ones(used), integrality=np.ones(used), bounds=Bounds(0, np.tile(sizes, 2)), constraints=rules)
    return None if found.x is None else np.rint(found.x).astype(np.int64).reshape(2, -1).T


def share_held(kinds: Kinds, roles: np.ndarray) -> np.ndarray:
    """Return the share of each cell's groups that training and validation hold, ``(K,)``."""
    cover = kinds.cells.T.astype(float)
    return np.asarray(cover @ roles.sum(axis=1) / (cover @ kinds.sizes))


def deal(kinds: Kinds, roles: np.ndarray, parts: int, n_groups: int, rng: np.random.Generator) -> np.ndarray:
    """Deal the groups at random: the role of each in every part, ``(parts, n_groups)``."""
    role = np.full((parts, n_groups), TEST)
    for members, (n_train, n_validation) in zip(kinds.members, roles, strict=True):
        order = rng.permutation(members)
        for part in range(parts):
            role[part, order[:n_train]] = TRAIN
            role[part, order[n_train : n_train + n_validation]] = VALIDATION
            order = order[n_train + n_validation :]
    return role
