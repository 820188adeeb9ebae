"""What a new hospital costs where labels exist: rates and their intervals, the drop, and how many labels decide."""

import numpy as np
import pandas as pd
import pytest
import shift_samples
from scipy import stats
from shift_samples import GRAPH, true_accuracy

from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.shift import as_domains, label_budget, label_free_performance, measured_performance
from causalfm.shift.costs.rates import difference, rate

same, moved = shift_samples.same, shift_samples.moved  # fixtures


def test_the_rate_of_single_rows_has_the_interval_of_wilson():
    hit = np.repeat([1.0, 0.0], [170, 30])
    found = rate(hit, np.arange(200), np.ones(200))
    peer = stats.binomtest(170, 200).proportion_ci(method="wilson")
    assert found.size == pytest.approx(200)
    np.testing.assert_allclose(found.interval(), (peer.low, peer.high), atol=0.001)  # t for normal


def test_patients_weigh_the_same_and_their_rows_do_not_multiply_them():
    units = np.repeat(np.arange(40), 10)
    hit = (units % 5 > 0).astype(float)
    weights = 1.0 / np.bincount(units)[units]
    many, once = rate(hit, units, weights), rate(hit[::10], units[::10], np.ones(40))
    assert many.value == pytest.approx(once.value) == 0.8
    assert many.interval() == pytest.approx(once.interval())


def test_nobody_wrong_leaves_a_width():
    alone, other = rate(np.ones(30), np.arange(30), np.ones(30)), rate(np.ones(12), np.arange(12), np.ones(12))
    low, high = alone.interval()
    assert 0.8 < low < 0.9
    assert high == 1.0
    value, low, high = difference(alone, other)
    assert value == 0.0
    assert low < -0.05
    assert high > 0.15


def test_rates_and_differences_cover_with_clustered_rows():
    rng, covered, wide = np.random.default_rng(5), np.zeros(2), 0
    for _ in range(400):
        found = []
        for p, n in ((0.92, 60), (0.8, 25)):
            size = rng.integers(1, 8, n)
            units = np.repeat(np.arange(n), size)
            hit = rng.random(len(units)) < rng.beta(3 * p, 3 * (1 - p), n)[units]
            found.append(rate(hit.astype(float), units, 1.0 / size[units]))
        low, high = found[1].interval()
        covered[0] += low <= 0.8 <= high
        _, low, high = difference(*found)
        covered[1] += low <= 0.12 <= high
        wide += (high - low) > 0.6
    band = stats.binom.ppf([0.0005, 0.9995], 400, 0.95)
    assert (covered >= band[0]).all()
    assert (covered <= band[1]).all()
    assert wide == 0


def test_measured_numbers_are_those_counted_by_hand(moved):
    found = measured_performance(moved, margin=0.05)
    assert found.accuracy.value == pytest.approx(true_accuracy(moved))
    part = moved.reference
    hit = part.scores.argmax(axis=1) == part.labels
    reference = np.mean([hit[part.units == g].mean() for g in np.unique(part.units)])
    assert found.reference.value == pytest.approx(reference)
    assert found.drop.value == pytest.approx(reference - found.accuracy.value)
    assert found.verdict == "fail"
    assert found.drop.low > 0.05
    recalls = [e.value for e in found.recalls]
    assert found.balanced.value == pytest.approx(np.mean(recalls))
    assert found.n_labelled == found.n_groups == 60
    assert len(found.to_frame()) == 12


def test_few_labels_and_none(moved):
    part = moved.deployment.cohort
    obs = part.obs.assign(tumour=part.obs["tumour"].where(moved.deployment.units < 20, None))
    few = as_domains(moved.reference.cohort, part.replace(obs=obs), moved.graph)
    found = measured_performance(few, margin=0.05)
    assert (found.n_labelled, found.n_groups) == (20, 60)
    assert "20 of 60 patients have labels (taken for a random sample)" in found.sentence
    whole = measured_performance(moved, margin=0.05)
    assert found.accuracy.high - found.accuracy.low > whole.accuracy.high - whole.accuracy.low
    none = as_domains(moved.reference.cohort, part.replace(obs=obs.drop(columns="tumour")), moved.graph)
    nothing = measured_performance(none, margin=0.05)
    assert nothing.verdict == "cannot tell"
    assert np.isnan(nothing.drop.value)
    assert "not measured" in nothing.sentence
    # labels are not looked at
    a, b = label_free_performance(moved), label_free_performance(none)
    assert a.to_frame().equals(b.to_frame())


def simpson():
    """Right in 76 % of a common class and 98 % of a rare one; in 66 and 88 % where nine of ten are of the rare one."""
    rng = np.random.default_rng(0)
    tables = {}
    for side, n, hard in (("reference", 4000, 0.1), ("deployment", 3000, 0.9)):
        easy = rng.random(n) >= hard
        right = rng.random(n) < np.where(easy, 0.70, 0.92) + (0.1 if side == "reference" else 0.0) - 0.04
        y = np.where(easy, "common", "rare")
        p = np.where(right == (y == "common"), 0.8, 0.2)
        obs = pd.DataFrame(
            {"patient": [f"{side}{i}" for i in range(n)], "site": f"{side} site", "tumour": y},
            index=[f"{side}{i}" for i in range(n)],
        )
        if side == "reference":
            obs["site"] = np.where(np.arange(n) % 2, "a", "b")
        table = pd.DataFrame({"common": p, "rare": 1 - p}, index=obs.index)
        tables[side] = Cohort(rng.standard_normal((n, 3)), obs), table
    return as_domains(
        tables["reference"][0],
        tables["deployment"][0],
        GRAPH,
        predictions={side: table for side, (_, table) in tables.items()},
    )


def test_a_sign_reversal_is_a_finding():
    found = measured_performance(simpson(), margin=0.05)
    assert found.drop.value < 0.0
    assert all(e.value > 0.0 for e in found.drop_by_class)
    reversal = found.reversals[0]
    assert reversal.verdict == "fail"
    assert "Simpson" in reversal.sentence


def test_labels_that_would_decide_do(same):
    budget = label_budget(same, margin=0.05, expected=0.7)
    assert budget.would_be == "fail"
    assert budget.patients is not None
    powers = [record["power"] for record in budget.curve]
    assert powers[-1] > 0.99
    near = label_budget(same, margin=0.05, expected=budget.expected_drop + 0.7 - 0.055)
    assert near.patients is None
    assert "do not decide" in near.sentence


def test_the_simulated_power_is_that_of_the_verdict(same):
    """Draw patients of the reference at the budget's size and judge them as the audit would."""
    budget = label_budget(same, margin=0.05, expected=0.8)
    assert budget.patients is not None
    n, decided = budget.patients, 0
    known = measured_performance(same).reference
    rng = np.random.default_rng(0)
    part = same.reference
    hit = (np.nan_to_num(same.site_out, nan=-1.0).argmax(axis=1) == part.labels).astype(float)
    means = np.bincount(part.units, hit) / np.bincount(part.units)
    wrong, right = means[means < 1.0], means[means == 1.0]
    share = (1.0 - 0.8) / (1.0 - wrong.mean())
    reference = rate((part.scores.argmax(axis=1) == part.labels).astype(float), part.units, part.weights(), chance=0.5)
    assert reference.value == pytest.approx(known.value)
    for _ in range(300):
        values = np.where(rng.random(n) < share, rng.choice(wrong, n), rng.choice(right, n))
        units = np.repeat(np.arange(n), 2)
        rows = np.stack([values > 0.0, values == 1.0], axis=1).reshape(-1)  # two rows: 0, 1 or both right
        found = rate(rows.astype(float), units, np.full(2 * n, 0.5))
        _, low, high = difference(reference, found, 0.90)
        decided += low > 0.05 or high < 0.05
    at = next(record["power"] for record in budget.curve if record["patients"] == n)
    assert decided / 300 == pytest.approx(at, abs=0.12)


def test_a_margin_a_power_and_an_accuracy_beyond_0_and_1_are_refused(same):
    for bad, message in (
        ({"margin": 0.0}, "margin and power must lie between 0 and 1"),
        ({"margin": 0.05, "power": 1.0}, "margin and power must lie between 0 and 1"),
        ({"margin": 0.05, "expected": 1.4}, "expected must be an accuracy between 0 and 1"),
    ):
        with pytest.raises(DataError, match=message):
            label_budget(same, **bad)
