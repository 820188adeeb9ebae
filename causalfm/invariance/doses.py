"""Tests of a continuous factor: whether the embedding moves with its values, patients permuted within strata.

Every test here is a sum over pairs of patients, similarity of their values times similarity of their embeddings. The
product of the two values gives the squared slope, a kernel of them gives HSIC or the distance covariance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalfm.dose_units import DoseUnits, residual_dose
from causalfm.errors import DataError
from causalfm.invariance.generalised_covariance import MaxGCM, gcm_columns
from causalfm.invariance.kernels import KERNELS
from causalfm.resampling import permutation_p_value, permutations_within
from causalfm.singular_values import orthonormal

BATCH_BYTES = 2**27
RANK = 100  # leading components of a kernel between values: all of it up to so many patients
ROUNDING = 1e-10


@dataclass(frozen=True, eq=False)
class Permuted:
    """Outcome of a permutation test.

    Attributes
    ----------
    statistic, p_value
        Observed statistic and its p-value.
    null
        ``(B,)`` statistics under permutation.
    """

    statistic: float
    p_value: float
    null: np.ndarray


@dataclass(frozen=True, eq=False)
class Pairs:
    """Design of a test that adds up, over pairs of patients, similarity of values times similarity of embeddings.

    Attributes
    ----------
    stratum
        ``(K,)`` strata of the patients compared.
    root
        ``(K, r)``: ``root root'`` is the similarity of their values.
    columns
        ``(K, p)`` orthonormal basis of strata and covariates, which embeddings lose.
    basis
        ``(K, q)`` those of the covariates: strata commute with the permutation.
    """

    stratum: np.ndarray
    root: np.ndarray
    columns: np.ndarray
    basis: np.ndarray

    def batch(self) -> int:
        """Permutations that fit into memory at once."""
        columns = self.root.shape[1] + 2 * self.basis.shape[1] + 2
        return max(1, int(BATCH_BYTES / (8 * len(self.root) * columns)))

    def squares(self, K: np.ndarray, moved: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the sum over pairs and what is expected of it, ``(B,)`` each; both are linear in ``K``.

        Parameters
        ----------
        K
            ``(K, K)`` inner products of the patients, strata and covariates taken off.
        moved
            ``(B, K)`` permutations: patient ``g`` takes the place of patient ``moved[b, g]``.

        Notes
        -----
        Permuting places makes a batch a product with the patients' similarities ``K``. With covariates the squared
        length of a permuted patient that lost them once more is ``K_gg - 2 q_g a_g + q_g S q_g'`` for its place's row
        ``q_g`` of the basis, ``a = q K`` and ``S = q K q'``.
        """
        places = self.root[moved].transpose(0, 2, 1)  # (B, r, K)
        total = np.einsum("brg,brg->b", (places.reshape(-1, len(K)) @ K).reshape(places.shape), places)
        square = np.broadcast_to(np.diag(K), moved.shape)
        if self.basis.shape[1]:
            q = self.basis[moved].transpose(0, 2, 1)
            a = (q.reshape(-1, len(K)) @ K).reshape(q.shape)
            square = square - 2.0 * (q * a).sum(axis=1) + (((a @ q.transpose(0, 2, 1)) @ q) * q).sum(axis=1)
        weight = (self.root**2).sum(axis=1)[moved]
        return np.asarray(total), np.asarray((weight * square).sum(axis=1))


def slope_pairs(units: DoseUnits) -> Pairs:
    """Lay out a test of a linear effect of a continuous factor on the mean embedding.

    Parameters
    ----------
    units
        Patients ``(G, d)`` with a value each.

    Returns
    -------
    Pairs
        For :func:`pair_test`.

    Raises
    ------
    DataError
        Nothing is left of the factor.

    Notes
    -----
    ``F = |sum_g x_g y_g|^2 / sum_g x_g^2 |y_g|^2`` with ``x`` and ``y`` what strata and covariates leave of factor and
    embedding. The denominator is the expectation of the numerator if patients are independent, however much each varies
    (as in White's variance), so that values at which patients vary more, or bring fewer tiles, do not by themselves
    make F large. Covariates are regressed out before the permutation and once more after it (Freedman and Lane).

    Assumptions: patients are independent; covariates act additively and smoothly.

    References
    ----------
    Freedman and Lane, J. Bus. Econ. Statist. 1 (1983) 292-298; DiCiccio and Romano, J. Am. Statist. Assoc. 112 (2017)
    1211-1220 (studentised permutation of a regression); White, Econometrica 48 (1980) 817-838.
    """
    left = residual_dose(units)
    return _pairs(units, left[:, None], _nuisance_basis(units))


def kernel_pairs(units: DoseUnits, kernel: str) -> Pairs:
    """Lay out a test of any dependence of the patients' features on a continuous factor.

    Parameters
    ----------
    units
        Patients in the space of kernel features, with a value each.
    kernel
        Between values: ``"gaussian"`` (bandwidth: root of the median squared difference within strata) makes the
        sum over pairs HSIC, ``"distance"`` the squared distance covariance.

    Returns
    -------
    Pairs
        For :func:`pair_test`.

    Raises
    ------
    DataError
        Nothing is left of the factor.

    Notes
    -----
    As :func:`slope_pairs`, with ``sum_gh L_gh <y_g, y_h> / sum_g L_gg |y_g|^2``; ``L`` is the kernel between the values
    after strata and covariates, of which the 100 leading components are used.

    References
    ----------
    Gretton et al., NIPS 20 (2007) 585-592 (HSIC); Székely, Rizzo and Bakirov, Ann. Statist. 35 (2007) 2769-2794.
    """
    residual_dose(units)
    rows, columns = units.inside, _nuisance_basis(units)
    dose = units.dose[rows] - units.dose[rows].mean()
    stratum = units.stratum[rows]
    squares = (dose[:, None] - dose) ** 2
    apart = squares[(stratum[:, None] == stratum) & ~np.eye(len(dose), dtype=bool)]
    scaled = (dose / np.sqrt(np.median(apart) or apart.mean()))[:, None]
    L = KERNELS[kernel](scaled, scaled)
    L -= columns @ (columns.T @ L)
    L -= (L @ columns) @ columns.T
    values, vectors = np.linalg.eigh((L + L.T) / 2.0)
    leading = values[-RANK:] > ROUNDING * values[-1]
    root = (vectors[:, -RANK:] * np.sqrt(np.maximum(values[-RANK:], 0.0)))[:, leading]
    return _pairs(units, root, columns)


def dose_gcm_test(units: DoseUnits, *, n_draws: int = 999, random_state: int = 0) -> MaxGCM:
    """Max-GCM of a continuous factor and all dimensions of the patients' mean embeddings, given strata and covariates.

    Parameters
    ----------
    units
        Patients ``(G, d)`` with a value each.
    n_draws, random_state
        See :func:`causalfm.invariance.generalised_covariance.gcm_test`.

    Returns
    -------
    MaxGCM
        The largest coefficient.

    Raises
    ------
    DataError
        Nothing is left of the factor, or of the embeddings.
    """
    residual_dose(units)
    dose = (units.dose - units.dose[units.inside].mean())[:, None] / units.spread
    return gcm_columns(dose, units, units.inside, n_draws, random_state)


def pair_test(pairs: Pairs, units: DoseUnits, *, n_permutations: int = 999, random_state: int = 0) -> Permuted:
    """Test whether similar values go with similar embeddings, by permutation within strata.

    Parameters
    ----------
    pairs
        Design of the test.
    units
        Its patients.
    n_permutations, random_state
        Permutations and their seed.

    Returns
    -------
    Permuted
        The ratio of :meth:`Pairs.squares`.

    Raises
    ------
    DataError
        Nothing is left of the embeddings.
    """
    Z = units.Z[units.inside]
    Y = Z - pairs.columns @ (pairs.columns.T @ Z)
    if np.abs(Y).max() <= ROUNDING * np.abs(Z).max():
        raise DataError(f"the embeddings of all {units.unit}s of a stratum are the same: there is nothing to test.")
    K = Y @ Y.T
    observed = float(_ratio(*pairs.squares(K, np.arange(len(Y))[None]))[0])
    draws = permutations_within(pairs.stratum, n_permutations, random_state, batch=pairs.batch())
    null = np.concatenate([_ratio(*pairs.squares(K, moved)) for moved in draws])
    return Permuted(observed, permutation_p_value(observed, null), null)


def _ratio(total: np.ndarray, expected: np.ndarray) -> np.ndarray:
    return np.asarray(total / np.maximum(expected, 1e-300))


def _pairs(units: DoseUnits, root: np.ndarray, columns: np.ndarray) -> Pairs:
    stratum = units.stratum[units.inside]
    return Pairs(stratum, root, columns, columns[:, len(np.unique(stratum)) :])


def _nuisance_basis(units: DoseUnits) -> np.ndarray:
    """Orthonormal basis ``(K, p)`` of the strata, which come first, and of the covariates within them."""
    rows = units.inside
    onehot = np.eye(units.n_strata)[units.stratum[rows]][:, list(units.kept)]
    onehot /= np.sqrt(onehot.sum(axis=0))
    covariates = units.covariates[rows] - onehot @ (onehot.T @ units.covariates[rows])
    return np.concatenate([onehot, orthonormal(covariates)], axis=1)
