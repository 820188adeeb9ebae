"""Conformal p-values in their sequential form, with the memory of one histogram per cell."""

from __future__ import annotations

import numpy as np

LEVELS = 1024
REACH = float(np.arcsinh(1000.0))  # the grid ends a thousand scales from the centre
CHUNK = 256  # units compared pair by pair at once


def grid_levels(values: np.ndarray, centre: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return values as levels of a fixed grid: fine at the centre, wider and wider outwards.

    Parameters
    ----------
    values
        ``(m, T)`` scores of units; infinite ones are the end levels, and so is what lies beyond the grid.
    centre, scale
        ``(T,)`` centre and positive scale of each score.

    Returns
    -------
    numpy.ndarray
        ``(m, T)`` int64 from 0 to ``LEVELS - 1``. Neighbouring levels are .015 scales apart at the centre.
    """
    place = (np.arcsinh((values - centre) / scale) / REACH + 1.0) * (LEVELS / 2)
    return np.asarray(np.clip(np.floor(place), 0, LEVELS - 1).astype(np.int64))


def uniforms(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw uniform numbers that are never 0 or 1, however they are rounded."""
    return np.asarray((rng.integers(0, 2**32, size=shape) + 0.5) / 2**32)


def sequential_p(
    counts: np.ndarray, cells: np.ndarray, levels: np.ndarray, u: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rank each unit among all units before it in its cell, and itself.

    Parameters
    ----------
    counts
        ``(C, T, LEVELS)`` int64: units seen so far, the calibration units first. Not modified.
    cells
        ``(m,)`` cell of each new unit.
    levels
        ``(m, T)`` its scores as levels.
    u
        ``(m, T)`` uniform numbers for ties.

    Returns
    -------
    p : numpy.ndarray
        ``(m, T)`` in (0, 1); small where the score is larger than those before.
    counts : numpy.ndarray
        With the new units.

    Notes
    -----
    ``p_t = (#{i <= t: a_i > a_t} + U_t #{i <= t: a_i = a_t}) / t``, ``i`` running over the calibration units *and* the
    units of the stream up to ``t``.

    **Why not against the calibration units alone.** Such p-values are uniform one by one but share the calibration
    sample: given it their law is not uniform, a martingale learns by how much it is not, and with time it passes any
    threshold (``docs/monitoring.md`` has the counts).

    **Why this form is exact.** Let the units of a cell be exchangeable, calibration units included. Given the bag (the
    set without its order) of the first ``t`` scores, each of them is the last one with the same probability, so that
    the smoothed rank ``p_t`` of the last one is uniform whatever the bag is. ``p_1 .. p_{t-1}`` depend on the order
    within the bag of the first ``t - 1`` only; given the bag of ``t`` and which score is last, that bag is known, and
    by the same argument ``p_{t-1}`` is uniform given it, and so on downwards. Hence p-values are independent and
    uniform (Vovk, Gammerman and Shafer 2005, theorem 8.2), any product of bets on them is a martingale, and Ville's
    inequality holds with the calibration sample drawn, not given.

    **Cells.** Given the sequence of cells the argument holds within each, so p-values are independent and uniform over
    cells too (Mondrian conformal), however the shares of cells move. This is weighted conformal prediction (WATCH,
    arXiv 2505.04608) with weights that are constant in a cell: the rank is taken given the cell, and the weights cancel
    in ``sum w_i 1{a_i > a_t} / sum w_i``. The density ratio therefore need not be estimated or constant over time.

    **Levels.** A level is a function of the score that was fixed on other units, and ties are broken at random: counts
    per level are all that the ranks need, and memory does not grow.

    References
    ----------
    Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005. Prinster et al., arXiv 2505.04608.
    """
    counts = counts.copy()
    out = np.empty(levels.shape)
    for start in range(0, len(levels), CHUNK):
        rows = slice(start, start + CHUNK)
        out[rows] = _chunk(counts, cells[rows], levels[rows], u[rows])
    return out, counts


def _chunk(counts: np.ndarray, cells: np.ndarray, levels: np.ndarray, u: np.ndarray) -> np.ndarray:
    """P-values of a few units; adds them to the counts."""
    tracks = np.arange(levels.shape[1])
    used, code = np.unique(cells, return_inverse=True)
    upwards = np.cumsum(counts[used][:, :, ::-1], axis=2)[:, :, ::-1]  # units at this level or above
    at_least = upwards[code[:, None], tracks, levels]
    ties = counts[cells[:, None], tracks, levels]
    before = np.tril(cells[:, None] == cells[None, :], -1)
    above = at_least - ties + (before[:, :, None] & (levels[None] > levels[:, None])).sum(axis=1)
    ties = ties + (before[:, :, None] & (levels[None] == levels[:, None])).sum(axis=1) + 1
    total = upwards[code, :, 0] + before.sum(axis=1)[:, None] + 1
    np.add.at(counts, (cells[:, None], tracks, levels), 1)
    return np.asarray((above + u * ties) / total)
