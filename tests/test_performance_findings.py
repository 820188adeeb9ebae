"""How well the biology is predicted at every level, in every class and subgroup: statistics and findings."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import causalfm as cfm
from causalfm.auditing import load_policy
from causalfm.auditing.downstream import downstream
from causalfm.auditing.performance_answers import answers_of_model
from causalfm.auditing.performance_findings import level_finding, subgroup_finding
from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import linear_scm
from causalfm.errors import DataError
from causalfm.scm import EmbeddingSCM, flips
from causalfm.shift.costs.level_performance import class_scores, labelled, level_scores
from causalfm.shift.costs.rates import correlation, difference, rate
from causalfm.shift.heads import held_out_heads
from experiments.calibration.levels import DESIGNS, PAGE, PROBED, level_values
from tests.estimands import check_estimands

POLICY = load_policy()
GRAPH = cfm.CausalGraph.standard(biology="tumour", technical=["site"], group="patient")


def made(cells, *, rows=2):
    """Cohort and predictions: ``{(site, class): (patients, right)}``; a patient is right in all rows or in none."""
    table, right = [], []
    for (site, tumour), (patients, good) in cells.items():
        table += [{"site": site, "tumour": tumour, "sex": "fm"[i % 2]} for i in range(patients)]
        right += [i < good for i in range(patients)]
    obs = pd.DataFrame(table).assign(patient=np.arange(len(table)))
    obs, right = obs.loc[np.repeat(obs.index, rows)].reset_index(drop=True), np.repeat(right, rows)
    classes = sorted(set(obs["tumour"]))
    named = np.array([classes.index(c) for c in obs["tumour"]])
    decided = np.where(right, named, (named + 1) % len(classes))
    scores = np.full((len(obs), len(classes)), 0.1)
    scores[np.arange(len(obs)), decided] = 1.0 - 0.1 * (len(classes) - 1)
    cohort = Cohort(np.random.default_rng(0).normal(size=(len(obs), 3)), obs)
    return cohort, pd.DataFrame(scores, index=obs.index, columns=classes)


def asked(cells, policy=POLICY, **more):
    cohort, predictions = made(cells, **more)
    answers = answers_of_model(cohort, GRAPH, predictions, "The model given", refitted=False)
    return level_finding(cohort, GRAPH, "site", policy, answers)


CELLS = {
    ("a", "no"): (100, 95), ("a", "yes"): (100, 90),
    ("b", "no"): (100, 94), ("b", "yes"): (100, 91),
    ("c", "no"): (100, 95), ("c", "yes"): (100, 40),
}  # fmt: skip


def test_the_worst_hospital_is_named_with_both_accuracies():
    found = asked(CELLS)
    assert (found.verdict, found.details["worst level"]) == ("fail", "c")
    rows = {row["site"]: row for row in found.details["by site"]}
    assert next(iter(rows)) == "c"  # the worst comes first
    assert rows["c"]["accuracy"] == pytest.approx(0.675)
    assert rows["c"]["balanced accuracy"] == pytest.approx((0.95 + 0.40) / 2)
    assert rows["c"]["balanced accuracy, others"] == pytest.approx((0.945 + 0.905) / 2)
    assert found.value == pytest.approx(0.925 - 0.675)
    assert found.low > POLICY.subgroup_gap
    assert found.low == max(row["shortfall low"] for row in rows.values())
    assert rows["c"]["recall of yes"] == pytest.approx(0.4)
    for words in (
        "Worst is c: 68%",
        "weighs the same",
        "reach 92%",
        "25 points less",
        "The class recognised least is yes",
    ):
        assert words in found.sentence, words
    assert found.details["shown to be worse"] == ["c"]


def test_a_hard_case_mix_is_no_worse_hospital():
    """Equal recalls everywhere; raw accuracies lie 42 points apart."""
    cells = {("a", "no"): (180, 171), ("a", "yes"): (20, 8), ("b", "no"): (20, 19), ("b", "yes"): (180, 72)}
    found = asked(cells)
    rows = {row["site"]: row for row in found.details["by site"]}
    assert rows["a"]["accuracy"] - rows["b"]["accuracy"] > 0.4
    assert found.value == pytest.approx(0.0, abs=1e-12)
    assert found.verdict != "fail"
    assert not found.details["shown to be worse"]


def test_a_model_that_guesses_each_hospitals_usual_class_is_seen():
    """It is right in most patients of every hospital; at the level's own mix of classes none would look worse."""
    cells = {("a", "no"): (180, 178), ("a", "yes"): (20, 2), ("b", "no"): (20, 2), ("b", "yes"): (180, 178)}
    cells |= {("c", "no"): (100, 95), ("c", "yes"): (100, 95)}
    found = asked(cells)
    assert {"a", "b"} == set(found.details["shown to be worse"])
    assert found.verdict == "fail"


def test_levels_and_classes_with_too_few_units_are_named_and_a_pass_must_hold_for_every_level():
    cells = {(s, c): (600, 540) for s in "ab" for c in ("no", "yes")}
    assert asked(cells, rows=1).verdict == "pass"
    found = asked(cells | {("tiny", "no"): (4, 4), ("tiny", "yes"): (4, 4)}, rows=1)
    assert found.verdict == "cannot tell"
    assert "Not judged: tiny (8 patients, of 10 that are needed)" in found.sentence
    row = found.details["by site"][-1]
    assert (row["site"], row["note"]) == ("tiny", "not judged: 8 patients, of 10 that are needed")
    assert np.isnan(row["accuracy"])
    thin = asked(cells | {("c", "no"): (600, 540), ("c", "yes"): (2, 0)}, rows=1)
    notes = {row["site"]: row["note"] for row in thin.details["by site"]}
    assert notes == {"a": "", "b": "", "c": "without yes (2 patients)"}
    alone = asked({("a", "no"): (30, 30), ("b", "yes"): (30, 30)})
    assert alone.verdict == "cannot tell"
    assert "no class has 3 patients both there and at other levels" in alone.sentence


def test_classes_are_judged_with_what_they_are_taken_for():
    found = asked({("a", c): (40, n) for c, n in (("x", 40), ("y", 30), ("z", 36))} | {("b", "x"): (40, 40)})
    rows = {row["tumour"]: row for row in found.details["by class"]}
    assert rows["y"]["accuracy"] == 0.75
    assert (rows["y"]["most often taken for"], rows["y"]["share taken for it"]) == ("z", 0.25)
    assert rows["x"]["most often taken for"] == ""
    assert 0.0 < rows["x"]["low"] < rows["x"]["high"] == pytest.approx(1.0)


def test_subgroups_and_bands():
    cohort, predictions = made(CELLS)
    obs = cohort.obs.assign(age=np.repeat(np.arange(600) % 50 + 30.0, 2))
    obs.loc[:9, "sex"] = None
    cohort = cohort.replace(obs=obs)
    answers = answers_of_model(cohort, GRAPH, predictions, "The model given", refitted=False)
    by_sex = subgroup_finding(cohort, GRAPH, "sex", POLICY, answers)
    assert {row["sex"] for row in by_sex.details["by sex"]} == {"f", "m"}
    assert by_sex.details["rows without a value"] == 10
    assert "10 rows have no sex" in by_sex.sentence
    by_age = subgroup_finding(cohort, GRAPH, "age", POLICY, answers)
    assert len(by_age.details["edges of bands"]) == 2
    assert len(by_age.details["by age"]) == 3
    with pytest.raises(DataError, match="tells units apart"):
        subgroup_finding(cohort, GRAPH, "patient", POLICY, answers)
    with pytest.raises(DataError, match="'subgroups' names 'race'"):
        cfm.audit(cohort, GRAPH, policy=dataclasses.replace(POLICY, subgroups=("race",)))


# statistics ----------------------------------------------------------------------------------------------------------


def test_rates_of_the_same_patients_correlate():
    rng = np.random.default_rng(0)
    units, weights = np.arange(400), np.ones(400)
    able = rng.random(400) < 0.7
    first, second = (rate(np.where(rng.random(400) < 0.1, ~able, able), units, weights) for _ in range(2))
    other = rate(able, units + 1000, weights)
    assert correlation(first, other) == 0.0
    assert 0.5 < correlation(first, second) < 0.8  # of hits: (0.9^2 - 0.1^2 ...) * 0.21 / 0.2244, by hand 0.60
    wide, narrow = difference(first, second), difference(first, second, shared=True)
    assert narrow[2] - narrow[1] < 0.75 * (wide[2] - wide[1])
    assert difference(first, other, shared=True) == difference(first, other)
    perfect = rate(np.ones(400), units, weights)
    assert difference(perfect, perfect, shared=True) == difference(perfect, perfect)  # no error correlates with nothing


def test_one_level_against_the_other_is_the_difference_of_two_rates():
    rng = np.random.default_rng(1)
    units, codes = np.repeat(np.arange(80), 3), np.repeat(np.arange(80) % 2, 3)
    scores = rng.dirichlet([1.0, 1.0], 240)
    y = np.zeros(240, dtype=np.int64)
    rows = labelled(scores, y, units, y, None)
    a, b = level_scores(rows, codes, ["a", "b"], "patient", fewest=10, fewest_of_class=3)
    hit, weights = scores.argmax(axis=1) == y, np.full(240, 1 / 3)
    one, two = (rate(hit[codes == k], units[codes == k], weights[codes == k]) for k in (0, 1))
    assert a.shortfall == difference(two, one, 0.975)
    assert a.shortfall[0] == -b.shortfall[0]
    alone, none = class_scores(rows, ["only", "none"], "patient", fewest=3)
    assert alone.recall == (rows.rate().value, *rows.rate().interval())
    assert none.reason == "0 patients, of 3 that are needed"


@pytest.mark.parametrize("name", ["6 hospitals of 40 patients", "every patient at every scanner"])
def test_a_level_is_seldom_named_worse_where_none_is(name):
    found = [level_values(DESIGNS[name], 5_000_000 + i) for i in range(60)]
    # at most 5 of 100 are allowed; more than 9 of 60 come by chance in one of 1,000 runs
    assert sum(one["a level named worse"] for one in found) <= 9
    assert sum(one["shortfalls, all levels"] for one in found) >= 50
    assert sum(one["accuracies, all levels"] for one in found) >= 50


def test_the_committed_calibration_is_within_its_bands():
    table = pd.read_csv(Path(__file__).parents[1] / PAGE.with_suffix(".csv")).set_index("design")
    assert set(table.index) == {*DESIGNS, *PROBED}
    nulls = table.drop(index=[name for name, design in DESIGNS.items() if "fall" in design])
    assert (nulls["a level named worse"] <= stats.binom.ppf(0.999, nulls["cohorts"], 0.05) / nulls["cohorts"]).all()
    for name in ("shortfalls, all levels", "accuracies, all levels", "worst, its interval"):
        told = table[table[name].notna()]
        least = stats.binom.ppf(0.001, told["cohorts"], 0.95) / told["cohorts"]
        assert (told[name] >= least).all(), name
    assert table.loc["one hospital 30 points worse", "a level named worse"] > 0.9


# a linear head that is fitted here -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cohort():
    return linear_scm(n_groups=60, n_sites=3, d=6, site_effect=1.0, age_effect=0.5, rows_per_group=3, random_state=3)[0]


def test_a_head_decides_about_patients_it_has_not_seen_also_where_they_are_moved(cohort):
    """Change rows or labels of patients: the head of their rows must not turn, wherever the rows are."""
    biology, units = cohort.factor("tumour"), cohort.factor("patient", private=True).codes
    heads = held_out_heads(cohort.X, biology.codes, units, biology.levels, random_state=0)
    own = np.flatnonzero(units == 7)
    fold = heads.fold[own[0]]
    assert set(heads.fold[own]) == {fold}
    moved = cohort.X.copy()
    moved[heads.fold == fold] += 100.0 * np.random.default_rng(0).normal(size=moved[heads.fold == fold].shape)
    again = held_out_heads(moved, biology.codes, units, biology.levels, random_state=0)
    np.testing.assert_array_equal(again.fold, heads.fold)
    elsewhere = cohort.X[own] + 1.0
    by_hand = elsewhere @ heads.slopes[fold] + heads.constants[fold]
    by_hand = np.exp(by_hand - by_hand.max(axis=1, keepdims=True))
    np.testing.assert_allclose(
        heads.probabilities(elsewhere, own), by_hand / by_hand.sum(axis=1, keepdims=True), rtol=1e-9
    )
    swapped = np.isin(units, [8, 40])  # of one fold and of two classes: the folds are dealt as before
    labels = np.where(swapped, 1 - biology.codes, biology.codes)
    other = held_out_heads(cohort.X, labels, units, biology.levels, random_state=0)
    np.testing.assert_array_equal(other.fold, heads.fold)
    (fold,) = set(heads.fold[swapped])
    ratios = other.slopes[:, :, 0] / heads.slopes[:, :, 0]
    np.testing.assert_allclose(ratios[fold], ratios[fold, 0], rtol=1e-6)  # one factor, chosen on other folds too
    assert (np.ptp(np.delete(ratios, fold, axis=0), axis=1) > 1e-3).all()  # heads that saw them move


def test_decisions_of_held_out_heads_are_counted(cohort):
    given = downstream(cohort, GRAPH, None, "linear")
    assert given.refitted
    found = flips(EmbeddingSCM(GRAPH).fit(cohort), cohort, given.model, of="site")
    assert found.worst is not None
    assert 0.0 <= found.worst.low <= found.worst.flips <= found.worst.high <= 1000.0
    with pytest.raises(DataError, match="180 rows, and the cohort has 90"):
        flips(EmbeddingSCM(GRAPH).fit(cohort[::2]), cohort[::2], given.model, of="site")
    with pytest.raises(DataError, match="linear"):
        cfm.audit(cohort, GRAPH, model="forest")


@pytest.fixture(scope="module")
def audit(cohort):
    graph = cfm.CausalGraph.standard(biology="tumour", technical=["site", "age"], group="patient")
    obs = cohort.obs.assign(sex=np.where(cohort.factor("patient", private=True).codes % 3 == 0, "f", "m"))
    policy = dataclasses.replace(POLICY, subgroups=("sex",), permutations=99)
    return cfm.audit(cohort.replace(obs=obs), graph, policy=policy, model="linear")


def test_an_audit_asks_everything_of_the_linear_head_and_says_whose_decisions_they_are(audit):
    asked_of = [(f.question, f.factor) for f in audit.findings]
    for one in (("performance", "site"), ("performance", "age"), ("performance", "sex"), ("decisions", "site")):
        assert one in asked_of
    decisions = next(f for f in audit.findings if f.question == "decisions")
    assert decisions.title == "Would the linear head fitted here decide otherwise at another site?"
    assert "the linear head fitted here would decide" in decisions.sentence
    assert any("a head that has not seen its patient" in text for text in audit.assumptions)
    assert not any("was not trained on these patients" in text for text in audit.assumptions)


def test_every_number_says_what_it_is_and_what_it_holds_for(audit):
    check_estimands(audit)


def test_every_effect_has_its_levels_its_largest_pair_and_what_would_overturn_it(audit):
    effects = {f.factor: f for f in audit.findings if f.question == "effect"}
    assert set(effects) == {"site", "age"}
    for f in effects.values():
        assert all(row["distance_low"] <= row["distance"] <= row["distance_high"] for row in f.details["per_level"])
        told = f.details["sensitivity"]
        assert 0.0 <= told["robustness_value_low"] <= told["robustness_value"] <= 1.0
        assert "A hidden cause as strong as" in told["sentence"]
        assert {"a cause as strong as", "times", "distance left", "low", "high"} <= set(told["benchmarks"][0])
    (pair,) = effects["site"].details["largest pair"]
    assert pair["low"] <= pair["distance"] <= pair["high"]
    assert pair["distance"] == pytest.approx(effects["site"].details["sensitivity"]["distance"]["value"])
    assert "One standard deviation of age moves it" in effects["age"].sentence
    assert "remaining variance of age" in effects["age"].details["sensitivity"]["sentence"]
