"""Scoreboard of correctors: nothing scored was fitted on, gains are seen where there are some, and not elsewhere."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin

import causalfm as cfm
from causalfm.datasets.linear_scm import linear_scm
from causalfm.errors import DataError
from causalfm.estimators import ComBat, LinearEraser, MeanAligner, scoreboard
from causalfm.estimators.scoring.balanced_tables import balanced_scores
from causalfm.estimators.scoring.confounded_sets import REPEATS, STEPS, confounded_training
from causalfm.estimators.scoring.correcting import Attempt
from causalfm.estimators.scoring.measuring import measure
from causalfm.estimators.scoring.readers import READERS, SECOND, read_out
from causalfm.estimators.scoring.result import NONE, Score, confirm, recommend
from causalfm.estimators.scoring.trial import Codes, chance_of, trial_of, within_accuracy

GRAPH = cfm.CausalGraph.standard(biology="tumour", technical=["site"], group="patient")
LOG = []


class Unchanged(TransformerMixin, BaseEstimator):
    """Leaves rows as they are, and notes which it was fitted on and which it was given: column 0 numbers them."""

    def fit(self, X, y=None, *, biology=None, covariates=None, groups=None):
        self.rows_ = set(X[:, 0].astype(int))
        LOG.append((self.rows_, []))
        self.place_ = len(LOG) - 1
        return self

    def transform(self, X):
        LOG[self.place_][1].append(set(X[:, 0].astype(int)))
        return X


class Blind(TransformerMixin, BaseEstimator):
    """Takes everything away."""

    def fit(self, X, y=None, *, biology=None, covariates=None, groups=None):
        return self

    def transform(self, X):
        return X * 0.0


def made(n_sites=4, per_cell=12, site_effect=8.0, seed=0):
    """Two rows per patient; the site moves the rows along the direction that tells the classes."""
    rng = np.random.default_rng(seed)
    cells = [(s, b) for s in range(n_sites) for b in range(2) for _ in range(per_cell)]
    site, tumour = np.repeat(np.array(cells), 2, axis=0).T
    shift = np.linspace(-1.0, 1.0, n_sites) * site_effect
    X = rng.standard_normal((len(site), 5))
    X[:, 1] += 3.0 * tumour + shift[site]
    X[:, 0] = np.arange(len(X)) * 1e-9
    patient = np.repeat(np.arange(len(cells)), 2)
    obs = pd.DataFrame({"site": site.astype(str), "tumour": tumour.astype(str), "patient": patient.astype(str)})
    return cfm.Cohort(X, obs)


def numbered(cohort):
    X = cohort.X.copy()
    X[:, 0] = np.arange(len(X))
    return cohort.replace(X=X)


def test_values_of_balanced_tables_are_those_of_the_metrics():
    cohort, _ = linear_scm(n_groups=60, n_sites=3, d=6, site_effect=1.0, confounding=0.3)
    graph = cfm.CausalGraph.standard(biology="tumour", technical=["site"], covariates="age", group="patient")
    index, margin = balanced_scores(cohort, graph, "site", 3)
    assert index == cfm.metrics.reference_index(cohort, graph, random_state=3).value
    # products of float32 rows differ in the last digit
    expected = cfm.metrics.croma(cohort, graph, random_state=3).details["standardised"].value
    assert margin == pytest.approx(expected, abs=1e-5)


def test_scored_rows_are_new_to_the_corrector_and_leaks_are_not():
    trial = trial_of(numbered(made(n_sites=3, per_cell=12)), GRAPH, None, None, 0)
    for leak in (False, True):
        LOG.clear()
        values, reasons = measure(trial, Attempt(Unchanged(), ("knn",), leak, 0))
        assert not reasons
        steps = REPEATS * 2 * STEPS  # two training sets in each deal
        fits = 1 if leak else 2 + steps + 5 + 3  # halves, confounded sets, folds, sites
        assert len({frozenset(fitted) for fitted, _ in LOG}) == fits
        new = [any(not rows & fitted for rows in batches) for fitted, batches in LOG]
        assert all(new) is not leak
        scored = set().union(*(rows for fitted, batches in LOG for rows in batches if not rows & fitted))
        assert scored == (set() if leak else set(range(len(trial))))
        patients = [trial.groups[list(rows)] for rows in (LOG[0][0], LOG[0][1][0])]
        assert bool(set(patients[0]) & set(patients[1])) is leak
    same, _ = measure(trial, Attempt(None, ("knn",), False, 0))
    assert values == same


def test_halves_share_no_patient_and_keep_every_cell():
    trial = trial_of(made(per_cell=7), GRAPH, None, None, 0)
    a, b = trial.halves(5)
    ids = [set(part.cohort.obs["patient"]) for part in (a, b)]
    assert not ids[0] & ids[1]
    assert len(ids[0]) + len(ids[1]) == trial.groups.max() + 1
    for part in (a, b):
        table = part.cohort.obs.drop_duplicates("patient").groupby(["site", "tumour"]).size()
        assert table.min() >= 3
        assert len(table) == 8
        for name in ("half", "inner", "fold"):
            deals = pd.Series(getattr(part, name)).groupby(part.groups).nunique()
            assert (deals == 1).all()


def test_accuracy_weighs_contexts_levels_and_patients_alike():
    y, context = np.array([0, 0, 0, 1, 0, 1, 1]), np.array([0, 0, 0, 0, 1, 1, 1])
    groups = np.array([0, 0, 1, 2, 3, 4, 5])
    judged = np.array([[True, True], [True, True]])
    hit = np.array([1, 1, 0, 1, 0, 1, 0])
    recalls = [0.5, 1.0, 0.0, 0.5]  # patient 0 has two rows
    assert within_accuracy(hit, Codes(y, context, judged), groups) == pytest.approx(np.mean(recalls))
    assert chance_of(judged) == 0.5
    three = np.array([[True, True, True], [True, True, False], [False] * 3])
    assert chance_of(three) == pytest.approx((1 / 3 + 1 / 2) / 2)
    gone = context == 0
    assert np.isnan(within_accuracy(hit[gone], Codes(y, context, judged).part(gone), groups[gone]))


@pytest.mark.parametrize("reader", [*READERS, SECOND])
def test_readers_read_what_is_there_and_ignore_labels_of_test_rows(reader):
    cohort = made(site_effect=0.0)
    y = (cohort.obs["tumour"] == "1").to_numpy(dtype=int)
    context, groups = (pd.factorize(cohort.obs[name])[0] for name in ("site", "patient"))
    train = groups % 2 == 0
    told = read_out(reader, cohort.X, y, context, groups, train, ~train, 0)
    assert (told == y[~train]).mean() > 0.85
    turned = np.where(train, y, 1 - y)
    np.testing.assert_array_equal(read_out(reader, cohort.X, turned, context, groups, train, ~train, 0), told)


@pytest.fixture(scope="module")
def board():
    correctors = {"aligned": MeanAligner(unseen="adapt"), "blind": Blind()}
    return scoreboard(made(n_sites=3), GRAPH, correctors, readers=["linear"], halvings=5, leak=True)


def test_a_corrector_that_helps_at_unseen_sites_is_recommended(board):
    assert board.recommended == "aligned"
    assert "aligned helps" in board.sentence
    gain = board.score("aligned", "biology_new_site")
    assert gain.change > 0.2
    assert gain.joint_low > 0.0
    assert gain.joint_low < gain.change_low < gain.change < gain.change_high < gain.joint_high
    left = board.score("aligned", "site_linear")
    assert left.change_high < 0.0
    assert board.score(NONE, "site_linear").value > 0.6


def test_logistic_regression_is_asked_about_what_is_recommended(board):
    assert "Logistic regression says the same" in board.sentence
    second = board.details["second_probe"]
    gain = board.score("aligned", "biology_new_site")
    assert second["biology_new_site_change"] == pytest.approx(gain.change, abs=0.1)
    assert second["biology_new_site_change"] != gain.change
    assert second["biology_new_site_change_low"] > 0.0
    assert second["biology_change_low"] > -0.02


def test_a_corrector_that_destroys_biology_is_seen_and_not_recommended(board):
    lost, kept = board.score("blind", "biology_lost"), board.score("blind", "biology")
    assert kept.value == pytest.approx(0.5)
    assert kept.change_high < 0.0
    assert lost.value == -kept.change
    assert (lost.low, lost.high) == (-kept.change_high, -kept.change_low)


def test_a_refusal_at_new_sites_is_said_and_leaves_the_rest():
    parts = ["site", "new_sites"]
    result = scoreboard(
        made(n_sites=3), GRAPH, {"refuses": ComBat()}, readers=["knn"], parts=parts, halvings=0, leak=True
    )
    new = result.score("refuses", "biology_new_site")
    assert np.isnan(new.value)
    assert "never saw" in new.reason
    assert np.isfinite(result.score("refuses", "site_knn").value)
    # with the site among the rows of the fit nothing is refused: that is the leak
    assert np.isfinite(new.leak)
    assert result.recommended is None
    assert "halvings=0" in result.sentence
    assert {text.get_text().strip() for text in cfm.plot_scoreboard(result, site="site_knn").texts} == {NONE}


def test_sets_in_which_class_and_site_are_one_are_not_corrected(board):
    assert board.score("aligned", "apd_not_corrected").value == 1 / STEPS  # the last of each schedule
    assert board.score("blind", "apd_not_corrected").value == board.score(NONE, "apd_not_corrected").value == 0.0
    assert board.score("blind", "apd").value == pytest.approx(0.0)


def test_confounded_sets_cost_accuracy_where_the_site_is_easier_to_read_than_the_class():
    cohort = made(n_sites=2, per_cell=16, site_effect=0.0)
    X = cohort.X.copy()
    X[:, 2] += 9.0 * (cohort.obs["site"] == "1").to_numpy()
    trial = trial_of(cohort.replace(X=X), GRAPH, None, None, 0)
    assert confounded_training(trial, Attempt(None, (), False, 0))["apd"] < -0.1


def test_a_number_without_interval_says_why(board):
    drop = board.score("aligned", "apd")  # halves of six patients per cell carry no schedule of three steps
    assert np.isfinite(drop.value)
    assert np.isnan(drop.change_low)
    assert "no interval: only 0 of 5 halvings have a value in both halves" in drop.reason


def test_the_board_leaves_as_frame_and_dictionary(board):
    frame = board.to_frame()
    assert set(frame["corrector"]) == {NONE, "aligned", "blind"}
    assert not frame.duplicated(["corrector", "name"]).any()
    nothing = frame[frame["corrector"] == NONE]
    assert nothing["change"].isna().all()
    assert nothing["leak"].isna().all()
    assert board.to_dict()["recommended"] == "aligned"
    assert frame.loc[frame["name"] == "seconds", "value"].notna().all()


def test_the_figure_joins_what_none_beats(board):
    ax = cfm.plot_scoreboard(board)
    written = {text.get_text().strip() for text in ax.texts}
    assert written == {NONE, "aligned", "blind"}
    with pytest.raises(DataError, match="no measure"):
        cfm.plot_scoreboard(board, site="site_forest")


def test_nothing_is_recommended_where_nothing_helps():
    cohort, parts = made(n_sites=3, site_effect=0.0), ["biology", "new_sites"]
    result = scoreboard(cohort, GRAPH, {"LEACE": LinearEraser()}, parts=parts, halvings=5)
    assert result.recommended is None
    assert "no corrector helps here" in result.sentence


def scored(name, measure, change, joint_low):
    return Score(name, measure, 0.8, 0.7, 0.9, 0.5, "higher", change, joint_low, 1, joint_low, 1, float("nan"))


def test_a_gain_that_costs_biology_is_not_recommended():
    gains = scored("a", "biology_new_site", 0.2, 0.1), scored("b", "biology_new_site", 0.1, 0.05)
    kept = scored("a", "biology", -0.05, -0.1), scored("b", "biology", 0.0, -0.01)
    assert recommend((*gains, *kept), 0.02)[0] == "b"
    assert recommend((*gains, *kept), 0.005) == (None, recommend((*gains, *kept), 0.005)[1])
    assert "may lose" in recommend((*gains, *kept), 0.005)[1]
    assert recommend((gains[0], kept[0]), 0.2)[0] == "a"


def test_a_gain_over_a_probe_that_reads_poorly_is_not_recommended():
    """As on kidneys of TCGA: a discriminant gains what logistic regression has without correction."""
    first = scored(NONE, "biology_new_site", 0.0, 0.0), scored("a", "biology_new_site", 0.05, 0.02)
    base, kept = first[0], scored("a", "biology", 0.0, -0.01)
    none = scored("a", "biology_new_site", -0.01, -0.03)
    name, words, numbers = confirm("a", "a helps.", first, (base, none, kept), 0.02)
    assert name is None
    assert "gains 0.050" in words
    assert "change at unseen sites is -0.010 (interval -0.030 to 1.000)" in words
    assert numbers["biology_new_site_change"] == -0.01
    name, words, _ = confirm("a", "a helps.", first, (base, first[1], replace(kept, change_low=-0.04)), 0.02)
    assert name is None
    assert "may lose 0.02 or more (change from -0.040)" in words
    lost = replace(first[1], change_low=float("nan"))
    assert confirm("a", "a helps.", first, (base, lost, kept), 0.02)[0] is None
    assert confirm("a", "a helps.", first, (base, first[1], kept), 0.02)[0] == "a"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"correctors": {}}, "mapping of names"),
        ({"correctors": {NONE: ComBat()}}, "cannot be a name"),
        ({"correctors": {"a": ComBat}}, "not fitted"),
        ({"readers": "linear"}, "not a list"),
        ({"readers": ["svm"]}, "not a list"),
        ({"halvings": 3}, "at least 5"),
        ({"margin": -1}, "may be lost"),
        ({"parts": "site"}, "not a list"),
        ({"parts": ["sites"]}, "not a list"),
        ({"max_rows": 0}, "max_rows"),
        ({"outcome": "grade"}, "no column"),
    ],
)
def test_wrong_arguments_are_refused(change, message):
    with pytest.raises(DataError, match=message):
        scoreboard(**{"cohort": made(), "graph": GRAPH, "correctors": {"a": ComBat()}, **change})


def test_biology_that_goes_with_the_site_is_refused():
    cohort = made(n_sites=2)
    with pytest.raises(DataError, match="cannot be told from biology"):
        scoreboard(cohort[(cohort.obs["site"] == cohort.obs["tumour"]).to_numpy()], GRAPH, {"a": ComBat()})
