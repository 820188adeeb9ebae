"""The mixing metrics on noise, on designs that differ, and the coverage of their intervals."""

import numpy as np
import pytest
from mixing_samples import DESIGNS, GRAPH, NESTED, clustered, cohort_of, three_factors

from causalfm.metrics import (
    bras,
    clisi,
    graph_connectivity,
    ilisi,
    isolated_labels,
    kbet,
    kbet_per_label,
    pc_regression,
    silhouette_batch,
    silhouette_label,
)

RAW = {"standardised": False}
METRICS = {
    ilisi: {"k": 18, **RAW},
    clisi: {"k": 18, **RAW},
    kbet: {"k": 12, **RAW},
    kbet_per_label: {"k": 12},
    graph_connectivity: {"k": 4},
    silhouette_label: RAW,
    silhouette_batch: RAW,
    bras: RAW,
    isolated_labels: {},
    pc_regression: RAW,
}
COHORTS = 6


@pytest.mark.parametrize("design", [*DESIGNS, "three factors"])
def test_noise_gives_the_stated_chance(design: str) -> None:
    graph, confounder = (NESTED, "scanner") if design == "three factors" else (GRAPH, "site")
    values = {metric: [] for metric in METRICS}
    for seed in range(COHORTS):
        rng = np.random.default_rng([seed, len(design)])
        cohort = three_factors(rng, patients=6) if confounder == "scanner" else clustered(rng, DESIGNS[design], tiles=2)
        for metric, options in METRICS.items():
            estimate = metric(cohort, graph, confounder=confounder, random_state=seed, **options)
            values[metric].append((estimate.value, estimate.chance))
    for metric, pairs in values.items():
        raw, chance = np.array(pairs).T
        error = (raw - chance).std(ddof=1) / COHORTS**0.5
        assert abs((raw - chance).mean()) < 5 * error + 1e-4, metric.__name__


def test_chance_has_its_closed_form_where_rows_are_independent() -> None:
    cohort = clustered(np.random.default_rng(0), DESIGNS["6 x 3 incomplete"], tiles=1)
    n = len(cohort)
    assert pc_regression(cohort, GRAPH, **RAW).chance == pytest.approx(2 / (n - 1), rel=0.15)
    assert silhouette_label(cohort, GRAPH, **RAW).chance < 0.5  # the nearest of five other classes is near by chance
    large = clustered(np.random.default_rng(1), [[50, 50], [50, 50]], tiles=1, patient=0)
    assert kbet(large, GRAPH, k=12, **RAW).chance == pytest.approx(0.95, abs=0.03)  # of the test's own level


def test_random_batches_give_what_the_field_reports() -> None:
    rng = np.random.default_rng(4)
    X, site = rng.standard_normal((600, 10)), rng.integers(0, 3, 600)
    cohort = cohort_of(X, rng.integers(0, 2, 600), site, np.arange(600))
    assert ilisi(cohort, GRAPH, k=90, exclude_groups=False, **RAW).value == pytest.approx(0.844, abs=0.03)  # and not 1
    assert kbet(cohort, GRAPH, k=50, exclude_groups=False, **RAW).value == pytest.approx(0.98, abs=0.03)


@pytest.mark.parametrize("metric", [ilisi, clisi, kbet, silhouette_label, silhouette_batch, bras, pc_regression])
def test_reference_versions_agree_between_designs_where_raw_values_do_not(metric) -> None:
    options = {"k": 18} if metric in (ilisi, clisi, kbet) else {}
    signal = {"site": 0.35, "biology": 0.35, "tiles": 3}
    balanced, skewed = (
        metric(clustered(np.random.default_rng(2), counts, **signal), GRAPH, **options)
        for counts in ([[8, 8], [8, 8]], [[30, 30], [8, 8]])
    )
    one, other = (estimate.details["standardised"] for estimate in (balanced, skewed))
    for estimate in (one, other):
        assert estimate.low < estimate.value < estimate.high
        assert estimate.name == f"{metric.__name__}_2x2"
    reach = ((one.high - one.low) ** 2 + (other.high - other.low) ** 2) ** 0.5
    assert abs(one.value - other.value) < 0.75 * reach
    assert one.chance == pytest.approx(other.chance, abs=0.06)  # the same cells, whatever the design
    if metric is clisi:
        assert skewed.chance > balanced.chance + 0.1
    again = metric(clustered(np.random.default_rng(2), [[8, 8], [8, 8]], **signal), GRAPH, **options)
    assert again.details["standardised"].to_dict() == one.to_dict()
    none = metric(clustered(np.random.default_rng(3), [[12, 0], [6, 12]], tiles=2), GRAPH, **options)
    assert none.details["standardised"].details["reason"].startswith("cannot tell")


def test_intervals_cover() -> None:
    """60 cohorts of 40 patients: the lower end of a 99.9 % band for a coverage of 95 %."""
    options = {ilisi: {"k": 18, **RAW}, kbet: {"k": 12, **RAW}, silhouette_label: RAW, silhouette_batch: RAW}
    found = {metric: [] for metric in options}
    for seed in range(60):
        cohort = clustered(
            np.random.default_rng([7, seed]), [[10, 10], [10, 10]], tiles=2, site=0.5, biology=0.5, patient=0.7
        )
        for metric, settings in options.items():
            estimate = metric(cohort, GRAPH, **settings)
            found[metric].append((estimate.value, estimate.low, estimate.high))
    for metric, rows in found.items():
        value, low, high = np.array(rows).T
        covered = np.mean((low <= value.mean()) & (value.mean() <= high))
        assert covered >= 0.85, metric.__name__
        assert np.median(high - low) < 8 * value.std(), metric.__name__  # not by being wide
