"""Nested variance components by sums of squares: how much of the spread within cells belongs to patients and slides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from causalfm.moments import cell_sums
from causalfm.validation import row_blocks

NO_FREEDOM = 1e-9  # of the rows


def nested_shares(X: np.ndarray, cells: np.ndarray, units: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Share of the variance within cells that belongs to each nested unit: analysis of variance for unequal sizes.

    Parameters
    ----------
    X
        ``(n, d)`` rows; components are summed over dimensions.
    cells
        ``(n,)`` codes of fixed cells, such as class x hospital, whose means are taken off.
    units
        ``(n,)`` codes of each unit, the coarsest (independent) one first. One with rows in several cells counts as a
        unit in each of them.

    Returns
    -------
    shares : numpy.ndarray
        ``(len(units) + 1,)`` from the coarsest unit to the rows. They add up to one; being unbiased, a share can be
        negative. ``nan`` where a unit cannot be told from the next finer one.
    without : numpy.ndarray
        ``(G, len(units) + 1)`` the same without each of the coarsest units.

    Notes
    -----
    T_j is the sum over units of depth j (cells at 0, rows last) of the square of their sum of rows over the number of
    these, m. In its expectation the component of depth i has the factor K_ji: the number of rows if i <= j, else the
    sum over units u of depth i of ``m_u^2 / m_w``, where w is the unit of depth j that holds u. Differences of
    neighbouring T give a triangular system. All but T_0 are sums over the coarsest units: leaving one out is exact.

    References
    ----------
    Searle, Casella, McCulloch, Variance Components, Wiley (1992), chapter 5.
    """
    levels = [np.unique(cells, return_inverse=True)[1].reshape(-1)]
    for unit in (*units, np.arange(len(X))):
        levels.append(np.unique(levels[-1] * (int(unit.max()) + 1) + unit, return_inverse=True)[1].reshape(-1))
    top, first = levels[1], [np.unique(codes, return_index=True)[1] for codes in levels]
    rows = [np.bincount(codes).astype(float) for codes in levels]
    sums, T = _sums_of_squares(X, levels, first, rows)
    depth, n_top = len(levels), len(rows[1])
    K = np.zeros((n_top, depth, depth))
    for i in range(1, depth):
        K[:, i, 1 : i + 1] = rows[1][:, None]
        K[:, 0, i] = np.bincount(top[first[i]], rows[i] ** 2, n_top)  # of depth 0: still to be divided by the cell
        for j in range(1, i):
            K[:, j, i] = np.bincount(top[first[i]], rows[i] ** 2 / rows[j][levels[j][first[i]]], n_top)
    cell = levels[0][first[1]]
    whole, squares = np.zeros((len(rows[0]), sums.shape[1])), np.zeros((len(rows[0]), depth))
    np.add.at(whole, cell, sums)
    np.add.at(squares, cell, K[:, 0])
    T_cell, K_cell = (whole**2).sum(axis=1) / rows[0], squares / rows[0][:, None]
    left = rows[0][cell] - rows[1]
    share = np.divide(1.0, left, out=np.zeros_like(left), where=left > 0.0)  # a cell without rows adds nothing
    T[:, 0] = T_cell[cell] - ((whole[cell] - sums) ** 2).sum(axis=1) * share
    K[:, 0] = K_cell[cell] - (squares[cell] - K[:, 0]) * share[:, None]
    every = np.append(T_cell.sum(), T[:, 1:].sum(axis=0)), np.vstack([K_cell.sum(axis=0), K[:, 1:].sum(axis=0)])
    owner, n_owner = units[0][first[1]], int(units[0].max()) + 1
    lost = np.zeros((n_owner, depth)), np.zeros((n_owner, depth, depth))
    for total, part in zip(lost, (T, K), strict=True):
        np.add.at(total, owner, part)
    return _solve(*(whole[None] for whole in every))[0], _solve(every[0] - lost[0], every[1] - lost[1])


def _sums_of_squares(
    X: np.ndarray, levels: Sequence[np.ndarray], first: Sequence[np.ndarray], rows: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return sums of the top units ``(U, d)`` and T of all depths, by these, ``(U, depths)``; depth 0 is empty."""
    blocks = (X[at] for at in row_blocks(X))
    peak = max(max(abs(float(b.max())), abs(float(b.min()))) for b in blocks) or 1.0  # squares of 1e200 would overflow

    def scaled(block: np.ndarray, _: slice) -> np.ndarray:
        return block.astype(np.float64) / peak

    centre = cell_sums(X, np.zeros(len(X), dtype=np.int64), 1, features=scaled).means()[0]

    def centred(block: np.ndarray, _: slice) -> np.ndarray:
        return np.asarray(scaled(block, _) - centre)

    def squared(block: np.ndarray, _: slice) -> np.ndarray:
        return np.asarray((centred(block, _) ** 2).sum(axis=1, keepdims=True))

    top, n_top = levels[1], len(rows[1])
    T = np.zeros((n_top, len(levels)))
    T[:, -1] = cell_sums(X, top, n_top, features=squared).total[:, 0]
    for j in range(len(levels) - 2, 0, -1):
        sums = cell_sums(X, levels[j], len(rows[j]), features=centred).total
        T[:, j] = np.bincount(top[first[j]], (sums**2).sum(axis=1) / rows[j], n_top)
    return sums, T


def _solve(T: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Solve for the components and return their shares, ``(m, depths - 1)``."""
    system = np.diff(K, axis=1)[:, :, 1:]
    n = K[:, -1, -1]
    told = (np.diagonal(system, axis1=1, axis2=2) > NO_FREEDOM * n[:, None]).all(axis=1)
    shares = np.full((len(T), T.shape[1] - 1), np.nan)
    parts = np.linalg.solve(system[told], np.diff(T, axis=1)[told][:, :, None])[:, :, 0]
    total = parts.sum(axis=1, keepdims=True)
    shares[told] = np.divide(parts, total, out=np.full_like(parts, np.nan), where=total > 0.0)
    return shares
