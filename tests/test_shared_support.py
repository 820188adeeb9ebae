"""The drop by where the inputs lie, and Simpson's reversal."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.shift import as_domains, sign_reversals, support_split
from experiments.calibration.attributions import SHIFTS, model, swapped_domains, true_split

PARTS = ("out of the reference", "same inputs", "new inputs")
PLAIN = CausalGraph.standard(biology="tumour", technical=["site", "scanner"], group="patient")


@pytest.fixture(scope="module")
def moved():
    return swapped_domains(n_groups=600, new_groups=400, **SHIFTS["case mix and embedding"], random_state=1)[0]


def counted(table: dict[tuple[str, str], tuple[int, int]], side: str) -> Cohort:
    """Patients of one row from ``{(tumour, scanner): (count, right)}``; the model reads the first dimension."""
    rows = []
    for (tumour, scanner), (count, right) in table.items():
        said = np.where(np.arange(count) < right, tumour == "b", tumour != "b")
        rows.append(pd.DataFrame({"tumour": tumour, "scanner": scanner, "said": said}))
    obs = pd.concat(rows, ignore_index=True)
    X = np.stack([2.0 * obs.pop("said") - 1.0, np.zeros(len(obs))], axis=1)
    return Cohort(X, obs.assign(patient=[f"{side}{i}" for i in range(len(obs))], site=side))


def domains_of(reference, deployment):
    return as_domains(counted(reference, "old"), counted(deployment, "new"), PLAIN, model=model)


# --- the split ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on", ["scores", "embeddings"])
def test_parts_add_up_to_the_drop(moved, on):
    found = support_split(moved, on=on)
    assert tuple(p.name for p in found.parts) == PARTS
    assert sum(p.value for p in found.parts) == pytest.approx(found.drop, abs=1e-12)
    assert found.low < found.drop < found.high
    assert found.to_frame()["value"].iloc[:-1].sum() == pytest.approx(found.drop)
    assert found.sentence.startswith("Of the drop in accuracy of 0.")


@pytest.mark.parametrize("name", ["case mix", "embedding", "case mix and embedding", "unseen scanner in 4 of 10"])
def test_parts_are_those_of_the_densities(name):
    design = SHIFTS[name]
    truth = true_split(json.dumps(design["shift"], sort_keys=True), design.get("unseen", 0.0))
    found = support_split(swapped_domains(n_groups=2500, new_groups=1500, **design, random_state=2)[0])
    assert max(map(abs, truth)) > 0.03
    # wider than 95 %: twelve parts must hold together
    assert all(abs(p.value - t) < 1.6 * (p.high - p.low) / 2.0 for p, t in zip(found.parts, truth, strict=True))


def test_intervals_of_the_parts_hold_the_truth():
    design = SHIFTS["case mix"]
    truth = true_split(json.dumps(design["shift"], sort_keys=True), 0.0)
    hits = np.zeros(3)
    for seed in range(100):
        found = support_split(swapped_domains(**design, random_state=seed)[0], random_state=seed)
        hits += [p.low <= t <= p.high for p, t in zip(found.parts, truth, strict=True)]
    assert (hits >= 86).all(), hits  # binom.ppf(.001 / 3, 100, .95)


def test_without_shared_inputs_it_cannot_tell(moved):
    away = moved.deployment.cohort.X + np.array([0.0, 50.0])
    deployment = dataclasses.replace(moved.deployment, cohort=Cohort(away, moved.deployment.cohort.obs))
    far = dataclasses.replace(moved, deployment=deployment)
    found = support_split(far, on="embeddings")
    assert (found.verdict, found.parts) == ("cannot tell", ())
    assert found.overlap < 0.05
    assert "where the two do not overlap" in found.sentence
    assert support_split(far, on="scores").verdict == "pass"  # the model does not see that direction


def test_the_split_says_what_it_lacks(moved):
    labels = np.where(moved.deployment.units < 9, moved.deployment.labels, -1)
    few = dataclasses.replace(moved, deployment=dataclasses.replace(moved.deployment, labels=labels))
    assert "9 patients of the deployment are labelled, and 20 are needed" in support_split(few).sentence
    with pytest.raises(DataError, match="on='pixels'"):
        support_split(moved, on="pixels")


# --- Simpson --------------------------------------------------------------------------------------------------------


def test_a_sign_reversal_is_found():
    # worse within both classes, better pooled: the easy class has become frequent
    old = {("a", "s"): (200, 190), ("b", "s"): (800, 400)}
    new = {("a", "s"): (800, 704), ("b", "s"): (200, 70)}
    found = sign_reversals(domains_of(old, new))
    assert found.drop == pytest.approx(0.59 - 0.774)
    within = {w.column: w for w in found.within}
    assert within["tumour"].value == pytest.approx(0.8 * (0.95 - 0.88) + 0.2 * (0.5 - 0.35))
    assert [level[0] for level in within["tumour"].levels] == ["a", "b"]
    assert found.found == ("tumour",)
    assert found.verdict == "fail"
    assert "The sign is reversed within tumour" in found.sentence
    assert (within["site"].verdict, within["site"].left_out) == ("cannot tell", ("old", "new"))


def test_a_loss_that_pooling_hides_is_said():
    old = {("a", "s"): (200, 190), ("b", "s"): (200, 120)}
    new = {("a", "s"): (300, 258), ("b", "s"): (100, 50)}
    found = sign_reversals(domains_of(old, new))
    assert found.low < 0.0 < found.high
    assert found.found == ()
    assert "Pooling hides the loss within tumour" in found.sentence


def test_without_reversal_both_signs_agree():
    old = {("a", "s"): (300, 280), ("b", "t"): (300, 250)}
    new = {("a", "s"): (300, 200), ("b", "t"): (300, 160)}
    found = sign_reversals(domains_of(old, new))
    assert found.verdict == "pass"
    pooled, within = found.to_frame()["value"].iloc[:2]
    assert within == pytest.approx(pooled)  # the same mix in both


def test_intervals_have_a_width_without_any_error():
    sure = {("a", "s"): (40, 40), ("b", "s"): (40, 40)}
    found = sign_reversals(domains_of(sure, sure))
    assert found.drop == 0.0
    assert found.high > 0.02


def test_the_interval_of_the_drop_within_classes_covers():
    rng = np.random.default_rng(0)
    hit, truth = 0, 0.6 * (0.9 - 0.8) + 0.4 * (0.7 - 0.6)
    for _ in range(100):
        tables = []
        for share, right in ((0.3, (0.9, 0.7)), (0.6, (0.8, 0.6))):
            a = int(rng.binomial(120, share))
            counts = {("a", "s"): (a, int(rng.binomial(a, right[0])))}
            tables.append(counts | {("b", "s"): (120 - a, int(rng.binomial(120 - a, right[1])))})
        within = sign_reversals(domains_of(*tables)).within[0]
        hit += within.low <= truth <= within.high
    assert hit >= 87  # binom.ppf(.001, 100, .95), and joint intervals are wider
