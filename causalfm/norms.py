"""Squared norms of vector effects: signed debiased estimates and intervals by inversion.

An effect is a set of linear contrasts ``gamma = A Z`` of patient embeddings ``Z (G, d)``, ``A (J, G)``. Its squared
norm ``Q = |gamma|^2`` overshoots by ``tr(Gamma)``, the trace of the contrasts' covariance, so ``Q - tr(Gamma)`` is
reported with its sign. All second-order quantities are sums over design cells of the cell covariances ``S_c``; they
are needed only through ``tr(S_c)``, ``tr(S_c S_c')`` and ``gamma S_c gamma'``, never as ``d x d`` matrices.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import optimize, special, stats

from causalfm.confidence import level_in_force
from causalfm.covariances import CellCovariances

N_NODES = 1000
LARGE_DF = 1e6  # beyond it scipy's F loses accuracy and the limit is reached


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
    bounds
        Bounds found so far, by probability: the distance between classes is set against every pair of levels.
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
    bounds: dict[float, float] = field(default_factory=dict, repr=False)

    def interval(self, level: float | None = None) -> tuple[float, float]:
        """Two-sided interval of the squared norm, found by inverting the quadratic statistic and truncated at 0."""
        tail = (1.0 - level_in_force(level)) / 2.0
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
        if probability not in self.bounds:
            self.bounds[probability] = self._invert(probability)
        return self.bounds[probability]

    def p_value(self) -> float:
        """Probability of a squared norm as large as the one observed, if there were no effect."""
        if self.noise <= 0.0:
            return 1.0 if self.value <= 0.0 else 0.0
        nodes = stats.t.ppf((np.arange(N_NODES) + 0.5) / N_NODES, self.df_directional)
        return float(np.clip(1.0 - self._cdf(0.0, nodes), 0.0, 1.0))

    def _invert(self, probability: float) -> float:
        if self.noise <= 0.0:
            return max(self.value, 0.0)  # patients of a cell do not differ: nothing to be uncertain about
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

        The effect most compatible with the data at squared norm ``theta`` is taken as ``gamma + mu Gamma gamma``:
        towards a larger norm it leans on the noisy directions, so the variance grows with ``theta``. Near zero, where
        the direction is not known, the plug-in tends to the noise-weighted mean eigenvalue; away from zero the larger
        of the plug-in and the debiased ratio is taken, because the plug-in is diluted by noise in other directions.
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
    ``E|Gamma_hat gamma|^2`` exceeds ``|Gamma gamma|^2`` by the sampling error of the cell covariances; its leading term
    is subtracted, and the result kept above the Cauchy-Schwarz bound.
    """
    A = np.sqrt(scale) * np.atleast_2d(weights)
    gamma = A @ Z
    M = cells.weight_products(A, A)
    traces = np.einsum("cjj->c", M)
    noise = float(traces @ cells.trace)
    noise_square = float(np.einsum("cjk,ekj,ce->", M, M, cells.product))
    along = np.einsum("cjk,cjk->c", M, cells.along(gamma, gamma))
    observed = float((gamma**2).sum())
    moved = cells.apply(gamma, M)
    overshoot = float((traces * along * cells.trace / cells.df).sum())
    bend = float((moved**2).sum()) - overshoot
    noise_error = float((traces**2 * 2.0 * np.diag(cells.product) / cells.df).sum())
    found = norm_moments(observed, noise, noise_square, along, cells.df, bend=bend, noise_error=noise_error)
    return SquaredNorm(**found, weights=A, gamma=gamma)


def norm_moments(
    observed: float,
    noise: float,
    noise_square: float,
    along: np.ndarray,
    df: np.ndarray,
    *,
    bend: float,
    noise_error: float,
) -> dict[str, Any]:
    """Return the numbers of a :class:`SquaredNorm`, by attribute.

    Parameters
    ----------
    observed, noise, noise_square, bend
        As there; ``bend`` as estimated.
    along, df
        ``(C,)`` parts of ``gamma' Gamma gamma`` by cell, and the cells' degrees of freedom.
    noise_error
        Variance of ``noise``.

    Returns
    -------
    dict
        Without ``weights`` and ``gamma``.
    """
    tiny = float(np.finfo(float).tiny)
    total = max(float(along.sum()), tiny)
    return {
        "value": observed - noise,
        "observed": observed,
        "noise": noise,
        "noise_square": noise_square,
        "along": total,
        "bend": max(bend, total**2 / max(observed, tiny)),
        "df_directional": total**2 / max(float((along**2 / df).sum()), tiny),
        "df_noise": 2.0 * noise**2 / max(noise_error, tiny),
        "variance": max(4.0 * total - 2.0 * noise_square, 2.0 * noise_square) + noise_error,
    }


def signed_root(square: float) -> float:
    """Root of a debiased square, with its sign: the distance that is shown for a squared norm."""
    return float(np.sign(square) * np.sqrt(abs(square)))
