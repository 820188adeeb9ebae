"""Jackknife over bundles of groups, where a deletion is costly or groups are many."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from causalfm.results import Influence


def cell_bundles(cells: np.ndarray, most: int) -> np.ndarray:
    """Bundle groups of the same design cell, as many to a bundle as it takes for about ``most`` bundles.

    Parameters
    ----------
    cells
        ``(G,)`` design cell of each group; -1: it plays no part.
    most
        Bundles; with no more groups than this every group is one. Every cell of two groups has two bundles at least.

    Returns
    -------
    numpy.ndarray
        ``(G,)`` bundle of each group, from 0, or -1; those of one cell are equal in size, up to one group.
    """
    bundle, used = np.full(len(cells), -1), np.flatnonzero(cells >= 0)
    cell, size = np.unique(cells[used], return_inverse=True, return_counts=True)[1:]
    order = np.argsort(cell, kind="stable")
    rank = np.empty(len(used), dtype=np.int64)
    rank[order] = np.arange(len(used)) - np.repeat(np.cumsum(size) - size, size)
    step = -(-len(used) // most)
    count = np.maximum(-(-size // step), np.minimum(size, 2))
    within = rank * count[cell] // size[cell]
    bundle[used] = np.unique(np.stack([cell, within]), axis=1, return_inverse=True)[1].reshape(-1)
    return bundle


def bundle_influence(
    cells: np.ndarray, bundle: np.ndarray, value: float, without: np.ndarray, pairs: np.ndarray | None = None
) -> Influence:
    """Turn the values without each bundle into an Influence: the first group of a bundle stands for it.

    Parameters
    ----------
    cells, bundle
        As in :func:`cell_bundles`.
    value
        The estimate.
    without
        ``(J,)`` the estimate without each bundle.
    pairs
        ``(J, J)`` part of the effects that belongs to pairs of bundles.

    References
    ----------
    Kott, The delete-a-group jackknife, Journal of Official Statistics 17:521 (2001).
    """
    n_groups = len(bundle)
    codes, first = np.unique(bundle, return_index=True)
    first = first[codes >= 0]
    effects, strata = np.zeros(n_groups), np.full(n_groups, -1)
    effects[first], strata[first] = unit_effects(value, without), cells[first]
    if pairs is None:
        return Influence(effects, strata)
    row, column = np.nonzero(pairs)
    where = first[row], first[column]
    return Influence(effects, strata, sparse.csr_array((pairs[row, column], where), shape=(n_groups, n_groups)))


def unit_effects(value: float, without: np.ndarray) -> np.ndarray:
    """Return what each unit adds: jackknife effects from the values without each unit ``(U,)``."""
    return np.asarray((len(without) - 1) / len(without) * (value - without))


def bundle_note(note: str, unit: str, bundle: np.ndarray) -> str:
    """Say in the note on an interval that bundles were left out, if they were."""
    n_bundles, n_groups = int(bundle.max()) + 1, int((bundle >= 0).sum())
    if n_bundles == n_groups:
        return note
    return note.replace(f"delete-one-{unit} jackknife", f"jackknife over {n_bundles} bundles of {unit}s")
