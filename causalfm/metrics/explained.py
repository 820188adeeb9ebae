"""Share of variance between the levels of a factor, also without each bundle of groups. Arrays in, arrays out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from causalfm.metrics.distances import safe_scale, scaled_blocks


def explained_share(X: np.ndarray, codes: np.ndarray, within: np.ndarray | None = None) -> float:
    """Share of variance between the levels of a factor: principal component regression on all components.

    ``sum_j R_j^2 var_j / sum_j var_j`` over all principal components j is the sum of squares between levels over the
    total. This is the same in any coordinates, so that no component has to be computed.

    Parameters
    ----------
    X
        ``(n, d)``.
    codes
        ``(n,)`` integer levels from 0.
    within
        ``(n,)`` integer strata from 0: then the share of the variance within strata, of those with several levels.

    Returns
    -------
    float
        Between 0 and 1; ``nan`` if there is no variance, or one level only (within each stratum).

    References
    ----------
    Büttner et al., A test metric for assessing single-cell RNA-seq batch correction, Nature Methods 16:43 (2019).
    """
    strata = np.zeros(len(codes), dtype=np.int64) if within is None else within
    return Shares.of(X, codes, strata, np.zeros(len(codes), dtype=np.int64)).value


@dataclass(frozen=True, eq=False)
class Shares:
    """Share between levels, the share without each bundle of groups ``(J,)``, and its part from pairs ``(J, J)``."""

    value: float
    without: np.ndarray
    pairs: np.ndarray

    @classmethod
    def of(cls, X: np.ndarray, codes: np.ndarray, strata: np.ndarray, bundle: np.ndarray) -> Shares:
        """Return the shares of rows ``X (n, d)`` by the codes ``(n,)`` of level, stratum and bundle."""
        level = strata * (int(codes.max()) + 1) + codes
        units, unit = np.unique(np.stack([level, strata, bundle]), axis=1, return_inverse=True)
        unit = unit.reshape(-1)
        n_bundles, size = int(bundle.max()) + 1, np.bincount(unit).astype(np.float64)
        total, squares = unit_sums(X, unit[None], len(size))
        kept = varying(codes, strata)[units[1]]
        if not kept.any():
            return cls(float("nan"), np.full(n_bundles, np.nan), np.zeros((n_bundles, n_bundles)))
        units, size, total, squares = units[:, kept], size[kept], total[kept], squares[kept]
        levels, whole = (_Between.of(total, size, of, units[2], n_bundles) for of in units[:2])
        rounding = 1e-12 * squares.sum()
        value = _ratio(levels.value - whole.value, squares.sum() - whole.value, rounding)
        left = squares.sum() - np.bincount(units[2], squares, n_bundles) - whole.without
        without = _ratio(levels.without - whole.without, left, rounding)
        to_bundle = sparse.csr_array(
            (np.ones(len(size)), (units[2], np.arange(len(size)))), shape=(n_bundles, len(size))
        )
        inner = (total @ total.T) * (levels.together - whole.together)
        pairs = np.asarray(to_bundle @ (to_bundle @ inner).T) / max(squares.sum() - whole.value, rounding, 1e-300)
        np.fill_diagonal(pairs, 0.0)
        one_level = levels.left == whole.left
        return cls(float(value), np.where(one_level, np.nan, without), pairs)


@dataclass(frozen=True, eq=False)
class _Between:
    """Sum over levels of the squared sum of rows over their number: in all, and without each bundle."""

    value: float
    without: np.ndarray  # (J,)
    left: np.ndarray  # (J,) levels left
    together: np.ndarray  # (U, U) 1 / rows of the level for units of one level, else 0

    @classmethod
    def of(cls, total: np.ndarray, size: np.ndarray, level: np.ndarray, bundle: np.ndarray, n_bundles: int) -> _Between:
        level = np.unique(level, return_inverse=True)[1]
        n_levels = int(level.max()) + 1
        # units of one bundle in one level go together
        part, of_unit = np.unique(level * n_bundles + bundle, return_inverse=True)
        gather = sparse.csr_array((np.ones(len(level)), (of_unit, np.arange(len(level)))))
        gone, rows, at = gather @ total, gather @ size, part // n_bundles
        sums = np.zeros((n_levels, total.shape[1]))
        np.add.at(sums, at, gone)
        count = np.bincount(at, rows)
        squares = (sums**2).sum(axis=1)
        after = squares[at] - 2.0 * np.einsum("ij,ij->i", sums[at], gone) + (gone**2).sum(axis=1)
        kept = count[at] - rows
        change = np.divide(after, kept, out=np.zeros_like(after), where=kept > 0) - (squares / count)[at]
        value = float((squares / count).sum())
        left = n_levels - np.bincount(part % n_bundles, kept == 0, n_bundles)
        together = (level[:, None] == level) / count[level]
        return cls(value, value + np.bincount(part % n_bundles, change, n_bundles), left, together)


def varying(codes: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Say which strata hold several levels, ``(W,)``: in the others no variance can lie between levels."""
    held = np.unique(np.stack([strata, codes]), axis=1)[0]
    return np.asarray(np.bincount(held) > 1)


def unit_sums(X: np.ndarray, unit: np.ndarray, n_units: int) -> tuple[np.ndarray, np.ndarray]:
    """Return sums ``(U, d)`` and sums of squares ``(U,)`` of the units' rows about the mean of all rows, scaled.

    ``unit (r, n)`` may place every row in several units.
    """
    scale = safe_scale(X)
    mean = sum((block.sum(axis=0) for _, block in scaled_blocks(X, scale)), np.zeros(X.shape[1])) / len(X)
    total, squares = np.zeros((n_units, X.shape[1])), np.zeros(n_units)
    for rows, block in scaled_blocks(X, scale):
        centred = block - mean
        centred[np.abs(centred) <= 1e-13 * np.abs(mean)] = 0.0  # rounding of the mean is no variance
        where = unit[:, rows].ravel(), np.tile(np.arange(len(block)), len(unit))
        gather = sparse.csr_array((np.ones(len(where[0])), where), shape=(n_units, len(block)))
        total += gather @ centred
        squares += gather @ np.einsum("ij,ij->i", centred, centred)
    return total, squares


def _ratio(between: np.ndarray | float, total: np.ndarray | float, rounding: float) -> np.ndarray:
    between, total = np.broadcast_arrays(between, total)
    empty = np.full(total.shape, np.nan)
    return np.asarray(np.divide(np.maximum(between, 0.0), total, out=empty, where=total > rounding))
