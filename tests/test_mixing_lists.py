"""LISI, kBET and graph connectivity: definitions, limits, what a missing patient changes."""

import numpy as np
import pandas as pd
import pytest
from mixing_samples import (
    GRAPH,
    NESTED,
    clustered,
    codes_of,
    cohort_of,
    effects_of,
    jackknifed,
    three_factors,
    without_each,
)

from causalfm.errors import DataError
from causalfm.metrics import clisi, graph_connectivity, ilisi, kbet, kbet_per_label
from causalfm.metrics.batch_panels import Panel, kbet_tests
from causalfm.metrics.bundles import cell_bundles
from causalfm.metrics.connectivity import connected_shares
from causalfm.metrics.design import design_cells, design_of
from causalfm.metrics.diffusion import diffusion_map, euclidean_lists, fuzzy_graph
from causalfm.metrics.lisi_weights import distances_of, lisi, tuned_weights
from causalfm.metrics.mixing import mixing_lists, permuted_codes
from causalfm.neighbours import Neighbours, knn

LISTED = [ilisi, clisi, kbet, kbet_per_label, graph_connectivity]


def sample(seed: int = 0, counts=((10, 8), (7, 10)), **options):
    return clustered(np.random.default_rng(seed), counts, **{"site": 0.4, "biology": 0.4, **options})


# --- LISI -----------------------------------------------------------------------------------------------------------


def test_weights_have_the_entropy_of_the_perplexity() -> None:
    d = np.sort(np.random.default_rng(0).uniform(0.1, 2.0, (50, 31)), axis=1)
    used = np.ones(d.shape, dtype=bool)
    used[:, 0] = False
    weights = tuned_weights(d, used).weights
    assert (weights[:, 0] == 0).all()
    entropy = -(weights[:, 1:] * np.log(weights[:, 1:])).sum(axis=1)
    np.testing.assert_allclose(entropy, np.log(10), atol=1e-8)


def test_lisi_counts_levels_of_equal_neighbours() -> None:
    d = np.full((3, 12), 0.5)  # no beta reaches the perplexity: ties weigh equally
    codes = np.array([0, 0, 1, 1, 2, 2, 0, 0, 0, 0, 0, 0, 1])
    indices = np.array([[1, 2, 3, 4, 5, 2, 3, 4, 5, 1, 6, 3], [1, 6, 7, 8, 9, 10, 11, 1, 6, 7, 8, 9], [2, 3] * 6])
    shares = np.array([3, 5, 4]) / 12
    expected = [1 / (shares**2).sum(), 1.0, 1.0]
    np.testing.assert_allclose(lisi(d, indices, np.zeros(3, int), codes), expected, atol=1e-12)
    with pytest.raises(DataError, match="at least 6"):
        lisi(d[:, :5], indices[:, :5], np.zeros(3, int), codes)
    with pytest.raises(DataError, match="perplexity=40"):
        lisi(d, indices, np.zeros(3, int), codes, perplexity=40)


def test_copies_are_no_obstacle() -> None:
    d = np.r_[np.zeros(11), 1.0][None]
    value = lisi(d, np.arange(1, 13)[None], np.array([0]), np.array([0] + [0, 1] * 6))
    assert value == pytest.approx(1 / ((6 / 11) ** 2 + (5 / 11) ** 2), abs=1e-6)


def test_limits_of_lisi() -> None:
    rng = np.random.default_rng(1)
    b, s, p = np.repeat([0, 0, 1, 1], 20), np.repeat([0, 1, 0, 1], 20), np.repeat(np.arange(20), 4)
    apart = cohort_of(np.eye(4)[s] + 0.01 * rng.standard_normal((80, 4)), b, s, p)
    one_site = ilisi(apart, GRAPH, k=12, standardised=False)
    assert one_site.value == pytest.approx(0, abs=1e-9)
    assert np.isnan(one_site.low)
    assert "spread is unknown" in one_site.details["interval"]
    pure = cohort_of(np.eye(4)[b] + 0.01 * rng.standard_normal((80, 4)), b, s, p)
    assert clisi(pure, GRAPH, k=12, standardised=False).value == pytest.approx(1, abs=1e-9)
    assert ilisi(pure, GRAPH, k=24, standardised=False).value > 0.7


def median_lisi(cohort, column: str, k: int = 18) -> np.ndarray:
    found = knn(cohort.X, k, exclude=cohort.factor("patient").codes)
    return lisi(distances_of(found.similarity), found.indices, found.queries, cohort.factor(column).codes)


@pytest.mark.parametrize(("metric", "column", "sign"), [(ilisi, "site", -1), (clisi, "tumour", 1)])
def test_what_a_patient_adds_to_the_median(metric, column: str, sign: int) -> None:
    cohort = sample(tiles=4, patient=1.0)
    estimate = metric(cohort, GRAPH, k=18, standardised=False)
    whole = median_lisi(cohort, column)
    middle = np.median(whole)
    index = middle - 1 if metric is ilisi else 2 - middle
    assert estimate.value == pytest.approx(index, abs=1e-6)
    without = without_each(cohort, lambda part: float((median_lisi(part, column) <= middle + 1e-9).mean()))
    brute, ours = jackknifed((whole <= middle).mean(), without), effects_of(estimate)
    slope = np.polyfit(brute, ours, 1)[0]  # of the median against the share of rows below it
    assert slope * sign > 0
    assert np.corrcoef(brute, ours)[0, 1] * sign > 0.98
    assert np.abs(ours / slope - brute).max() * len(whole) < 1.5  # beta makes one step only: a row more or less
    assert estimate.low < estimate.value < estimate.high
    ends = np.quantile(whole, [0.5 - 0.2, 0.5 + 0.2]) - 1
    low, high = (estimate.low, estimate.high) if metric is ilisi else (1 - estimate.high, 1 - estimate.low)
    assert ends[0] < low < high < ends[1]


# --- kBET -----------------------------------------------------------------------------------------------------------


def test_kbet_is_pearsons_test() -> None:
    from scipy.stats import chisquare

    rng = np.random.default_rng(2)
    codes = np.repeat([0, 1, 2], [50, 30, 20])
    indices = rng.integers(0, 100, (40, 15))
    statistic, p = kbet_tests(indices, codes)
    for i in range(40):
        known = chisquare(np.bincount(codes[indices[i]], minlength=3), 15 * np.array([0.5, 0.3, 0.2]))
        assert (statistic[i], p[i]) == pytest.approx((known.statistic, known.pvalue), abs=1e-10)
    assert np.isnan(kbet_tests(indices, np.zeros(100, int))[1]).all()


def test_limits_of_kbet() -> None:
    rng = np.random.default_rng(3)
    b, s, p = np.repeat([0, 1, 0, 1], 30), np.repeat([0, 0, 1, 1], 30), np.arange(120)
    apart = cohort_of(np.eye(3)[s] + 0.01 * rng.standard_normal((120, 3)), b, s, p)
    assert kbet(apart, GRAPH, k=20, standardised=False).value == 0
    mixed = cohort_of(rng.standard_normal((120, 5)), b, s, p)
    estimate = kbet(mixed, GRAPH, k=20, standardised=False)
    assert estimate.low < estimate.chance < estimate.high
    for alpha in (0, 1.0, "5%"):
        with pytest.raises(DataError, match="alpha="):
            kbet(mixed, GRAPH, alpha=alpha)


def test_what_a_patient_adds_to_kbet_is_exact() -> None:
    cohort = sample(counts=((9, 4), (5, 8)))

    def value(part) -> float:
        found = knn(part.X, 12, exclude=part.factor("patient").codes)
        return float((kbet_tests(found.indices, part.factor("site").codes)[1] >= 0.05).mean())

    estimate = kbet(cohort, GRAPH, k=12, standardised=False)
    assert estimate.value == value(cohort)
    np.testing.assert_allclose(effects_of(estimate), jackknifed(value(cohort), without_each(cohort, value)), atol=1e-12)


def test_kbet_per_label_says_what_it_leaves_out() -> None:
    rng = np.random.default_rng(4)
    counts = [[12, 12], [3, 0], [0, 10], [10, 9]]  # too few rows; one site; and two that can be tested
    cohort = clustered(rng, counts, biology=2)
    estimate = kbet_per_label(cohort, GRAPH, k=10)
    records = {record["label"]: record for record in estimate.details["labels"]}
    assert records["1"]["left_out"] == "one level only"
    assert records["2"]["left_out"] == "one level only"
    few = clustered(rng, [[12, 12], [2, 1]], biology=2)
    assert "fewer than 10 rows" in kbet_per_label(few, GRAPH, k=8).details["labels"][1]["left_out"]
    scores = [records[label]["score"] for label in "03"]
    assert estimate.value == pytest.approx(np.mean(scores))
    assert [records[label]["k0"] for label in "03"] == [10, 10]
    assert estimate.details["left_out"] == 2
    alone = clustered(rng, [[12, 0], [0, 12]], biology=2)
    nothing = kbet_per_label(alone, GRAPH, k=10)
    assert np.isnan(nothing.value)
    assert nothing.details["reason"].startswith("cannot tell")


def test_a_class_in_pieces_is_not_mixed_and_large_pieces_are_searched_one_by_one() -> None:
    rng = np.random.default_rng(5)
    b, s, p = np.repeat([0, 1], 120), np.tile([0, 1], 120), np.arange(240)
    piece = np.r_[np.arange(120) // 20, np.arange(120) // 60 + 6]  # six small pieces, two large ones
    cohort = cohort_of(np.eye(8)[piece] + 0.01 * rng.standard_normal((240, 8)), b, s, p)
    small, large = kbet_per_label(cohort, GRAPH, k=10).details["labels"]
    assert (small["parts"], small["usable"], small["score"]) == (6, 0, 0)
    assert (large["parts"], large["usable"]) == (2, 1)
    assert large["score"] > 0.5


def test_what_a_patient_adds_to_kbet_per_label_with_the_map_held_fixed() -> None:
    cohort = sample(counts=((8, 7), (7, 8)), biology=1.0)
    b, s, g = codes_of(cohort)
    found = knn(cohort.X, 12, exclude=g)
    links = fuzzy_graph(distances_of(found.similarity), found.indices, found.queries, len(b))
    estimate = kbet_per_label(cohort, GRAPH, k=12)
    k0 = estimate.details["labels"][0]["k0"]

    def value(keep: np.ndarray) -> float:
        scores = []
        for label in (0, 1):
            rows = np.flatnonzero(b == label)
            Y = diffusion_map(links[rows][:, rows], 100, 0)
            left = keep[rows]
            lists = euclidean_lists(Y[left], k0, g[rows][left], 0)
            scores.append((kbet_tests(lists.indices, s[rows][left])[1] >= 0.05).mean())
        return float(np.mean(scores))

    everyone = np.ones(len(b), dtype=bool)
    assert estimate.value == pytest.approx(value(everyone), abs=1e-12)
    without = np.array([value(g != one) for one in range(30)])
    np.testing.assert_allclose(effects_of(estimate), jackknifed(estimate.value, without), atol=1e-9)


# --- graph connectivity ---------------------------------------------------------------------------------------------


def test_connected_shares_follow_directions() -> None:
    codes = np.array([0, 0, 0, 0, 1, 1])
    indices = np.array([[1], [2], [0], [0], [5], [0]])  # a ring of three, one that is nobody's neighbour; a dead end
    np.testing.assert_allclose(connected_shares(indices, np.arange(6), codes), [0.75, 0.5])


def test_connectivity_and_what_a_patient_adds() -> None:
    cohort = sample(counts=((5, 6), (6, 5)), biology=0.5, tiles=2)

    def value(part) -> float:
        groups, labels = part.factor("patient").codes, part.factor("tumour").codes
        return float(connected_shares(knn(part.X, 3, exclude=groups).indices, np.arange(len(part)), labels).mean())

    estimate = graph_connectivity(cohort, GRAPH, k=3)
    assert estimate.value == value(cohort) < 1
    np.testing.assert_allclose(
        effects_of(estimate), jackknifed(estimate.value, without_each(cohort, value)), atol=1e-12
    )
    short = knn(cohort.X, 3, exclude=codes_of(cohort)[2])  # no reserve: lists are searched again
    again = graph_connectivity(cohort, GRAPH, k=3, neighbours=short)
    np.testing.assert_allclose(effects_of(again), effects_of(estimate), atol=1e-12)


def test_bundles_are_equal_parts_of_cells() -> None:
    cohort = sample(counts=((20, 12), (9, 1)), tiles=1)
    cells = design_cells(design_of(cohort, GRAPH))
    bundle = cell_bundles(cells, 14)  # three to a bundle
    assert (cells == cells[np.unique(bundle, return_index=True)[1]][bundle]).all()
    sizes = pd.Series(bundle).groupby(cells).agg(lambda one: sorted(np.bincount(one)[np.unique(one)])).tolist()
    assert sorted(map(len, sizes)) == [1, 3, 4, 7]
    assert all(max(one) - min(one) <= 1 for one in sizes)
    assert sorted(cell_bundles(cells, 42)) == list(range(42))
    large = graph_connectivity(sample(counts=((20, 20), (20, 20)), tiles=1, biology=0.5), GRAPH, k=3)
    assert "jackknife over 28 bundles of patients" in large.details["interval"]
    assert (large.influence.strata >= 0).sum() == 28


# --- all of them ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", LISTED)
def test_invariances_and_a_given_search(metric) -> None:
    rng = np.random.default_rng(6)
    cohort = sample()
    options = {"k": 10} | ({} if metric in (graph_connectivity, kbet_per_label) else {"standardised": False})
    base = metric(cohort, GRAPH, **options)
    renamed = cohort.obs.assign(tumour=cohort.obs["tumour"].map({"0": "z", "1": "a"}))
    scale = rng.uniform(0.1, 10, (len(cohort), 1)).astype(np.float32)
    for other in (
        cohort[rng.permutation(len(cohort))],
        cohort.replace(obs=renamed),
        cohort.replace(X=cohort.X * scale),
    ):
        again = metric(other, GRAPH, **options)
        assert again.value == pytest.approx(base.value, abs=1e-6)
        assert (again.low, again.high) == pytest.approx((base.low, base.high), abs=0.02)
    given = knn(cohort.X, 20, exclude=codes_of(cohort)[2], reserve=4)
    shared = metric(cohort, GRAPH, neighbours=given, **options)
    assert shared.value == pytest.approx(base.value, abs=1e-12)
    assert (shared.low, shared.high) == pytest.approx((base.low, base.high), abs=1e-9)
    assert metric(cohort, GRAPH, **options).to_dict() == base.to_dict()
    with pytest.raises(DataError, match="leave neighbours out"):
        metric(cohort, GRAPH, neighbours=given, exclude_groups=False, **options)
    with pytest.raises(DataError, match="larger than the shortest"):
        metric(cohort, GRAPH, **options | {"k": len(cohort)})


@pytest.mark.parametrize("metric", [kbet_per_label, graph_connectivity])
def test_a_graph_needs_all_lists(metric) -> None:
    cohort = sample()
    some = knn(cohort.X, 10, exclude=codes_of(cohort)[2], queries=40)
    with pytest.raises(DataError, match="40 of 105 rows"):
        metric(cohort, GRAPH, k=10, neighbours=some)
    assert ilisi(cohort, GRAPH, k=10, neighbours=some, standardised=False).details["queries"] == 40


def test_rows_of_one_patient_do_not_count_unless_asked() -> None:
    rng = np.random.default_rng(7)
    cohort = clustered(rng, [[10, 10], [10, 10]], tiles=10, patient=3)
    ours, peers = (kbet(cohort, GRAPH, k=10, exclude_groups=x, standardised=False) for x in (True, False))
    assert peers.value < 0.3 < ours.value
    assert peers.chance < 0.3  # permuted patients show that it is the patients, not the site
    assert np.isfinite([peers.low, peers.high]).all()


def test_a_nested_factor_is_compared_within_its_cause() -> None:
    rng = np.random.default_rng(8)
    cohort = three_factors(rng)
    mixed = ilisi(cohort, NESTED, confounder="scanner", k=12)
    assert mixed.details["within"] == ["site"]
    assert mixed.value == pytest.approx(mixed.chance, abs=0.15)
    assert mixed.low < mixed.chance < mixed.high
    whole = ilisi(cohort, NESTED, confounder="scanner", k=12, within=(), standardised=False)
    assert whole.value < mixed.value - 0.1  # four scanners, of which a neighbourhood holds the two of its site
    apart = kbet(three_factors(rng, scanner=4.0), NESTED, confounder="scanner", k=12)
    assert apart.value < 0.3 < apart.chance
    assert apart.details["standardised"].value < 0.3
    for metric in (kbet_per_label, graph_connectivity):
        labels = metric(cohort, NESTED, confounder="scanner", k=12).details["labels"]
        assert len(labels) == 4  # two classes in two sites
    one = cohort.replace(obs=cohort.obs.assign(scanner="S" + cohort.obs["site"]))
    void = ilisi(one, NESTED, confounder="scanner", k=12)
    assert np.isnan(void.value)
    assert "one level only" in void.details["reason"]
    assert void.details["left_out"] == len(cohort)


def test_permuted_labels_keep_patients_whole_and_shares_alike() -> None:
    rng = np.random.default_rng(9)
    groups = np.repeat(np.arange(30), rng.integers(1, 9, 30))
    strata = groups % 2
    fixed = (groups % 4 // 2) + 2 * strata  # two labels in each stratum, one per group
    varying = rng.integers(0, 2, len(groups)) * (groups < 10)
    seen = []
    for labels in permuted_codes(fixed, groups, strata, 0, 30):
        assert all(len(np.unique(labels[groups == g])) == 1 for g in range(30))
        assert (labels // 2 == strata).all()
        counts = [len(np.unique(groups[labels == level])) for level in range(4)]
        assert counts == [len(np.unique(groups[fixed == level])) for level in range(4)]
        seen.append((labels != fixed).any())
    assert all(seen)
    means = [labels.mean() for labels in permuted_codes(varying, groups, np.zeros_like(groups), 0, 200)]
    assert np.mean(means) == pytest.approx(varying.mean(), abs=0.03)


def test_a_level_that_hangs_on_one_patient_has_no_interval() -> None:
    cohort = sample(counts=((8, 1), (8, 0)))
    estimate = kbet(cohort, GRAPH, k=8, standardised=False)
    assert 0 <= estimate.value <= 1
    assert "one level is left" in estimate.details["interval"]
    assert estimate.influence is None


def test_lists_are_needed_beyond_a_patient() -> None:
    cohort = sample(counts=((2, 2), (2, 2)), tiles=2)
    for metric in (ilisi, kbet):
        estimate = metric(cohort, GRAPH, k=14, standardised=False)
        assert np.isfinite(estimate.value)
        assert "choose a smaller k" in estimate.details["interval"]
    design = design_of(cohort, GRAPH)
    lists, search = mixing_lists(cohort.X, design, 14, None, True)
    assert isinstance(lists, Neighbours)
    assert isinstance(Panel(lists, search, np.arange(16), design.groups).without(design.confounder, 0.05), str)
