"""Residuals of whole clusters with their signs flipped, and shifts of levels: what null cohorts are made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from causalfm.covariances import cell_covariances

DIRECTIONS = ("random", "loud", "quiet")


@dataclass(frozen=True, eq=False)
class NullRows:
    """Residuals from which null cohorts are drawn.

    Attributes
    ----------
    residuals
        ``(K, d)`` rows less the means of their cells (and covariates).
    cells, clusters
        ``(K,)`` codes.
    sums, of_cell
        ``(M, d)`` what each cluster adds to the error of a cell's mean, scaled alike in all cells, and which cell.
    error
        ``(C,)`` trace of the covariance of each cell's mean.
    filled
        Number of dimensions that the error fills, ``tr(S)^2 / tr(S^2)``.
    """

    residuals: np.ndarray
    cells: np.ndarray
    clusters: np.ndarray
    sums: np.ndarray
    of_cell: np.ndarray
    error: np.ndarray
    filled: float

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Draw one null cohort ``(K, d)``: each cluster's residuals, plus an error of the cell's mean, times a sign.

        Residuals of a cell add up to zero, so that any two of ``n`` clusters are correlated by ``-1 / (n - 1)``. With a
        new error of the mean they are independent again. Its direction is drawn from all other cells (made of its own
        cell's residuals it would point along them), its length from the chi-squared distribution of the error.
        """
        others = np.arange(len(self.error))[:, None] != self.of_cell
        draws = (rng.standard_normal(others.shape) * others) @ self.sums
        length = self.error * rng.chisquare(self.filled, len(self.error)) / self.filled
        draws *= np.sqrt(length / np.maximum((draws**2).sum(axis=1), 1e-300))[:, None]
        return np.asarray((self.residuals + draws[self.cells]) * random_signs(rng, self.clusters)[:, None])


def null_rows(
    Z: np.ndarray, cells: np.ndarray, clusters: np.ndarray, covariates: np.ndarray, units: np.ndarray | None = None
) -> NullRows:
    """Take cell means and covariates off the rows.

    Parameters
    ----------
    Z
        ``(K, d)``.
    cells, clusters
        ``(K,)`` codes from 0 without gaps.
    covariates
        ``(K, q)``.
    units
        ``(K,)`` codes; rows count equally within a unit and cell, units equally in the cell. None: every row is one.

    Returns
    -------
    NullRows
        Residuals are grown by ``sqrt(f / (f - q))`` for the ``f`` degrees of freedom that the cells leave.
    """
    n_cells = int(cells.max()) + 1
    weight = np.ones(len(Z))
    if units is not None:
        _, cell_of_unit, size = np.unique(units * n_cells + cells, return_inverse=True, return_counts=True)
        weight = 1.0 / size[cell_of_unit]
    weight = weight / np.bincount(cells, weight)[cells]

    def centre(values: np.ndarray) -> np.ndarray:
        return np.asarray(values - (_onehot(cells, n_cells, weight) @ values)[cells])

    R, columns = centre(Z), centre(covariates)
    if columns.shape[1]:
        slopes, _, rank, _ = np.linalg.lstsq(columns, R, rcond=None)
        R, free = R - columns @ slopes, len(Z) - n_cells
        R = R * np.sqrt(free / max(free - rank, 1))
    (cell, _), part = np.unique(np.stack([cells, clusters]), axis=1, return_inverse=True)
    sums, n = _onehot(part.reshape(-1), len(cell), weight) @ R, np.bincount(cell).astype(float)
    error = np.bincount(cell, (sums**2).sum(axis=1)) * n / np.maximum(n - 1.0, 1.0)
    sums = np.asarray(sums) * np.sqrt(n / np.maximum(error, 1e-300))[cell][:, None]
    df = np.array([max(len(cell) - n_cells, 2.0)])
    pooled = cell_covariances(sums, np.zeros(len(cell), dtype=np.int64), 1, df=df)
    filled = float(pooled.trace[0] ** 2 / max(pooled.product[0, 0], 1e-300)) or 1.0
    return NullRows(R, cells, clusters, sums, cell, np.asarray(error), filled)


def _onehot(codes: np.ndarray, n: int, weight: np.ndarray) -> sparse.csr_array:
    return sparse.csr_array((weight, (codes, np.arange(len(codes)))), shape=(n, len(codes)))


def draw_shifts(residuals: np.ndarray, n: int, n_levels: int, random_state: int) -> dict[str, np.ndarray]:
    """Draw effects of the levels at a root mean square distance of 1 between them.

    Parameters
    ----------
    residuals
        ``(K, d)``.
    n, n_levels
        Sets of effects, one per null cohort, and levels.
    random_state
        Seed.

    Returns
    -------
    dict
        ``(n, L, d)`` by direction. ``"random"``: every level moves along a random direction of the residuals'
        covariance. ``"loud"``, ``"quiet"``: levels move by random amounts along the one direction in which residuals
        vary most, or least.
    """
    rng = np.random.default_rng([random_state, 2])
    values, vectors = np.linalg.eigh(residuals.T @ residuals)
    ends = {"loud": vectors[:, -1], "quiet": vectors[:, np.flatnonzero(values > 1e-12 * values[-1])[0]]}
    random = (rng.standard_normal((n * n_levels, len(values))) * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    out = {"random": random.reshape(n, n_levels, -1)}
    out |= {name: rng.standard_normal((n, n_levels, 1)) * direction for name, direction in ends.items()}
    for name, effects in out.items():
        effects = effects - effects.mean(axis=1, keepdims=True)
        out[name] = effects / np.sqrt(2.0 * (effects**2).sum(axis=(1, 2), keepdims=True) / (n_levels - 1))
    return out


def random_signs(rng: np.random.Generator, clusters: np.ndarray) -> np.ndarray:
    """Return one random sign per cluster, for each of its members.

    Parameters
    ----------
    rng
        Generator.
    clusters
        ``(K,)`` codes from 0.

    Returns
    -------
    numpy.ndarray
        ``(K,)`` of -1 and 1.
    """
    return np.asarray((2.0 * rng.integers(0, 2, int(clusters.max()) + 1) - 1.0)[clusters])
