"""De Jong ratio, PathoROB's scalars, MaRI, CRoMa: limits, formulas, chance, contract."""

from functools import partial

import numpy as np
import pytest
from neighbourhood_cohorts import GRAPH, clustered, codes_of, cohort_of, margins_by_row
from scipy.stats import t

from causalfm.errors import DataError
from causalfm.metrics import croma, de_jong_ratio, mari, neighbour_scalars, robustness_index
from causalfm.metrics.design import variance_of
from causalfm.metrics.typed import OS, SO, SS, kind_counts, neighbour_kinds, support_of
from causalfm.metrics.weighted import typed_temperature
from causalfm.neighbours import Neighbours, knn

RAW = {"standardised": False}
FAMILY = {
    "robustness index": partial(robustness_index, k=5, **RAW),
    "weighted index": lambda c, g: robustness_index(c, g, k=5, **RAW).details["weighted"],
    "de Jong ratio": partial(de_jong_ratio, k=5, **RAW),
    "mari": partial(mari, k=5, **RAW),
    "croma": partial(croma, m=3, **RAW),
    "croma f0": lambda c, g: croma(c, g, m=3, **RAW).details["f0"],
    "croma tail": lambda c, g: croma(c, g, m=3, **RAW).details["ltm"],
    "scalar": lambda c, g: neighbour_scalars(c, g, k=5)["generalization_index"],
}


def clusters(axis: np.ndarray) -> np.ndarray:
    return np.eye(4)[axis] + 0.01 * np.random.default_rng(0).standard_normal((len(axis), 4))


B, S = np.tile([0, 0, 1, 1], 10), np.tile([0, 1, 0, 1], 10)


# --- limits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tau", [None, 1e-4, 0.2, 50.0])
def test_mari_is_one_zero_and_one_half_where_the_index_is(tau: float | None) -> None:
    one, zero = (mari(cohort_of(clusters(axis), B, S, range(40)), GRAPH, k=15, tau=tau, **RAW) for axis in (B, S))
    assert (one.value, zero.value) == (1.0, 0.0)
    assert 0.4 < one.low < one.high == 1
    assert 0 == zero.low < zero.high < 0.6
    twins = cohort_of([[1, 0, 0], [1, 1, 0], [1, -1, 0]], [0, 0, 1], [0, 1, 0], range(3))
    assert mari(twins, GRAPH, k=2, tau=tau, **RAW).value == pytest.approx(0.5)


def test_mari_of_equal_distances_is_the_index() -> None:
    cohort = cohort_of(np.eye(24), np.arange(24) % 2, np.arange(24) % 3, range(24))
    ours = mari(cohort, GRAPH, k=7, **RAW)
    assert ours.details["tau"] == pytest.approx(1.0)
    assert ours.value == pytest.approx(robustness_index(cohort, GRAPH, k=7, **RAW).value, abs=1e-12)
    assert ours.chance == pytest.approx(robustness_index(cohort, GRAPH, k=7, **RAW).chance, abs=1e-12)


def test_mari_of_a_collapsed_embedding_is_the_index() -> None:
    cohort = cohort_of(np.ones((40, 3)), B, S, range(40))
    ours = mari(cohort, GRAPH, k=7, **RAW)
    assert ours.details["tau"] == np.inf
    assert ours.value == robustness_index(cohort, GRAPH, k=7, **RAW).value
    with pytest.raises(DataError, match="tau=0"):
        mari(cohort, GRAPH, k=7, tau=0)


def test_no_typed_neighbour_is_undefined_with_a_reason() -> None:
    cohort = cohort_of(clusters(2 * B + S), B, S, range(40))
    for metric in (mari, robustness_index):
        found = metric(cohort, GRAPH, k=5)
        assert np.isnan([found.value, found.low, found.high]).all()
        assert "no typed neighbour" in found.details["reason"]
        assert found.details["undefined"] == {"SS-dominated": 1.0, "OO-dominated": 0.0, "mixed": 0.0}
    ratio = de_jong_ratio(cohort, GRAPH, k=5, **RAW)  # all SS
    assert ratio.value == 1.0
    assert np.isnan(ratio.low)
    assert "spread is unknown" in ratio.details["interval"]


def test_ratios_without_a_denominator_are_undefined() -> None:
    rng = np.random.default_rng(0)
    twins = rng.standard_normal((20, 9)).repeat(2, axis=0) + 1e-3 * rng.standard_normal((40, 9))
    cohort = cohort_of(twins, B, S, range(40))  # each beside one of the same biology and another site
    lists = knn(cohort.X, 1, exclude=codes_of(cohort, "patient")[0])
    ratio = de_jong_ratio(cohort, GRAPH, k=1, neighbours=lists, **RAW)
    assert np.isnan([ratio.value, ratio.low]).all()
    assert "no neighbour of the same confounder" in ratio.details["reason"]
    scalars = neighbour_scalars(cohort, GRAPH, k=1, max_k=1, neighbours=lists)
    assert scalars["prediction_performance"].value == scalars["OOD_performance"].value == 1.0
    assert scalars["prediction_performance"].low < 1 == scalars["prediction_performance"].high
    assert np.isnan(scalars["ID_performance"].value)


def test_margins_of_ties_and_of_one_sided_neighbourhoods() -> None:
    b, s, g = np.array([0, 0, 1]), np.array([0, 1, 0]), np.arange(3)
    tied = margins_by_row(np.array([[1.0, 0, 0], [1, 1, 0], [1, -1, 0]]), b, s, g, m=1)
    assert tied[0] == 0
    assert np.isnan(tied[1:]).all()  # the other two lack a candidate of one type
    for axis, sign in ((B, 1), (S, -1)):
        found = croma(cohort_of(clusters(axis), B, S, range(40)), GRAPH, **RAW)
        assert found.value * sign > 0.99
        assert found.details["f0"].value == (sign < 0)
        assert (found.details["f0"].low, found.details["f0"].high) != (found.details["f0"].value,) * 2


# --- formulas -------------------------------------------------------------------------------------------------------


def test_scalars_are_those_of_the_fractions() -> None:
    cohort = clustered(np.random.default_rng(0), [[9, 6, 4], [5, 8, 6]], biology=0.4, site=0.5)
    b, s, g = codes_of(cohort)
    lists = knn(cohort.X, 21, exclude=g)
    counts = kind_counts(neighbour_kinds(lists, b, s), [5, 11])[0]
    (ss, so, os, oo), (far_ss, far_so, far_os, far_oo) = counts / counts.sum(axis=1, keepdims=True)
    assert ss + so + os + oo == pytest.approx(1)
    expected = {
        "bio_vs_confounding": (ss + so) / (ss + os),
        "confounder_insensitivity": (so + oo) / (ss + os),
        "confounder_insensitivity_normalised": ((so + oo) / (far_so + far_oo)) / ((ss + os) / (far_ss + far_os)),
        "generalization_index": (ss * so + so * os) / (ss * so + ss * oo),
        "prediction_performance": ss + so,
        "ID_performance": ss / (ss + os),
        "OOD_performance": so / (so + oo),
    }
    found = neighbour_scalars(cohort, GRAPH, k=5, max_k=20)
    assert {name: one.value for name, one in found.items()} == pytest.approx(expected, abs=1e-12)
    ratio = de_jong_ratio(cohort, GRAPH, k=5, **RAW)
    assert ratio.value == found["bio_vs_confounding"].value
    variance, df = variance_of(ratio.influence)
    half = t.ppf(0.975, df) * variance**0.5 / ratio.value
    assert np.log([ratio.low, ratio.high]) == pytest.approx(np.log(ratio.value) + np.array([-half, half]))


def test_chance_of_ratios_counts_candidates() -> None:
    cohort = clustered(np.random.default_rng(0), [[45, 45], [5, 5]], tiles=1)
    found = neighbour_scalars(cohort, GRAPH, k=5)
    same_class, same_site = (90 * 89 + 10 * 9) / 9900, 49 / 99
    assert found["bio_vs_confounding"].chance == pytest.approx(same_class / same_site)
    assert found["confounder_insensitivity"].chance == pytest.approx((1 - same_site) / same_site)
    assert found["confounder_insensitivity_normalised"].chance == pytest.approx(1)
    assert found["prediction_performance"].chance == pytest.approx(same_class)
    assert found["generalization_index"].chance == pytest.approx(
        found["OOD_performance"].chance / found["ID_performance"].chance
    )
    assert de_jong_ratio(cohort, GRAPH, k=5).details["standardised"].chance == pytest.approx(1, abs=0.06)


def test_support_and_its_causes() -> None:
    kinds = np.array([[0, 0, 3], [3, 3, 0], [0, 3, -1], [0, 1, 3], [2, 2, 0]], dtype=np.int8)
    assert support_of(kinds) == {"support": 0.4, "SS-dominated": 0.2, "OO-dominated": 0.2, "mixed": 0.2}


def test_temperature_is_the_median_distance_of_typed_neighbours() -> None:
    indices, distance = np.array([[1, 2, 3, 4]]), np.array([[0.1, 0.2, 0.4, 0.05]])
    lists = Neighbours(indices, (1 - distance).astype(np.float32), np.array([0]), 4, 5)
    kinds = neighbour_kinds(lists, np.array([0, 0, 1, 0, 0]), np.array([0, 1, 0, 1, 0]))
    assert kinds.tolist() == [[SO, OS, SO, SS]]
    assert typed_temperature(lists, kinds) == pytest.approx(0.2, abs=1e-6)
    assert np.isnan(typed_temperature(lists, np.full_like(kinds, SS)))


# --- margins --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 4, 30, 200])
def test_margins_do_not_depend_on_how_far_was_searched(k: int) -> None:
    cohort = clustered(np.random.default_rng(1), [[20, 12], [14, 25]], tiles=4, biology=0.5, site=0.9)
    base, lists = croma(cohort, GRAPH, **RAW), knn(cohort.X, k, exclude=codes_of(cohort)[2])
    found = croma(cohort, GRAPH, neighbours=lists, **RAW)
    for one, other in ((found, base), *((found.details[x], base.details[x]) for x in ("f0", "ltm"))):
        assert (one.value, one.low, one.high, one.chance) == pytest.approx(
            (other.value, other.low, other.high, other.chance), abs=2e-6
        )
        np.testing.assert_allclose(one.influence.effects, other.influence.effects, atol=2e-6)


def test_rows_without_margin_are_counted() -> None:
    cohort = clustered(np.random.default_rng(2), [[10, 2], [10, 12]], tiles=2, biology=0.3, site=0.3)
    found = croma(cohort, GRAPH, **RAW)  # four rows of class 0 at site 1: too few as twins and as impostors
    assert found.details["support"] == pytest.approx(1 - 44 / 68)
    assert found.details["undefined"] == pytest.approx(
        {"no m SO candidates": 20 / 68, "no m OS candidates": 24 / 68, "all at distance 0": 0}
    )
    with pytest.raises(DataError, match="choose a smaller m") as error:
        croma(cohort, GRAPH, m=60, **RAW)
    assert "id-" not in str(error.value)
    with pytest.raises(DataError, match="choose a smaller m"):
        croma(cohort.replace(X=np.ones_like(cohort.X)), GRAPH, m=2, **RAW)
    for bad in ({"alpha": 0}, {"m": 0}, {"design": "pairs"}):
        with pytest.raises(DataError, match=next(iter(bad))):
            croma(cohort, GRAPH, **bad)


def test_a_sample_of_queries() -> None:
    cohort = clustered(np.random.default_rng(3), [[20, 12], [12, 20]], biology=0.6, site=0.6)
    b, s, g = codes_of(cohort)
    sample = knn(cohort.X, 9, exclude=g, queries=40, random_state=1)
    found = croma(cohort, GRAPH, m=3, neighbours=sample, **RAW)
    assert found.value == np.median(margins_by_row(cohort.X, b, s, g, m=3)[sample.queries])
    assert found.details["queries"] == 40
    assert found.high - found.low > np.subtract(
        *[getattr(croma(cohort, GRAPH, m=3, **RAW), e) for e in ("high", "low")]
    )


# --- contract -------------------------------------------------------------------------------------------------------


def test_invariances() -> None:
    rng = np.random.default_rng(7)
    cohort = clustered(rng, [[8, 5], [5, 8]], biology=0.5, site=0.5)
    renamed = cohort.obs.assign(
        tumour=cohort.obs["tumour"].map({"0": "z", "1": "a"}), patient="x" + cohort.obs["patient"].str[::-1]
    )
    rotation = np.linalg.qr(rng.standard_normal((12, 12)))[0].astype(np.float32)
    scale = rng.uniform(0.1, 10, (len(cohort), 1)).astype(np.float32)
    others = (
        cohort[rng.permutation(len(cohort))],
        cohort.replace(obs=renamed),
        cohort.replace(X=(cohort.X @ rotation) * scale),
    )
    for metric in FAMILY.values():
        base = metric(cohort, GRAPH)
        for other in others:
            found = metric(other, GRAPH)
            assert (found.value, found.low, found.high) == pytest.approx((base.value, base.low, base.high), rel=1e-4)
        assert metric(cohort, GRAPH).to_dict() == base.to_dict()
        assert base.low < base.value < base.high
        assert base.influence.effects.shape == (26,)


def test_details_have_no_row_level_values_and_no_ids() -> None:
    cohort = clustered(np.random.default_rng(8), [[8, 5], [5, 8]], biology=0.5, site=0.5)
    for metric in FAMILY.values():
        text = str(metric(cohort, GRAPH).to_dict())
        assert "id-" not in text
        assert len(text) < 6000
