"""Calibration of probabilities in every site, on simulations with a known answer."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from causalfm.auditing import load_policy, reading
from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.metrics.calibration import calibration_by_level
from causalfm.metrics.site_calibration import probe_calibration

GRAPH = CausalGraph.standard(biology="tumour", technical="site", group="patient")


def draw(seed: int, *, held: tuple[int, ...] = (15, 15), rows: int = 4, sites: int = 1, shift: float = 0.0):
    """Draw exact posterior probabilities of rows: classes at the corners of a simplex, patients with an effect of
    their own, the last site moved by ``shift`` towards the last class without the model's knowledge."""
    rng = np.random.default_rng(seed)
    by, own = np.repeat(np.arange(sites), sum(held)), np.tile(np.repeat(np.arange(len(held)), held), sites)
    groups = np.repeat(np.arange(len(own)), rows)
    means = 1.2 * np.eye(len(held))
    Z = means[own][groups] + np.sqrt(0.6) * rng.standard_normal((len(own), len(held)))[groups]
    Z += np.sqrt(0.4) * rng.standard_normal(Z.shape)
    Z[:, -1] += shift * (by[groups] == sites - 1)
    odds = np.exp(Z @ means.T)
    return odds / odds.sum(axis=1, keepdims=True), own[groups], by[groups], groups


# --- by hand --------------------------------------------------------------------------------------------------------


def test_numbers_by_hand() -> None:
    chances = np.array([0.2, 0.4, 0.4, 0.6, 0.8, 0.6])
    y = np.array([0, 0, 0, 0, 1, 1])  # four rows of class 0 and two of class 1 weigh the same
    (found,) = calibration_by_level(
        np.c_[1 - chances, chances], y, np.zeros(6, dtype=int), np.arange(6), minimum=2, classes=["benign", "tumour"]
    )
    assert found.details["class"] == "tumour"
    assert found.value == pytest.approx((0.4 + 0.7) / 2 - 0.5)
    assert found.details["brier"] == pytest.approx((0.04 + 0.16 + 0.16 + 0.36) / 4 + (0.04 + 0.16) / 2)
    assert found.details["brier_guess"] == pytest.approx(0.5)
    # within classes: residuals .2 .4 .4 .6 (variance .08 / 3) and -.2 -.4 (.02), a quarter of each mean's variance
    variance = 0.25 * (0.08 / 3 / 4 + 0.02 / 2)
    freedom = variance**2 / ((0.25 * 0.08 / 12) ** 2 / 3 + (0.25 * 0.01) ** 2 / 1)
    from scipy import stats

    assert found.high - found.value == pytest.approx(stats.t.ppf(0.975, freedom) * np.sqrt(variance))
    plain = calibration_by_level(
        np.c_[1 - chances, chances], y, np.zeros(6, dtype=int), np.arange(6), minimum=2, balanced=False
    )[0]
    assert plain.value == pytest.approx(chances.mean() - 2 / 6)


def test_expected_error_of_two_bins_by_hand() -> None:
    """20 rows at .6, of which 8 are right, and 20 at .9, all right: (.2 + .1) / 2."""
    confidence = np.repeat([0.6, 0.9], 20)
    right = np.r_[np.arange(20) < 8, np.ones(20, dtype=bool)]
    y = np.r_[np.arange(20) % 2, np.arange(20) % 2]
    first = np.where(right == (y == 0), confidence, 1 - confidence)
    (found,) = calibration_by_level(
        np.c_[first, 1 - first], y, np.zeros(40, dtype=int), np.arange(40), balanced=False, minimum=2
    )
    assert found.details["bins"] == 2  # of four, as ties are kept together
    assert found.details["ece"] == pytest.approx(0.15)


# --- simulations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("design", [{}, {"rows": 1}, {"held": (10, 25)}, {"sites": 3}, {"held": (12, 12, 12)}])
def test_calibrated_probabilities(design: dict) -> None:
    """In the large the interval of all classes and sites together covers; the null of the error is right."""
    n = 200
    covered, errors, nulls = 0, [], []
    for seed in range(n):
        found = calibration_by_level(*draw(seed, **design), random_state=seed)
        rows = [row for estimate in found for row in estimate.details["classes"]]
        covered += all(row["low"] <= 0 <= row["high"] for row in rows)
        errors.append(np.mean([estimate.details["ece"] for estimate in found]))
        nulls.append(np.mean([estimate.details["ece_null"] for estimate in found]))
    assert covered / n > 0.95 - 3.5 * np.sqrt(0.95 * 0.05 / n)
    assert np.mean(nulls) == pytest.approx(np.mean(errors), rel=0.08)


def test_rows_are_not_patients() -> None:
    """Rows taken for patients: intervals too narrow and the null of the calibration error far too low."""
    covered, ratio = 0, []
    for seed in range(60):
        probabilities, y, by, groups = draw(seed, rows=12)
        (found,) = calibration_by_level(probabilities, y, by, np.arange(len(groups)))
        covered += found.low <= 0 <= found.high
        ratio.append(found.details["ece"] / found.details["ece_null"])
    assert covered < 0.8 * 60
    assert np.mean(ratio) > 1.2


def test_a_shifted_site_is_found_and_the_others_are_not() -> None:
    found = calibration_by_level(*draw(0, held=(30, 30), sites=3, shift=1.0), names=["A", "B", "C"])
    assert [estimate.details["level"] for estimate in found if estimate.low > 0 or estimate.high < 0] == ["C"]
    assert found[2].value > 0.1  # too much of the last class
    assert found[2].details["brier"] > max(estimate.details["brier"] for estimate in found[:2])
    assert found[2].details["ece"] > found[2].details["ece_null"]


def test_the_slope_tells_bold_from_timid() -> None:
    probabilities, *rest = draw(1, held=(60, 60))
    for power in (0.5, 1.0, 2.0):
        scaled = probabilities**power / (probabilities**power).sum(axis=1, keepdims=True)
        assert calibration_by_level(scaled, *rest)[0].details["slope"] == pytest.approx(1.0 / power, rel=0.25)


# --- what cannot be judged ------------------------------------------------------------------------------------------


def test_classes_and_sites_without_enough_patients_are_named() -> None:
    probabilities, y, by, groups = draw(2, held=(12, 12, 12), sites=3)
    keep = ~((by == 1) & (y == 2)) & ~((by == 2) & (y > 0))
    few = keep & ~((by == 0) & (y == 2) & (groups % 4 > 0))  # three patients stay
    found = calibration_by_level(
        *(part[few] for part in (probabilities, y, by, groups)), classes=["a", "b", "c"], unit="patient"
    )
    assert [estimate.details["left_out"] for estimate in found] == [
        ["c: 3 patient"],
        ["c: 0 patient"],
        ["b: 0 patient", "c: 0 patient"],
    ]
    assert np.isfinite([found[0].value, found[1].value]).all()
    assert np.isnan([found[2].value, found[2].low, found[2].high]).all()
    assert "1 class has enough patients here" in found[2].details["reason"]
    assert found[0].details["looks"] == 2  # one class says it all where two are judged


def test_two_of_three_classes_are_judged_among_themselves() -> None:
    """A class that the site lacks takes its share of every probability; the others are calibrated given that."""
    value = []
    for seed in range(40):
        parts = draw(seed, held=(15, 15, 15))
        keep = parts[1] < 2
        value.append(calibration_by_level(*(part[keep] for part in parts))[0].value)
    assert abs(np.mean(value)) < 4 * np.std(value) / np.sqrt(40)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"minimum": 1}, "minimum=1: choose a whole number of at least 2"),
        ({"names": []}, "level codes run from 0 to 0; there are 0"),
        ({"classes": ["a"]}, "1 class names for 2 columns"),
    ],
)
def test_settings_that_do_not_fit(change: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        calibration_by_level(*draw(0), **change)


def test_probabilities_that_are_none() -> None:
    probabilities, y, by, groups = draw(0)
    broken = probabilities.copy()
    broken[7] = [0.9, 0.9]
    broken[9, 0] = np.nan
    with pytest.raises(DataError, match=r"2 rows of probabilities .* \(first: row 7\)"):
        calibration_by_level(broken, y, by, groups)
    with pytest.raises(DataError, match="class codes run from 0 to 2; there are 2"):
        calibration_by_level(probabilities, y * 2, by, groups)
    with pytest.raises(DataError, match="120 rows of probabilities, but 119 classes"):
        calibration_by_level(probabilities, y[1:], by, groups)


# --- the probe of a cohort ------------------------------------------------------------------------------------------


def cohort_of(
    seed: int, *, shift: float = 0.0, tumours: tuple[float, ...] = (0.5, 0.5, 0.5), each: int = 60, **more
) -> Cohort:
    """Patients with two rows; ``shift`` moves site C along the tumour's direction, ``across`` every site off it."""
    rng = np.random.default_rng(seed)
    n = len(tumours)
    site = np.repeat(np.arange(n), each)
    tumour = (np.tile(np.arange(each), n) < np.repeat(tumours, each) * each).astype(int)
    patient = np.repeat(np.arange(n * each), 2)
    Z = 0.7 * rng.standard_normal((n * each, 8))[patient] + 0.7 * rng.standard_normal((2 * n * each, 8))
    Z[:, 0] += more.get("effect", 1.5) * tumour[patient] + shift * (site[patient] == 2)
    Z[:, 1] += more.get("across", 0.0) * site[patient]
    obs = pd.DataFrame(
        {"tumour": np.array(["no", "yes"])[tumour][patient], "site": np.array(list("ABCDEFGHIJ"))[site][patient]}
    )
    return Cohort(Z, obs.assign(patient=[f"p{i}" for i in patient]))


def test_case_mix_is_no_miscalibration_and_a_shift_is() -> None:
    """Sites with 25 to 75 % tumours: judged at the frequencies found, a calibrated probe would be off by a quarter."""
    for seed in range(3):
        found = probe_calibration(cohort_of(seed, tumours=(0.25, 0.5, 0.75)), GRAPH)
        assert all(estimate.low <= 0.0 <= estimate.high for estimate in found)
        moved = probe_calibration(cohort_of(seed, tumours=(0.25, 0.5, 0.75), shift=1.5), GRAPH)
        assert moved[2].details["class"] == "yes"
        assert moved[2].low > 0.0
        assert moved == probe_calibration(cohort_of(seed, tumours=(0.25, 0.5, 0.75), shift=1.5), GRAPH)


def test_the_report_names_the_site_and_says_what_it_cannot_judge() -> None:
    cohort = cohort_of(0, shift=1.5, tumours=(0.5, 1.0, 0.5, 0.5))
    found = reading.biology_finding(cohort, GRAPH, load_policy(), None, 0)[0]
    rows = {row["site"]: row for row in found.details["calibration of the logistic probe by site"]}
    assert "of 4 levels of site (1 could not be judged), most in C: yes" in found.sentence
    assert re.search(r"yes \d\d points too high \[\+\d+, \+\d+\]", found.sentence)
    assert "Where the site was in training, the" in found.sentence
    assert rows["B"]["note"] == "left out, of training too: too few patients of a class (no: 0 patient)"
    assert (rows["A"]["note"], rows["A"]["patients"]) == ("", 60)
    assert 0.1 < rows["A"]["temperature"] < 10
    still = reading.biology_finding(cohort_of(0, tumours=(0.5, 1.0, 0.5, 0.5)), GRAPH, load_policy(), None, 0)[0]
    assert "not shown to be off in any of 3 levels of site (1 more could not be judged)" in still.sentence
    tiny = reading.biology_finding(cohort_of(1, each=12), GRAPH, load_policy(), None, 0)[0]
    assert "cannot be told: too few patients of two classes" in tiny.sentence


def test_what_is_off_by_less_than_a_report_shows_is_called_so() -> None:
    """A probe that knows every class is off by a thousandth, with an interval as narrow: not "0 points too low"."""
    found = probe_calibration(cohort_of(0), GRAPH)
    tiny = tuple(replace(one, value=-0.001, low=-0.002, high=-0.0005) for one in found)
    said = reading._calibration_sentence(tiny, "site")
    assert said.endswith(f"off in {len(tiny)} of {len(tiny)} levels of site, by less than half a point.")
    seen = reading._calibration_sentence((*tiny[1:], replace(tiny[0], value=-0.05, low=-0.08, high=-0.02)), "site")
    assert "5 points too low [-8, -2]" in seen


def test_a_site_with_one_class_does_not_make_the_others_look_off() -> None:
    """Trained with it, the probe reads the site for the class: 4 of 10 such cohorts had another site off."""
    off = []
    for seed in range(12):
        cohort = cohort_of(seed, tumours=(0.5, 0.5, 1.0), across=3.0)
        found = probe_calibration(cohort, GRAPH, random_state=seed)
        assert np.isnan(found[2].value)
        assert found[2].details["left_out"] == ["no: 0 patient"]
        off.append(any(estimate.low > 0 or estimate.high < 0 for estimate in found))
        kept = cohort[np.flatnonzero(cohort.obs["site"] != "C")]
        assert probe_calibration(kept, GRAPH, random_state=seed) == found[:2]
    assert sum(off) <= 3


def test_a_class_that_most_sites_lack_is_left_out_and_named() -> None:
    cohort = cohort_of(0)
    third = (cohort.obs["site"] == "A") & (np.arange(len(cohort)) % 4 > 1)
    found = probe_calibration(
        cohort.replace(obs=cohort.obs.assign(tumour=cohort.obs["tumour"].mask(third, "rare"))), GRAPH
    )
    assert np.isfinite([estimate.value for estimate in found]).all()
    assert [estimate.details["left_out"] for estimate in found] == [["rare: 30 patient"]] + 2 * [["rare: 0 patient"]]


def test_a_probe_that_reads_nothing_is_not_called_calibrated() -> None:
    cohort = cohort_of(0, effect=0.0, each=30)
    found = reading.biology_finding(cohort, GRAPH, load_policy(), None, 0)[0]
    assert "cannot be told: the logistic probe does not read tumour" in found.sentence
    row = found.details["calibration of the logistic probe by site"][0]
    assert row["temperature"] > 20
    assert np.isnan(row["low"])


def test_a_class_that_is_shown_to_be_off_is_not_hidden_by_an_uncertain_one() -> None:
    y = np.repeat([0, 1, 2], (150, 150, 10))
    chances = np.array([[0.97, 0.01, 0.02], [0.13, 0.85, 0.02], [0.0, 0.0, 1.0]])[y]
    chances[y == 2] = np.random.default_rng(34).dirichlet([0.3, 0.3, 0.5], 10)
    (found,) = calibration_by_level(chances, y, np.zeros(310, dtype=int), np.arange(310), classes=["a", "b", "c"])
    shown = [row["class"] for row in found.details["classes"] if row["low"] > 0 or row["high"] < 0]
    largest = max(found.details["classes"], key=lambda row: abs(row["value"]))
    assert shown
    assert largest["class"] not in shown  # the case: size alone would pick another class
    assert found.details["class"] in shown
