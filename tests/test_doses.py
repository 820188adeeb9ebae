"""Continuous factors: the tests by their definitions, their size, the slope in numbers, bad input."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.spatial.distance import cdist

from causalfm.cohort import Cohort
from causalfm.dose_units import DoseUnits, contrast_doses, dose_units
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.invariance import invariance_test, self_check
from causalfm.invariance.doses import Permuted, dose_gcm_test, kernel_pairs, pair_test, slope_pairs
from causalfm.invariance.methods import DOSE_METHODS
from causalfm.resampling import permutations_within

GRAPH = CausalGraph.standard(biology="tumour", technical="thickness", group="patient")
TOLD = CausalGraph.standard(biology="tumour", technical="thickness", group="patient", kinds={"thickness": "continuous"})
AGED = CausalGraph.standard(biology="tumour", technical="thickness", covariates="age", group="patient")


def cohort_of(
    seed: int = 0, n: int = 40, d: int = 4, *, slope: float = 0.0, spread: float = 0.0, aged: float = 0.0
) -> Cohort:
    """One row per patient; ``spread`` makes patients at the ends vary more, ``aged`` ties age to dose and embedding."""
    rng = np.random.default_rng(seed)
    dose, tumour = rng.standard_normal(n), np.arange(n) % 2
    age = rng.standard_normal(n) + aged * dose
    Z = rng.standard_normal((n, d)) * np.exp(spread * np.abs(dose))[:, None] + tumour[:, None]
    Z[:, 0] += slope * dose
    Z += aged * (age + 0.3 * age**2)[:, None]
    obs = pd.DataFrame({"thickness": dose, "age": age, "tumour": np.array(["x", "y"])[tumour]})
    return Cohort(Z, obs.assign(patient=[f"p{i}" for i in range(n)]))


def units_of(cohort: Cohort, *given: str) -> DoseUnits:
    return dose_units(cohort, AGED if "age" in given else GRAPH, ("thickness",), given or ("tumour",))


def slope_test(units: DoseUnits, **settings) -> Permuted:
    return pair_test(slope_pairs(units), units, **settings)


def dose_kernel_test(units: DoseUnits, kernel: str, **settings) -> Permuted:
    return pair_test(kernel_pairs(units, kernel), units, **settings)


def projector(units: DoseUnits) -> np.ndarray:
    """Onto what strata and covariates leave."""
    columns = np.concatenate([np.eye(units.n_strata)[units.stratum], units.covariates], axis=1)
    return np.eye(len(units)) - columns @ np.linalg.pinv(columns)


@pytest.mark.parametrize("given", [("tumour",), ("tumour", "age")])
def test_slope_test_equals_its_definition(given: tuple[str, ...]) -> None:
    units = units_of(cohort_of(1, slope=0.3, aged=0.5 * (len(given) > 1)), *given)
    M, x = projector(units), None
    x = M @ (units.dose / units.spread)

    def F(Y: np.ndarray) -> float:
        return np.sum((x @ Y) ** 2) / np.sum(x**2 * (Y**2).sum(axis=1))

    Y = M @ units.Z
    draws = np.concatenate(list(permutations_within(units.stratum, 60, 3)))
    null = np.empty((60, 40), dtype=int)
    np.put_along_axis(null, draws, np.broadcast_to(np.arange(40), (60, 40)), axis=1)  # who stands at each place
    wanted = np.array([F(M @ Y[moved]) for moved in null])  # residuals permuted and regressed once more
    found = slope_test(units, n_permutations=60, random_state=3)
    assert found.statistic == pytest.approx(F(Y))
    np.testing.assert_allclose(found.null, wanted)
    assert found.p_value == (1 + np.sum(wanted >= F(Y) - 1e-12)) / 61


@pytest.mark.parametrize("kernel", ["gaussian", "distance"])
def test_kernel_test_is_hsic_or_the_distance_covariance(kernel: str) -> None:
    units = units_of(cohort_of(2))
    M, dose = projector(units), units.dose[:, None]
    same = (units.stratum[:, None] == units.stratum) & ~np.eye(40, dtype=bool)
    apart = cdist(dose, dose) / np.sqrt(np.median(cdist(dose, dose)[same] ** 2))
    L = np.mean([np.exp(-0.5 * k * apart**2) for k in (1, 4, 16)], axis=0) if kernel == "gaussian" else -apart
    K = M @ units.Z @ units.Z.T @ M
    L = M @ L @ M
    found = dose_kernel_test(units, kernel, n_permutations=1)
    assert found.statistic == pytest.approx((L * K).sum() / (np.diag(L) * np.diag(K)).sum())


def test_slope_in_numbers() -> None:
    """Doses 0, 1, 2, ... and an embedding that follows: the squared slope per standard deviation."""
    dose = np.tile(np.arange(10.0), 4)
    noise = 1e-6 * np.random.default_rng(0).standard_normal((40, 2))
    obs = pd.DataFrame(
        {"thickness": dose, "tumour": np.repeat(["x", "y"], 20), "patient": [f"p{i}" for i in range(40)]}
    )
    cohort = Cohort(dose[:, None] * np.array([3.0, 4.0]) + noise, obs)
    result = invariance_test(cohort, TOLD, of="thickness", n_permutations=99)
    assert result.effect.value == pytest.approx(25.0 * dose.var(ddof=1), rel=1e-5)
    assert result.details["standard_deviation"] == pytest.approx(dose.std(ddof=1))
    assert result.p_value == 0.01
    assert result.verdict == "fail"
    found = contrast_doses(units_of(cohort), "tumour")
    assert found.joint.value == pytest.approx(result.effect.value)


@pytest.mark.parametrize("method", DOSE_METHODS)
def test_representation_and_seeds(method: str) -> None:
    """Row order, names of patients, every row twice: the same numbers. Names choose who is permuted first, no more."""
    cohort = cohort_of(9, slope=0.35)
    rng, state = np.random.default_rng(0), np.random.get_state()[1].copy()  # noqa: NPY002 - nobody touches it

    def ask(cohort: Cohort, seed: int = 0):
        return invariance_test(cohort, GRAPH, of="thickness", method=method, n_permutations=199, random_state=seed)

    plain = ask(cohort)
    names = cohort.obs["patient"].map({name: f"q{i}" for i, name in enumerate(rng.permutation(cohort.obs["patient"]))})
    twice = np.repeat(np.arange(40), 2)
    others = {
        "row order": cohort[rng.permutation(40)],
        "names": cohort.replace(obs=cohort.obs.assign(patient=names)),
        "every row twice": Cohort(cohort.X[twice], cohort.obs.iloc[twice].reset_index(drop=True)),
    }
    for what, other in others.items():
        found = ask(other)
        assert found.statistic == pytest.approx(plain.statistic, rel=1e-6), what
        error = 4.0 * np.sqrt(2.0 * 0.07 * 0.93 / 199) if what == "names" else 0.0051  # a tie up to rounding
        assert found.p_value == pytest.approx(plain.p_value, abs=error), what
        assert found.effect.value == pytest.approx(plain.effect.value, rel=1e-6), what
    assert ask(cohort).to_dict() == plain.to_dict()
    assert len({ask(cohort, seed).p_value for seed in range(4)}) > 1
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_dates_and_ranks() -> None:
    cohort = cohort_of(3, slope=1.0)
    rank = cohort.obs["thickness"].rank().astype(int) - 1
    dates = cohort.replace(
        obs=cohort.obs.assign(thickness=pd.Timestamp("2020-01-01") + pd.to_timedelta(rank, unit="D"))
    )
    days = cohort.replace(obs=cohort.obs.assign(thickness=rank.astype(float)))
    a, b = (invariance_test(c, GRAPH, of="thickness", n_permutations=49) for c in (dates, days))
    assert (a.statistic, a.p_value) == (pytest.approx(b.statistic), b.p_value)
    assert "2020-01-01 to 2020-02-09" in str(a.details["overlap"])


@pytest.mark.parametrize("method", DOSE_METHODS)
def test_units_of_measurement_do_not_matter(method: str) -> None:
    cohort = cohort_of(4, slope=0.4)
    other = cohort.replace(obs=cohort.obs.assign(thickness=20.0 - 5.0 * cohort.obs["thickness"]))
    a, b = (invariance_test(c, GRAPH, of="thickness", method=method, n_permutations=99) for c in (cohort, other))
    assert (b.statistic, b.p_value) == (pytest.approx(a.statistic), a.p_value)
    assert b.effect.value == pytest.approx(a.effect.value)


def test_codes_of_levels_that_became_floats_are_not_taken_as_amounts() -> None:
    """As pandas reads site codes of a table with gaps; integers are levels, and nobody may notice the difference."""
    rng = np.random.default_rng(0)
    cohort = cohort_of(7, n=60)
    codes = rng.integers(0, 5, 60)
    as_floats = cohort.replace(obs=cohort.obs.assign(thickness=codes.astype(float)))
    with pytest.raises(DataError, match=r"5 different values in 60 patients, whole numbers stored as floats") as caught:
        invariance_test(as_floats, GRAPH, of="thickness", n_permutations=19)
    assert "kinds={'thickness': 'categorical'} or kinds={'thickness': 'continuous'}" in str(caught.value)
    with pytest.raises(DataError, match="stored as floats"):
        self_check(as_floats, GRAPH, of="thickness", n_nulls=20)
    assert invariance_test(as_floats, TOLD, of="thickness", n_permutations=19).details["overlap"]["continuous"]
    levels = {"thickness": "categorical"}
    coded = CausalGraph.standard(biology="tumour", technical="thickness", group="patient", kinds=levels)
    floats = invariance_test(as_floats, coded, of="thickness", n_permutations=19)
    whole = cohort.replace(obs=cohort.obs.assign(thickness=codes))
    assert floats.statistic == pytest.approx(invariance_test(whole, GRAPH, of="thickness", n_permutations=19).statistic)
    many = cohort.replace(obs=cohort.obs.assign(thickness=np.arange(60.0)))  # a value for every patient is no level
    assert invariance_test(many, GRAPH, of="thickness", n_permutations=19).details["overlap"]["continuous"]


def test_dependence_without_a_slope_is_found_by_kernels() -> None:
    cohort = cohort_of(5, n=80)
    curved = cohort.replace(X=cohort.X + 1.5 * (cohort.obs["thickness"].to_numpy() ** 2)[:, None] * np.eye(4)[0])
    for method in ("hsic", "dcorr"):
        assert invariance_test(curved, GRAPH, of="thickness", method=method, n_permutations=99).p_value <= 0.02


def test_size_where_patients_at_the_ends_vary_more_and_age_follows_the_dose() -> None:
    draws, found = 100, []
    for seed in range(8_300_000, 8_300_000 + draws):
        units = units_of(cohort_of(seed, spread=0.5, aged=0.7), "tumour", "age")
        gcm = dose_gcm_test(units, n_draws=99, random_state=seed)
        found.append([slope_test(units, n_permutations=99, random_state=seed).p_value, gcm.p_value])
        even = units_of(cohort_of(seed, aged=0.7), "tumour", "age")
        found[-1] += [
            dose_kernel_test(even, k, n_permutations=99, random_state=seed).p_value for k in ("gaussian", "distance")
        ]
    rejected = (np.array(found) <= 0.05).sum(axis=0)
    assert (rejected <= stats.binom.isf(0.001 / 4, draws, 0.05)).all(), rejected


def test_bad_doses() -> None:
    cohort = cohort_of(6)
    constant = cohort.replace(obs=cohort.obs.assign(thickness=np.where(cohort.obs["tumour"] == "x", 1.0, 2.0)))
    found = invariance_test(constant, TOLD, of="thickness", n_permutations=19)
    assert found.verdict == "cannot tell"
    assert "at different values of thickness" in found.sentence
    given_away = cohort.replace(obs=cohort.obs.assign(age=3.0 * cohort.obs["thickness"]))
    found = invariance_test(given_away, AGED, of="thickness", n_permutations=19)
    assert found.verdict == "cannot tell"
    assert "age gives thickness away" in found.sentence
    twice = Cohort(np.repeat(cohort.X, 2, axis=0), cohort.obs.iloc[np.repeat(np.arange(40), 2)].reset_index(drop=True))
    moving = twice.replace(obs=twice.obs.assign(thickness=np.arange(80.0)))
    with pytest.raises(DataError, match=r"takes several values within 40 of 40 patients.*Average it") as caught:
        invariance_test(moving, GRAPH, of="thickness", n_permutations=19)
    assert "p17" not in str(caught.value)
    flat = cohort.replace(X=np.ones_like(cohort.X))
    with pytest.raises(DataError, match="the same: there is nothing to test"):
        slope_test(units_of(flat))
