"""Covariances of patients within design cells, kept as traces and products and never as ``d x d`` matrices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

GRAM_BLOCK = 2048  # patients per block of the Gram matrix
SQUARE_BYTES = 64 * 2**20  # of the cells' d x d matrices held at once


@dataclass(frozen=True, eq=False)
class CellCovariances:
    """What is needed of the covariances of patients within design cells.

    Attributes
    ----------
    residuals
        ``(G, d)`` patients minus their cell mean (and covariate term).
    codes
        ``(G,)`` cell of each patient.
    df
        ``(C,)`` degrees of freedom of each cell.
    trace
        ``(C,)`` unbiased ``tr(S_c)``.
    product
        ``(C, C)`` ``tr(S_c S_c')``, unbiased under normality also on the diagonal.
    """

    residuals: np.ndarray
    codes: np.ndarray
    df: np.ndarray
    trace: np.ndarray
    product: np.ndarray

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.df)

    def weight_products(self, A: np.ndarray, B: np.ndarray) -> np.ndarray:
        """``(C, J, K)``: sum over the patients of each cell of ``a_g b_g'``, for weights ``A (J, G)``, ``B (K, G)``."""
        if len(A) == len(B) == 1:  # one pair of many levels: no loop over their many cells
            return np.asarray(np.bincount(self.codes, A[0] * B[0], self.n_cells)[:, None, None])
        out = np.zeros((self.n_cells, len(A), len(B)))
        for c in range(self.n_cells):
            members = self.codes == c
            out[c] = A[:, members] @ B[:, members].T
        return out

    def along(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """``(C, J, K)``: ``a_j' S_c b_k`` for every cell, for vectors ``a (J, d)``, ``b (K, d)``."""
        left, right = self.residuals @ a.T, self.residuals @ b.T
        return np.asarray(self.weight_products(left.T, right.T) / self.df[:, None, None])

    def apply(self, gamma: np.ndarray, products: np.ndarray) -> np.ndarray:
        """``Gamma gamma (J, d)``: row ``j`` is ``sum_c sum_k M_c[j, k] S_c gamma_k``, ``M`` the weight products."""
        projected = self.residuals @ gamma.T
        if len(gamma) == 1:
            weights = projected[:, 0] * (products[:, 0, 0] / self.df)[self.codes]
            return np.asarray(weights[None] @ self.residuals)
        out = np.zeros_like(gamma)
        for c in range(self.n_cells):
            members = self.codes == c
            out += products[c] @ (projected[members].T @ self.residuals[members]) / self.df[c]
        return out


def cell_covariances(
    residuals: np.ndarray, codes: np.ndarray, n_cells: int, n_covariates: int = 0, *, df: np.ndarray | None = None
) -> CellCovariances:
    """Summarise the within-cell covariances.

    Parameters
    ----------
    residuals
        ``(G, d)`` cell residuals.
    codes
        ``(G,)`` cell of each patient; every cell needs at least three patients.
    n_cells
        Number of cells.
    n_covariates
        Regression terms fitted beside the cell means; their degrees of freedom are taken from all cells in proportion.
    df
        ``(C,)`` degrees of freedom where they are known better than by counting patients less one.

    Returns
    -------
    CellCovariances
        Traces and trace products.

    Notes
    -----
    The diagonal of ``product`` is that of :func:`unbiased_squares`.
    """
    count = np.bincount(codes, minlength=n_cells).astype(float)
    if df is None:
        df = (count - 1.0) * (1.0 - n_covariates / max(1.0, (count - 1.0).sum()))
    trace = np.bincount(codes, (residuals**2).sum(axis=1), n_cells) / df
    onehot = np.eye(n_cells)[codes]
    product = squared_products(residuals, onehot) / np.outer(df, df)
    np.fill_diagonal(product, unbiased_squares(np.diag(product), trace, df, residuals.shape[1]))
    return CellCovariances(residuals, codes, df, trace, product)


def unbiased_squares(raw: np.ndarray, trace: np.ndarray, df: np.ndarray, rank: int) -> np.ndarray:
    """Estimate ``tr(Sigma^2)`` of each cell without bias under normality, from ``tr(S^2)`` and ``tr(S)``.

    Parameters
    ----------
    raw, trace, df
        ``(C,)`` ``tr(S_c^2)``, ``tr(S_c)`` and degrees of freedom, more than one.
    rank
        The most that ``Sigma`` can have.

    Returns
    -------
    numpy.ndarray
        ``(C,)``, kept above the least possible value ``tr(S)^2 / rank``.

    Notes
    -----
    ``E[tr(S^2)] = tr(Sigma^2) (nu + 1) / nu + tr(Sigma)^2 / nu`` for a Wishart matrix, solved for ``tr(Sigma^2)``
    (Srivastava, J. Japan Statist. Soc. 35, 2005).
    """
    unbiased = df**2 / ((df - 1.0) * (df + 2.0)) * (raw - trace**2 / df)
    return np.asarray(np.maximum(unbiased, trace**2 / rank))


def squared_products(residuals: np.ndarray, onehot: np.ndarray) -> np.ndarray:
    """Sum ``(r_g' r_h)^2`` over the patients g and h of two cells, ``(C, C)``: the cells' ``tr(T_a T_b)``.

    Parameters
    ----------
    residuals
        ``(G, d)``.
    onehot
        ``(G, C)`` indicators of cells.

    Notes
    -----
    Through the inner products of patients, ``G^2 d`` operations, or through ``T_a = sum_g r_g r_g'`` some columns at a
    time, ``(G + C^2) d^2``: whichever is less, so that time does not grow with the square of the patients.
    """
    (G, d), C = residuals.shape, onehot.shape[1]
    out = np.zeros((C, C))
    if (G + C**2) * d < G**2:
        cells = [residuals[member] for member in onehot.T.astype(bool)]
        step = max(1, SQUARE_BYTES // (8 * C * d))
        for start in range(0, d, step):
            squares = np.stack([(rows[:, start : start + step].T @ rows).reshape(-1) for rows in cells])
            out += squares @ squares.T
        return out
    for start in range(0, G, GRAM_BLOCK):
        block = slice(start, start + GRAM_BLOCK)
        out += onehot[block].T @ ((residuals[block] @ residuals.T) ** 2 @ onehot)
    return out
