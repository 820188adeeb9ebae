"""The self-check of a continuous factor: its null cohorts, the smallest slope it promises to see, what it says."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from causalfm.cohort import Cohort
from causalfm.dose_units import DoseUnits, contrast_doses, dose_units
from causalfm.graph import CausalGraph
from causalfm.invariance import dose_nulls as module
from causalfm.invariance import invariance_test, self_check
from causalfm.invariance.dose_nulls import dose_gcm_nulls, dose_nulls, independent_products
from causalfm.invariance.doses import Pairs, dose_gcm_test, kernel_pairs, pair_test, slope_pairs
from causalfm.invariance.flipped_residuals import draw_shifts
from causalfm.invariance.methods import DOSE_METHODS

GRAPH = CausalGraph.standard(biology="tumour", technical="thickness", group="patient")
AGED = CausalGraph.standard(biology="tumour", technical="thickness", covariates="age", group="patient")
ROWS = CausalGraph.standard(biology="tumour", technical="thickness", group="row")


def cohort_of(seed: int, n: int = 40, d: int = 6, *, rows: int = 1, slope=0.0, spread: float = 0.0) -> Cohort:
    """``rows`` per patient; ``slope`` of each dimension per standard deviation of the thickness."""
    rng = np.random.default_rng(seed)
    dose, tumour = rng.standard_normal(n), np.arange(n) % 2
    dose = (dose - dose.mean()) / dose.std(ddof=1)
    Z = rng.standard_normal((n, d)) * np.exp(spread * np.abs(dose))[:, None] + 2.0 * tumour[:, None]
    Z = Z + dose[:, None] * slope
    obs = pd.DataFrame(
        {"thickness": dose, "age": rng.standard_normal(n) + dose, "tumour": np.array(["x", "y"])[tumour]}
    )
    obs = obs.assign(patient=[f"p{i}" for i in range(n)])
    each = np.repeat(np.arange(n), rows)
    table = obs.iloc[each].reset_index(drop=True).assign(row=[f"r{i}" for i in range(len(each))])
    return Cohort(Z[each] + 0.1 * rng.standard_normal((len(each), d)) * (rows > 1), table)


def units_of(cohort: Cohort, given: tuple[str, ...] = ("tumour",)) -> DoseUnits:
    return dose_units(cohort, AGED if "age" in given else GRAPH, ("thickness",), given)


def pairs_of(units: DoseUnits, kind: str) -> Pairs:
    return slope_pairs(units) if kind == "slope" else kernel_pairs(units, kind)


@pytest.mark.parametrize("given", [("tumour",), ("tumour", "age")])
@pytest.mark.parametrize("kind", ["slope", "gaussian"])
@pytest.mark.parametrize("distance", [0.0, 0.5])
def test_the_polynomial_is_the_test_itself(monkeypatch: pytest.MonkeyPatch, given, kind: str, distance: float) -> None:
    """Null cohorts made of rows instead of inner products, shifted, go through the test as it stands."""
    units = units_of(cohort_of(1, n=24), given)
    pairs, own, made = pairs_of(units, kind), np.arange(24), []
    monkeypatch.setattr(module, "independent_products", lambda R, grown, *_: made.append(grown) or grown @ grown.T)
    p_values = dose_nulls(units, pairs, own, 6, 39, 2)("random", distance)
    (grown,) = made
    shifts = draw_shifts(grown, 6, 2, 2)["random"]
    rng = np.random.default_rng([2, 1])
    seeds = rng.integers(2**32, size=6).tolist()
    dose = (units.dose - units.dose.mean()) / units.spread
    for i, seed in enumerate(seeds):
        signs = 2.0 * rng.integers(0, 2, 24) - 1.0
        Z = signs[:, None] * grown + distance * np.outer(dose, shifts[i, 1] - shifts[i, 0])
        null = dataclasses.replace(units, Z=Z)
        expected = pair_test(pairs, null, n_permutations=39, random_state=seed).p_value
        assert p_values[i] == pytest.approx(expected)


@pytest.mark.parametrize("clusters", [np.arange(24), np.arange(24) // 2])
def test_products_of_residuals_get_the_expectation_of_independent_clusters(clusters: np.ndarray) -> None:
    """Without it residuals are correlated along the factor itself."""
    rng = np.random.default_rng(0)
    columns = np.linalg.qr(np.column_stack([np.ones(24), rng.standard_normal((24, 2))]))[0]
    spare = np.sqrt(1.0 - (columns**2).sum(axis=1))[:, None]
    corrected, plain = np.zeros((2, 24, 24))
    for _ in range(300):
        e = rng.standard_normal((24, 60)) + 2.0 * rng.standard_normal((24, 60))[clusters] * (clusters.max() < 23)
        R = e - columns @ (columns.T @ e)
        corrected += independent_products(R, R / spare, columns, clusters) / (300 * 60)
        plain += R @ R.T / (300 * 60)
    apart = clusters[:, None] != clusters
    assert np.abs(corrected[apart]).max() < 0.35 * np.abs(plain[apart]).max()
    assert np.sqrt((corrected[apart] ** 2).mean()) < 0.3 * np.sqrt((plain[apart] ** 2).mean())


def test_flipped_residuals_alone_overstate_the_size_in_high_dimension(monkeypatch: pytest.MonkeyPatch) -> None:
    """24 patients, 256 dimensions: 12 % of plain null cohorts are rejected where the test's size is 4-5 %."""
    renewed, alone = [], []
    for seed in range(25):
        units = units_of(cohort_of(8_800_000 + seed, n=24, d=256))
        for found in (renewed, alone):
            with monkeypatch.context() as patch:
                if found is alone:
                    patch.setattr(module, "independent_products", lambda R, grown, *_: grown @ grown.T)
                p = dose_nulls(units, slope_pairs(units), np.arange(24), 40, 39, seed)("random", 0.0)
            found.append(np.mean(p <= 0.05))
    assert np.mean(renewed) < 0.07
    assert np.mean(alone) > 0.09


def test_the_slope_promised_is_seen_in_four_of_five_new_cohorts() -> None:
    found = self_check(cohort_of(3, n=60), GRAPH, of="thickness", n_nulls=400)
    promised = found.details["detectable_distance"]["random"][0]
    rng, seen = np.random.default_rng(0), []
    for seed in range(150):
        direction = rng.standard_normal(6)
        units = units_of(cohort_of(100 + seed, n=60, slope=promised * direction / np.linalg.norm(direction)))
        seen.append(pair_test(slope_pairs(units), units, n_permutations=39, random_state=seed).p_value <= 0.05)
    assert abs(np.mean(seen) - 0.8) < 4 * np.sqrt(0.16 / 150)
    classes = contrast_doses(units_of(cohort_of(3, n=60)), "tumour").biology
    assert found.details["distance_between_classes"] == pytest.approx(np.sqrt(classes.value))
    worst = found.details["detectable_distance"][found.details["direction"]][0]
    assert found.detectable == pytest.approx(worst / found.details["distance_between_classes"])
    assert found.size_low < 0.05 < found.size_high
    words = f"could not have seen less than {found.detectable:.2g} ["
    assert words in found.sentence
    assert "classes of tumour per standard deviation of thickness with 80% power." in found.sentence


@pytest.mark.parametrize("method", DOSE_METHODS)
def test_every_method_is_checked(method: str) -> None:
    n = 20 if method == "gcm" else 40  # the slowest is run anew for each
    found = self_check(cohort_of(4), GRAPH, of="thickness", method=method, n_nulls=n)
    assert (found.n_nulls, found.n_groups) == (n, 40)
    assert found.verdict != "fail"
    assert 0.0 < found.details["detectable_distance"]["random"][0] < np.inf
    assert found == self_check(cohort_of(4), GRAPH, of="thickness", method=method, n_nulls=n)


def test_null_cohorts_of_the_generalised_covariance_are_the_test_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    units, asked = units_of(cohort_of(5)), []
    wanted = dose_gcm_test
    monkeypatch.setattr(module, "dose_gcm_test", lambda u, **kw: asked.append(u) or wanted(u, **kw))
    p_values = dose_gcm_nulls(units, np.arange(40), 5, 39, 0)
    none, large = p_values("loud", 0.0), p_values("loud", 3.0)
    assert len(asked) == 10
    assert (large <= 0.05).all()
    assert none.mean() > 0.2
    dose = (units.dose - units.dose.mean()) / units.spread
    moved = asked[5].Z - asked[0].Z
    np.testing.assert_allclose(moved, np.outer(dose, moved[0] / dose[0]), atol=1e-12)
    assert np.linalg.norm(moved[0] / dose[0]) == pytest.approx(3.0)


def test_rows_as_units_are_found_out() -> None:
    cohort = cohort_of(6, rows=6)
    right = self_check(cohort, GRAPH, of="thickness")
    wrong = self_check(cohort, ROWS, of="thickness", clusters="patient")
    assert right.verdict != "fail"
    assert wrong.verdict == "fail"
    assert wrong.size > 0.4
    assert "with rows as its unit it is not valid" in wrong.sentence


def test_more_patients_see_less_and_strata_that_are_left_out_play_no_part() -> None:
    few, many = (self_check(cohort_of(7, n=n), GRAPH, of="thickness", n_nulls=100).detectable for n in (24, 160))
    assert many < 0.6 * few
    cohort = cohort_of(8, n=60)
    third = np.where(np.arange(60) % 10 == 0, "z", cohort.obs["tumour"])
    dose = np.where(third == "z", 100.0 + np.arange(60), cohort.obs["thickness"])
    apart = cohort.replace(obs=cohort.obs.assign(tumour=third, thickness=dose))
    found = self_check(apart, GRAPH, of="thickness", n_nulls=40)
    assert found.n_groups == 54 == invariance_test(apart, GRAPH, of="thickness", n_permutations=19).n_groups
