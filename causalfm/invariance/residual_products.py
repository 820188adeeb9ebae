"""Conditional independence of two columns: products of what the conditions leave of them, patients as units.

Without continuous conditions patients are permuted within strata, which is exact. With them the products of the
residuals are summed by patient and their signs flipped (the generalised covariance measure), which needs no equal
variances.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from causalfm.resampling import permutation_p_value, permutations_within
from causalfm.singular_values import orthonormal

SPLINE_KNOTS = 5
BATCH = 64


def independence_test(
    x: np.ndarray,
    y: np.ndarray,
    strata: np.ndarray,
    covariates: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    n_permutations: int = 999,
    random_state: int = 0,
) -> tuple[float, float]:
    """Test that two columns are independent given strata and covariates.

    Parameters
    ----------
    x, y
        ``(n, p)`` and ``(n, q)``: one or more numbers per column, see :func:`encode`.
    strata
        ``(n,)`` codes of the categorical conditions.
    covariates
        ``(n, r)`` basis of the continuous conditions, see :func:`spline_basis`; ``r = 0`` if there are none.
    groups
        ``(n,)`` codes of the patient of each row, who weigh equally; None: every row is a patient.
    n_permutations, random_state
        Permutations within strata, or sign flips if there are covariates or several rows a patient; and their seed.

    Returns
    -------
    association, p_value : float
        Share of variance in common, 0 to 1: the square of Cramer's V for two categorical columns without conditions,
        the squared (partial) correlation of two numbers. ``nan`` twice if a column does not vary within strata, or has
        as many values as there are patients: the statistic is then the same for every permutation.

    Notes
    -----
    ``x`` and ``y`` lose their means within strata and their regression on the covariates, and are made orthonormal,
    ``U (n, p)`` and ``V (n, q)``. The statistic is Pillai's trace ``|U'V|^2``. With covariates it is set against
    ``|sum_g e_g N_g|^2`` for random signs ``e``; ``N_g`` is the sum of ``U_i V_i' / sqrt(1 - h_i)`` over the rows of
    patient ``g``, ``h`` the leverage of the regression.

    Assumptions: patients are independent; the effects of covariates on ``x`` and ``y`` are smooth and additive.

    References
    ----------
    Shah and Peters, Ann. Statist. 48 (2020) 1514-1538; Pillai, Ann. Math. Statist. 26 (1955) 117-121;
    MacKinnon and White, J. Econometrics 29 (1985) 305-325 (the leverages).
    """
    root = np.ones(len(x)) if groups is None else 1.0 / np.sqrt(np.bincount(groups)[groups])
    onehot = np.eye(int(strata.max()) + 1)[strata]
    conditions = orthonormal(root[:, None] * np.hstack([onehot, covariates]))
    parts = []
    for values in (root[:, None] * x, root[:, None] * y):
        parts.append(orthonormal(values - conditions @ (conditions.T @ values), float(np.linalg.norm(values))))
    U, V = parts
    free = len(x) - conditions.shape[1]
    if not U.shape[1] or not V.shape[1] or (groups is None and max(U.shape[1], V.shape[1]) >= free):
        return float("nan"), float("nan")
    observed = float(((U.T @ V) ** 2).sum())
    if groups is None and not covariates.shape[1]:
        null = _permuted(U, V, strata, n_permutations, random_state)
    else:
        V = V / np.sqrt(np.maximum(1.0 - (conditions**2).sum(axis=1), 1e-9))[:, None]
        null = _flipped(U, V, np.arange(len(U)) if groups is None else groups, n_permutations, random_state)
    return observed / min(U.shape[1], V.shape[1]), permutation_p_value(observed, null)


def _permuted(U: np.ndarray, V: np.ndarray, strata: np.ndarray, n_permutations: int, random_state: int) -> np.ndarray:
    batches = permutations_within(strata, n_permutations, random_state, batch=BATCH)
    return np.concatenate([(np.tensordot(U, V[moved], axes=(0, 1)) ** 2).sum(axis=(0, 2)) for moved in batches])


def _flipped(U: np.ndarray, V: np.ndarray, groups: np.ndarray, n_flips: int, random_state: int) -> np.ndarray:
    products = np.zeros((int(groups.max()) + 1, U.shape[1] * V.shape[1]))
    np.add.at(products, groups, (U[:, :, None] * V[:, None, :]).reshape(len(U), -1))
    rng, total = np.random.default_rng(random_state), []
    for start in range(0, n_flips, BATCH):  # all signs at once would not fit where every row is a patient
        signs = rng.choice([-1.0, 1.0], (min(BATCH, n_flips - start), len(products)))
        total.append(((signs @ products) ** 2).sum(axis=1))
    return np.concatenate(total)


def encode(values: np.ndarray, *, categorical: bool) -> np.ndarray:
    """Turn a column into numbers to correlate.

    Parameters
    ----------
    values
        ``(n,)`` codes or numbers.
    categorical
        Whether they are codes.

    Returns
    -------
    numpy.ndarray
        Indicators of all levels, or normal scores of the ranks and their squares, which see a dependence that is not
        monotone, or of the spread.
    """
    if categorical:
        return np.asarray(np.eye(int(values.max()) + 1)[values])
    scores = normal_scores(values)
    return np.stack([scores, scores**2], axis=1)


def normal_scores(values: np.ndarray) -> np.ndarray:
    """Return the normal scores of the ranks ``(n,)``: the scale of the values is gone, equal ones stay equal."""
    return np.asarray(stats.norm.ppf((stats.rankdata(values) - 0.5) / len(values)))


def spline_basis(columns: np.ndarray, n_units: int | None = None) -> np.ndarray:
    """Make cubic splines of the normal scores of columns.

    Parameters
    ----------
    columns
        ``(n, q)``. Columns of up to five values get an indicator of each instead, constant ones nothing.
    n_units
        Patients; None: as many as rows.

    Returns
    -------
    numpy.ndarray
        ``(n, r)``; knots at 5 quantiles of each column, or at the cube root of the patients: more of them see smaller
        errors. With 5 knots, 2,000 patients and steep curves 9 % of true nulls were rejected.
    """
    from sklearn.preprocessing import SplineTransformer

    n_knots = max(SPLINE_KNOTS, round((n_units or len(columns)) ** (1.0 / 3.0)))
    parts = [np.zeros((len(columns), 0))]
    for values in columns.T:
        found, codes = np.unique(values, return_inverse=True)
        if len(found) <= SPLINE_KNOTS:
            parts.append(np.eye(len(found))[codes][:, 1:])
            continue
        scores = normal_scores(values)[:, None]
        knots = np.unique(np.quantile(scores, np.linspace(0.0, 1.0, n_knots)))[:, None]
        parts.append(SplineTransformer(degree=3, knots=knots, include_bias=False).fit_transform(scores))
    return np.asarray(np.hstack(parts))
