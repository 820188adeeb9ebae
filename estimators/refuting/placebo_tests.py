"""One test of no effect for many made-up designs at once: cell sums of all draws are one sparse product."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse, stats

DRAWS = 64  # per block of the product


@dataclass(frozen=True, eq=False)
class CellTest:
    """What stays the same over the draws: the contrasts and the moments of their noise.

    Attributes
    ----------
    weights
        ``(J, C)`` weight of each patient of a cell in each contrast, the factor ``sqrt(scale)`` included.
    count
        ``(C,)`` patients per cell: made-up designs keep them.
    variance_cell
        ``(C,)`` cell within which the variance of a cell's patients is taken.
    noise_square
        ``tr(Gamma^2)`` of the contrasts.
    spread
        ``(V,)`` variance of each variance cell's trace.
    """

    weights: np.ndarray
    count: np.ndarray
    variance_cell: np.ndarray
    noise_square: float
    spread: np.ndarray

    def values(self, Z: np.ndarray, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Estimate every draw.

        Parameters
        ----------
        Z
            ``(G, d)`` patients.
        cells
            ``(B, G)`` cell of each patient in each draw.

        Returns
        -------
        gamma : numpy.ndarray
            ``(B, J, d)`` contrasts.
        noise : numpy.ndarray
            ``(B,)`` unbiased ``tr(Gamma)`` from the patients of the draw's own cells.
        p_value : numpy.ndarray
            ``(B,)`` of no effect.

        Notes
        -----
        ``|gamma|^2 / noise`` is set against F with Box's degrees of freedom, exact for one outcome and for isotropic
        noise.
        """
        B, (J, C) = len(cells), self.weights.shape
        gamma, noise = np.empty((B, J, Z.shape[1])), np.empty(B)
        square = (Z**2).sum(axis=1)
        V = int(self.variance_cell.max()) + 1
        pool = np.eye(V)[self.variance_cell].T
        held = np.bincount(self.variance_cell, self.count, V)
        trace_weight = (self.weights**2).sum(axis=0) * self.count
        for start in range(0, B, DRAWS):
            part = cells[start : start + DRAWS]
            n = len(part)
            flat = (part + C * np.arange(n)[:, None]).ravel()
            onehot = sparse.csr_array(
                (np.ones(flat.size), (flat, np.tile(np.arange(len(Z)), n))), shape=(n * C, len(Z))
            )
            sums = np.asarray(onehot @ Z).reshape(n, C, -1)
            gamma[start : start + n] = np.einsum("jc,ncd->njd", self.weights, sums, optimize=True)
            total = pool @ sums
            squares = np.asarray(onehot @ square).reshape(n, C) @ pool.T
            trace = (squares - (total**2).sum(axis=2) / held) / (held - 1.0)
            noise[start : start + n] = trace[:, self.variance_cell] @ trace_weight
        return gamma, noise, self.p_values((gamma**2).sum(axis=(1, 2)), noise)

    def p_values(self, observed: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Upper tail of ``observed / noise`` (both ``(B,)``) without an effect."""
        V = len(self.spread)
        trace_weight = np.bincount(self.variance_cell, (self.weights**2).sum(axis=0) * self.count, V)
        error = max(float((trace_weight**2 * self.spread).sum()), np.finfo(float).tiny)
        noise = np.maximum(noise, np.finfo(float).tiny)
        df = np.maximum(noise**2 / max(self.noise_square, np.finfo(float).tiny), 1.0)
        return np.asarray(stats.f.sf(observed / noise, df, np.minimum(2.0 * noise**2 / error, 1e6)))


def cell_test(
    weights: np.ndarray, count: np.ndarray, variance_cell: np.ndarray, product: np.ndarray, df: np.ndarray
) -> CellTest:
    """Prepare the test.

    Parameters
    ----------
    weights
        ``(J, C)`` weight of each patient of a cell.
    count, variance_cell
        ``(C,)`` patients per cell, and the cell of their variance.
    product
        ``(V, V)`` traces ``tr(S_v S_v')`` of the covariances expected in the draws.
    df
        ``(V,)`` degrees of freedom with which a draw estimates its traces.

    Returns
    -------
    CellTest
        For any number of draws.
    """
    outer = np.einsum("jc,kc,c->cjk", weights, weights, count)
    between = np.einsum("cjk,ekj->ce", outer, outer)
    noise_square = float((between * product[np.ix_(variance_cell, variance_cell)]).sum())
    return CellTest(weights, count, variance_cell, noise_square, 2.0 * np.diag(product) / df)
