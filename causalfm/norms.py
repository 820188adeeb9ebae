"""Squared norms of vector effects: signed debiased estimates, intervals by inversion, linear contrasts and ratios.

An effect is a set of linear contrasts ``gamma = A Z`` of patient embeddings ``Z (G, d)``, ``A (J, G)``. Its squared
norm ``Q = |gamma|^2`` overshoots by ``tr(Gamma)``, the trace of the contrasts' covariance, so ``Q - tr(Gamma)`` is
reported with its sign. All second-order quantities are sums over design cells of the cell covariances ``S_c``; they
are needed only through ``tr(S_c)``, ``tr(S_c S_c')`` and ``gamma S_c gamma'``, never as ``d x d`` matrices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

GRAM_BLOCK = 2048
N_NODES = 1000
LARGE_DF = 1e6  # beyond it scipy's F loses accuracy and the limit is reached


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


def cell_covariances(residuals: np.ndarray, codes: np.ndarray, n_cells: int, n_covariates: int = 0) -> CellCovariances:
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

    Returns
    -------
    CellCovariances
        Traces and trace products.

    Notes
    -----
    ``E[tr(S^2)] = tr(Sigma^2) (nu + 1) / nu + tr(Sigma)^2 / nu`` for a Wishart matrix; solving for ``tr(Sigma^2)`` gives the
    diagonal of ``product`` (Srivastava, J. Japan Statist. Soc. 35, 2005), which is kept above its least possible value
    ``tr(S)^2 / min(nu, d)``.
    """
    count = np.bincount(codes, minlength=n_cells).astype(float)
    df = (count - 1.0) * (1.0 - n_covariates / max(1.0, (count - 1.0).sum()))
    trace = np.bincount(codes, (residuals**2).sum(axis=1), n_cells) / df
    onehot = np.eye(n_cells)[codes]
    product = np.zeros((n_cells, n_cells))
    for start in range(0, len(residuals), GRAM_BLOCK):
        rows = slice(start, start + GRAM_BLOCK)
        product += onehot[rows].T @ ((residuals[rows] @ residuals.T) ** 2 @ onehot)
    product /= np.outer(df, df)
    raw = np.diag(product)
    unbiased = df**2 / ((df - 1.0) * (df + 2.0)) * (raw - trace**2 / df)
    floor = trace**2 / residuals.shape[1]
    np.fill_diagonal(product, np.maximum(unbiased, floor))
    return CellCovariances(residuals, codes, df, trace, product)


@dataclass(frozen=True, eq=False)
class SquaredNorm:
    """A squared norm with the moments of its estimate.

    Attributes
    ----------
    value
        Signed debiased estimate of ``scale * |gamma|^2``.
    observed
        Raw ``scale * |gamma_hat|^2``.
    noise, noise_square
        ``tr(Gamma)`` and ``tr(Gamma^2)``, times ``scale`` and its square.
    along, bend
        Plug-in ``gamma' Gamma gamma`` and ``|Gamma gamma|^2`` (debiased): the variance along the effect, and how it
        changes as the effect grows or shrinks.
    df_directional, df_noise
        Satterthwaite degrees of freedom of ``along`` and ``noise``.
    variance
        Variance of ``value``.
    weights
        ``(J, G)`` the contrasts, including the factor ``sqrt(scale)``.
    gamma
        ``(J, d)`` the estimated contrasts, including the factor ``sqrt(scale)``.
    """

    value: float
    observed: float
    noise: float
    noise_square: float
    along: float
    bend: float
    df_directional: float
    df_noise: float
    variance: float
    weights: np.ndarray
    gamma: np.ndarray

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Two-sided interval of the squared norm, found by inverting the quadratic statistic and truncated at 0."""
        tail = (1.0 - level) / 2.0
        return self.bound(1.0 - tail), self.bound(tail)

    def bound(self, probability: float) -> float:
        """Largest-to-smallest truth at which the observed statistic has lower-tail probability ``probability``.

        Parameters
        ----------
        probability
            ``P(Q <= observed)`` under the bound: 0.975 gives the lower end of a 95 % interval, 0.025 the upper.

        Returns
        -------
        float
            The bound, at least 0.
        """
        nodes = stats.t.ppf((np.arange(N_NODES) + 0.5) / N_NODES, self.df_directional)

        def excess(theta: float) -> float:
            return self._cdf(theta, nodes) - probability

        if excess(0.0) <= 0.0:
            return 0.0
        high = max(self.observed, self.noise, np.finfo(float).tiny)
        while excess(high) > 0.0:
            high *= 2.0
        return float(optimize.brentq(excess, 0.0, high, xtol=1e-10 * high))

    def directional(self, theta: float) -> float:
        """Variance of the estimate along the effect, if its squared norm were ``theta``.

        The effect most compatible with the data at squared norm ``theta`` is taken as ``gamma + mu Gamma gamma``: towards a
        larger norm it leans on the noisy directions, so the variance grows with ``theta``. Near zero, where the direction is
        not known, the plug-in tends to the noise-weighted mean eigenvalue; away from zero the larger of the plug-in and the
        debiased ratio is taken, because the plug-in is diluted by noise in other directions.
        """
        slope = self.bend / self.along
        shift = theta + self.noise - self.observed  # wanted change of |gamma|^2
        room = max(self.along**2 + self.bend * shift, 0.0)
        mu = (np.sqrt(room) - self.along) / self.bend if self.bend > 0 else shift / (2.0 * self.along)
        total = self.along * (1.0 + mu * slope) ** 2
        plug_in = total / max(theta + self.noise, np.finfo(float).tiny)
        if theta <= 0.0:
            return float(plug_in)
        debiased = max(total - self.noise_square, 0.0) / theta
        trust = min(theta / (3.0 * np.sqrt(2.0 * self.noise_square)), 1.0)
        return float(plug_in + trust * max(debiased - plug_in, 0.0))

    def _cdf(self, theta: float, nodes: np.ndarray) -> float:
        """``P(Q <= observed; theta)`` for ``Q = (sqrt(theta) + sqrt(u) T)^2 + rest``.

        ``T`` is Student's t along the effect's direction with variance ``u``; ``rest`` carries the remaining moments as
        a scaled F. Exact for one dimension (the t interval) and for isotropic noise (the noncentral F).
        """
        u = min(self.directional(theta), self.noise, np.sqrt(self.noise_square))
        rest, rest_square = self.noise - u, max(self.noise_square - u**2, 0.0)
        if rest <= 1e-9 * self.noise:
            ends = (np.array([-1.0, 1.0]) * np.sqrt(self.observed) - np.sqrt(theta)) / np.sqrt(u)
            return float(np.diff(stats.t.cdf(ends, self.df_directional))[0])
        values = (self.observed - (np.sqrt(theta) + np.sqrt(u) * nodes) ** 2) / rest
        df = np.minimum([rest**2 / max(rest_square, 1e-12 * rest**2), self.df_noise], LARGE_DF)
        return float(np.mean(special.fdtr(df[0], df[1], np.maximum(values, 0.0))))


def squared_norm(Z: np.ndarray, weights: np.ndarray, cells: CellCovariances, *, scale: float = 1.0) -> SquaredNorm:
    """Estimate ``scale * |A Z|^2`` with everything its intervals need.

    Parameters
    ----------
    Z
        ``(G, d)`` patients.
    weights
        ``(J, G)`` contrasts ``A``.
    cells
        Covariances of the patients.
    scale
        Positive factor of the squared norm.

    Returns
    -------
    SquaredNorm
        Signed estimate and moments.

    Notes
    -----
    ``E|Gamma_hat gamma|^2`` exceeds ``|Gamma gamma|^2`` by the sampling error of the cell covariances; its leading term is
    subtracted, and the result kept above the Cauchy-Schwarz bound.
    """
    A = np.sqrt(scale) * np.atleast_2d(weights)
    gamma = A @ Z
    M = _cell_products(A, A, cells)
    traces = np.einsum("cjj->c", M)
    noise = float(traces @ cells.trace)
    noise_square = float(np.einsum("cjk,ekj,ce->", M, M, cells.product))
    along = np.einsum("cjk,cjk->c", M, _projected(gamma, gamma, cells))
    observed = float((gamma**2).sum())
    value = observed - noise
    total = max(float(along.sum()), np.finfo(float).tiny)
    moved = _applied(gamma, M, cells)
    overshoot = float((np.einsum("cjj->c", M) * along * cells.trace / cells.df).sum())
    bend = max(float((moved**2).sum()) - overshoot, total**2 / max(observed, np.finfo(float).tiny))
    noise_error = float((traces**2 * 2.0 * np.diag(cells.product) / cells.df).sum())
    df_directional = total**2 / max(float((along**2 / cells.df).sum()), np.finfo(float).tiny)
    variance = max(4.0 * total - 2.0 * noise_square, 2.0 * noise_square) + noise_error
    return SquaredNorm(
        value, observed, noise, noise_square, total, bend, df_directional,
        2.0 * noise**2 / max(noise_error, np.finfo(float).tiny), variance, A, gamma,
    )  # fmt: skip


def covariance(a: SquaredNorm, b: SquaredNorm, cells: CellCovariances) -> float:
    """Covariance of two squared-norm estimates made from the same patients.

    Parameters
    ----------
    a, b
        The estimates.
    cells
        The covariances both were made with.

    Returns
    -------
    float
        ``4 gamma_a Gamma_ab gamma_b + 2 tr(Gamma_ab Gamma_ba)`` plus the shared error of the two noise traces.
    """
    M = _cell_products(a.weights, b.weights, cells)
    total = float(np.einsum("cjk,cjk->", M, _projected(a.gamma, b.gamma, cells)))
    square = float(np.einsum("cjk,ejk,ce->", M, M, cells.product))
    trace_a = np.einsum("cjj->c", _cell_products(a.weights, a.weights, cells))
    trace_b = np.einsum("cjj->c", _cell_products(b.weights, b.weights, cells))
    shared = float((trace_a * trace_b * 2.0 * np.diag(cells.product) / cells.df).sum())
    return 4.0 * total - 2.0 * square + shared


def linear_bounds(
    a: SquaredNorm, b: SquaredNorm, factor: float, cells: CellCovariances | None, level: float
) -> tuple[float, float, float]:
    """Estimate ``a - factor * b`` with its two one-sided bounds.

    Parameters
    ----------
    a, b
        Squared norms, for instance of the site and of the biology.
    factor
        Squared margin.
    cells
        The covariances both were made with; None if they were made from different means of the same patients, whose
        covariance is not known: the worst correlation is taken.
    level
        Confidence of each bound.

    Returns
    -------
    value, low, high : float
        The contrast and its one-sided bounds.

    Notes
    -----
    The bounds of the two norms, each found by inversion and therefore skewed as it should be, are combined by the method of
    variance estimates recovery with the estimates' correlation. Symmetric bounds failed a true null in 8-10 % instead of 5 %.

    References
    ----------
    G. Y. Zou and A. Donner, Statistics in Medicine 27 (2008) 1693-1702.
    """
    x, y = max(a.value, 0.0), factor * max(b.value, 0.0)
    correlation = -1.0 if cells is None else covariance(a, b, cells) / np.sqrt(a.variance * b.variance)
    x_low, x_high = x - a.bound(level), a.bound(1.0 - level) - x
    y_low, y_high = y - factor * b.bound(level), factor * b.bound(1.0 - level) - y

    def reach(p: float, q: float) -> float:
        p, q = max(p, 0.0), max(q, 0.0)
        return float(np.sqrt(max(p**2 + q**2 - 2.0 * np.clip(correlation, -1.0, 1.0) * p * q, 0.0)))

    return x - y, x - y - reach(x_low, y_high), x - y + reach(x_high, y_low)


def fieller(a: SquaredNorm, b: SquaredNorm, cells: CellCovariances, level: float = 0.95) -> tuple[float, float, float]:
    """Ratio of two squared norms with Fieller's interval, truncated at 0.

    Parameters
    ----------
    a, b
        Numerator and denominator.
    cells
        The covariances both were made with.
    level
        Two-sided confidence.

    Returns
    -------
    ratio, low, high : float
        ``nan`` three times if the denominator is not told from zero (its own interval, or Fieller's criterion).

    References
    ----------
    E. C. Fieller, J. R. Statist. Soc. B 16 (1954) 175-185.
    """
    nothing = (float("nan"),) * 3
    quantile = stats.t.ppf(0.5 + level / 2.0, min(a.df_directional, b.df_directional)) ** 2
    head = b.value**2 - quantile * b.variance
    if b.interval(level)[0] <= 0.0 or head <= 0.0:
        return nothing
    middle = a.value * b.value - quantile * covariance(a, b, cells)
    tail = a.value**2 - quantile * a.variance
    root = np.sqrt(max(middle**2 - head * tail, 0.0))
    return a.value / b.value, max(0.0, (middle - root) / head), max(0.0, (middle + root) / head)


def _cell_products(A: np.ndarray, B: np.ndarray, cells: CellCovariances) -> np.ndarray:
    """``(C, J, K)``: sums over the patients of each cell of ``a_g b_g'``."""
    out = np.zeros((cells.n_cells, len(A), len(B)))
    for c in range(cells.n_cells):
        members = cells.codes == c
        out[c] = A[:, members] @ B[:, members].T
    return out


def _projected(a: np.ndarray, b: np.ndarray, cells: CellCovariances) -> np.ndarray:
    """``(C, J, K)``: ``a_j' S_c b_k`` for every cell."""
    left, right = cells.residuals @ a.T, cells.residuals @ b.T
    out = np.zeros((cells.n_cells, len(a), len(b)))
    for c in range(cells.n_cells):
        members = cells.codes == c
        out[c] = left[members].T @ right[members] / cells.df[c]
    return out


def _applied(gamma: np.ndarray, M: np.ndarray, cells: CellCovariances) -> np.ndarray:
    """``Gamma gamma``: ``(J, d)``, row ``j`` is ``sum_c sum_k M_c[j, k] S_c gamma_k``."""
    projected = cells.residuals @ gamma.T
    out = np.zeros_like(gamma)
    for c in range(cells.n_cells):
        members = cells.codes == c
        out += M[c] @ (projected[members].T @ cells.residuals[members]) / cells.df[c]
    return out
