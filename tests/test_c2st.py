"""The classifier two-sample test: its classifier step by step, its null distribution, its size."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import linear_scm
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.invariance import invariance_test
from causalfm.invariance import two_sample_classifier as module
from causalfm.invariance.two_sample_classifier import classifier_test
from causalfm.resampling import multipliers
from causalfm.units import Units, patient_units

GRAPH = CausalGraph.standard(biology="tumour", technical="site", group="patient")
AGED = CausalGraph.standard(biology="tumour", technical="site", covariates="age", group="patient")


def units_of(graph: CausalGraph = GRAPH, given=("tumour",), **settings) -> Units:
    cohort, _ = linear_scm(**{"n_groups": 40, "n_sites": 3, "d": 5, "rows_per_group": (1, 3), **settings})
    return patient_units(cohort, graph, ("site",), given)


def ledoit_wolf(rows: np.ndarray) -> np.ndarray:
    from sklearn.covariance import ledoit_wolf as shrunk

    return shrunk(rows, assume_centered=True)[0]


def area(scores: np.ndarray, own: np.ndarray) -> float:
    """Share of pairs in the right order, ties half."""
    apart = scores[own][:, None] - scores[~own]
    return float(np.mean((apart > 0) + 0.5 * (apart == 0)))


def by_definition(units: Units, Z: np.ndarray, metric_from: np.ndarray, fold: np.ndarray) -> tuple[float, float]:
    """Area and balanced accuracy with explicit loops over folds, patients, strata and levels."""
    level, stratum, L = units.level.codes, units.stratum, units.level.n_levels
    design = np.concatenate([np.eye(units.n_strata)[stratum], units.covariates], axis=1)
    scores, half = np.zeros((len(Z), L)), np.zeros((len(Z), L))
    for k in np.unique(fold):
        train = fold != k

        def centred(values: np.ndarray, train: np.ndarray = train) -> np.ndarray:
            return values - design @ np.linalg.lstsq(design[train], values[train], rcond=None)[0]

        inverse = np.linalg.inv(ledoit_wolf(centred(metric_from)[train]))
        rest = centred(Z)
        for s in range(L):
            m = rest[train & (level == s)].mean(axis=0)
            scores[~train, s] = rest[~train] @ inverse @ m
            half[~train, s] = 0.5 * m @ inverse @ m
    areas, weights, recalls = [], [], []
    for w in range(units.n_strata):
        members = stratum == w
        present = [s for s in range(L) if (members & (level == s)).any()]
        best = np.array(present)[(scores - half)[members][:, present].argmax(axis=1)]
        for s in present:
            own = level[members] == s
            areas.append(area(scores[members, s], own))
            weights.append(own.sum() * (~own).sum() / members.sum())
            recalls.append(np.mean(best[own] == s))
    return float(np.average(areas, weights=weights)), float(np.mean(recalls))


@pytest.mark.parametrize("given", [("tumour",), ("tumour", "age")])
def test_equals_its_definition(given: tuple[str, ...]) -> None:
    units = units_of(AGED, given, site_effect=0.5, age_effect=1.0, confounding=0.3, groups_by_site=1.0)
    assert module.informative(units).all()
    found = classifier_test(units, n_draws=12, random_state=4)
    design = np.concatenate([np.eye(units.n_strata)[units.stratum], units.covariates], axis=1)
    residuals = units.Z - design @ np.linalg.lstsq(design, units.Z, rcond=None)[0]
    fold = module._folds(units.stratum * 3 + units.level.codes, 5, 4)
    assert (found.statistic, found.accuracy) == pytest.approx(by_definition(units, residuals, residuals, fold))
    signs = np.concatenate(list(multipliers(len(residuals), 12, 4)))
    null = np.array([by_definition(units, e[:, None] * residuals, residuals, fold) for e in signs])
    np.testing.assert_allclose(found.null, null[:, 0], atol=1e-9)
    assert found.auc_chance == pytest.approx(null[:, 0].mean())
    assert found.chance == pytest.approx(null[:, 1].mean())
    assert found.p_value == (1 + np.sum(null[:, 0] >= found.statistic - 1e-12)) / 13


def test_an_error_in_the_effect_of_classes_within_patients_is_not_found() -> None:
    """Patients keep it times their share of the class, and sites hold other shares: it must not tell them apart."""
    units = units_of(biology_within_group=True, confounding=0.7, rows_per_group=(4, 8), n_sites=2)
    assert units.within is not None
    patient, tumour = units.groups.codes, units.within.codes
    share = np.bincount(patient, tumour) / np.bincount(patient)
    wrong = dataclasses.replace(units, Z=units.Z + 5.0 * share[:, None])
    sites = np.array([share[units.level.codes == s].mean() for s in (0, 1)])
    assert abs(sites[0] - sites[1]) > 0.3
    found, other = (classifier_test(u, n_draws=49) for u in (units, wrong))
    assert other.statistic == pytest.approx(found.statistic)
    np.testing.assert_allclose(other.null, found.null)


def test_folds_hold_every_level_of_every_stratum() -> None:
    cell = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [7, 5, 3]))
    fold = module._folds(cell, 5, 0)
    assert np.ptp(np.bincount(fold, minlength=5)) == 0
    assert all(np.ptp(np.bincount(fold[cell == c], minlength=5)) <= 1 for c in range(3))
    np.testing.assert_array_equal(module._folds(np.array([4, 0, 2])[cell], 5, 0), fold)  # other names
    assert not np.array_equal(module._folds(cell, 5, 1), fold)


def test_folds_take_no_notice_of_the_embedding() -> None:
    """Where patients are alike, the area is on average that of the flips.

    Folds spread along a direction of the embedding drew the patients left out towards those trained on: the area lay
    .43 of its standard deviations above that of the flips here, and 9 % of true nulls were rejected.
    """
    like, score = units_of(given=(), n_sites=2, d=2, rows_per_group=1), []
    for seed in range(250):
        units = dataclasses.replace(like, Z=np.random.default_rng([seed, 5]).standard_normal((40, 2)))
        found = classifier_test(units, n_draws=39, random_state=seed)
        score.append((found.statistic - found.null.mean()) / found.null.std(ddof=1))
    assert abs(np.mean(score)) < 3.3 * np.std(score) / np.sqrt(len(score))


def cohort_of(Z: np.ndarray, sites: str = "ab") -> Cohort:
    n = len(Z) // len(sites)
    obs = pd.DataFrame({"site": np.repeat(list(sites), n), "tumour": ["x", "y"] * (len(Z) // 2)})
    return Cohort(Z, obs.assign(patient=[f"p{i}" for i in range(len(Z))]))


def test_sites_far_apart_are_told_without_error_and_like_sites_at_chance() -> None:
    rng = np.random.default_rng(0)
    Z = 0.1 * rng.standard_normal((60, 4))
    Z[30:, 0] += 50.0
    apart = classifier_test(patient_units(cohort_of(Z), GRAPH, ("site",), ("tumour",)), n_draws=99)
    assert (apart.statistic, apart.accuracy, apart.p_value) == (1.0, 1.0, 0.01)
    assert apart.auc_chance == pytest.approx(0.5, abs=0.05)
    assert apart.chance == pytest.approx(0.5, abs=0.05)


def test_a_shift_in_a_quiet_direction_is_found() -> None:
    """Patients vary by 5 where sites are alike, and by 1 where these differ by 1.5, along no axis in particular."""
    rng = np.random.default_rng(1)
    Z = np.column_stack([5.0 * rng.standard_normal((200, 6)), rng.standard_normal((200, 2))])
    Z[100:, 7] += 1.5
    cohort = cohort_of(Z @ np.linalg.qr(rng.standard_normal((8, 8)))[0])
    found = invariance_test(cohort, GRAPH, of="site", method="c2st", n_permutations=199)
    assert found.p_value == 0.005
    assert found.statistic > 0.65
    assert found.details["balanced_accuracy"] > 0.6
    assert "199 sign flips of patients" in found.sentence
    for method in ("mean", "gcm"):
        assert invariance_test(cohort, GRAPH, of="site", method=method, n_permutations=199).p_value > 0.01


def test_size_where_small_sites_vary_more() -> None:
    """Signs keep the spread of every patient where it is; permuted levels do not, and rejected 11 % (ADR 0010)."""
    draws, p_values = 120, []
    for seed in range(draws):
        units = units_of(
            n_groups=50, d=16, n_sites=2, groups_by_site=3.0, variance_by_site=4.0, random_state=8_200_000 + seed
        )
        p_values.append(classifier_test(units, n_draws=99, random_state=seed).p_value)
    rejected = np.sum(np.array(p_values) <= 0.05)
    assert stats.binom.ppf(0.0005, draws, 0.05) <= rejected <= stats.binom.isf(0.0005, draws, 0.05)


def test_nothing_to_classify() -> None:
    cohort = cohort_of(np.repeat([[1.0, 2.0], [1.0, 2.0]], 10, axis=0))
    with pytest.raises(DataError, match="nothing to classify"):
        classifier_test(patient_units(cohort, GRAPH, ("site",), ("tumour",)))
