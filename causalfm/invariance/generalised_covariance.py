"""The ``gcm`` statistic: the largest generalised covariance between a factor and any dimension of the embedding.

Factor and embedding lose what the conditioning columns predict of them; what is left is multiplied, patient by patient,
for every level and every dimension. A shift in a single direction shows in one of these products, wherever it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from causalfm.errors import DataError
from causalfm.invariance.mean import informative
from causalfm.resampling import Multiplier, multiplier_maxima, multipliers, permutation_p_value
from causalfm.singular_values import thin_svd
from causalfm.units import Units

BLOCK_BYTES = 2**22  # of residuals handled at once: fits a cache
PENALTIES = np.append(0.0, np.logspace(-6, 1, 8))  # tried, as shares of the largest squared singular value
ROUNDING = 1e-10  # share of a column below which what is left of it is rounding

Nuisance = Callable[[np.ndarray], np.ndarray]
"""Takes values ``(n, m)`` to their residuals given the conditioning columns. It is linear, acts on each column alone,
and no row's own value enters its prediction."""


@dataclass(frozen=True, eq=False)
class MaxGCM:
    """Outcome of the test.

    Attributes
    ----------
    statistic, p_value
        Largest ``|T_jk|`` and its p-value.
    column, dimension
        Where it is: ``j`` of the factor's columns, ``k`` of the embedding's.
    value
        ``T_jk`` there, with its sign.
    null
        ``(B,)`` draws of the statistic.
    """

    statistic: float
    p_value: float
    column: int
    dimension: int
    value: float
    null: np.ndarray


def max_gcm(
    x: np.ndarray,
    z: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    refit: Nuisance | None = None,
    n_draws: int = 999,
    kind: Multiplier = "rademacher",
    random_state: int = 0,
) -> MaxGCM:
    """Test that residuals of a factor and of an embedding are uncorrelated, in all pairs of columns at once.

    Parameters
    ----------
    x, z
        ``(n, J)`` and ``(n, d)`` residuals given the conditioning columns, from predictions that leave out the row, or
        better its whole patient.
    groups
        ``(n,)`` codes of the independent unit of each row, from 0 without gaps; None: every row is a unit.
    refit
        The nuisance that gave ``z``: every draw then loses what the conditioning columns predict of it, as the data
        did. Rows are units.
    n_draws, kind, random_state
        Draws of the multipliers, which, and their seed.

    Returns
    -------
    MaxGCM
        The largest coefficient, with its p-value.

    Raises
    ------
    DataError
        Nothing varies in ``x`` or in ``z``; shapes that do not fit; ``refit`` with groups.

    Notes
    -----
    ``R_gjk = sum_{i in g} x_ij z_ik`` are the products of a unit, ``T_jk = sqrt(G) mean_g(R_gjk) / sd_g(R_gjk)``, and
    the statistic is ``max_jk |T_jk|``. For one column each and rows as units this is the generalised covariance measure
    of Shah and Peters. The null distribution multiplies each unit's residuals by a random sign.

    Without ``refit`` the products themselves are multiplied, which forgets that residuals of few units are tied by the
    regression: at 20 to 64 patients and 32 to 1,024 dimensions true nulls were rejected in 0.5 to 11 % by signs, 0 to
    6.5 % by Webb's weights, 0 to 2.5 % by normal ones. With ``refit`` it was 2.7 to 7.7 % by signs and 4 to 9 % by
    Webb's (18 designs, 200 to 400 cohorts each). The published normal multipliers of standardised products rejected
    20 % at 24 patients, permuted labels 10 % with a covariate (docs/adr/0010-sign-flips.md).

    Assumptions: units are independent; residuals are about symmetric (exact for signs) or units are many.

    References
    ----------
    Shah and Peters, Ann. Statist. 48 (2020) 1514-1538, sections 3.1 and 3.2; Chernozhukov, Chetverikov and Kato,
    Ann. Statist. 41 (2013) 2786-2819.
    """
    x, z = np.asarray(x, dtype=np.float64), np.asarray(z, dtype=np.float64)
    _check(x, z, groups, refit)
    units = len(x) if groups is None else int(groups.max()) + 1
    T = np.concatenate([_studentised(x, z[:, block], groups) for block in _blocks(z)], axis=1)
    j, k = np.unravel_index(int(np.abs(T).argmax()), T.shape)
    if refit is not None:
        null = _refitted_null(x, z, refit, n_draws, kind, random_state)
    else:
        null = np.zeros(n_draws)
        for block in _blocks(z):
            sums = _unit_sums(x, z[:, block], groups)
            null = np.maximum(null, multiplier_maxima(sums, n_draws, random_state, kind=kind))
    observed = float(abs(T[j, k]))
    return MaxGCM(
        statistic=float(_published(np.array(observed), units)),
        p_value=permutation_p_value(observed, null),
        column=int(j),
        dimension=int(k),
        value=float(_published(T[j, k], units)),
        null=_published(null, units),
    )


def gcm_test(units: Units, *, n_draws: int = 999, random_state: int = 0) -> MaxGCM:
    """Max-GCM of the levels of a factor and all dimensions of the patients' mean embeddings, given the strata.

    Parameters
    ----------
    units
        Patients ``(G, d)`` with level, stratum and covariates; strata with a single level carry no information.
    n_draws, random_state
        Draws of the signs, and their seed.

    Returns
    -------
    MaxGCM
        ``column`` is the code of the level.

    Raises
    ------
    DataError
        No patient varies within its stratum.

    Notes
    -----
    Patients weigh equally. Level indicators and embeddings are predicted by :func:`stratum_ridge`, for each patient
    from all others.
    """
    kept = informative(units)
    return gcm_columns(np.eye(units.level.n_levels)[units.level.codes], units, kept, n_draws, random_state)


def gcm_columns(columns: np.ndarray, units: Units, kept: np.ndarray, n_draws: int, random_state: int) -> MaxGCM:
    """Max-GCM of any columns ``(G, J)`` of the patients in the mask ``kept (G,)``: see :func:`gcm_test`."""
    x, z, stratum, covariates = columns[kept], units.Z[kept], units.stratum[kept], units.covariates[kept]
    nuisance = stratum_ridge(z, stratum, covariates)
    left = without_rounding(nuisance(z), z)
    if not left.any():
        raise DataError(f"the embeddings of all {units.unit}s of a stratum are the same: there is nothing to test.")
    x = without_rounding(stratum_ridge(x, stratum, covariates)(x), x)
    return max_gcm(x, left, refit=nuisance, n_draws=n_draws, random_state=random_state)


@dataclass(frozen=True, eq=False)
class StratumRidge:
    """Leave-one-out residuals from stratum means and a ridge regression on covariates, in closed form.

    Attributes
    ----------
    onehot
        ``(n, W)`` strata.
    basis
        ``(n, q)`` covariates within strata, orthonormal.
    shrinkage
        ``(q,)`` share of each coefficient that the penalty leaves.
    own
        ``(n, 1)`` what is left of a row's own value if it enters its fit: one minus its leverage.
    """

    onehot: np.ndarray
    basis: np.ndarray
    shrinkage: np.ndarray
    own: np.ndarray

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Return what the other rows do not predict of each: its residual over what is left of its own value."""
        rest = values - self.onehot @ ((self.onehot.T @ values) / self.onehot.sum(axis=0)[:, None])
        if self.basis.shape[1]:
            rest -= self.basis @ (self.shrinkage[:, None] * (self.basis.T @ rest))
        rest /= self.own
        return np.asarray(rest)


def stratum_ridge(values: np.ndarray, stratum: np.ndarray, covariates: np.ndarray) -> StratumRidge:
    """Fit the nuisance of categorical and continuous conditioning columns.

    Parameters
    ----------
    values
        ``(n, m)`` what is to be predicted; it chooses the penalty, the same for all columns.
    stratum
        ``(n,)`` codes; strata are saturated.
    covariates
        ``(n, q)`` spline basis of the continuous conditioning columns.

    Returns
    -------
    StratumRidge
        With the penalty whose leave-one-out error is least.

    References
    ----------
    Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, 2nd ed. (2009), section 7.10.
    """
    onehot = np.eye(int(stratum.max()) + 1)[stratum]
    onehot = onehot[:, onehot.any(axis=0)]
    count = onehot.sum(axis=0)[:, None]
    columns = covariates - onehot @ ((onehot.T @ covariates) / count)
    left = 1.0 - onehot @ (1.0 / count)
    if not columns.any():
        return StratumRidge(onehot, np.zeros((len(values), 0)), np.zeros(0), np.maximum(left, ROUNDING))
    basis, s, _ = thin_svd(columns)
    basis, s = basis[:, s > ROUNDING * s[0]], s[s > ROUNDING * s[0]]
    candidates = []
    for penalty in PENALTIES:
        shrinkage = s**2 / (s**2 + penalty * s[0] ** 2)
        own = np.maximum(left - basis**2 @ shrinkage[:, None], ROUNDING)
        candidates.append(StratumRidge(onehot, basis, shrinkage, own))
    return min(candidates, key=lambda candidate: float((candidate(values) ** 2).sum()))


def without_rounding(residuals: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Set columns of residuals to zero that are only rounding beside the values they are left of."""
    left, whole = np.abs(residuals).max(axis=0), np.abs(values).max(axis=0)
    return np.asarray(np.where(left > ROUNDING * whole, residuals, 0.0))


def _refitted_null(
    x: np.ndarray, z: np.ndarray, refit: Nuisance, n_draws: int, kind: Multiplier, random_state: int
) -> np.ndarray:
    """Draws of ``max |T|`` whose residuals are multiplied and then regressed on the conditioning columns once more."""
    null = np.zeros(n_draws)
    weights = np.concatenate(list(multipliers(len(x), n_draws, random_state, kind=kind)))
    for block in _blocks(z):
        for b, drawn in enumerate(weights):
            null[b] = max(null[b], float(np.abs(_studentised(x, refit(drawn[:, None] * z[:, block]), None)).max()))
    return null


def _studentised(x: np.ndarray, z: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """``U_jk = sum_g R_gjk / sqrt(sum_g R_gjk^2)``, ``(J, d)``; ``T = U / sqrt(1 - U^2 / G)`` grows with it."""
    if groups is None:
        total, square = x.T @ z, (x**2).T @ z**2
    else:
        sums = _unit_sums(x, z, groups).reshape(-1, x.shape[1], z.shape[1])
        total, square = sums.sum(axis=0), (sums**2).sum(axis=0)
    return np.asarray(total / np.sqrt(np.maximum(square, np.finfo(float).tiny)))


def _published(u: np.ndarray, units: int) -> np.ndarray:
    """Return ``sqrt(G) mean / sd`` of the products, the standard deviation about their mean."""
    return np.asarray(u / np.sqrt(np.maximum(1.0 - u**2 / units, np.finfo(float).tiny)))


def _unit_sums(x: np.ndarray, z: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """``(G, J d)`` products summed within units."""
    products: np.ndarray = (x[:, :, None] * z[:, None, :]).reshape(len(x), -1)
    if groups is None:
        return products
    out = np.zeros((int(groups.max()) + 1, products.shape[1]))
    np.add.at(out, groups, products)
    return out


def _blocks(z: np.ndarray) -> list[slice]:
    step = max(1, BLOCK_BYTES // (8 * len(z)))
    return [slice(start, start + step) for start in range(0, z.shape[1], step)]


def _check(x: np.ndarray, z: np.ndarray, groups: np.ndarray | None, refit: Nuisance | None) -> None:
    if x.ndim != 2 or z.ndim != 2 or len(x) != len(z) or (groups is not None and len(groups) != len(x)):
        raise DataError(f"residuals of shapes {x.shape} and {z.shape} do not fit: pass (n, J), (n, d) and n groups.")
    if groups is not None and refit is not None:
        raise DataError("refit with groups is not answered: average the rows of each group first, or leave refit out.")
    for values, name in ((x, "the factor"), (z, "the embedding")):
        if not np.isfinite(values).all():
            raise DataError(f"residuals of {name} are not all finite numbers.")
        if not values.any():
            raise DataError(f"nothing is left of {name} given the conditioning columns: there is nothing to test.")
