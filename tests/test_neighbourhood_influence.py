"""What each patient adds: every estimate again from scratch without one patient."""

from functools import partial

import numpy as np
import pytest
from neighbourhood_cohorts import GRAPH, NESTED, clustered, codes_of, cohort_of, margins_by_row, without

from causalfm.cohort import Cohort
from causalfm.metrics import croma, de_jong_ratio, mari, neighbour_scalars, robustness_index
from causalfm.metrics.margin_scores import score_columns
from causalfm.metrics.typed import OS, SO, neighbour_kinds
from causalfm.neighbours import knn

RAW = {"standardised": False}
METRICS = {
    "robustness index": partial(robustness_index, graph=GRAPH, k=5, **RAW),
    "robustness index, tables": partial(robustness_index, graph=GRAPH, k=3, design="paired_2x2", **RAW),
    "robustness index within sites": partial(robustness_index, graph=NESTED, confounder="scanner", k=4, **RAW),
    "de Jong ratio": partial(de_jong_ratio, graph=GRAPH, k=5, **RAW),
    "mari": partial(mari, graph=GRAPH, k=5, tau=0.3, **RAW),
    "mari, tables": partial(mari, graph=GRAPH, k=3, tau=0.3, design="paired_2x2", **RAW),
}
N = 22


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    return clustered(np.random.default_rng(4), [[4, 5, 3], [4, 3, 3]], d=6, tiles=3, biology=0.5, site=0.5, scanner=0.4)


@pytest.fixture(scope="module")
def left_out(cohort: Cohort) -> list[Cohort]:
    return [without(cohort, unit) for unit in range(N)]


def effects(value: float, values: np.ndarray) -> np.ndarray:
    return (N - 1) / N * (value - np.asarray(values))


@pytest.mark.parametrize("name", METRICS)
def test_effects_of_ratios(cohort: Cohort, left_out: list[Cohort], name: str) -> None:
    metric = METRICS[name]
    whole = metric(cohort)
    brute = effects(whole.value, [metric(part).value for part in left_out])
    assert np.ptp(brute) > 0.002
    np.testing.assert_allclose(whole.influence.effects, brute, atol=2e-7)
    assert (whole.influence.strata >= 0).all()


def test_effects_of_the_scalars(cohort: Cohort, left_out: list[Cohort]) -> None:
    measure = partial(neighbour_scalars, graph=GRAPH, k=3, max_k=8)
    whole, parts = measure(cohort), [measure(part) for part in left_out]
    assert whole["bio_vs_confounding"].details["largest_k"] == 7
    for name, estimate in whole.items():
        brute = effects(estimate.value, [part[name].value for part in parts])
        assert np.ptp(brute) > 0.002
        np.testing.assert_allclose(estimate.influence.effects, brute, atol=1e-10)


def test_effects_of_the_weighted_index_with_the_weights_of_the_design(cohort: Cohort) -> None:
    b, s, g = codes_of(cohort)
    both = np.equal.outer(b, b), np.equal.outer(s, s)
    other = ~np.equal.outer(g, g)
    so, os = ((same & ~differ & other).sum(1) for same, differ in (both, both[::-1]))
    weight = np.where((so > 0) & (os > 0), 1 / (both[0] & both[1]).sum(1), 0.0)

    def index(keep: np.ndarray) -> float:
        kinds = neighbour_kinds(knn(cohort.X[keep], 5, exclude=g[keep]), b[keep], s[keep])
        a, c = ((weight[keep] / n[keep] * (kinds == kind).sum(1)).sum() for n, kind in ((so, SO), (os, OS)))
        return a / (a + c)

    whole = robustness_index(cohort, GRAPH, k=5, **RAW).details["weighted"]
    assert whole.value == pytest.approx(index(np.ones(len(g), bool)), abs=1e-12)
    assert whole.chance == 0.5
    brute = effects(whole.value, [index(g != unit) for unit in range(N)])
    np.testing.assert_allclose(whole.influence.effects, brute, atol=1e-12)


@pytest.mark.parametrize("m", [2, 7])  # with 7 some rows have no margin without one patient
def test_effects_of_margins(cohort: Cohort, left_out: list[Cohort], m: int) -> None:
    whole = croma(cohort, GRAPH, m=m, alpha=0.2, **RAW)
    values = margins_by_row(cohort.X, *codes_of(cohort), m=m)
    values = values[~np.isnan(values)]
    fixed = whole.value, whole.details["quantile"], 0.2
    parts = [margins_by_row(part.X, *codes_of(part), m=m) for part in left_out]
    assert any(np.isnan(part).any() for part in parts) == (m == 7)
    brute = [score_columns(part[~np.isnan(part)], *fixed).mean(0) for part in parts]
    f0, below, tail = effects(score_columns(values, *fixed).mean(0)[:, None], np.transpose(brute))
    np.testing.assert_allclose(whole.details["f0"].influence.effects, f0, atol=1e-12)
    np.testing.assert_allclose(whole.details["ltm"].influence.effects, tail, atol=2e-7)
    slope = whole.influence.effects / np.where(below, below, np.nan)
    assert np.nanmax(slope) == pytest.approx(np.nanmin(slope), rel=1e-9)  # minus one over the density at the median
    assert np.nanmax(slope) < 0


def test_patients_with_both_classes_at_both_sites() -> None:
    """One patient can be in the SO and in the OS list of the same row."""
    rng = np.random.default_rng(5)
    p = np.repeat(np.arange(N), 4)
    b, s = np.tile([0, 0, 1, 1], N), np.tile([0, 1], 2 * N)
    b[p % 3 == 0] = 0
    X = rng.standard_normal((4 * N, 5)) + rng.standard_normal((N, 5))[p]
    both = cohort_of(X, b, s, p)
    parts = [without(both, unit) for unit in range(N)]
    for name in ("robustness index", "de Jong ratio", "mari"):
        whole = METRICS[name](both)
        brute = effects(whole.value, [METRICS[name](part).value for part in parts])
        np.testing.assert_allclose(whole.influence.effects, brute, atol=2e-7)
    whole = croma(both, GRAPH, m=3, **RAW)
    scores = [margins_by_row(part.X, *codes_of(part), m=3) for part in parts]
    brute = effects(whole.details["f0"].value, [(one <= 0).mean() for one in scores])
    np.testing.assert_allclose(whole.details["f0"].influence.effects, brute, atol=1e-12)
