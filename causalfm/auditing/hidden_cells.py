"""Which cells of a table of counts must be hidden so that no small one can be computed from what is shown."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

MARGIN_COST = 1e9  # totals are hidden last: the report shows them in many places


@dataclass
class TableCells:
    """A table of counts with its totals, as an attacker sees it.

    The totals are the last column and the last row, and the sum of everything is the corner: with a minus sign on the
    totals, the entries of every row and of every column add up to something known. What an attacker does not know is
    then a flow: an entry may change if a cycle through it passes hidden entries only, and each may move that way.

    Attributes
    ----------
    counts
        ``(B + 1, L + 1)`` counts and totals.
    small
        Entries that must not be seen: more than 0, fewer than ``below``.
    hidden
        Entries that are hidden: the small ones and those that protect them.
    below
        The threshold.
    """

    counts: np.ndarray
    small: np.ndarray
    hidden: np.ndarray
    below: int

    @classmethod
    def of(cls, cells: np.ndarray, rows: np.ndarray, columns: np.ndarray, total: int, below: int) -> TableCells:
        """Make a table from ``(B, L)`` cells and the totals that are shown beside them."""
        counts = np.zeros((cells.shape[0] + 1, cells.shape[1] + 1), dtype=int)
        counts[:-1, :-1], counts[:-1, -1], counts[-1, :-1], counts[-1, -1] = cells, rows, columns, total
        small = (counts > 0) & (counts < below)
        small[-1, -1] = False
        return cls(counts, small, small.copy(), below)

    def arcs(self, of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tell which of some entries may rise and which may fall, knowing only what their marks say."""
        low = np.where(self.small, 1, self.below)
        high = np.where(self.small, self.below - 1, np.iinfo(int).max)
        rise, fall = of & (self.counts < high), of & (self.counts > low)
        margin = np.zeros_like(of)
        margin[-1, :], margin[:, -1] = True, True
        return np.where(margin, fall, rise), np.where(margin, rise, fall)


def protect(table: TableCells) -> None:
    """Hide more entries until every hidden one could have another value, at least one more or one less.

    Parameters
    ----------
    table
        The table; its ``hidden`` entries grow.

    Notes
    -----
    In a two-way table an entry is told by the totals exactly if no such cycle passes it (Gusfield, SIAM J. Comput. 17,
    1988, for entries of any size). Where one is missing, the cheapest path that closes it is hidden: the one with
    the fewest units, totals last, empty cells never.
    """
    for r, c in np.argwhere(table.small):
        rise, fall = table.arcs(table.hidden)
        if _reached(rise, fall, r, c) or _reached(fall, rise, r, c):
            continue
        paths = [_cheapest(table, r, c, up=up) for up in (True, False)]
        found = min((path for path in paths if path), default=None)
        if found is None:  # nothing in this table can hide it: then nothing is shown
            table.hidden[:] = table.counts > 0
            table.hidden[-1, -1] = False
            return
        for entry in found[1]:
            table.hidden[entry] = True


def _reached(rise: np.ndarray, fall: np.ndarray, r: int, c: int) -> bool:
    """Tell whether entry (r, c) may rise: back from its column to its row, over falling and rising entries in turn."""
    if not rise[r, c]:
        return False
    rows = fall[:, c].copy()
    rows[r] = False  # not the way it came
    seen = rows.copy()
    while rows.any():
        columns = rise[rows].any(axis=0)
        columns[c] = False
        rows = fall[:, columns].any(axis=1) & ~seen
        if rows[r]:
            return True
        seen |= rows
    return False


def _cheapest(table: TableCells, r: int, c: int, *, up: bool) -> tuple[float, list[tuple[int, int]]] | None:
    """Find the path back from an entry's column to its row, or the reverse, that hides the fewest units."""
    open_to_hide = (table.counts >= table.below) | table.hidden
    open_to_hide[-1, -1] = False
    rise, fall = table.arcs(open_to_hide)
    if not (rise if up else fall)[r, c]:
        return None
    if not up:
        rise, fall = fall, rise
    cost = np.where(table.hidden, 0.0, table.counts.astype(float))
    cost[-1, :] += MARGIN_COST * ~table.hidden[-1, :]
    cost[:, -1] += MARGIN_COST * ~table.hidden[:, -1]
    start, goal = ("column", int(c)), ("row", int(r))
    best: dict[tuple[str, int], float] = {start: 0.0}
    came: dict[tuple[str, int], tuple[tuple[str, int], tuple[int, int]]] = {}
    queue: list[tuple[float, tuple[str, int]]] = [(0.0, start)]
    while queue:
        so_far, node = heapq.heappop(queue)
        if node == goal:
            return so_far, _entries(came, start, goal)
        if so_far > best[node]:
            continue
        kind, at = node
        ways = np.flatnonzero(fall[:, at]) if kind == "column" else np.flatnonzero(rise[at])
        for to in ways.tolist():
            entry = (to, at) if kind == "column" else (at, to)
            other = ("row" if kind == "column" else "column", to)
            price = so_far + float(cost[entry])
            if entry != (r, c) and price < best.get(other, np.inf):
                best[other], came[other] = price, (node, entry)
                heapq.heappush(queue, (price, other))
    return None


def _entries(
    came: dict[tuple[str, int], tuple[tuple[str, int], tuple[int, int]]], start: tuple[str, int], goal: tuple[str, int]
) -> list[tuple[int, int]]:
    out, node = [], goal
    while node != start:
        node, entry = came[node]
        out.append(entry)
    return out


def told(tables: list[TableCells]) -> bool:
    """Tell whether linear algebra on everything that is shown gives any hidden entry of any table.

    Parameters
    ----------
    tables
        Tables of the same classes (rows) in the same order: totals of classes are the same unknowns in all of them.

    Returns
    -------
    bool
        True if some hidden entry is the same in all solutions.
    """
    unknown: dict[tuple[int, int, int], int] = {}

    def column(t: int, r: int, c: int) -> int:
        shared = c == tables[t].counts.shape[1] - 1  # the total of a class belongs to no table
        return unknown.setdefault((-1, r, 0) if shared else (t, r, c), len(unknown))

    equations = []
    for t, table in enumerate(tables):
        entries = [(r, c, column(t, r, c)) for r, c in np.argwhere(table.hidden).tolist()]
        last = (table.counts.shape[0] - 1, table.counts.shape[1] - 1)
        for axis in (0, 1):
            for line in range(last[axis] + 1):
                found = {i: -1.0 if last[1 - axis] == (r, c)[1 - axis] else 1.0 for r, c, i in entries
                         if (r, c)[axis] == line}  # fmt: skip
                if found:
                    equations.append(found)
    if not unknown:
        return False
    matrix = np.zeros((len(equations), len(unknown)))
    for row, found in enumerate(equations):
        matrix[row, list(found)] = list(found.values())
    values, vectors = np.linalg.svd(matrix, full_matrices=False)[1:]
    kept = vectors[values > 1e-9 * values.max()]
    return bool(((kept**2).sum(axis=0) > 1.0 - 1e-9).any())
