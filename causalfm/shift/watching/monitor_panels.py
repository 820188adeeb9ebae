"""Tracks that are watched together, because their numbers come with the same patients."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from causalfm.shift.watching.conformal_ranks import LEVELS, grid_levels, sequential_p, uniforms
from causalfm.shift.watching.martingales import Wealth, bet, new_wealth
from causalfm.shift.watching.monitor_memory import Memory
from causalfm.shift.watching.monitor_views import centre_and_scale

SIMULATED = 100
LONGEST = 1024  # patients


@dataclass(frozen=True, eq=False)
class Panel:
    """What is fixed at the fit.

    Attributes
    ----------
    streams, names
        Stream (``"embedding"``, ``"scores"``, ``"errors"``) and name of each of T tracks.
    slopes
        ``(b, T)`` what the shape patients say of each track given the continuous columns of the cells.
    centre, scale
        ``(T,)`` grid of each track.
    counts
        ``(C, T, LEVELS)`` calibration patients.
    threshold
        ``(T,)`` log value at which a martingale raises the alarm.
    """

    streams: tuple[str, ...]
    names: tuple[str, ...]
    slopes: np.ndarray
    centre: np.ndarray
    scale: np.ndarray
    counts: np.ndarray
    threshold: np.ndarray

    def levels(self, values: np.ndarray, basis: np.ndarray) -> np.ndarray:
        """Return scores ``(m, T)`` of patients, less what the continuous columns explain, as levels."""
        return grid_levels(values - basis @ self.slopes, self.centre, self.scale)

    def start(self, memory: Memory) -> Watch:
        """Return a watch that has seen no batch."""
        return Watch(self.counts, new_wealth(np.array([stream == "errors" for stream in self.streams])), memory)


@dataclass(frozen=True, eq=False)
class Watch:
    """What moves with the stream.

    Attributes
    ----------
    counts
        ``(C, T, LEVELS)`` calibration patients and those of the stream.
    wealth
        The martingales.
    memory
        Patients who had their turn: those of the reference, and of the stream.
    compared, outside
        Patients of the stream who were ranked, and who have no like in the reference.
    """

    counts: np.ndarray
    wealth: Wealth
    memory: Memory
    compared: int = 0
    outside: int = 0

    def meet(self, hashes: np.ndarray, outside: int) -> Watch:
        """Remember patients, of whom some could not be ranked."""
        return replace(self, memory=self.memory.add(hashes), outside=self.outside + outside)

    def rank(self, cells: np.ndarray, levels: np.ndarray, rng: np.random.Generator, number: int) -> Watch:
        """Rank new patients ``(m,)`` in an order drawn at random, and bet."""
        order = rng.permutation(len(cells))
        p, counts = sequential_p(self.counts, cells[order], levels[order], uniforms(rng, levels.shape))
        return replace(self, counts=counts, wealth=bet(self.wealth, p, number), compared=self.compared + len(cells))


def fit_panel(
    streams: tuple[str, ...],
    names: tuple[str, ...],
    threshold: np.ndarray,
    values: np.ndarray,
    basis: np.ndarray,
    cells: np.ndarray,
    n_cells: int,
    shape: np.ndarray,
) -> Panel:
    """Fix grid and slopes on the shape patients and count the others.

    Parameters
    ----------
    streams, names, threshold
        See :class:`Panel`.
    values
        ``(n, T)`` scores of reference patients.
    basis
        ``(n, b)`` regressors of the continuous columns, the constant first.
    cells
        ``(n,)`` cell of each, -1 outside.
    n_cells
        Number of cells.
    shape
        ``(n,)`` bool: patients that are not ranked.
    """
    slopes, *_ = np.linalg.lstsq(basis[shape], values[shape], rcond=None)
    centre, scale = centre_and_scale((values - basis @ slopes)[shape])
    panel = Panel(streams, names, slopes, centre, scale, np.zeros((n_cells, len(names), LEVELS), np.int64), threshold)
    ranked = ~shape & (cells >= 0)
    levels = panel.levels(values[ranked], basis[ranked])
    counts = panel.counts.copy()
    np.add.at(counts, (cells[ranked][:, None], np.arange(len(names)), levels), 1)
    return replace(panel, counts=counts)


def patients_until_noticed(panel: Panel, shift: float, *, random_state: int) -> int:
    """Simulate how many patients it takes until a shift that is there from the first batch raises the alarm.

    Parameters
    ----------
    panel
        Its calibration patients per cell and its first threshold are used.
    shift
        In standard deviations of one normal score.
    random_state
        Seed.

    Returns
    -------
    int
        Patients after which four of five simulated monitors have alarmed; -1 if more than 1,024 are needed.
    """
    rng = np.random.default_rng(random_state)
    sizes = panel.counts[:, 0].sum(axis=1)
    drawn = grid_levels(rng.standard_normal((int(sizes.sum()), SIMULATED)), np.zeros(SIMULATED), np.ones(SIMULATED))
    counts = np.zeros((len(sizes), SIMULATED, LEVELS), dtype=np.int64)
    np.add.at(counts, (np.repeat(np.arange(len(sizes)), sizes)[:, None], np.arange(SIMULATED), drawn), 1)
    wealth = new_wealth(np.zeros(SIMULATED, dtype=bool))
    for first in range(0, LONGEST, 64):
        values = shift + rng.standard_normal((64, SIMULATED))
        cells = rng.choice(len(sizes), size=64, p=sizes / sizes.sum())
        levels = grid_levels(values, np.zeros(SIMULATED), np.ones(SIMULATED))
        p, counts = sequential_p(counts, cells, levels, uniforms(rng, levels.shape))
        for k in range(len(p)):
            wealth = bet(wealth, p[k : k + 1], first + k + 1)
            if (wealth.peak >= panel.threshold[0]).mean() >= 0.8:
                return first + k + 1
    return -1
