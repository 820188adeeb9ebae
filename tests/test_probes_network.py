"""The third probe, the folds, and the verdict over several probes."""

import numpy as np
import pandas as pd
import pytest

from causalfm.auditing import load_policy, reading
from causalfm.cohort import Cohort
from causalfm.datasets import tcga_hipt
from causalfm.graph import CausalGraph
from causalfm.metrics.learners import fit_logistic, fit_network, grouped_folds
from causalfm.metrics.probes import PROBES, Prediction, readout
from causalfm.metrics.recall import balanced_accuracy, within_contexts
from causalfm.results import Estimate

GRAPH = CausalGraph.standard(biology="tumour", technical="site", group="patient")


def cohort_of(Z: np.ndarray, site: np.ndarray, seed: int = 0) -> Cohort:
    tumour = np.random.default_rng(seed).integers(0, 2, len(site))
    obs = pd.DataFrame({"tumour": tumour, "site": site}).astype(str)
    return Cohort(Z, obs.assign(patient=[f"p{i}" for i in range(len(site))]))


# --- what only the network sees -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "d", "scale"), [(320, 16, 1.4), (320, 64, 1.2), (200, 400, 1.1)])
def test_a_difference_in_scale_alone(n: int, d: int, scale: float) -> None:
    """Cosine neighbours do not see it and a linear rule cannot."""
    rng = np.random.default_rng(d)
    site = rng.integers(0, 2, n)
    cohort = cohort_of(rng.standard_normal((n, d)) * np.where(site == 1, scale, 1.0)[:, None], site)
    found = {probe: readout(cohort, GRAPH, probe=probe) for probe in PROBES}
    assert found["network"].low > 0.55
    assert max(found["logistic"].value, found["knn"].value) < found["network"].value - 0.05
    assert found["logistic"].low < 0.5


def test_a_rotated_exclusive_or() -> None:
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((2000, 64))
    hidden = Z @ np.linalg.qr(rng.standard_normal((64, 2)))[0]
    cohort = cohort_of(Z, (hidden[:, 0] * hidden[:, 1] > 0).astype(int))
    assert readout(cohort, GRAPH, probe="network").value > 0.75
    assert readout(cohort, GRAPH).value < 0.55


def test_hospitals_on_tcga_after_their_means_are_removed(data_dir) -> None:
    """Means of the training patients only: a linear probe gives the all-clear, the network does not."""
    cohort = tcga_hipt.load(
        data_dir,
        cancers=["BRCA", "COAD", "LUAD", "STAD"],
        hospitals=["Asterand", "Christiana Healthcare", "Indivumed", "International Genomics Consortium"],
    )
    X, y, groups = cohort.X.astype(float), cohort.factor("center").codes, cohort.factor("case").codes
    folds = grouped_folds(y, groups, 5, 0)
    weights = 1.0 / np.bincount(groups)[groups]
    hits = {"logistic": np.zeros(len(y), dtype=bool), "network": np.zeros(len(y), dtype=bool)}
    for fold in range(5):
        train, test = folds != fold, folds == fold
        means = np.stack([X[train & (y == level)].mean(axis=0) for level in range(4)])
        left = X - means[y]
        data = left[train], y[train], weights[train], left[test]
        hits["logistic"][test] = fit_logistic(*data, (0.1,), 4)[0].argmax(axis=1) == y[test]
        hits["network"][test] = fit_network(*data, 0, 4).argmax(axis=1) == y[test]
    read = {name: balanced_accuracy(hit, y, groups, weights)[0] for name, hit in hits.items()}
    assert read["logistic"] < 0.4
    assert read["network"] > 0.9


# --- learners -------------------------------------------------------------------------------------------------------


def test_the_network_heeds_row_weights_and_reads_levels_that_training_lacks_as_unlikely() -> None:
    rng = np.random.default_rng(1)
    X, y = rng.standard_normal((200, 3)), rng.integers(0, 2, 200)
    X[:, 0] += 3.0 * y
    y[:40] = 1 - y[:40]  # wrong labels, which weigh nothing
    weights = np.r_[np.zeros(40), np.ones(160)]
    test = np.array([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0]])
    probabilities = fit_network(X, y, weights, test, 0, 3)
    assert probabilities.sum(axis=1) == pytest.approx(1.0)
    assert probabilities[0, 0] > 0.9
    assert probabilities[1, 1] > 0.9
    assert probabilities[:, 2].max() < 0.05
    assert fit_logistic(X, y, weights, test, (0.1,), 3)[0][:, 2].tolist() == [0.0, 0.0]


def test_folds_keep_groups_whole_and_spread_levels_evenly() -> None:
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(90), rng.integers(1, 6, 90))
    y = np.repeat([0, 1, 2], [60, 23, 7])[groups]
    folds = grouped_folds(y, groups, 5, 0)
    assert len(np.unique(np.stack([folds, groups]), axis=1)[0]) == 90
    held = np.zeros((3, 5))
    for level, fold in np.unique(np.stack([y, folds, groups]), axis=1)[:2].T:
        held[level, fold] += 1
    assert (np.ptp(held, axis=1) <= 1).all()
    assert not np.array_equal(folds, grouped_folds(y, groups, 5, 1))


def test_a_level_that_shares_its_groups_with_a_common_one_is_spread_too() -> None:
    """Nine rows of one level and one of the other in six groups: dealt by their majority they could share a fold."""
    groups = np.repeat(np.arange(40), 10)
    y = np.zeros(400, dtype=int)
    y[:60:10] = 1
    for seed in range(5):
        assert np.ptp(np.bincount(grouped_folds(y, groups, 3, seed)[y == 1], minlength=3)) == 0


# --- the best of several probes -------------------------------------------------------------------------------------


def test_the_lower_bound_of_the_best_probe_divides_the_error() -> None:
    rng = np.random.default_rng(3)
    y, groups = rng.integers(0, 2, 80), np.arange(80)
    sample = (rng.random(80) < 0.7), y, np.zeros(80, dtype=int), groups, np.ones(80)
    one, three = within_contexts(*sample), within_contexts(*sample, looks=3)
    assert one["low_of_best"] == one["low"]
    assert three["low_of_best"] < three["low"] == one["low"]
    assert three["low_of_best"] == balanced_accuracy(sample[0], y, groups, np.ones(80), level=1 - 0.05 / 3)[2]


BOUNDS = {  # low, low_of_best, high of three probes -> read-out (margin 0.1), biology (margin 0)
    "all below": ([(-0.1, -0.2, 0.05)] * 3, "pass", "cannot tell"),
    "one wide": ([(-0.1, -0.2, 0.05)] * 2 + [(-0.1, -0.2, 0.3)], "cannot tell", "cannot tell"),
    "one reads": ([(-0.1, -0.2, 0.05)] * 2 + [(0.3, 0.2, 0.6)], "fail", "pass"),
    "one reads, but not for three looks": (
        [(-0.1, -0.2, 0.05)] * 2 + [(0.12, -0.05, 0.6)],
        "cannot tell",
        "cannot tell",
    ),
    "all under chance": ([(-0.4, -0.5, -0.1)] * 3, "pass", "fail"),
    "one under chance": ([(-0.4, -0.5, -0.1)] + [(-0.1, -0.2, 0.2)] * 2, "cannot tell", "cannot tell"),
    "no context": ([(np.nan, np.nan, np.nan)] * 3, "cannot tell", "cannot tell"),
}


@pytest.mark.parametrize("case", BOUNDS)
def test_verdicts_over_three_probes(case: str, monkeypatch) -> None:
    """Hidden from all to pass; read by any, allowing for three looks, to fail. For biology the reverse."""
    bounds, hidden, carried = BOUNDS[case]
    rng = np.random.default_rng(0)
    cohort = cohort_of(rng.standard_normal((60, 3)), rng.integers(0, 2, 60))
    measured = iter(2 * bounds)

    def score(prediction: Prediction, seed: int) -> Estimate:
        low, low_of_best, high = (0.5 + 0.5 * bound for bound in next(measured))  # gain to accuracy at chance 1/2
        within = {"value": (low + high) / 2, "low": low, "low_of_best": low_of_best, "high": high, "chance": 0.5}
        details = prediction.details | {"within": within, "recall": {}}
        return Estimate("balanced_accuracy", 0.5, 0.4, 0.6, 0.5, 60, 60, "patient", details)

    monkeypatch.setattr(reading, "score", score)
    policy = load_policy()
    assert reading.readout_finding(cohort, GRAPH, "site", policy, None, 0).verdict == hidden
    found = reading.biology_finding(cohort, GRAPH, policy, None, 0)[0]
    assert found.verdict == carried
    if case != "no context":
        assert (found.low, found.high) == pytest.approx(tuple(max(b[i] for b in bounds) for i in (1, 2)))
