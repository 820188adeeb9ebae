"""Families of tests: adjusted p-values by their definitions, and who shares draws with whom."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import linear_scm
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.invariance import invariance_test, invariance_tests
from causalfm.invariance.several import holm, step_down

SIBLINGS = CausalGraph.standard(biology="tumour", technical=["site", "scanner", "stain"], group="patient")


def cohort_of(seed: int = 0, *, linked: float = 1.0, stain_effect: float = 0.0, **settings) -> Cohort:
    """Scanners and stains vary within sites; ``linked`` is the share of patients whose stain is their scanner's."""
    settings = {"n_groups": 64, "n_sites": 2, "n_scanners": 2, "d": 4, "rows_per_group": 2, **settings}
    cohort, _ = linear_scm(**settings, random_state=seed)
    rng = np.random.default_rng([seed, 1])
    patient, scanner = cohort.factor("patient").codes, cohort.factor("scanner").codes
    groups = patient.max() + 1
    same = rng.random(groups) < linked
    stain = np.where(same, scanner[np.unique(patient, return_index=True)[1]], rng.integers(2, size=groups))[patient]
    X = cohort.X + stain_effect * stain[:, None]
    return cohort.replace(X=X, obs=cohort.obs.assign(stain=np.array(["old", "new"])[stain]))


# --- adjusted p-values by their definitions --------------------------------------------------------------------------


def test_holm_is_statsmodels() -> None:
    rng = np.random.default_rng(0)
    for n in (1, 2, 5):
        p = rng.random(n) ** 3
        np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1])
    np.testing.assert_allclose(holm([0.01, np.nan, 0.04]), [0.02, np.nan, 0.04])  # no test, no member of the family


def step_down_by_definition(observed: np.ndarray, null: np.ndarray) -> np.ndarray:
    """Algorithm 2.8 of Westfall and Young (1993), on the p-values of every draw among all draws."""
    values = np.vstack([observed, null])
    p = np.array([[np.mean(values[:, j] >= value) for j, value in enumerate(row)] for row in values])
    order, adjusted, last = np.argsort(p[0], kind="stable"), np.empty(len(observed)), 0.0
    for i, j in enumerate(order):
        least = p[:, order[i:]].min(axis=1)
        last = max(last, float(np.mean(least <= p[0, j])))
        adjusted[j] = last
    return adjusted


def test_step_down_by_definition() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        null = rng.standard_normal((99, 4)) + rng.standard_normal((99, 1))
        observed = rng.standard_normal(4) + np.array([2.0, 0.0, 1.0, 1.0])
        found = step_down(observed, null)
        np.testing.assert_allclose(found, step_down_by_definition(observed, null))
        single = np.mean(np.vstack([observed, null]) >= observed, axis=0)
        assert (found >= single - 1e-12).all()


def test_copies_of_one_test_cost_nothing_and_unrelated_ones_cost_as_much_as_holm() -> None:
    rng = np.random.default_rng(2)
    one = rng.standard_normal((999, 1))
    np.testing.assert_allclose(step_down(np.full(3, 2.2), np.tile(one, 3)), np.mean(np.append(one, 2.2) >= 2.2))
    null = rng.standard_normal((4999, 3))
    single = np.array([np.mean(np.append(null[:, j], 2.2) >= 2.2) for j in range(3)])
    assert step_down(np.full(3, 2.2), null)[0] == pytest.approx(1 - (1 - single.mean()) ** 3, abs=0.01)


# --- which tests share draws -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["mean", "mmd", "gcm", "c2st"])
def test_siblings_share_their_draws(method: str) -> None:
    """Stain is scanner in all patients: the two tests are one, and together they cost nothing."""
    family = invariance_tests(cohort_of(), SIBLINGS, of=["scanner", "stain"], method=method, n_permutations=99)
    assert family.adjustment.startswith("Westfall and Young")
    one, other = family
    assert one.p_value == other.p_value
    assert one.details["p_adjusted"] == other.details["p_adjusted"] == one.p_value
    alone = invariance_test(cohort_of(), SIBLINGS, of="scanner", method=method, n_permutations=99)
    assert (alone.p_value, alone.statistic) == (one.p_value, one.statistic)
    assert list(family.to_frame()["p_adjusted"]) == [one.p_value] * 2


def test_different_conditioning_sets_go_by_holm() -> None:
    family = invariance_tests(cohort_of(linked=0.5), SIBLINGS, of=["site", "scanner"], n_permutations=99)
    assert family.adjustment == "Holm: the factors are tested given different columns"
    p = [result.p_value for result in family]
    np.testing.assert_allclose([r.details["p_adjusted"] for r in family], holm(p))


def test_a_factor_that_cannot_be_tested_is_no_member() -> None:
    cohort = cohort_of(linked=0.5)
    nested = cohort.replace(obs=cohort.obs.assign(stain=cohort.obs["site"].map({"site0": "old", "site1": "new"})))
    family = invariance_tests(nested, SIBLINGS, of=["scanner", "stain"], n_permutations=99)
    scanner, stain = family
    assert stain.verdict == "cannot tell"
    assert np.isnan(stain.details["p_adjusted"])
    assert scanner.details["p_adjusted"] == scanner.p_value


def test_one_effect_of_two_is_found() -> None:
    cohort = cohort_of(linked=0.0, stain_effect=0.5, n_groups=96)
    scanner, stain = invariance_tests(cohort, SIBLINGS, of=["scanner", "stain"], n_permutations=199)
    assert stain.details["p_adjusted"] <= 0.01
    assert stain.verdict == "fail"
    assert scanner.details["p_adjusted"] >= scanner.p_value > 0.05


def test_family_wise_error() -> None:
    """Neither factor acts: some adjusted p-value is at most .05 in 5 % of cohorts, some plain one more often."""
    adjusted, plain, draws = [], [], 60
    for seed in range(8_400_000, 8_400_000 + draws):
        cohort = cohort_of(seed, linked=0.0)
        family = invariance_tests(cohort, SIBLINGS, of=["scanner", "stain"], n_permutations=99)
        assert family.adjustment.startswith("Westfall and Young")
        adjusted.append(min(r.details["p_adjusted"] for r in family))
        plain.append(min(r.p_value for r in family))
    rejected = np.sum(np.array(adjusted) <= 0.05)
    assert rejected <= stats.binom.isf(0.0005, draws, 0.05)
    assert rejected < np.sum(np.array(plain) <= 0.05)


def test_joint_questions_and_bad_families() -> None:
    cohort = cohort_of(linked=0.5)
    family = invariance_tests(cohort, SIBLINGS, of=["scanner", ("scanner", "stain")], n_permutations=49)
    assert [result.of for result in family] == ["scanner", "scanner + stain"]
    for of in (["site"], "site", ["site", "site"], [("scanner", "stain"), ("stain", "scanner")]):
        with pytest.raises(DataError, match="two or more different questions"):
            invariance_tests(cohort, SIBLINGS, of=of)
