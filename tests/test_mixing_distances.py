"""Silhouettes and PC regression: definitions, limits, what a missing patient changes."""

import numpy as np
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
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.metrics import pairwise_distances
from sklearn.metrics import silhouette_samples as sklearn_widths

from causalfm.errors import DataError
from causalfm.metrics import (
    bras,
    isolated_labels,
    pc_regression,
    pcr_comparison,
    silhouette_batch,
    silhouette_label,
    silhouette_pass,
)
from causalfm.metrics import silhouette_sums as passes
from causalfm.metrics.explained import explained_share
from causalfm.metrics.silhouette_widths import Comparison, silhouette_widths

SILHOUETTES = [silhouette_label, silhouette_batch, bras, isolated_labels]


def sample(seed: int = 0, counts=((8, 6, 5), (5, 7, 6), (4, 6, 0)), **options):
    return clustered(np.random.default_rng(seed), counts, **{"site": 0.3, "biology": 0.5, **options})


def by_hand(cohort, kind: str, exclude: bool, metric: str = "cosine") -> float:
    """Loops over rows and clusters, as the definitions read."""
    b, s, g = codes_of(cohort)
    d = pairwise_distances(cohort.X.astype(np.float64), metric=metric)
    outer, cluster = (np.zeros_like(b), b) if kind == "label" else (b, s)
    scores = np.full(len(b), np.nan)
    for i in range(len(b)):
        others = (outer == outer[i]) & ((g != g[i]) if exclude else (np.arange(len(b)) != i))
        means = {c: d[i, others & (cluster == c)].mean() for c in np.unique(cluster[others])}
        own = means.pop(cluster[i], np.nan)
        other = np.nan if not means else min(means.values())
        if kind == "bras" and means:
            other = d[i, others & (cluster != cluster[i])].mean()
        width = (other - own) / max(own, other)
        scores[i] = (width + 1) / 2 if kind == "label" else 1 - abs(width)
    if kind == "label":
        return float(np.nanmean(scores))
    means = [scores[b == label] for label in np.unique(b)]
    return float(np.mean([np.nanmean(one) for one in means if not np.isnan(one).all()]))


# --- silhouettes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exclude", [True, False])
@pytest.mark.parametrize(("metric", "kind"), [(silhouette_label, "label"), (silhouette_batch, "batch"), (bras, "bras")])
def test_silhouettes_are_what_the_definitions_say_and_so_is_the_jackknife(metric, kind: str, exclude: bool) -> None:
    cohort = sample()
    estimate = metric(cohort, GRAPH, exclude_groups=exclude, standardised=False)
    assert estimate.value == pytest.approx(by_hand(cohort, kind, exclude), abs=1e-6)
    without = without_each(cohort, lambda part: by_hand(part, kind, exclude))
    np.testing.assert_allclose(effects_of(estimate), jackknifed(estimate.value, without), atol=1e-6)
    assert np.abs(effects_of(estimate)).max() > 1e-3
    assert estimate.low < estimate.value < estimate.high


def test_widths_equal_sklearn() -> None:
    rng = np.random.default_rng(1)
    X, labels = rng.standard_normal((120, 6)) + 5, rng.integers(0, 4, 120)
    for metric in ("cosine", "euclidean"):
        found = silhouette_widths(
            X, np.arange(120), {"a": Comparison(np.zeros(120, int), labels, 4)}, metric=metric, exclude_groups=False
        )["a"]
        np.testing.assert_allclose(found.values, sklearn_widths(X, labels, metric=metric), atol=2e-6)


def test_pair_effects_belong_to_the_lists_of_others() -> None:
    """The effect of a patient is its own rows' part and the sum of what its absence changes in other patients' rows."""
    cohort = sample()
    g = codes_of(cohort)[2]
    comparison = Comparison(np.zeros(len(g), int), codes_of(cohort)[0], 3)
    found = silhouette_widths(cohort.X, g, {"label": comparison})["label"]
    keep = np.flatnonzero(g != 3)
    part = Comparison(np.zeros(len(keep), int), comparison.cluster[keep], 3)
    again = silhouette_widths(cohort.X[keep], g[keep], {"label": part})["label"].values
    change = np.bincount(g[keep], again - found.values[keep], int(g.max()) + 1)
    of_groups = np.zeros((int(g.max()) + 1,) * 2)
    np.add.at(of_groups, found.unit_bundle, found.pairs)
    np.testing.assert_allclose(of_groups[:, 3], change, atol=1e-6)


def test_classes_within_patients_are_right_to_first_order() -> None:
    rng = np.random.default_rng(2)
    p = np.repeat(np.arange(30), 6)
    b, s = np.tile([0, 0, 0, 1, 1, 1], 30), p % 2
    X = rng.standard_normal((180, 8)) + np.eye(8)[b] * 1.5 + 0.7 * rng.standard_normal((30, 8))[p]
    cohort = cohort_of(X, b, s, p)
    for metric, kind in ((silhouette_label, "label"), (silhouette_batch, "batch")):
        estimate = metric(cohort, GRAPH, standardised=False)
        brute = jackknifed(estimate.value, without_each(cohort, lambda part, kind=kind: by_hand(part, kind, True)))
        assert np.abs(effects_of(estimate) - brute).max() < 0.05 * np.abs(brute).max()


def test_limits_of_silhouettes() -> None:
    rng = np.random.default_rng(3)
    b, s, p = np.repeat([0, 0, 1, 1], 20), np.repeat([0, 1, 0, 1], 20), np.repeat(np.arange(40), 2)
    classes = cohort_of(np.eye(4)[b] + 0.01 * rng.standard_normal((80, 4)), b, s, p)
    assert silhouette_label(classes, GRAPH).value > 0.99
    mixed = silhouette_batch(classes, GRAPH, standardised=False)
    assert mixed.low < mixed.chance < mixed.high
    sites = cohort_of(np.eye(4)[s] + 0.01 * rng.standard_normal((80, 4)), b, s, p)
    apart = silhouette_batch(sites, GRAPH)
    assert apart.value < 0.01
    assert apart.details["standardised"].value < 0.01
    assert bras(sites, GRAPH).value == apart.value  # two sites: the same
    nothing = silhouette_label(sites, GRAPH, standardised=False)
    assert nothing.value == pytest.approx(nothing.chance, abs=0.02)
    copies = cohort_of(np.ones((80, 4)), b, s, p)
    assert silhouette_label(copies, GRAPH, standardised=False).value == 0.5
    with pytest.raises(DataError, match="2 zero or non-finite rows"):
        silhouette_label(cohort_of(np.r_[np.zeros((2, 4)), np.ones((78, 4))], b, s, p), GRAPH)
    with pytest.raises(DataError, match="metric='manhattan'"):
        bras(classes, GRAPH, metric="manhattan")


def test_what_cannot_be_compared_is_left_out_and_said() -> None:
    cohort = sample(counts=((8, 6), (7, 0), (1, 8)))
    estimate = silhouette_batch(cohort, GRAPH)
    records = {record["label"]: record for record in estimate.details["labels"]}
    assert records["1"]["left_out"] == "one site only"
    assert estimate.details["left_out"] == 7 * 3 + 3  # class 1, and the only patient of its cell
    assert estimate.value == pytest.approx(np.mean([records["0"]["score"], records["2"]["score"]]))
    void = bras(sample(counts=((8, 0), (0, 8))), GRAPH)
    assert np.isnan([void.value, void.low, void.high, void.chance]).all()
    assert void.details["reason"].startswith("cannot tell")


def test_isolated_labels_names_them() -> None:
    cohort = sample(counts=((8, 6, 5), (5, 7, 0), (6, 0, 0)), biology=1.5)
    label = silhouette_label(cohort, GRAPH, standardised=False)
    by_class = {record["label"]: record["score"] for record in label.details["labels"]}
    one = isolated_labels(cohort, GRAPH)
    assert (one.details["isolated"], one.value) == (["2"], pytest.approx(by_class["2"]))
    two = isolated_labels(cohort, GRAPH, most_levels=2)
    assert (two.details["isolated"], two.value) == (["1", "2"], pytest.approx((by_class["1"] + by_class["2"]) / 2))

    def value(part) -> float:
        return isolated_labels(part, GRAPH, most_levels=2).value

    np.testing.assert_allclose(effects_of(two), jackknifed(two.value, without_each(cohort, value)), atol=1e-6)
    everywhere = sample(counts=((4, 4), (4, 4)))
    assert isolated_labels(everywhere, GRAPH).details["isolated"] == ["0", "1"]
    assert "reason" in isolated_labels(everywhere, GRAPH, most_levels=1).details


def test_one_pass_serves_all() -> None:
    cohort = sample()
    shared = silhouette_pass(cohort, GRAPH)
    for metric in SILHOUETTES:
        options = {} if metric is isolated_labels else {"standardised": False}
        alone, passed = metric(cohort, GRAPH, **options), metric(cohort, GRAPH, passed=shared, **options)
        assert (alone.value, alone.low, alone.high) == pytest.approx((passed.value, passed.low, passed.high), abs=1e-7)
        assert alone.chance == pytest.approx(passed.chance, abs=1e-6)
    other = cohort.replace(X=cohort.X + np.float32(0.1))  # another encoder on the same rows
    for wrong in (cohort[np.arange(0, len(cohort), 2)], other):
        with pytest.raises(DataError, match="other embeddings, rows or roles"):
            bras(wrong, GRAPH, passed=shared)
    with pytest.raises(DataError, match="but not bras"):
        bras(cohort, GRAPH, passed=silhouette_pass(cohort, GRAPH, kinds=["label"]))
    with pytest.raises(DataError, match="silhouette_pass"):
        bras(cohort, GRAPH, passed=3)


def test_many_patients_are_left_out_in_bundles(monkeypatch) -> None:
    cohort = sample(counts=((30, 30), (30, 30)), tiles=1)
    single = bras(cohort, GRAPH, standardised=False)
    monkeypatch.setattr(passes, "MOST_BUNDLES", 40)
    bundled = bras(cohort, GRAPH, standardised=False)
    assert bundled.value == single.value
    assert "jackknife over 40 bundles of patients" in bundled.details["interval"]
    assert (bundled.high - bundled.low) / (single.high - single.low) == pytest.approx(1, abs=0.35)


def test_a_sample_of_rows() -> None:
    cohort = sample(counts=((30, 30), (30, 30)), tiles=4)
    part = silhouette_label(cohort, GRAPH, max_rows=250, standardised=False)
    assert (part.n, part.details["rows_not_sampled"], part.n_groups) == (240, 240, 120)
    assert part.value == pytest.approx(silhouette_label(cohort, GRAPH, standardised=False).value, abs=0.01)


def test_silhouettes_within_the_cause_of_a_nested_factor() -> None:
    cohort = three_factors(np.random.default_rng(4), scanner=4.0)
    within = silhouette_batch(cohort, NESTED, confounder="scanner")
    assert [record["within"] for record in within.details["labels"]] == ["0", "1"] * 2
    assert within.value < 0.5 < within.chance
    assert within.details["standardised"].value < 0.5
    scanner, (b, s, g) = cohort.factor("scanner").codes, codes_of(cohort)
    means = []
    for label in (0, 1):
        for site in (0, 1):
            rows = np.flatnonzero((b == label) & (s == site))
            nothing = np.zeros(len(rows), int)
            one = silhouette_widths(cohort.X[rows], g[rows], {"a": Comparison(nothing, scanner[rows], 4)})["a"].values
            means.append((1 - np.abs(one)).mean())
    assert within.value == pytest.approx(np.mean(means), abs=1e-6)


# --- PC regression --------------------------------------------------------------------------------------------------


def test_pc_regression_is_the_sum_over_components() -> None:
    rng = np.random.default_rng(5)
    X, codes = rng.standard_normal((60, 5)) @ rng.standard_normal((5, 5)), rng.integers(0, 3, 60)
    X[:, 1] += codes
    parts = PCA().fit(X)
    onehot = np.eye(3)[codes]
    r2 = [LinearRegression().fit(onehot, y).score(onehot, y) for y in parts.transform(X).T]
    expected = float(np.dot(r2, parts.explained_variance_) / parts.explained_variance_.sum())
    assert explained_share(X + 100, codes) == pytest.approx(expected, abs=1e-10)
    assert explained_share(X, (codes + 1) % 3) == pytest.approx(expected, abs=1e-10)  # names of levels do not matter
    strata = rng.integers(0, 2, 60)
    left = [X[strata == t] - X[strata == t].mean(axis=0) for t in (0, 1)]
    again = sum(explained_share(part, codes[strata == t]) * (part**2).sum() for t, part in enumerate(left))
    assert explained_share(X, codes, strata) == pytest.approx(again / sum((part**2).sum() for part in left), abs=1e-10)


@pytest.mark.parametrize("factor", [1e200, 1e-200])
def test_the_scale_of_the_numbers_does_not_matter(factor: float) -> None:
    cohort = sample(counts=((4, 4), (4, 4)))
    far = cohort.replace(X=cohort.X.astype(np.float64) * factor)
    for metric in (pc_regression, silhouette_batch):
        options = {"standardised": False} | ({"metric": "euclidean"} if metric is silhouette_batch else {})
        near, other = metric(cohort, GRAPH, **options), metric(far, GRAPH, **options)
        assert (other.value, other.low, other.high) == pytest.approx((near.value, near.low, near.high), abs=1e-5)


def test_what_a_patient_adds_to_pc_regression_is_exact() -> None:
    cohort = sample(counts=((8, 6, 1), (5, 7, 6)))

    def value(part) -> float:
        return explained_share(part.X, part.factor("site").codes)

    estimate = pc_regression(cohort, GRAPH, standardised=False)
    assert estimate.value == pytest.approx(value(cohort), abs=1e-12)
    np.testing.assert_allclose(
        effects_of(estimate), jackknifed(estimate.value, without_each(cohort, value)), atol=1e-12
    )
    assert estimate.low < estimate.value < estimate.high
    g = codes_of(cohort)[2]
    s, X = cohort.factor("site").codes, cohort.X - cohort.X.mean(axis=0)
    sums = np.stack([X[g == one].sum(axis=0) for one in range(int(g.max()) + 1)])
    size, level = np.bincount(s), s[np.unique(g, return_index=True)[1]]
    pair = float(sums[0] @ sums[1]) * ((level[0] == level[1]) / size[level[0]] - 1 / len(s)) / float((X**2).sum())
    assert estimate.influence.pairs[0, 1] == pytest.approx(pair, rel=1e-5)


def test_sites_within_patients_count_as_well() -> None:
    rng = np.random.default_rng(6)
    p = np.repeat(np.arange(20), 4)
    cohort = cohort_of(rng.standard_normal((80, 3)) + np.eye(3)[np.tile([0, 1, 0, 1], 20)], p % 2, [0, 1] * 40, p)

    def value(part) -> float:
        return explained_share(part.X, part.factor("site").codes)

    estimate = pc_regression(cohort, GRAPH, standardised=False)
    np.testing.assert_allclose(
        effects_of(estimate), jackknifed(estimate.value, without_each(cohort, value)), atol=1e-12
    )
    assert estimate.value > 5 * estimate.chance  # levels are permuted within patients


def test_pcr_comparison() -> None:
    before = sample(counts=((8, 6), (5, 7)), site=0.8)
    s = before.factor("site").codes
    centred = before.X - np.stack([before.X[s == k].mean(axis=0) for k in (0, 1)])[s]
    assert pcr_comparison(before, before, GRAPH).value == 0
    assert pcr_comparison(before, before.replace(X=centred), GRAPH).value == pytest.approx(1, abs=1e-9)
    half = before.replace(X=before.X - 0.5 * (before.X - centred))
    estimate = pcr_comparison(before, half, GRAPH)
    assert 0 < estimate.low < estimate.value < estimate.high < estimate.chance

    def value(part) -> float:
        after = half[half.obs.index.get_indexer(part.obs.index)]
        codes = part.factor("site").codes
        return 1 - explained_share(after.X, codes) / explained_share(part.X, codes)

    np.testing.assert_allclose(
        effects_of(estimate), jackknifed(estimate.value, without_each(before, value)), atol=1e-12
    )
    worse = before.replace(X=before.X + (before.X - centred))
    assert pcr_comparison(before, worse, GRAPH).value < 0  # not cut at 0
    with pytest.raises(DataError, match="same rows"):
        pcr_comparison(before, half[::-1], GRAPH)


def test_nothing_varies() -> None:
    cohort = sample(counts=((4, 4), (4, 4)))
    flat = pc_regression(cohort.replace(X=np.full_like(cohort.X, 0.1)), GRAPH)
    assert np.isnan(flat.value)
    assert "does not vary" in flat.details["reason"]
    assert (
        "does not vary"
        in pcr_comparison(cohort, cohort.replace(X=np.full_like(cohort.X, 0.1)), GRAPH).details["reason"]
    )


def test_pc_regression_within_the_cause_of_a_nested_factor() -> None:
    cohort = three_factors(np.random.default_rng(7), scanner=2.0)
    estimate = pc_regression(cohort, NESTED, confounder="scanner")
    s, scanner = cohort.factor("site").codes, cohort.factor("scanner").codes
    assert estimate.value == pytest.approx(explained_share(cohort.X, scanner, s), abs=1e-12)
    assert estimate.value < 0.5 < pc_regression(cohort, NESTED, confounder="scanner", within=()).value
    assert estimate.value > 2 * estimate.chance
