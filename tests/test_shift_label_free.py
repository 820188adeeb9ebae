"""What a new hospital costs where labels do not exist: estimators, their back-tests, and when they are withheld."""

import numpy as np
import pandas as pd
import pytest
import shift_samples
from scipy import stats
from shift_samples import domains_of, true_accuracy

from causalfm.datasets.planted_shifts import planted_shift
from causalfm.errors import DataError
from causalfm.shift import as_domains, label_free_performance
from causalfm.shift.costs.back_tests import another_site, between_sites
from causalfm.shift.costs.label_free_estimators import ESTIMATORS, Scored

same, moved = shift_samples.same, shift_samples.moved  # fixtures


def source_and_target(seed=0, n=4000):
    """Calibrated probabilities; the target has more patients near the boundary and nothing else changed."""
    rng = np.random.default_rng(seed)
    out = []
    for spread in (3.0, 1.0):
        p = 1.0 / (1.0 + np.exp(-spread * rng.standard_normal(n)))
        y = rng.random(n) < p
        probabilities = np.column_stack([1 - p, p])
        out.append(Scored(probabilities, (probabilities.argmax(axis=1) == y).astype(float), np.arange(n), np.ones(n)))
    return out


@pytest.mark.parametrize("name", ["DoC", "CBPE", "importance weighting"])
def test_estimators_find_the_accuracy_where_their_assumption_holds(name):
    source, target = source_and_target()
    guess = ESTIMATORS[name][0](source, target)
    real, here = target.hit.mean(), float(target.share @ guess.target)
    assert source.hit.mean() - real > 0.1
    assert here == pytest.approx(real, abs=0.03)
    assert float(guess.weights @ guess.source) == pytest.approx(float(guess.weights @ source.hit), abs=1e-3)


def test_atc_lets_through_the_accuracy_and_splits_ties():
    source, target = source_and_target()
    for name in ("ATC confidence", "ATC entropy"):
        guess = ESTIMATORS[name][0](source, source)
        assert float(source.share @ guess.source) == pytest.approx(source.hit.mean(), abs=1e-9)
        assert float(target.share @ ESTIMATORS[name][0](source, target).target) < source.hit.mean()
    flat = Scored(np.full((10, 2), 0.5), np.repeat([1.0, 0.0], [7, 3]), np.arange(10), np.ones(10))
    assert ESTIMATORS["ATC confidence"][0](flat, flat).target == pytest.approx(np.full(10, 0.7))


def test_weights_that_leave_few_patients_are_said_and_not_clipped():
    rng = np.random.default_rng(1)
    sharp = np.clip(rng.normal(0.97, 0.01, 500), 0.5, 1.0)
    vague = np.clip(rng.normal(0.55, 0.01, 100), 0.5, 1.0)
    source = Scored(np.column_stack([sharp, 1 - sharp]), np.ones(500), np.arange(500), np.ones(500))
    target = Scored(np.column_stack([vague, 1 - vague]), np.full(100, np.nan), np.arange(100), np.ones(100))
    guess = ESTIMATORS["importance weighting"][0](source, target)
    assert guess.effective < 5
    alike = ESTIMATORS["importance weighting"][0](source, source)
    assert alike.effective > 450


def test_the_spread_between_sites_beyond_chance_is_found():
    rng, means, spreads, covered = np.random.default_rng(2), [], [], 0
    for _ in range(400):
        variances = rng.uniform(0.001, 0.01, 12)
        errors = 0.05 + rng.normal(0.0, 0.06, 12) + rng.normal(0.0, 1.0, 12) * np.sqrt(variances)
        mean, _, between = between_sites(errors, variances)
        means.append(mean)
        spreads.append(between)
        centre, half = another_site(errors, variances, 0.004)
        covered += abs(0.05 + rng.normal(0.0, np.sqrt(0.06**2 + 0.004)) - centre) <= half
    assert np.mean(means) == pytest.approx(0.05, abs=0.005)
    assert np.mean(spreads) == pytest.approx(0.06**2, rel=0.2)
    low, high = stats.binom.ppf([0.0005, 0.9995], 400, 0.95)
    assert low <= covered <= high
    assert between_sites(np.array([0.1, 0.1, 0.1]), np.full(3, 0.01))[2] == 0.0


def test_nothing_moved_is_answered(same):
    told = label_free_performance(same, margin=0.2)
    assert told.trusted is not None
    assert told.verdict == "pass"
    assert told.low <= true_accuracy(same) <= told.high
    assert all(test.calibrated for test in told.back_tests)
    assert len(told.back_tests[0].sites) == 12
    assert not any(signal["far"] for signal in told.details["signals"].values())
    assert told.to_frame()["name"].tolist() == [*ESTIMATORS, "site level"]
    assert told.trusted in told.sentence


def test_a_back_test_predicts_a_site_from_the_others_only(same):
    """Labels of a site turned round change what is measured there and no prediction for it."""
    cohort = same.reference.cohort
    here = same.reference.sites == 0
    scores = same.reference.scores
    tables = {
        "reference": pd.DataFrame(scores, index=cohort.obs.index, columns=list(same.classes)),
        "deployment": pd.DataFrame(
            same.deployment.scores, index=same.deployment.cohort.obs.index, columns=list(same.classes)
        ),
    }
    swap = {"class0": "class1", "class1": "class0"}
    turned = cohort.replace(
        obs=cohort.obs.assign(tumour=cohort.obs["tumour"].mask(here, cohort.obs["tumour"].map(swap)))
    )
    found = []
    for one in (cohort, turned):
        domains = as_domains(one, same.deployment.cohort, same.graph, predictions=tables)
        found.append({t.estimator: t.sites[0] for t in label_free_performance(domains).back_tests})
    for name in ("ATC confidence", "ATC entropy"):  # the others feel the one temperature of a model that was given
        assert found[0][name]["predicted"] == found[1][name]["predicted"]
        assert found[0][name]["measured"] == pytest.approx(1.0 - found[1][name]["measured"])


def test_a_site_far_from_all_others_is_not_answered(moved):
    found = label_free_performance(moved, margin=0.05)
    assert true_accuracy(moved) < found.reference[0] - 0.1
    assert found.trusted is None
    assert found.verdict == "cannot tell"
    assert "beyond those of the reference" in found.sentence
    assert all(np.isnan(e.own_low) for e in found.estimates)  # the assumption was checked on other sites only
    assert np.isnan(found.drop)


def test_few_sites_cannot_tell():
    found = label_free_performance(domains_of("nothing", n_sites=5, n_groups=150), margin=0.05)
    assert found.verdict == "cannot tell"
    assert found.trusted is None
    assert all(np.isnan(e.low) for e in found.estimates)
    assert all("need" in e.reason for e in found.estimates)
    assert all(np.isfinite(e.own_low) for e in found.estimates)  # under its assumption, which nothing checked
    one = planted_shift("nothing", n_sites=2, n_groups=60, effect_seed=0)
    alone = one[0].obs["site"].to_numpy() == "site0"
    single = label_free_performance(as_domains(one[0][alone], one[1], one[2]))
    assert single.trusted is None
    assert np.isnan(single.site_held_out[0])


def test_sites_that_differ_at_random_withdraw_the_assumption_and_widen_the_interval():
    """Meaning differs by site: labels of a share of patients are turned round, unseen by any score."""
    domains = domains_of("nothing", seed=2, n_sites=16, n_groups=640)
    rng = np.random.default_rng(0)
    shares = rng.uniform(0.0, 0.4, 16)
    part = domains.reference
    flip = rng.random(int(part.units.max()) + 1)[part.units] < shares[part.sites]
    swap = {"class0": "class1", "class1": "class0"}
    tumour = part.cohort.obs["tumour"]
    cohort = part.cohort.replace(obs=part.cohort.obs.assign(tumour=tumour.mask(flip, tumour.map(swap))))
    found = label_free_performance(as_domains(cohort, domains.deployment.cohort, domains.graph), margin=0.05)
    tests = {test.estimator: test for test in found.back_tests}
    assert tests["DoC"].assumption_holds is False
    assert np.isnan(found.estimates[2].own_low)
    assert tests["DoC"].calibrated
    assert found.verdict == "cannot tell"
    assert found.high - found.low > 0.25


def test_a_deployment_of_one_patient_is_predicted_widely_and_starts_no_quarrel(same):
    part = same.deployment.cohort
    one = part[(part.obs["patient"] == part.obs["patient"].iloc[0]).to_numpy()]
    found = label_free_performance(as_domains(same.reference.cohort, one, same.graph), margin=0.05)
    assert found.details["disagreements"] == []
    assert found.n_groups == 1
    assert found.high - found.low > 0.3


def test_a_site_cannot_be_judged_by_one_patient(same):
    with pytest.raises(DataError, match=r"minimum=1: .* at least 2: a site needs patients"):
        label_free_performance(same, minimum=1)


@pytest.fixture(scope="module")
def short():
    """The first cohorts of the calibration's cells."""
    from experiments.calibration.designs import cells
    from experiments.calibration.measures import measure

    designs = {cell.name: dict(cell.design) for cell in cells() if cell.measure == "shift_cost"}
    names = ("nothing", "older patients", "another scanner")
    return {name: [measure("shift_cost", designs[name], {}, seed, False) for seed in range(10)] for name in names}


def share_inside(found, quantity):
    rows = np.array([values[quantity] for values in found], dtype=float)
    answered = ~np.isnan(rows[:, 1])
    inside = (rows[:, 1] <= rows[:, 3] + 1e-12) & (rows[:, 3] <= rows[:, 2] + 1e-12)
    return int(inside[answered].sum()), int(answered.sum())


@pytest.mark.parametrize(
    "quantity", ["measured accuracy", "measured drop", "DoC, own interval", "CBPE, own interval", "chosen"]
)
def test_intervals_hold_where_their_assumption_does(short, quantity):
    """A binomial band of 99.9 %, corrected for the five quantities, around 95 %."""
    inside, answered = share_inside(short["nothing"] + short["older patients"], quantity)
    assert answered >= 12
    assert inside >= stats.binom.ppf(0.001 / 5, answered, 0.95)


def test_a_scanner_unlike_all_others_is_seldom_passed(short):
    """No score says that labels and embeddings came apart; the distance from all sites known does, mostly."""
    withheld = sum(np.isnan(values["chosen"][1]) for values in short["another scanner"])
    assert withheld >= 6
    passed = sum(values["verdict, false pass"] == 0.0 for values in short["another scanner"])
    assert passed <= stats.binom.ppf(0.9995, 10, 0.05)
    drops = [values["measured drop"] for values in short["another scanner"]]
    assert sum(low > 0.0 for _, low, _, _ in drops) >= 8  # labels do tell
