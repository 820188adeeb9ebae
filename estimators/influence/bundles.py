"""Bundles of groups: sums of a few hundred bundles stand for any number of independent groups."""

from __future__ import annotations

import numpy as np

PIECE = 2**21  # numbers copied out of a large matrix at once
MOST = 300  # bundles; the Gram matrix and the contributions of all contrasts are held for them
LEAST_PER_CELL = 24  # bundles of a cell, if it holds as many groups


def pieces(rows: np.ndarray, width: int) -> list[np.ndarray]:
    """Divide row positions so that a piece of a matrix of ``width`` columns stays within some 16 MiB."""
    return [part for part in np.array_split(rows, -(-len(rows) * width // PIECE) or 1) if len(part)]


def bundle_groups(cells: np.ndarray, *, most: int = MOST, random_state: int = 0) -> np.ndarray:
    """Deal the groups of each cell to bundles.

    Parameters
    ----------
    cells
        ``(G,)`` code of each group's cell; a bundle holds groups of one cell.
    most
        Bundles wanted; up to this many groups each is a bundle of its own.
    random_state
        Seed of the deal.

    Returns
    -------
    numpy.ndarray
        ``(G,)`` codes from 0 without gaps.

    Notes
    -----
    The covariance of a sum over independent groups is estimated without bias by the products of the sums over any
    partition of them, so that bundles change nothing but the degrees of freedom: hundreds in place of thousands.
    """
    G = len(cells)
    if most >= G:
        return np.arange(G)
    rng = np.random.default_rng(random_state)
    codes, start = np.empty(G, dtype=np.int64), 0
    for cell in np.unique(cells):
        members = rng.permutation(np.flatnonzero(cells == cell))
        n = min(len(members), max(LEAST_PER_CELL, round(most * len(members) / G)))
        codes[members] = start + np.arange(len(members)) % n
        start += n
    return codes
