import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score

from causalfm.cohort import Cohort
from causalfm.datasets import tcga_hipt
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.metrics import transfer_gap
from causalfm.metrics.learners import choose_strength, fit_logistic
from causalfm.metrics.recall import cell_balance

GRAPH = CausalGraph.standard(biology="tumour", technical="site", group="patient")
SECRET = "PATIENT-4711"


def cohort_of(seed: int, *, n=12, sites=3, turn=1.0, biology=2.0, d=8, rows=1) -> Cohort:
    """``n`` patients per class and site; at the last site the class lies along another direction, by ``turn``."""
    rng, axes = np.random.default_rng(seed), np.linalg.qr(np.random.default_rng(99).standard_normal((d, d)))[0]
    y, s = np.repeat([0, 1], sites * n), np.tile(np.repeat(np.arange(sites), n), 2)
    along = axes[0] + np.where(s == sites - 1, turn, 0.0)[:, None] * axes[1]
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    patient = np.repeat(np.arange(len(y)), rows)
    X = biology * (y - 0.5)[:, None] * along + axes[2 + s] + 0.7 * rng.standard_normal((len(y), d))
    obs = pd.DataFrame({"tumour": y[patient], "site": s[patient]}).astype(str)
    X = X[patient] + 0.3 * rng.standard_normal((len(patient), d))
    return Cohort(X.astype("f4"), obs.assign(patient=[f"{SECRET}-{p}" for p in patient]))


def test_unseen_accuracy_by_hand():
    cohort = cohort_of(0)
    found = transfer_gap(cohort, GRAPH)
    y, site = cohort.factor("tumour").codes, cohort.factor("site").codes
    groups = cohort.factor("patient").codes
    X = cohort.X.astype(np.float64)
    X = np.ldexp(X, -int(np.frexp(np.abs(X).max())[1]))
    weights = cell_balance(y, site, np.ones(len(y)))
    weights *= len(y) / weights.sum()
    for record in found.details["levels"]:
        test = site == int(record["level"])
        order = np.unique(groups, return_inverse=True)[1]
        strength = choose_strength(X[~test], y[~test], order[~test], weights[~test], 0)
        (guess,) = fit_logistic(X[~test], y[~test], weights[~test], X[test], [strength], 2)
        assert record["unseen"] == pytest.approx(balanced_accuracy_score(y[test], guess.argmax(axis=1)))
        assert record["gap"] == pytest.approx(record["seen"] - record["unseen"])
        assert (record["groups"], record["trained_on"]) == (24, 48)
    assert found.value == pytest.approx(np.mean([record["gap"] for record in found.details["levels"]]))
    assert found.details["n_splits"] == 3  # both kinds of probe train on two thirds of the patients


def test_the_site_that_differs_is_named():
    found = transfer_gap(cohort_of(1, n=40, turn=20.0, biology=3.5), GRAPH)
    worst = found.details["worst"]
    assert (worst["level"], found.details["worst_accuracy"]["level"]) == ("2", "2")
    assert worst["low"] > 0.05
    assert worst["low"] <= worst["value"] <= worst["high"]
    assert found.low > 0.0
    others = [record for record in found.details["levels"] if record["level"] != "2"]
    assert all(record["low"] < 0.0 for record in others)
    same = transfer_gap(cohort_of(1, n=40, turn=0.0, biology=3.5), GRAPH)
    assert same.low < 0.0 < same.high
    assert "levels judged" in same.details["new_level"]["reason"]


def test_effects_are_the_difference_of_every_patient():
    cohort = cohort_of(2, rows=2)
    found = transfer_gap(cohort, GRAPH)
    assert found.influence.effects.shape == (72,)
    assert found.influence.effects.sum() == pytest.approx(0.0, abs=1e-12)
    assert found == transfer_gap(cohort, GRAPH)
    assert SECRET not in str(found.to_dict())


def test_sites_that_cannot_be_judged_are_reported():
    cohort = cohort_of(0, sites=4)
    site, tumour = cohort.obs["site"].to_numpy(), cohort.obs["tumour"].to_numpy()
    keep = ~((site == "1") & (tumour == "1"))
    keep[np.flatnonzero((site == "3") & (tumour == "0"))[3:]] = False
    found = transfer_gap(cohort[keep], GRAPH)
    assert [record["level"] for record in found.details["levels"]] == ["0", "2"]
    reasons = {record["level"]: record["reason"] for record in found.details["not_judged"]}
    assert "1: 0 here, 36 elsewhere" in reasons["1"]
    assert "0: 3 here" in reasons["3"]
    one_each = cohort[(site == "0") & (tumour == "0") | (site == "1") & (tumour == "1")]
    nothing = transfer_gap(one_each, GRAPH)
    assert np.isnan(nothing.value)
    assert "no level of site holds two classes" in nothing.details["reason"]


def test_a_level_of_few_units_that_hold_every_class_has_bounds():
    """Four patients with four tissues each leave no degree of freedom: bounds were nan, the worst ones chance."""
    rng = np.random.default_rng(0)
    patient, tissue = np.repeat(np.arange(64), 12), np.tile(np.repeat(np.arange(4), 3), 64)
    site = np.repeat([0, 1, 2], [30, 30, 4])[patient]
    X = 4.0 * np.eye(6)[tissue] + 0.5 * rng.standard_normal((len(patient), 6))
    obs = pd.DataFrame({"tumour": tissue, "site": site, "patient": patient}).astype(str)
    found = transfer_gap(Cohort(X.astype("f4"), obs), GRAPH, minimum=4)
    assert [record["groups"] for record in found.details["levels"]] == [30, 30, 4]
    for record in (*found.details["levels"], found.details["worst"]):
        assert record["low"] < 0.0 < record["high"]


def test_biology_that_is_not_read_cannot_be_lost():
    found = transfer_gap(cohort_of(0, biology=0.0), GRAPH)
    assert np.isnan([found.value, found.low, found.high]).all()
    assert "does not read tumour within levels" in found.details["reason"]


def test_no_error_still_has_a_width():
    found = transfer_gap(cohort_of(0, biology=40.0, turn=0.0), GRAPH)
    assert found.value == 0.0
    assert found.low < 0.0 < found.high


def test_patients_seen_at_several_levels_never_train_their_own_probe():
    """Every patient has a direction of its own at both scanners: whoever trains on it would know the class."""
    rng = np.random.default_rng(0)
    n = 40
    patient, scanner = np.repeat(np.arange(n), 2), np.tile([0, 1], n)
    X = 10.0 * np.eye(n)[patient] + 0.1 * rng.standard_normal((2 * n, n))
    tumour = rng.permutation(np.repeat([0, 1], n // 2))[patient]
    obs = pd.DataFrame({"tumour": tumour, "site": scanner, "patient": patient}).astype(str)
    found = transfer_gap(Cohort(X, obs), GRAPH)
    assert "does not read" in found.details["reason"]
    readable = Cohort(np.c_[X, np.tile(tumour[:, None] - 0.5, 40)], obs)
    both = transfer_gap(readable, GRAPH)
    assert all(record["unseen"] > 0.8 for record in both.details["levels"])


def test_refused_input():
    cohort = cohort_of(0)
    for options, message in (
        ({"probe": "knn"}, "the gap compares trained probes"),
        ({"minimum": 1}, "minimum=1"),
        ({"confounder": "scanner"}, "no column 'scanner'"),
    ):
        with pytest.raises(DataError, match=message):
            transfer_gap(cohort, GRAPH, **options)


def test_intervals_cover_new_patients():
    found = []
    for seed in range(30):
        estimate = transfer_gap(cohort_of(300 + seed, n=12), GRAPH)
        found.append((estimate.value, estimate.low, estimate.high))
    value, low, high = np.array(found).T
    assert ((low <= value.mean()) & (value.mean() <= high)).sum() >= stats.binom.ppf(0.001, 30, 0.93)
    assert (high - low).mean() / 2 < 3.5 * value.std()


def test_four_cancers_of_four_hospitals(data_dir):
    hospitals = ["Asterand", "Christiana Healthcare", "Indivumed", "International Genomics Consortium"]
    cohort = tcga_hipt.load(data_dir, cancers=["BRCA", "COAD", "LUAD", "STAD"], hospitals=hospitals)
    found = transfer_gap(cohort, CausalGraph.standard(biology="project_id", technical="center", group="case"))
    assert found.low > 0.15
    assert found.details["worst"]["level"] == "Indivumed"
    christiana = next(r for r in found.details["levels"] if r["level"] == "Christiana Healthcare")
    assert christiana["classes"] == ["TCGA-BRCA", "TCGA-COAD", "TCGA-LUAD"]  # two slides of stomach: too few


def test_eight_sites_say_something_of_another():
    found = transfer_gap(cohort_of(0, sites=8, n=6, d=12), GRAPH)
    gaps = np.array([record["gap"] for record in found.details["levels"]])
    half = stats.t.ppf(0.975, 7) * gaps.std(ddof=1) * (1 + 1 / 8) ** 0.5
    new = found.details["new_level"]
    assert [new["value"], new["low"], new["high"]] == pytest.approx(
        [gaps.mean(), gaps.mean() - half, gaps.mean() + half]
    )
