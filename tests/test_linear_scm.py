import numpy as np
import pytest

from causalfm.datasets.linear_scm import linear_scm, mean_square_distance
from causalfm.errors import DataError


def level_means(cohort, column: str) -> np.ndarray:
    factor = cohort.factor(column)
    return np.stack([cohort.X[factor.codes == c].mean(axis=0) for c in range(factor.n_levels)])


def test_truth_is_the_average_over_many_patients() -> None:
    cohort, truth = linear_scm(
        n_groups=12000, rows_per_group=2, d=6, n_sites=3, n_biology=2, n_scanners=2, site_effect=1.0,
        biology_effect=1.5, scanner_effect=0.7, random_state=3,
    )  # fmt: skip
    for column, vectors in (("site", truth.site), ("tumour", truth.biology), ("scanner", truth.scanner)):
        seen = level_means(cohort, column)
        wanted = vectors - vectors.mean(axis=0)
        # a level mean over 4,000 patients or more has a standard error below sqrt(1.5 / 4000) = .02 per dimension
        assert np.abs(seen - seen.mean(axis=0) - wanted).max() < 0.06, column
    assert np.sqrt(mean_square_distance(truth.site)) == pytest.approx(1.0)
    assert np.sqrt(mean_square_distance(truth.biology)) == pytest.approx(1.5)
    assert np.sqrt(mean_square_distance(truth.scanner)) == pytest.approx(0.7)
    assert truth.site_total() == pytest.approx(truth.site, abs=1e-12)  # every site has the same scanners


def test_mean_square_distance_is_over_pairs() -> None:
    vectors = np.random.default_rng(0).standard_normal((4, 3))
    pairs = [((vectors[i] - vectors[j]) ** 2).sum() for i in range(4) for j in range(i)]
    assert mean_square_distance(vectors) == pytest.approx(np.mean(pairs))


def test_patient_and_row_variance() -> None:
    cohort, _ = linear_scm(
        n_groups=4000,
        rows_per_group=2,
        d=5,
        n_sites=2,
        biology_effect=0.0,
        group_effect=2.0,
        noise=0.5,
        variance_by_site=1.0,
    )
    X = cohort.X.reshape(4000, 2, 5)
    site = cohort.factor("site").codes[::2]
    within = ((X[:, 0] - X[:, 1]) ** 2).sum(axis=1) / 2.0
    between = (X[:, 0] * X[:, 1]).sum(axis=1)  # the rows share the patient only
    assert within.mean() == pytest.approx(0.25, rel=0.1)
    assert between[site == 0].mean() == pytest.approx(4.0, rel=0.15)
    assert between[site == 1].mean() == pytest.approx(16.0, rel=0.15)


def test_design_is_the_same_for_every_seed() -> None:
    settings = {
        "n_groups": 50,
        "n_sites": 3,
        "n_scanners": 2,
        "confounding": 0.4,
        "rows_per_group": 2,
        "site_effect": 1.0,
    }
    (one, truth), (two, again) = (linear_scm(**settings, random_state=s) for s in (0, 1))
    for column in ("patient", "site", "tumour", "scanner"):
        assert one.obs[column].equals(two.obs[column]), column
    assert not np.allclose(one.X, two.X)
    assert np.array_equal(truth.site, again.site)
    assert not np.array_equal(truth.site, linear_scm(**settings, effect_seed=1)[1].site)
    same, _ = linear_scm(**settings, random_state=0)
    assert np.array_equal(one.X, same.X)


def test_confounding_sets_the_shares() -> None:
    cohort, _ = linear_scm(n_groups=400, rows_per_group=1, n_sites=4, n_biology=2, confounding=0.5)
    site, tumour = cohort.factor("site").codes, cohort.factor("tumour").codes
    shares = [np.mean(tumour[site == s] == s % 2) for s in range(4)]
    assert shares == pytest.approx([0.75] * 4)


def test_biology_within_patients_has_the_shares_of_the_site() -> None:
    cohort, _ = linear_scm(
        n_groups=400, rows_per_group=20, n_sites=2, n_biology=2, confounding=0.5, biology_within_group=True
    )
    site, tumour = cohort.factor("site").codes, cohort.factor("tumour").codes
    assert [np.mean(tumour[site == s] == s) for s in (0, 1)] == pytest.approx([0.75, 0.75], abs=0.03)
    both = cohort.obs.groupby("patient")["tumour"].nunique()
    assert (both == 2).mean() > 0.9


def test_nested_scanner() -> None:
    cohort, truth = linear_scm(n_groups=40, n_sites=4, n_scanners=2, scanner_nested=True, scanner_effect=1.0)
    assert (cohort.obs.groupby("site")["scanner"].nunique() == 1).all()
    assert np.array_equal(truth.scanner_given_site, np.eye(2)[[0, 1, 0, 1]])
    assert truth.site_total() == pytest.approx(truth.site + truth.scanner[[0, 1, 0, 1]])


def test_crossed_scanners_meet_every_site_and_class() -> None:
    cohort, _ = linear_scm(n_groups=48, n_sites=3, n_biology=2, n_scanners=2, rows_per_group=1)
    assert (cohort.obs.groupby(["site", "tumour", "scanner"]).size() == 4).all()


def test_sizes_and_ages_by_site() -> None:
    cohort, _ = linear_scm(n_groups=300, n_sites=3, rows_per_group=4, size_by_site=1.0, age_by_site=2.0)
    per_patient = cohort.obs.groupby(["site", "patient"]).agg(rows=("age", "size"), age=("age", "first"))
    by_site = per_patient.groupby("site").agg(low=("rows", "min"), high=("rows", "max"), age=("age", "mean"))
    assert by_site["low"].tolist() == by_site["high"].tolist() == [4, 6, 8]
    assert by_site["age"].tolist() == pytest.approx([50.0, 60.0, 70.0], abs=3.5)  # standard error 1 year
    assert linear_scm(rows_per_group=(2, 6))[0].obs.groupby("patient").size().between(2, 6).all()
    assert "scanner" not in cohort.obs


def test_age_moves_the_embedding() -> None:
    cohort, _ = linear_scm(n_groups=3000, rows_per_group=1, d=4, age_effect=0.5, biology_effect=0.0)
    age = (cohort.numeric("age") - 60.0) / 10.0
    slope = (age[:, None] * cohort.X).mean(axis=0)
    assert np.linalg.norm(slope) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("bad", [{"n_sites": 1}, {"n_biology": 1}, {"confounding": 1.0}, {"confounding": -0.1}])
def test_arguments_are_checked(bad: dict) -> None:
    with pytest.raises(DataError, match="n_sites >= 2"):
        linear_scm(**bad)
