"""Clustering score beside a plain implementation of PathoROB's formula."""

import numpy as np
import pytest
from mixing_samples import GRAPH, NESTED, clustered, codes_of, cohort_of, effects_of, three_factors
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, silhouette_score
from sklearn.preprocessing import normalize

from causalfm.errors import DataError
from causalfm.metrics import clustering_score
from causalfm.metrics.clusters import agreement, number_of_clusters

FAST = {"runs": 6, "cap": 6}


def plain_score(X, y, c, *, cap: int, runs: int) -> tuple[float, int]:
    """PathoROB: K by the cosine silhouette of 20 random starts, then runs of 5 with seeds 1337, 1338, ..."""
    X = normalize(X)
    scores = {}
    for k in range(2, cap + 1):
        labels = KMeans(k, init="random", n_init=20, random_state=1337).fit_predict(X)
        scores[k] = silhouette_score(X, labels, metric="cosine")
    k = max(scores, key=scores.get)
    values = []
    for run in range(runs):
        labels = KMeans(k, init="random", n_init=5, random_state=1337 + run).fit_predict(X)
        values.append(adjusted_rand_score(y, labels) - adjusted_rand_score(c, labels))
    return float(np.mean(values)), k


@pytest.mark.parametrize("d", [6, 200])  # fewer and more dimensions than rows
def test_parity_with_the_published_formula(d: int) -> None:
    cohort = clustered(np.random.default_rng(0), [[7, 6, 5], [6, 7, 6]], d=d, tiles=2, biology=0.9, site=0.8)
    estimate = clustering_score(cohort, GRAPH, balanced=False, **FAST)
    b, s, _ = codes_of(cohort)
    plain = []
    for levels in ((0, 1), (0, 2), (1, 2)):
        rows = np.isin(s, levels)
        plain.append(plain_score(cohort.X[rows], b[rows], s[rows], **FAST))
    tables = estimate.details["tables"]
    np.testing.assert_allclose([table["value"] for table in tables], [value for value, _ in plain], atol=1e-9)
    assert [table["clusters"] for table in tables] == [k for _, k in plain]
    assert estimate.value == pytest.approx(np.mean([value for value, _ in plain]), abs=1e-9)


def test_agreement_is_the_difference_of_two_rand_indices() -> None:
    rng = np.random.default_rng(1)
    labels, y, c = rng.integers(0, 5, (4, 60)), rng.integers(0, 2, 60), rng.integers(0, 3, 60)
    labels[3] = y
    expected = [adjusted_rand_score(y, one) - adjusted_rand_score(c, one) for one in labels]
    np.testing.assert_allclose(agreement(labels, y, c), expected, atol=1e-12)
    assert agreement(np.zeros((1, 60), int), y, c) == [0.0]  # one cluster agrees with neither


def test_limits_chance_and_interval() -> None:
    counts = [[8, 8], [8, 8]]
    classes, sites, noise = (
        clustering_score(clustered(np.random.default_rng(2), counts, **shift), GRAPH, **FAST)
        for shift in ({"biology": 2.0}, {"site": 2.0}, {})
    )
    assert classes.value == pytest.approx(1, abs=0.02)  # a Rand index with the sites is a little below 0
    assert sites.value == pytest.approx(-1, abs=0.02)
    assert noise.low < noise.chance < noise.high
    for estimate in (classes, sites, noise):
        assert abs(estimate.chance) < 0.1
    mixed = clustering_score(clustered(np.random.default_rng(2), counts, biology=0.8, site=0.6), GRAPH, **FAST)
    assert sites.value < mixed.low < mixed.value < mixed.high
    assert "bundles of patients" in mixed.details["interval"]
    assert "number of clusters fixed" in mixed.details["interval"]


def test_a_cut_number_of_clusters_is_said() -> None:
    p = np.repeat(np.arange(24), 4)  # every patient is a cluster
    X = 10 * np.eye(24)[p] + 0.1 * np.random.default_rng(3).standard_normal((96, 24))
    cohort = cohort_of(X, p % 2, p // 2 % 2, p)
    estimate = clustering_score(cohort, GRAPH, runs=2, cap=5)
    assert estimate.details["at_cap"] == 1
    assert estimate.details["tables"][0]["clusters"] == 5
    assert clustering_score(cohort, GRAPH, runs=2, cap=40).details["at_cap"] == 0
    X = np.eye(6)[np.repeat([0, 1, 2], 2)].astype(np.float32)
    assert number_of_clusters(X, cap=30)[0] == 3


def test_balanced_tables_and_what_is_dropped() -> None:
    cohort = clustered(np.random.default_rng(4), [[12, 5, 2], [6, 9, 8]], biology=0.8, site=0.5)
    estimate = clustering_score(cohort, GRAPH, **FAST)
    (table,), dropped = estimate.details["tables"], estimate.details["dropped"]
    assert (table["levels"], table["rows"]) == (["0", "1"], 4 * 5 * 3)
    assert [one["levels"] for one in dropped] == [["0", "2"], ["1", "2"]]
    used = estimate.influence.strata >= 0
    assert 8 <= used.sum() <= 20
    assert (effects_of(estimate)[~used] == 0).all()
    again = clustering_score(cohort, GRAPH, **FAST)
    assert again.to_dict() == estimate.to_dict()
    void = clustering_score(cohort, GRAPH, min_groups=13)
    assert np.isnan(void.value)
    assert void.details["reason"].startswith("cannot tell")
    for wrong in ({"runs": 1}, {"cap": 1}, {"min_groups": 1}, {"max_rows": 2}, {"random_state": -1}, {"max_tables": 0}):
        with pytest.raises(DataError, match=next(iter(wrong))):
            clustering_score(cohort, GRAPH, **wrong)


def test_a_sample_of_tables_is_counted() -> None:
    cohort = clustered(np.random.default_rng(4), [[6, 6, 6], [6, 6, 6]], biology=0.8, site=0.5)
    whole = clustering_score(cohort, GRAPH, **FAST)
    some = clustering_score(cohort, GRAPH, max_tables=2, **FAST)
    assert (whole.details["tables_not_sampled"], some.details["tables_not_sampled"]) == (0, 1)
    assert some.value == np.mean([table["value"] for table in some.details["tables"]])
    assert len(some.details["tables"]) == 2


def test_tables_within_the_cause_of_a_nested_factor() -> None:
    cohort = three_factors(np.random.default_rng(5), scanner=9.0)
    estimate = clustering_score(cohort, NESTED, confounder="scanner", **FAST)
    assert [table["within"] for table in estimate.details["tables"]] == ["0", "1"]
    assert estimate.value < -0.8
