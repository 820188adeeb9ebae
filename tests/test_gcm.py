"""The generalised covariance measure: its published form, its nuisance, its null distribution."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import linear_scm
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.invariance import invariance_test
from causalfm.invariance.generalised_covariance import gcm_test, max_gcm, stratum_ridge
from causalfm.resampling import multiplier_maxima, multipliers
from causalfm.units import patient_units

GRAPH = CausalGraph.standard(biology="tumour", technical="site", group="patient")
AGED = CausalGraph.standard(biology="tumour", technical="site", covariates="age", group="patient")


def published(products: np.ndarray) -> np.ndarray:
    """Shah and Peters, eq. (4): root n times the mean of the products over their standard deviation (about n)."""
    n = len(products)
    return np.sqrt(n) * products.mean(axis=0) / np.sqrt((products**2).mean(axis=0) - products.mean(axis=0) ** 2)


# --- the statistic ---------------------------------------------------------------------------------------------------


def test_scalar_case_by_hand() -> None:
    found = max_gcm(np.ones((3, 1)), np.array([[1.0], [2.0], [3.0]]), n_draws=19)
    assert found.value == pytest.approx(np.sqrt(3) * 2.0 / np.sqrt(2 / 3))  # mean 2, variance 2/3


def test_scalar_case_is_the_published_statistic() -> None:
    rng = np.random.default_rng(0)
    x, z = rng.standard_normal((2, 200, 1))
    found = max_gcm(x, z, n_draws=2000)
    T = published(x * z)[0]
    assert found.value == pytest.approx(T, rel=1e-12)
    assert found.statistic == abs(found.value)
    assert found.p_value == pytest.approx(2 * stats.norm.sf(abs(T)), abs=0.04)  # its limit


@pytest.mark.parametrize("grouped", [False, True])
def test_largest_of_all_pairs_and_where_it_is(grouped: bool) -> None:
    rng = np.random.default_rng(1)
    x, z = rng.standard_normal((60, 3)), rng.standard_normal((60, 5))
    z[:, 3] -= 0.8 * x[:, 1]
    groups = np.arange(60) // 4 if grouped else None
    products = np.einsum("ij,ik->ijk", x, z)
    if grouped:
        products = products.reshape(15, 4, 3, 5).sum(axis=1)
    T = published(products)
    found = max_gcm(x, z, groups=groups, n_draws=99)
    assert (found.column, found.dimension) == (1, 3)
    assert found.value == pytest.approx(T[1, 3])
    assert found.statistic == pytest.approx(np.abs(T).max())
    assert found.value < 0.0


def test_blocks_of_dimensions_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    x, z = rng.standard_normal((40, 2)), rng.standard_normal((40, 30))
    nuisance = stratum_ridge(z, np.arange(40) % 3, rng.standard_normal((40, 2)))
    settings = {"refit": nuisance, "n_draws": 50, "random_state": 3}
    whole = max_gcm(x, z, **settings)
    monkeypatch.setattr("causalfm.invariance.generalised_covariance.BLOCK_BYTES", 8 * 40 * 7)
    parts = max_gcm(x, z, **settings)
    assert (parts.statistic, parts.dimension) == (pytest.approx(whole.statistic), whole.dimension)
    np.testing.assert_allclose(parts.null, whole.null)


# --- the nuisance ----------------------------------------------------------------------------------------------------


def test_residuals_are_those_of_regressions_that_leave_the_patient_out() -> None:
    rng = np.random.default_rng(3)
    stratum, covariates = rng.integers(0, 3, 40), rng.standard_normal((40, 4))
    values = covariates @ rng.standard_normal((4, 2)) + 0.5 * rng.standard_normal((40, 2)) + stratum[:, None]
    nuisance = stratum_ridge(values, stratum, covariates)
    onehot = np.eye(3)[stratum]
    centred = covariates - onehot @ ((onehot.T @ covariates) / onehot.sum(axis=0)[:, None])
    largest = np.linalg.norm(centred, 2) ** 2
    shrinkage = nuisance.shrinkage[0]  # of the largest singular value: 1 / (1 + penalty)
    penalty = np.diag([0.0] * 3 + [largest * (1.0 / shrinkage - 1.0)] * 4)
    columns, left = np.concatenate([onehot, covariates], axis=1), []
    for i in range(40):
        rest = np.arange(40) != i
        solved = np.linalg.solve(columns[rest].T @ columns[rest] + penalty, columns[rest].T @ values[rest])
        left.append(values[i] - columns[i] @ solved)
    np.testing.assert_allclose(nuisance(values), left, atol=1e-9)


def test_the_penalty_is_large_only_where_covariates_predict_nothing() -> None:
    rng = np.random.default_rng(4)
    covariates = rng.standard_normal((50, 20))
    strong, none = covariates @ rng.standard_normal((20, 8)), rng.standard_normal((50, 8))
    stratum = np.zeros(50, dtype=int)
    assert stratum_ridge(strong, stratum, covariates).shrinkage.min() > 0.99
    assert stratum_ridge(none, stratum, covariates).shrinkage.max() < 0.2


# --- the null distribution -------------------------------------------------------------------------------------------


def test_draws_are_what_they_say() -> None:
    """Signs of patients, residuals regressed once more, the largest ratio: step by step."""
    rng = np.random.default_rng(5)
    stratum, covariates = np.arange(24) % 2, rng.standard_normal((24, 2))
    raw_x, raw_z = rng.standard_normal((24, 2)), rng.standard_normal((24, 6))
    nuisance = stratum_ridge(raw_z, stratum, covariates)
    x, z = nuisance(raw_x), nuisance(raw_z)
    found = max_gcm(x, z, refit=nuisance, n_draws=30, random_state=7)
    signs = np.concatenate(list(multipliers(24, 30, 7)))
    wanted = [np.abs(published(np.einsum("ij,ik->ijk", x, nuisance(e[:, None] * z)))).max() for e in signs]
    np.testing.assert_allclose(found.null, wanted)
    assert found.p_value == (1 + np.sum(np.array(wanted) >= found.statistic - 1e-12)) / 31


def test_draws_approach_all_signs() -> None:
    rng = np.random.default_rng(6)
    x, z = rng.standard_normal((10, 1)), rng.standard_normal((10, 3))
    z[:, 0] += 0.6 * x[:, 0]
    found = max_gcm(x, z, n_draws=4000)
    signs = np.array(list(itertools.product([-1, 1], repeat=10)))
    sums = signs @ (x * z) / np.sqrt(((x * z) ** 2).sum(axis=0))
    exact = np.mean(np.abs(sums).max(axis=1) >= np.abs(sums[-1]).max() - 1e-12)
    assert 0.01 < exact < 0.3
    assert found.p_value == pytest.approx(exact, abs=0.025)


@pytest.mark.parametrize("kind", ["rademacher", "webb"])
def test_multiplier_maxima(kind: str) -> None:
    sums = np.random.default_rng(7).standard_normal((9, 5000))  # more than one block of columns
    weights = np.concatenate(list(multipliers(9, 20, 3, kind=kind)))
    wanted = (np.abs(weights @ sums) / np.sqrt(weights**2 @ sums**2)).max(axis=1)
    np.testing.assert_allclose(multiplier_maxima(sums, 20, 3, kind=kind), wanted)
    many = np.concatenate(list(multipliers(50, 4000, 0, kind=kind)))
    assert many.mean() == pytest.approx(0.0, abs=0.01)
    assert many.var() == pytest.approx(1.0, abs=0.01)


def test_size_with_few_patients_unequal_spread_and_a_covariate() -> None:
    p_values = []
    for seed in range(150):
        cohort, _ = linear_scm(
            n_groups=36, n_sites=3, d=24, rows_per_group=(1, 4), variance_by_site=2.0, age_effect=1.0, age_by_site=1.0,
            confounding=0.3, random_state=8_100_000 + seed,
        )  # fmt: skip
        units = patient_units(cohort, AGED, ("site",), ("tumour", "age"))
        p_values.append(gcm_test(units, n_draws=99, random_state=seed).p_value)
    assert (
        stats.binom.ppf(0.0005, 150, 0.05) <= np.sum(np.array(p_values) <= 0.05) <= stats.binom.isf(0.0005, 150, 0.05)
    )


def test_a_shift_in_one_dimension_of_many_is_found_and_named() -> None:
    rng = np.random.default_rng(8)
    Z = rng.standard_normal((80, 400))
    site = np.repeat(["a", "b"], 40)
    Z[site == "b", 123] += 1.2
    obs = pd.DataFrame({"site": site, "tumour": ["x", "y"] * 40, "patient": [f"p{i}" for i in range(80)]})
    cohort = Cohort(Z, obs)
    found = invariance_test(cohort, GRAPH, of="site", method="gcm", n_permutations=199)
    assert found.p_value == 0.005
    assert found.details["largest"]["dimension"] == 123
    assert abs(found.details["largest"]["value"]) == pytest.approx(found.statistic)
    assert "199 sign flips of patients" in found.sentence
    assert invariance_test(cohort, GRAPH, of="site", method="mean", n_permutations=199).p_value > 0.01


# --- bad input -------------------------------------------------------------------------------------------------------


def test_bad_arrays() -> None:
    x, z = np.ones((6, 1)), np.ones((6, 2))
    with pytest.raises(DataError, match="do not fit"):
        max_gcm(x, z[:5])
    with pytest.raises(DataError, match="nothing is left of the factor"):
        max_gcm(0 * x, z)
    with pytest.raises(DataError, match="residuals of the embedding are not all finite"):
        max_gcm(x, np.where(np.eye(6, 2) > 0, np.nan, z))
    with pytest.raises(DataError, match="refit with groups"):
        max_gcm(x, z, groups=np.zeros(6, dtype=int), refit=lambda values: values)
