"""What a new hospital costs: heads, rates, measured and label-free performance, subgroups, labels needed."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalfm.cohort import Cohort
from causalfm.datasets.planted_shifts import planted_shift
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.metrics.learners import cross_fitted, grouped_folds
from causalfm.shift import (
    as_domains,
    label_budget,
    label_free_performance,
    measured_performance,
    subgroup_performance,
)
from causalfm.shift.costs.back_tests import another_site, between_sites
from causalfm.shift.costs.label_free_estimators import ESTIMATORS, Scored
from causalfm.shift.costs.rates import difference, rate
from causalfm.shift.heads import held_out_scores

GRAPH = CausalGraph.standard(biology="tumour", technical=["site"], group="patient")
STRONG = {"n_sites": 12, "n_groups": 480, "new_groups": 60, "biology_effect": 1.0, "d": 16, "rows_per_group": 2}


def domains_of(kind, size=1.0, seed=0, **design):
    reference, deployment, graph, _ = planted_shift(kind, size, effect_seed=seed, random_state=seed, **STRONG | design)
    return as_domains(reference, deployment, graph)


def true_accuracy(domains):
    """Accuracy over the deployment's patients, by hand."""
    part = domains.deployment
    hit = part.scores.argmax(axis=1) == part.labels
    return np.mean([hit[part.units == g].mean() for g in np.unique(part.units)])


@pytest.fixture(scope="module")
def same():
    return domains_of("nothing")


@pytest.fixture(scope="module")
def moved():
    return domains_of("scanner", 1.5)


@pytest.fixture(scope="module")
def told(same):
    return label_free_performance(same, margin=0.2)


# heads ---------------------------------------------------------------------------------------------------------------


def drawn(n_patients=60, rows=4, d=12, sites=3, seed=0):
    rng = np.random.default_rng(seed)
    units = np.repeat(np.arange(n_patients), rows)
    y = (units % 2).astype(np.int64)
    X = rng.standard_normal((len(units), d)) + rng.standard_normal((n_patients, d))[units]
    X[:, 0] += 2.5 * y
    return X, y, units, (units // 2) % sites, rng.standard_normal((7, d))


def test_a_head_is_the_discriminant_of_the_rows_that_it_was_fitted_to():
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    X, y, units, sites, new = drawn()
    out = held_out_scores(X, y, units, sites, new)[1]
    train = sites != 0
    peer = LinearDiscriminantAnalysis(solver="lsqr").fit(X[train], y[train]).decision_function(X[~train])
    ours = np.log(out[~train, 1] / out[~train, 0])
    assert np.corrcoef(peer, ours)[0, 1] > 0.99  # but for a shrinkage of a thousandth or a hundredth


def test_moments_by_difference_give_what_a_fit_without_the_rows_gives():
    X, y, units, sites, new = drawn()
    out = held_out_scores(X, y, units, sites, new)[1]
    changed = X.copy()
    changed[sites == 0] = 3.0 * changed[sites == 0][::-1]  # rows of the site left out must not enter its head
    mean, spread = X.mean(axis=0), X.std(axis=0)
    again = held_out_scores(changed, y, units, sites, new)[1]
    heads = []
    for data, scores in ((X, out), (changed, again)):  # the head as a linear map: fitted to the scores it gave
        rows = sites == 0
        design = np.hstack([np.ones((rows.sum(), 1)), (data[rows] - mean) / spread])
        logits = np.log(scores[rows, 1] / scores[rows, 0])
        heads.append(np.linalg.lstsq(design, logits, rcond=None)[0])
    cosine = heads[0] @ heads[1] / np.linalg.norm(heads[0]) / np.linalg.norm(heads[1])
    assert cosine > 0.999  # the scale of columns is that of the whole reference, which the shrinkage feels


def test_patients_of_several_sites_are_left_out_of_the_head_of_their_sites():
    X, y, units, sites, new = drawn(d=200, n_patients=30, rows=6)
    X[:, 0] -= 2.5 * y  # no class signal: only a patient's own rows can tell its class
    twice = sites.copy()
    twice[::6] = (twice[::6] + 1) % 3  # one row of every patient was scanned at the next site
    out = held_out_scores(X, y, units, twice, new)[1]
    told = ~np.isnan(out[:, 0])
    assert told.all()
    assert abs((out.argmax(axis=1) == y).mean() - 0.5) < 0.15
    # the control: a head that left out rows only would read patients from their other rows
    leaky, _ = cross_fitted(X, y, units, 0 * y, [(twice != s, twice == s) for s in range(3)], "logistic", 0)
    assert (leaky.argmax(axis=1) == y)[::6].mean() > 0.9


def test_a_head_reads_as_much_as_logistic_regression_and_is_calibrated():
    domains = domains_of("nothing", seed=3)
    reference = domains.reference
    folds = grouped_folds(reference.labels, reference.units, 5, 0)
    holds = [(folds != k, folds == k) for k in range(5)]
    peer, _ = cross_fitted(reference.cohort.X, reference.labels, reference.units, 0 * folds, holds, "logistic", 0)
    right = [(p.argmax(axis=1) == reference.labels).mean() for p in (reference.scores, peer)]
    assert right[0] > right[1] - 0.02
    confidence = reference.scores.max(axis=1)
    assert abs(confidence.mean() - right[0]) < 0.03


def test_heads_of_wide_float16_and_far_from_zero():
    X, y, units, sites, new = drawn(d=300, n_patients=20)
    plain = held_out_scores(X, y, units, sites, new[:, :300])
    for scaled in (X * 1e200, X * 1e-200 + 0.0):
        found = held_out_scores(scaled, y, units, sites, new[:, :300] * (scaled[0, 0] / X[0, 0]))
        for a, b in zip(plain, found, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
    half = held_out_scores(X.astype(np.float16), y, units, sites, new.astype(np.float16))
    assert np.abs(half[0] - plain[0]).max() < 0.05


def test_a_class_that_lives_at_one_site_leaves_it_without_a_back_test():
    X, y, units, sites, new = drawn()
    y = np.where(sites == 0, 2, y)
    out = held_out_scores(X, y, units, sites, new)[1]
    assert np.isnan(out[sites == 0]).all()
    assert np.isfinite(out[sites != 0]).all()


# rates ---------------------------------------------------------------------------------------------------------------


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
    rng, covered, misses = np.random.default_rng(5), np.zeros(2), 0
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
        misses += (high - low) > 0.6
    band = stats.binom.ppf([0.0005, 1.0], 400, 0.95)
    assert (covered >= band[0]).all()
    assert covered.max() <= stats.binom.ppf(0.9995, 400, 0.985)
    assert misses == 0


# measured ------------------------------------------------------------------------------------------------------------


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
    """A reference that is right in 95 % of a class with 10 % of the patients; a deployment with 90 % of them."""
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


# label-free ----------------------------------------------------------------------------------------------------------


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


def test_nothing_moved_is_answered(same, told):
    assert told.trusted is not None
    assert told.verdict == "pass"
    assert told.low <= true_accuracy(same) <= told.high
    assert all(test.calibrated for test in told.back_tests)
    assert len(told.back_tests[0].sites) == 12
    assert not any(signal["far"] for signal in told.details["signals"].values())
    assert told.to_frame()["name"].tolist() == [*ESTIMATORS, "site level"]
    assert told.trusted in told.sentence


def test_a_back_test_predicts_a_site_from_the_others_only(same, told):
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


# subgroups -----------------------------------------------------------------------------------------------------------


def test_subgroups_count_by_hand_and_bound_the_worst(same):
    found = subgroup_performance(same, ["scanner", "age"], edges={"age": [55, 65]}, margin=0.3)
    assert [s.column for s in found] == ["scanner", "age"]
    scanner, age = found
    part = same.deployment
    hit = part.scores.argmax(axis=1) == part.labels
    for estimate in scanner.groups:
        rows = part.cohort.obs["scanner"].to_numpy() == estimate.details["level"]
        by_hand = np.mean([hit[rows & (part.units == g)].mean() for g in np.unique(part.units[rows])])
        assert estimate.value == pytest.approx(by_hand)
    assert [e.details["level"] for e in age.groups] == ["under 55", "55 to under 65", "65 and over"]
    assert age.worst.value == min(e.value for e in age.groups)
    single = next(e for e in age.groups if e.value == age.worst.value)
    assert age.worst.low <= single.low
    assert 0.0 <= age.gap.low <= age.gap.value <= age.gap.high
    assert scanner.groups[0].details["drop"].n > 0
    assert "By scanner" in scanner.sentence


def banded(kind, seed=0, n=1600):
    """Accuracy differs by sex: itself, or only because women are seen where the model is worse."""
    rng = np.random.default_rng(seed)
    side = {}
    for name in ("reference", "deployment"):
        site = rng.integers(2, size=n)
        women = rng.random(n) < np.where(site == 0, 0.2, 0.8)
        p = 0.95 - 0.25 * (site if kind == "technical" else women)
        right, y = rng.random(n) < p, rng.integers(2, size=n)
        score = np.where(right == (y == 1), 0.9, 0.1)
        obs = pd.DataFrame(
            {
                "patient": [f"{name}{i}" for i in range(n)],
                "site": [f"{name} {s}" for s in site],
                "tumour": [f"class{k}" for k in y],
                "sex": np.where(women, "f", "m"),
                "rare": np.where(np.arange(n) < 3, "few", "many"),
            },
            index=[f"{name}{i}" for i in range(n)],
        )
        table = pd.DataFrame({"class0": 1 - score, "class1": score}, index=obs.index)
        side[name] = Cohort(rng.standard_normal((n, 2)), obs), table
    tables = {name: table for name, (_, table) in side.items()}
    return as_domains(side["reference"][0], side["deployment"][0], GRAPH, predictions=tables)


def test_a_technical_gap_vanishes_at_fixed_sites_and_another_remains():
    technical = subgroup_performance(banded("technical"), "sex", margin=0.05)[0]
    assert technical.gap.low > 0.05
    assert technical.verdict == "fail"
    assert technical.gap_fixed_class.low > 0.05  # the classes are not why
    fixed = technical.gap_fixed_site_and_class
    assert fixed.low <= 0.0 <= fixed.high
    assert "where the patients are seen" in technical.sentence
    own = subgroup_performance(banded("own"), "sex", margin=0.05)[0]
    assert own.gap_fixed_site_and_class.low > 0.1
    assert "so it remains" in own.sentence


def test_small_cells_cannot_tell_and_bad_columns_are_refused():
    domains = banded("own")
    found = subgroup_performance(domains, "rare")[0]
    assert found.verdict == "cannot tell"
    assert np.isnan(found.groups[0].value)
    assert "of 10 that are needed" in found.groups[0].details["reason"]
    with pytest.raises(DataError, match="tells units apart"):
        subgroup_performance(domains, "patient")
    with pytest.raises(DataError, match="rise"):
        subgroup_performance(domains, "sex", edges={"sex": [3, 2]})
    with pytest.raises(DataError, match="no column"):
        subgroup_performance(domains, "nothing")


def test_the_worst_of_equal_levels_is_bounded_jointly():
    """Six levels without any gap: the bounds of the worst and of the gap hold together."""
    missed = [0, 0]
    for seed in range(60):
        rng = np.random.default_rng(seed)
        domains = banded("own", seed=seed, n=240)
        obs = domains.deployment.cohort.obs
        flat = rng.random(len(obs)) < 0.85
        score = np.where(flat == (obs["tumour"] == "class1"), 0.9, 0.1)
        cohort = domains.deployment.cohort.replace(obs=obs.assign(lab=rng.integers(6, size=len(obs)).astype(str)))
        tables = {
            "reference": pd.DataFrame(
                domains.reference.scores, index=domains.reference.cohort.obs.index, columns=list(domains.classes)
            ),
            "deployment": pd.DataFrame({"class0": 1 - score, "class1": score}, index=obs.index),
        }
        lab = domains.reference.cohort.replace(obs=domains.reference.cohort.obs.assign(lab="0"))
        found = subgroup_performance(as_domains(lab, cohort, GRAPH, predictions=tables), "lab")[0]
        missed[0] += not found.worst.low <= 0.85 <= found.worst.high
        missed[1] += found.gap.low > 0.0
    assert max(missed) <= stats.binom.ppf(0.9995, 60, 0.05)


# labels --------------------------------------------------------------------------------------------------------------


def test_labels_that_would_decide_do(same):
    budget = label_budget(same, margin=0.05, expected=0.7)
    assert budget.would_be == "fail"
    assert budget.patients is not None
    powers = [record["power"] for record in budget.curve]
    assert powers[-1] > 0.99
    near = label_budget(same, margin=0.05, expected=budget.expected_drop + 0.7 - 0.055)
    assert near.patients is None or near.patients > 4 * budget.patients
    assert "do not decide" in near.sentence or near.patients


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


def test_bad_arguments(same):
    for bad, message in (
        ({"margin": 0.0}, "margin and power must lie between 0 and 1"),
        ({"margin": 0.05, "power": 1.0}, "margin and power must lie between 0 and 1"),
        ({"margin": 0.05, "expected": 1.4}, "expected must be an accuracy between 0 and 1"),
    ):
        with pytest.raises(DataError, match=message):
            label_budget(same, **bad)
    with pytest.raises(DataError, match="minimum"):
        label_free_performance(same, minimum=1)
    with pytest.raises(DataError, match="minimum"):
        subgroup_performance(same, "age", minimum=0)
