"""Training sets in which a technical factor tells the class more and more: from independence to complete association.

A schedule fixes how many groups (patients) each class x level cell gives to training at every step. Size and class
shares stay the same; only the association grows. Groups of training, validation and test differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from causalfm.arguments import check_whole, did_you_mean
from causalfm.crosstabs import cramers_v
from causalfm.errors import DataError
from causalfm.metrics.allocation import Kinds, allocate, kinds_of, share_held
from causalfm.metrics.balanced import rows_that_most_have
from causalfm.metrics.confounding import complete_association, confounded_tables
from causalfm.metrics.design import Design, design_of
from causalfm.metrics.training_sets import Cell, Schedule

if TYPE_CHECKING:
    from causalfm.cohort import Cohort
    from causalfm.graph import CausalGraph

MAX_STEPS = 8
LEAST_STEPS = 3  # that two training sets at once must leave room for
PARTS = 2  # training sets of one deal without a patient in common: their spread is that between patients


def confounded_schedule(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    confounder: str | None = None,
    classes: Sequence[str] | None = None,
    levels: Sequence[str] | None = None,
    groups_per_class: int | None = None,
    steps: int | None = None,
    rows_per_group: int | None = None,
    validation: int | None = None,
    test: int = 2,
    max_rows: int = 600,
) -> Schedule:
    """Plan training sets of one size in which the confounder tells the class more and more.

    Parameters
    ----------
    cohort, graph
        The data and the roles: biology, technical factors, group.
    confounder
        Technical column; the graph's first technical factor by default.
    classes, levels
        Classes and levels to train on, in this order: class i is tied to level i. Default: all classes, and as many
        levels as there are classes, but at most half of the levels and at least two: those with most groups in their
        smallest class. The other levels are only tested.
    groups_per_class
        Training groups of each class, the same at every step. Default: as many as leave room for a second training set
        without a group in common, else as many as the table carries; in both cases within ``max_rows``.
    steps
        Number of training sets; default as many as move one group of a class at a time, at most 8.
    rows_per_group
        Rows of each group in each cell. Default: as many as 90 % of the groups of the cells have, within ``max_rows``.
        Groups with fewer are left out and counted.
    validation
        Groups of each cell on which the penalty is chosen; default a fifth of the mean of training, at least one.
    test
        Groups of each cell that the test must have at least; it takes all that are left.
    max_rows
        Rows of a training set at most, for cost.

    Returns
    -------
    Schedule
        ``to_frame()`` states the association reached and the groups of each cell at every step.

    Raises
    ------
    DataError
        Unknown classes or levels, only one of them, or a table that cannot carry the schedule: its cells in words.

    Notes
    -----
    PathoROB's schedules are ``groups_per_class`` 14 (2 x 2), 8 (4 x 4) and 6 (6 x 2 levels) with ``validation=1``; it
    trains on the class shares that these tables have, and orders two of the three data sets otherwise.

    References
    ----------
    Koemen, de Jong, Hense et al., Nature Communications 17, 5218 (2026).
    """
    optional = {"groups_per_class": groups_per_class, "rows_per_group": rows_per_group, "validation": validation}
    for name, value in {"test": test, "max_rows": max_rows, **optional}.items():
        if value is not None:
            check_whole(value, name, 1)
    if steps is not None:
        check_whole(steps, "steps", 2, why="from no association to a complete one")
    design = design_of(cohort, graph, confounder, within=())
    chosen = _chosen(classes, design.biology_levels, "classes", design.biology_name)
    placed = _placed(levels, design, chosen)
    y, level = _position(chosen, design.biology), _position(placed, design.confounder)
    shape = len(chosen), len(placed)
    every = _cells(y, level, design.groups, shape)
    most = rows_per_group or rows_that_most_have(every)
    need = _Need(kinds_of(_with_rows(every, most)), shape, validation, test)
    size = groups_per_class or need.largest(max_rows // (shape[0] * (rows_per_group or 1)))
    per_group = rows_per_group or max(1, min(most, max_rows // (shape[0] * size)))
    cells = _with_rows(every, per_group)
    need = _Need(kinds_of(cells), shape, validation, test)
    tables = confounded_tables(*shape, size, min(need.steps(size), MAX_STEPS) if steps is None else steps)
    found = ((parts, need.roles(size, parts)) for parts in (PARTS, 1))
    parts, roles = next((pair for pair in found if pair[1] is not None), (0, None))
    names = [[design.biology_levels[i] for i in chosen], [design.confounder_levels[i] for i in placed]]
    if roles is None:
        raise DataError(
            need.refusal(size, names, f"{design.biology_name} x {design.confounder_name}", design.unit, per_group)
        )
    others = tuple(name for name in design.confounder_levels if name not in names[1])
    return Schedule(
        biology=design.biology_name,
        confounder=design.confounder_name,
        unit=design.unit,
        classes=tuple(names[0]),
        levels=tuple(names[1]),
        other_levels=others,
        counts=tables,
        cramers_v=np.array([cramers_v(table)[0] for table in tables]),
        rows_per_group=per_group,
        validation=need.for_validation(size),
        available=need.held.reshape(shape),
        left_out=sum(map(len, every)) - sum(map(len, cells)),
        held=share_held(need.kinds, roles).reshape(shape),
        parts=parts,
        y=y,
        level=level,
        groups=design.groups,
        cells=cells,
        kinds=need.kinds,
        roles=roles,
    )


def _chosen(names: Sequence[str] | None, known: Sequence[str], what: str, column: str) -> list[int]:
    """Return the positions of the names among the known levels, all by default."""
    if names is None:
        return list(range(len(known)))
    if not isinstance(names, Sequence) or isinstance(names, str) or len(names) < 2 or len(set(names)) < len(names):
        raise DataError(f"{what}={names!r}: give at least two different values of {column!r}.")
    for name in names:
        if name not in known:
            raise DataError(f"{what} names {name!r}, which {column!r} does not hold.{did_you_mean(name, known)}")
    return [known.index(name) for name in names]


def _placed(names: Sequence[str] | None, design: Design, classes: list[int]) -> list[int]:
    """Return the levels to train on: those named, or those whose smallest class has most groups."""
    known = design.confounder_levels
    if names is not None:
        return _chosen(names, known, "levels", design.confounder_name)
    cells = np.unique(np.stack([design.confounder, design.biology, design.groups]), axis=1)[:2]
    counts = np.zeros((len(known), len(design.biology_levels)), dtype=np.int64)
    np.add.at(counts, tuple(cells), 1)
    wanted = min(len(classes), max(2, len(known) // 2))
    return sorted(np.argsort(-counts[:, classes].min(axis=1), kind="stable")[:wanted].tolist())


def _position(chosen: list[int], codes: np.ndarray) -> np.ndarray:
    """Return the position of each code among the chosen ones, -1 for others."""
    place = np.full(int(codes.max()) + 1, -1)
    place[chosen] = np.arange(len(chosen))
    return np.asarray(place[codes])


def _cells(y: np.ndarray, level: np.ndarray, groups: np.ndarray, shape: tuple[int, int]) -> list[Cell]:
    """Return the rows of each group in each cell, cells by class and level."""
    cells: list[Cell] = [{} for _ in range(shape[0] * shape[1])]
    rows = np.flatnonzero((y >= 0) & (level >= 0))
    cell = y[rows] * shape[1] + level[rows]
    order = np.lexsort((groups[rows], cell))
    keys = np.stack([cell, groups[rows]])[:, order]
    starts = np.flatnonzero((np.diff(keys, axis=1, prepend=-1) != 0).any(axis=0))
    for (where, group), part in zip(keys[:, starts].T.tolist(), np.split(rows[order], starts[1:]), strict=True):
        cells[where][group] = part
    return cells


def _with_rows(cells: list[Cell], per_group: int) -> tuple[Cell, ...]:
    """Keep the groups with enough rows."""
    return tuple({group: rows for group, rows in cell.items() if len(rows) >= per_group} for cell in cells)


@dataclass(frozen=True, eq=False)
class _Need:
    """What the cells of a table must hold, by the training groups per class."""

    kinds: Kinds
    shape: tuple[int, int]
    validation: int | None
    test: int

    @property
    def held(self) -> np.ndarray:
        return np.asarray(self.kinds.cells.T @ self.kinds.sizes, dtype=np.int64)

    def for_validation(self, size: int) -> int:
        return self.validation or max(1, round(size / self.shape[1] / 5))

    def for_training(self, size: int) -> np.ndarray:
        return np.asarray(confounded_tables(*self.shape, size, 2).max(axis=0).ravel())

    def steps(self, size: int) -> int:
        """Return how many tables move one group of a class at a time."""
        return int(np.ptp(confounded_tables(*self.shape, size, 2), axis=0).sum(axis=1).min()) // 2 + 1

    def roles(self, size: int, parts: int) -> np.ndarray | None:
        """Return how many groups of each kind train and validate, None if the table does not carry it."""
        second = np.full(len(self.held), self.for_validation(size))
        return allocate(self.kinds, self.for_training(size), second, np.full(len(self.held), self.test), parts)

    def largest(self, most: int) -> int:
        """Return the most training groups per class with two parts, else with one, else the least that there can be."""
        unit = complete_association(*self.shape)[1]
        for parts in (PARTS, 1):
            low, high = 0, max(1, most // unit)  # in units
            while low < high:
                middle = (low + high + 1) // 2
                low, high = (low, middle - 1) if self.roles(middle * unit, parts) is None else (middle, high)
            if low and (parts == 1 or self.steps(low * unit) >= LEAST_STEPS):
                return low * unit
        return unit

    def refusal(self, size: int, names: list[list[str]], table: str, unit: str, per_group: int) -> str:
        """Say which cells hold too few groups."""
        validation, train = self.for_validation(size), self.for_training(size)
        cells = zip(product(*names), self.held, train, strict=True)
        poor = [f"{b} x {c} has {n} and needs {m}" for (b, c), n, m in cells if n < m + validation + self.test]
        short = "; ".join(poor) or "those with rows in several cells leave too few"
        return (
            f"the table {table} cannot carry this schedule. Of {unit}s with at least {per_group} rows, {short} for "
            f"training, {validation} for validation and {self.test} for the test. Ask for fewer groups_per_class or "
            "rows_per_group, or for other classes= or levels=."
        )
