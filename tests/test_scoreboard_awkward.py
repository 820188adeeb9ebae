"""Scoreboard of correctors on what goes wrong: failing correctors, orders, names, duplicates, size, few patients."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

import causalfm as cfm
from causalfm.errors import DataError
from causalfm.estimators import MeanAligner, scoreboard
from causalfm.estimators.scoring.correcting import Attempt
from causalfm.estimators.scoring.discriminant import PENALTIES, discriminant_path, read_linear
from causalfm.estimators.scoring.intervals import Scale, change_bounds, half_width, least_bounds
from causalfm.estimators.scoring.measuring import AT, measure
from causalfm.estimators.scoring.result import NONE, Score, recommend
from causalfm.estimators.scoring.trial import Codes, freedom, trial_of

GRAPH = cfm.CausalGraph.standard(biology="tumour", technical=["site"], group="patient")
QUICK = {"readers": ["linear"], "halvings": 0}


class Foreign(TransformerMixin, BaseEstimator):
    """A corrector from elsewhere that goes wrong in a way of its own."""

    def __init__(self, fault="none"):
        self.fault = fault

    def fit(self, X, y=None, *, biology=None, covariates=None, groups=None):
        assert list(y.index) == list(range(len(X))), "identifiers of rows"
        if self.fault == "fit" and y.nunique() == 2:  # a site is left out
            raise ValueError("matrix is singular")
        self.seen_ = X.shape

    def transform(self, X):
        if self.fault == "learns":
            self.seen_ = self.seen_[0] + len(X), self.seen_[1]
            return X + self.seen_[0] * 1e-3
        X[:, 1] += 0.0  # it may write to what it is given
        return {"shape": X[:, :1], "nan": np.where(X > 0.5, np.nan, X)}.get(self.fault, X)


def made(n_sites=3, per_cell=12, d=5, rows=2, seed=0):
    rng = np.random.default_rng(seed)
    cells = [(s, b) for s in range(n_sites) for b in range(2) for _ in range(per_cell)]
    site, tumour = np.repeat(np.array(cells), rows, axis=0).T
    patient = np.repeat(np.arange(len(cells)), rows)
    X = rng.standard_normal((len(site), d)) + 0.7 * rng.standard_normal((len(cells), d))[patient]
    X[:, 1] += 2.0 * tumour + np.linspace(-2.0, 2.0, n_sites)[site]
    obs = pd.DataFrame({"site": site.astype(str), "tumour": tumour.astype(str), "patient": patient.astype(str)})
    obs.index = [f"slide{i}" for i in range(len(obs))]
    return cfm.Cohort(X, obs)


def numbers(board):
    frame = board.to_frame()
    return frame[frame["name"] != "seconds"].drop(columns="corrector").reset_index(drop=True)


def test_a_corrector_that_fails_costs_itself_alone():
    faults = {fault: Foreign(fault) for fault in ("fit", "shape", "nan")}
    cohort, aligned = made(), MeanAligner(unseen="adapt")
    alone = scoreboard(cohort, GRAPH, {"aligned": aligned}, **QUICK)
    before = cohort.X.copy()
    board = scoreboard(cohort, GRAPH, {**faults, "none": Foreign(), "aligned": aligned}, **QUICK)
    np.testing.assert_array_equal(cohort.X, before)
    for name in ("site_linear", "biology", "biology_new_site", "apd", "croma"):
        assert board.score("aligned", name).value == alone.score("aligned", name).value
        assert board.score("none", name).change == 0.0  # the same folds, readers and draws
    assert "failed in fit: ValueError: matrix is singular" in board.score("fit", "biology_new_site").reason
    assert np.isfinite(board.score("fit", "biology").value)
    assert "shape" in board.score("shape", "biology").reason
    assert "missing or infinite" in board.score("nan", "biology").reason
    assert np.isnan(board.score("nan", "seconds").value)


def test_a_corrector_that_learns_while_it_transforms_carries_nothing_to_other_parts():
    trial = trial_of(made(), GRAPH, None, None, 0)
    together = measure(trial, Attempt(Foreign("learns"), ("linear",), False, 0))[0]
    for part in ("told_sites", "new_sites", "neighbours"):
        for name, value in measure(trial, Attempt(Foreign("learns"), ("linear",), False, 0), [part])[0].items():
            assert together[name] == value, name


def test_order_of_rows_and_names_of_patients_change_nothing():
    cohort, correctors = made(), {"aligned": MeanAligner(unseen="adapt")}
    expected = numbers(scoreboard(cohort, GRAPH, correctors, **QUICK))
    rng = np.random.default_rng(1)
    order, names = rng.permutation(len(cohort)), rng.permutation(72).astype(str)
    obs = cohort.obs.assign(patient=names[cohort.obs["patient"].astype(int)]).iloc[order]
    turned = numbers(scoreboard(cfm.Cohort(cohort.X[order], obs), GRAPH, correctors, **QUICK))
    pd.testing.assert_frame_equal(turned, expected, atol=1e-6)


def test_every_row_twice_changes_no_linear_number():
    cohort = made(rows=1)
    twice = np.repeat(np.arange(len(cohort)), 2)
    obs = cohort.obs.iloc[twice].reset_index(drop=True)
    parts = ["site", "biology", "new_sites"]
    boards = [
        scoreboard(each, GRAPH, {"aligned": MeanAligner(unseen="adapt")}, parts=parts, **QUICK)
        for each in (cohort, cfm.Cohort(cohort.X[twice], obs))
    ]
    assert (boards[0].n_groups, boards[0].n) == (72, 72)
    assert boards[1].n == 144
    pd.testing.assert_frame_equal(*(numbers(board) for board in boards), atol=1e-9)


def test_half_precision_is_read_as_it_is():
    cohort = made()
    half = cohort.replace(X=cohort.X.astype(np.float16))
    full = half.replace(X=half.X.astype(np.float32))
    boards = [scoreboard(each, GRAPH, {"a": MeanAligner(unseen="adapt")}, **QUICK) for each in (half, full)]
    pd.testing.assert_frame_equal(*(numbers(board) for board in boards), atol=0.03)


def test_one_of_several_technical_factors_is_scored_whatever_its_name():
    cohort = made()
    obs = cohort.obs.rename(columns={"site": "factor", "tumour": "X", "patient": "groups"})
    rng = np.random.default_rng(3)
    obs["index"] = rng.permutation(np.repeat(["a", "b"], 36))[obs["groups"].astype(int)]
    graph = cfm.CausalGraph.standard(biology="X", technical=["factor", "index"], group="groups")
    board = scoreboard(cfm.Cohort(cohort.X, obs), graph, {"a": MeanAligner()}, parts=["site", "neighbours"], **QUICK)
    same = scoreboard(cohort, GRAPH, {"a": MeanAligner()}, parts=["site", "neighbours"], **QUICK)
    assert board.score("a", "site_linear").value == same.score("a", "site_linear").value
    other = scoreboard(
        cfm.Cohort(cohort.X, obs), graph, {"a": MeanAligner()}, confounder="index", parts=["site"], **QUICK
    )
    assert other.details["confounder"] == "index"
    assert abs(other.score(NONE, "site_linear").value - 0.5) < 0.2  # which rows cannot tell


def test_missing_labels_are_refused_and_empty_cells_are_not():
    cohort = made()
    obs = cohort.obs.copy()
    obs.iloc[5, 1] = None
    with pytest.raises(DataError, match="tumour"):
        scoreboard(cfm.Cohort(cohort.X, obs), GRAPH, {"a": MeanAligner()}, **QUICK)
    cell = ((cohort.obs["site"] == "0") & (cohort.obs["tumour"] == "0")).to_numpy()
    board = scoreboard(cohort[~cell], GRAPH, {"a": MeanAligner(unseen="adapt")}, **QUICK)
    assert np.isfinite(board.score("a", "biology").value)
    assert set(board.details["judged"]) == {"1", "2"}
    assert set(board.details["biology_at_new_site"]["a"]) == {"1", "2"}


def test_patients_of_a_site_that_is_left_out_are_new_wherever_they_were():
    cohort = made()
    obs = cohort.obs.copy()
    obs.iloc[0, 0] = "2"  # the first row of a patient whose second is of site 0
    trial = trial_of(cfm.Cohort(cohort.X, obs), GRAPH, None, None, 0)
    for level in range(3):
        here = trial.site.y == level
        from causalfm.estimators.scoring.measuring import _left_out

        others = next(o for number, _, o in _left_out(trial) if number == level)
        assert not set(trial.groups[here]) & set(trial.groups[others])


def test_large_cohorts_are_thinned_evenly_and_keep_every_patient():
    cohort = made(rows=30)
    trial = trial_of(cohort, GRAPH, None, None, 0, max_rows=600)
    assert trial.most == 8
    assert set(np.bincount(trial.groups)) == {8}
    assert len(np.unique(trial.groups)) == 72
    assert trial_of(cohort, GRAPH, None, None, 0, max_rows=5).most == 1  # one row of every patient at least
    whole = trial_of(cohort, GRAPH, None, None, 0, max_rows=None)
    assert (len(whole), whole.most) == (len(cohort), None)
    board = scoreboard(cohort, GRAPH, {"a": MeanAligner()}, parts=["biology"], max_rows=600, **QUICK)
    assert (board.n, board.details["rows"], board.details["rows_per_unit_and_cell"]) == (2160, 576, 8)


def test_twenty_thousand_rows_of_eight_sites_are_scored():
    cohort = made(n_sites=8, per_cell=25, rows=50, d=16)
    assert len(cohort) == 20_000
    board = scoreboard(cohort, GRAPH, {"a": MeanAligner(unseen="adapt")}, parts=["site", "new_sites"], **QUICK)
    assert board.score("a", "biology_new_site").change > 0.05
    assert board.details["rows"] == 4000


def test_neighbouring_seeds_share_no_halving():
    trial = trial_of(made(), GRAPH, None, None, 0)
    sides = [frozenset(trial.halves(seed, number)[0].cohort.obs["patient"]) for seed in (0, 1) for number in range(4)]
    assert len(set(sides)) == 8


def test_the_linear_reader_is_a_discriminant():
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(3), 40)
    X = rng.standard_normal((120, 6)) @ rng.standard_normal((6, 6)) + 1.5 * rng.standard_normal((3, 6))[y]
    test = rng.standard_normal((500, 6)) * 3.0
    expected = LinearDiscriminantAnalysis(priors=[1 / 3] * 3).fit(X, y).predict(test)
    found = discriminant_path(X, y, np.ones(120), test, [1e-9, 1e9])
    np.testing.assert_array_equal(found[0], expected)
    scale = np.sqrt(np.mean([(X - X.mean(axis=0)) ** 2], axis=1))
    means = np.array([X[y == level].mean(axis=0) for level in range(3)])
    far = (((test[:, None] - means) / scale) ** 2).sum(axis=2)
    np.testing.assert_array_equal(found[1], far.argmin(axis=1))  # nearest mean of standardised columns
    weighed = discriminant_path(X[y > 0], y[y > 0], np.ones(80), test, PENALTIES)
    assert all(set(guess) <= {1, 2} for guess in weighed)


def test_more_columns_than_rows_and_rows_without_any_difference_are_read():
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    X = rng.standard_normal((40, 300))
    X[:, 0] += 6.0 * y
    narrow = discriminant_path(X, y, np.ones(40), X, [3.0])[0]
    centred = (X - X.mean(axis=0)) / X.std(axis=0)
    means = np.array([centred[y == level].mean(axis=0) for level in (0, 1)])
    within = (centred - means[y]).T @ (centred - means[y]) / 40
    slopes = np.linalg.solve(within + 3.0 * np.trace(within) / 300 * np.eye(300), means.T)
    np.testing.assert_array_equal(narrow, (centred @ slopes - 0.5 * (means * slopes.T).sum(axis=1)).argmax(axis=1))
    assert set(read_linear(X * 0.0, y, np.ones(40), np.arange(40), X[:3] * 0.0, 0)) <= {0, 1}
    middle = np.repeat(np.arange(3), 20)
    line = (middle + 0.1 * rng.standard_normal(60))[:, None]
    assert (read_linear(line, middle, np.ones(60), np.arange(60), line, 0) == middle).mean() > 0.95  # masks no level


def test_the_variance_from_halves_is_that_of_the_number():
    rng = np.random.default_rng(0)
    widths, hits = [], 0
    for _ in range(400):
        x = rng.standard_normal(40)
        halves = np.array([[x[p[:20]].mean(), x[p[20:]].mean()] for p in (rng.permutation(40) for _ in range(5))])
        half = half_width(halves, Scale(0.0, 39.0, 0.0))
        widths.append(half)
        hits += abs(x.mean()) <= half
    assert 0.92 <= hits / 400 <= 0.98
    lacking = halves.copy()
    assert half_width(lacking, Scale(10.0, 39.0, 0.0)) > 3.0  # the floor
    lacking[0, 0] = np.nan
    assert np.isnan(half_width(lacking, Scale(0.0, 39.0, 0.0)))  # four of five
    more = np.concatenate([halves, lacking[:1]])
    assert half_width(more, Scale(0.0, 39.0, 0.0)) == half_width(halves, Scale(0.0, 39.0, 0.0))


def test_bounds_of_the_least_hold_whenever_those_of_its_members_do():
    rng = np.random.default_rng(0)
    for _ in range(300):
        truth, before = rng.random(4), rng.random(4)
        halves = 0.2 * rng.random(4)
        low, high = least_bounds(truth + halves * rng.uniform(-1, 1, 4), halves)
        assert low <= truth.min() <= high
        low, high = change_bounds(truth - before + halves * rng.uniform(-1, 1, 4), halves)
        assert low <= truth.min() - before.min() <= high


def test_degrees_of_freedom_follow_the_smallest_cells():
    y, context = np.repeat([0, 1, 0, 1], 10), np.repeat([0, 0, 1, 1], 10)
    judged = np.ones((2, 2), dtype=bool)
    assert freedom(Codes(y, context, judged), np.arange(40)) == pytest.approx(36.0)
    few = np.concatenate([np.arange(3), np.arange(10, 40)])
    assert freedom(Codes(y[few], context[few], judged), np.arange(33)) < 10.0


def score(name, measured, change, low):
    return Score(name, measured, 0.8, 0.7, 0.9, 0.5, "higher", change, low, 1, low, 1, float("nan"))


def test_a_gain_whose_cost_is_unknown_is_not_recommended():
    gain, kept = score("a", "biology_new_site", 0.2, 0.1), score("a", "biology", 0.0, -0.01)
    assert recommend((gain, kept), 0.02)[0] == "a"
    unknown = replace(kept, joint_low=float("nan"))
    for known in ((gain, unknown), (gain,)):
        name, words = recommend(known, 0.02)
        assert name is None
        assert "no interval" in words


def test_the_worst_site_lies_within_bounds_of_all_sites():
    board = scoreboard(
        made(),
        GRAPH,
        {"a": MeanAligner(unseen="adapt")},
        readers=["linear"],
        parts=["biology", "new_sites"],
        halvings=5,
    )
    for who in (NONE, "a"):
        worst, mean = board.score(who, "worst_new_site"), board.score(who, "biology_new_site")
        assert worst.value == min(board.details["biology_at_new_site"][who].values())
        assert 0.0 <= worst.low <= worst.value <= worst.high <= 1.0
        assert worst.high - worst.low > mean.high - mean.low
    change = board.score("a", "worst_new_site")
    assert change.joint_low == change.change_low <= change.change <= change.change_high
    assert not any(one.name.startswith(AT) for one in board.scores)
