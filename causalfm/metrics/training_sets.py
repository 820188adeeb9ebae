"""A planned sequence of training sets, and the random deals of groups that fill it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from causalfm.metrics.allocation import TEST, TRAIN, VALIDATION, Kinds, deal
from causalfm.results import Result

Cell = dict[int, np.ndarray]  # rows of each group


@dataclass(frozen=True, eq=False)
class Draw:
    """One random deal of the groups.

    Attributes
    ----------
    train
        Row positions of every step's training set.
    validation, shares
        Row positions, and ``(steps, m)`` their weights: those of the step's training set.
    test, other
        Row positions of all other groups: in the cells of the table, and at other levels (there, groups with too few
        rows take part with those they have).
    held
        ``(G,)`` whether a group is of training or validation.
    """

    train: tuple[np.ndarray, ...]
    validation: np.ndarray
    shares: np.ndarray
    test: np.ndarray
    other: np.ndarray
    held: np.ndarray


@dataclass(frozen=True, eq=False)
class Schedule(Result):
    """A sequence of training sets of one size, from Cramér's V 0 to 1.

    Attributes
    ----------
    biology, confounder, unit
        Column names.
    classes, levels, other_levels
        Classes and levels of the training sets, class i tied to level i at the end; levels that are only tested.
    counts
        ``(steps, classes, levels)`` training groups.
    cramers_v
        ``(steps,)`` association of class and level in the training sets, from 0 to 1.
    rows_per_group, validation
        Rows of each group in each cell; groups of each cell on which the penalty is chosen.
    available
        ``(classes, levels)`` groups with enough rows.
    left_out
        Entries (group in a cell) with fewer rows.
    held
        ``(classes, levels)`` share of the groups that training and validation hold.
    parts
        Training sets of one deal, without a group in common: 2, or 1 where the cells hold too few.
    y, level, groups
        ``(n,)`` positions in ``classes`` and ``levels`` (-1: none of them), and codes of the groups.
    cells, kinds, roles
        Rows of each group in each cell, by class and level; groups by their cells; how many of each kind train and
        validate.
    """

    biology: str
    confounder: str
    unit: str
    classes: tuple[str, ...]
    levels: tuple[str, ...]
    other_levels: tuple[str, ...]
    counts: np.ndarray
    cramers_v: np.ndarray
    rows_per_group: int
    validation: int
    available: np.ndarray
    left_out: int
    held: np.ndarray
    parts: int
    y: np.ndarray
    level: np.ndarray
    groups: np.ndarray
    cells: tuple[Cell, ...]
    kinds: Kinds
    roles: np.ndarray

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per step: association, rows, and training groups of every cell."""
        names = [f"{b} x {c}" for b in self.classes for c in self.levels]
        return [
            {"step": step, "cramers_v": float(v), "rows": int(table.sum()) * self.rows_per_group}
            | dict(zip(names, table.ravel().tolist(), strict=True))
            for step, (v, table) in enumerate(zip(self.cramers_v, self.counts, strict=True))
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain data, without the rows and the groups."""
        about = {
            name: getattr(self, name)
            for name in ("biology", "confounder", "unit", "rows_per_group", "validation", "left_out", "parts")
        }
        names = {name: list(getattr(self, name)) for name in ("classes", "levels", "other_levels")}
        tables = {"available": self.available.tolist(), "held": self.held.tolist(), "steps": self.rows()}
        return about | names | tables

    def odds(self) -> np.ndarray:
        """Return each group's odds of training or validation against test in a part, ``(G,)``; 0 if never tested."""
        odds = np.zeros(int(self.groups.max()) + 1)
        for members, used in zip(self.kinds.members, self.roles.sum(axis=1), strict=True):
            odds[members] = used / (len(members) - used) if used < len(members) else 0.0
        return odds

    def draw(self, rng: np.random.Generator) -> list[Draw]:
        """Deal the groups to training, validation and test, and draw their rows; once for every part."""
        roles = deal(self.kinds, self.roles, self.parts, int(self.groups.max()) + 1, rng)
        return [self._fill(role, rng) for role in roles]

    def _fill(self, role: np.ndarray, rng: np.random.Generator) -> Draw:
        dealt: list[list[list[np.ndarray]]] = []
        for cell in self.cells:
            queues: list[list[np.ndarray]] = [[], [], []]
            for group in rng.permutation(list(cell)):
                queues[role[group]].append(rng.permutation(cell[group])[: self.rows_per_group])
            dealt.append(queues)
        counts = self.counts.reshape(len(self.counts), -1)
        train = tuple(
            np.concatenate([rows for queues, n in zip(dealt, table, strict=True) for rows in queues[TRAIN][:n]])
            for table in counts
        )
        validation = [rows for queues in dealt for rows in queues[VALIDATION][: self.validation]]
        test = np.concatenate([rows for queues in dealt for rows in queues[TEST]])
        other = self._some_rows(np.flatnonzero((self.level < 0) & (self.y >= 0) & (role[self.groups] == TEST)), rng)
        shares = np.repeat(counts, self.validation * self.rows_per_group, axis=1)
        return Draw(train, np.concatenate(validation), shares, test, other, role != TEST)

    def _some_rows(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Keep at most ``rows_per_group`` random rows of each group and class."""
        entry = self.groups[rows] * len(self.classes) + self.y[rows]
        order = np.lexsort((rng.random(len(rows)), entry))
        at = np.arange(len(rows))
        first = np.maximum.accumulate(np.where(np.diff(entry[order], prepend=-1) != 0, at, 0))
        return np.asarray(rows[order[at - first < self.rows_per_group]])
