"""What a scoreboard says of gains: never more than was measured, and nothing that rises to guessing is a gain."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import causalfm as cfm
from causalfm.estimators import LinearEraser
from causalfm.estimators.scoring.intervals import scale_of
from causalfm.estimators.scoring.result import NONE, Score, confirm, recommend
from causalfm.estimators.scoring.trial import trial_of

GRAPH = cfm.CausalGraph.standard(biology="tumour", technical=["site"], group="patient")
NAN = float("nan")


def gain(name, change, low, high, value=0.8, chance=0.5):
    known = value, value - 0.1, value + 0.1, chance
    return Score(name, "biology_new_site", *known, "higher", change, low, high, low, high, NAN)


def kept(name):
    return replace(gain(name, 0.0, -0.01, 0.01), name="biology")


def test_a_rise_up_to_guessing_is_no_help():
    rises = gain("a", 0.2, 0.1, 0.3, value=0.5), kept("a")
    name, words = recommend(rises, 0.02)
    assert name is None
    assert "rises by 0.200, to 0.500" in words
    assert "not told from guessing (0.500)" in words
    both = (*rises, gain("b", 0.15, 0.05, 0.3, value=0.7), kept("b"))
    assert recommend(both, 0.02)[0] == "b"
    assert recommend((gain("a", 0.2, 0.1, 0.3, value=0.5, chance=NAN), kept("a")), 0.02)[0] == "a"


@pytest.mark.parametrize(
    ("change", "low", "high", "said"),
    [
        (-0.1, -0.15, -0.05, "each lowers accuracy at unseen sites; the least loss is 0.100"),
        (-0.1, -0.25, 0.05, "the largest change at unseen sites is -0.100"),
        (0.1, -0.05, 0.25, "the largest gain at unseen sites is 0.100"),
    ],
)
def test_losses_are_called_losses(change, low, high, said):
    name, words = recommend((gain("a", change, low, high), kept("a"), gain("b", -0.3, -0.4, -0.2), kept("b")), 0.02)
    assert name is None
    assert said in words
    assert ("does not exclude 0" in words) == (low <= 0.0 <= high)
    wide = recommend((gain("a", 0.1, -0.1, 0.3), gain("c", 0.2, NAN, NAN)), 0.02)[1]
    assert "the largest gain with an interval at unseen sites is 0.100 (a)" in wide


def test_guessing_at_a_site_left_out_is_among_the_classes_that_others_hold():
    site = np.repeat(["a", "a", "a", "b", "b", "c", "c"], 8)
    tumour = np.repeat(["x", "y", "z", "x", "y", "x", "y"], 8)  # z is held by one site alone
    obs = pd.DataFrame({"site": site, "tumour": tumour, "patient": np.arange(56).astype(str)})
    cohort = cfm.Cohort(np.random.default_rng(0).standard_normal((56, 4)), obs)
    trial = trial_of(cohort, GRAPH, None, None, 0)
    assert scale_of(trial, "biology_new_site").chance == pytest.approx(1 / 2)
    assert scale_of(trial, "biology").chance == pytest.approx((1 / 3 + 1 / 2 + 1 / 2) / 3)


def test_no_deal_depends_on_the_order_of_rows_that_begin_alike():
    rng = np.random.default_rng(0)
    X = np.concatenate([np.zeros((48, 9)), rng.standard_normal((48, 3))], axis=1)  # units of a network that never fire
    obs = pd.DataFrame({"site": np.tile(["a", "b"], 24), "tumour": np.repeat(["x", "y"], 24)})
    cohort = cfm.Cohort(X, obs.assign(patient=np.arange(48).astype(str)))
    shuffled = rng.permutation(48)
    ask = {"readers": ["linear"], "parts": ["biology"], "halvings": 5}
    boards = [cfm.estimators.scoreboard(c, GRAPH, {"e": LinearEraser()}, **ask) for c in (cohort, cohort[shuffled])]
    for one, other in zip(boards[0].scores, boards[1].scores, strict=True):
        if one.name != "seconds":
            assert (one.value, one.low) == pytest.approx((other.value, other.low), nan_ok=True)


def test_a_large_cohort_is_thinned_before_its_rows_are_read(tmp_path):
    rng = np.random.default_rng(0)
    n, d = 24_000, 256
    np.save(tmp_path / "x.npy", rng.standard_normal((n, d)).astype(np.float32))  # 25 MB
    unit = np.arange(n) % 48
    obs = pd.DataFrame({"site": unit % 2, "tumour": unit // 2 % 2, "patient": unit}).astype(str)
    cohort = cfm.Cohort(np.load(tmp_path / "x.npy", mmap_mode="r"), obs)
    tracemalloc.start()
    trial = trial_of(cohort, GRAPH, None, None, 0, max_rows=960)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(trial) == 960
    assert trial.most == 20
    assert peak < 15e6


@pytest.mark.parametrize(
    ("change", "low", "value", "lost", "said"),
    [
        (0.1, 0.02, 0.8, 0.0, None),
        (0.1, -0.02, 0.8, 0.0, "which reads 0.700 without, the change at unseen sites is 0.100 (interval -0.020 to"),
        (0.1, 0.02, 0.55, 0.0, "0.550 is not told from guessing (0.500)"),
        (0.1, 0.02, 0.8, -0.05, "may lose 0.02 or more (change from -0.060)"),
    ],
)
def test_a_second_probe_must_say_the_same_in_each_respect(change, low, value, lost, said):
    first = gain("a", 0.2, 0.1, 0.3), kept("a"), gain(NONE, NAN, NAN, NAN, value=0.6)
    cost = replace(kept("a"), change=lost, change_low=lost - 0.01)
    second = gain("a", change, low, 0.3, value=value), cost, gain(NONE, NAN, NAN, NAN, value=0.7)
    name, words, numbers = confirm("a", "a helps.", first, second, 0.02)
    assert name == ("a" if said is None else None)
    assert (said or "a helps. Logistic regression says the same: 0.100") in words
    assert numbers["biology_new_site_without"] == 0.7
