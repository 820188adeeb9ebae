"""The penalty that a graph implies, heads trained with it, and the monitor."""

import sys
import types

import numpy as np
import pytest
import torch

import causalfm as cfm
from causalfm.datasets.linear_scm import linear_scm
from causalfm.errors import DataError, GraphError, MissingDependencyError
from causalfm.training import RobustHead, RobustnessMonitor, lightning_callback, penalty_for, train_head
from causalfm.training.robust_head import NAMES

GRAPH = cfm.CausalGraph.standard(biology="tumour", technical="site", group="patient")


def graph(arrows, **more):
    return cfm.CausalGraph(arrows, biology="y", technical="site", group="patient", **more)


def confounded(seed, confounding, n_groups=160, site_effect=3.0, biology_effect=1.0):
    cohort, _ = linear_scm(
        n_groups=n_groups,
        rows_per_group=2,
        d=8,
        n_sites=2,
        site_effect=site_effect,
        biology_effect=biology_effect,
        confounding=confounding,
        random_state=seed,
    )
    return cohort


def worst_site(head, cohort):
    right = head.predict(cohort.X) == cohort.obs["tumour"].to_numpy()
    cells = cohort.obs.assign(right=right).groupby(["site", "tumour"])["right"].mean()
    return float(cells.groupby("site").mean().min())


@pytest.mark.parametrize(
    ("arrows", "selected", "form", "given", "words"),
    [
        ("y -> Z; site -> Z; site <-> y", None, "conditional", ("y",), "anti-causal"),
        ("Z <-> y; site -> Z; site <-> y", None, "marginal", (), "confounded"),
        ("Z <-> y; site -> Z; y -> S; site -> S", "S", "conditional", ("y",), "selected"),
        ("y -> Z; site -> Z", None, "conditional", ("y",), "not associated"),
    ],
)
def test_the_form_follows_from_the_graph(arrows, selected, form, given, words):
    found = penalty_for(graph(arrows, selected=selected))
    assert (found.form, found.penalty.__name__) == (form, "mmd" if form == "marginal" else "conditional_mmd")
    assert found.given == given
    assert words in found.reason
    assert penalty_for(graph("y -> Z; site -> Z"), family="hsic").penalty.__name__ == "conditional_hsic"


def test_a_design_that_implies_neither_is_refused():
    with pytest.raises(GraphError, match="vrex"):
        penalty_for(graph("y -> Z; site -> Z; site <-> Z; site <-> y"))


def test_the_conditional_penalty_gains_at_the_worst_site():
    gains = []
    for seed in range(4):
        train, test = confounded(seed, 0.8), confounded(seed + 100, 0.0)
        plain, robust = (
            worst_site(train_head(train, GRAPH, penalty=p, strength=10.0, steps=150, batch=96), test)
            for p in ("erm", "auto")
        )
        gains.append(robust - plain)
    assert np.mean(gains) > 2 * np.std(gains, ddof=1) / 2 > 0  # two standard errors of four


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("hidden", [0, 8])
def test_every_penalty_trains(name, hidden):
    cohort = confounded(0, 0.0, n_groups=60)  # marginal penalties would rightly lose the class that goes with the site
    state, before = torch.get_rng_state(), cohort.X.copy()
    settings = {"penalty": name, "hidden": hidden, "steps": 24, "batch": 50}
    head = train_head(cohort, GRAPH, **settings)
    again = train_head(cohort, GRAPH, **settings)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(cohort.X, before)
    assert np.array_equal(head.predict_proba(cohort.X), again.predict_proba(cohort.X))
    assert np.allclose(head.predict_proba(cohort.X).sum(axis=1), 1.0)
    assert head.score(cohort.X, cohort.obs["tumour"]) > 0.6
    other = train_head(cohort, GRAPH, **settings, random_state=1)
    assert not np.array_equal(head.state_["bias"], other.state_["bias"])


def test_without_a_penalty_it_is_logistic_regression():
    from sklearn.linear_model import LogisticRegression

    cohort = confounded(0, 0.0)
    X = (cohort.X - cohort.X.mean(axis=0)) / cohort.X.std(axis=0)
    y = cohort.obs["tumour"].to_numpy()
    head = RobustHead(steps=2000, rate=0.05).fit(X, y)
    # two rows of weights w and -w cost decay |w|^2; the difference v = 2 w costs decay |v|^2 / 4 = |v|^2 / (2 n C)
    truth = LogisticRegression(C=2.0 / (0.01 * len(X)), tol=1e-10).fit(X, y)
    assert np.abs(head.predict_proba(X) - truth.predict_proba(X)).max() < 2e-3


def test_patients_weigh_the_same():
    cohort = confounded(0, 0.0, n_groups=40)
    rows = np.repeat(np.arange(len(cohort)), np.where(cohort.obs["patient"] == "p3", 5, 1))
    y, env, groups = (cohort.obs[c].to_numpy() for c in ("tumour", "site", "patient"))
    a, b = (
        RobustHead("vrex", steps=50).fit(cohort.X[r], y[r], env=env[r], groups=groups[r])
        for r in (np.arange(len(cohort)), rows)
    )
    assert np.allclose(a.decision_function(cohort.X), b.decision_function(cohort.X), atol=1e-3)


def test_a_head_is_saved_and_read(tmp_path):
    cohort = confounded(0, 0.5)
    head = train_head(cohort, GRAPH, hidden=4, steps=20)
    head.save(tmp_path / "head.safetensors")
    back = RobustHead.load(tmp_path / "head.safetensors")
    assert np.array_equal(back.predict(cohort.X), head.predict(cohort.X))
    assert np.array_equal(back.predict_proba(cohort.X), head.predict_proba(cohort.X))
    assert back.get_params() == head.get_params()
    assert back.reason_ == head.reason_
    assert "conditional_mmd" in back.reason_
    with pytest.raises(DataError, match="RobustHead"):
        cfm.EmbeddingSCM.load(tmp_path / "head.safetensors")


def test_bad_calls_are_refused():
    cohort = confounded(0, 0.5, n_groups=20)
    with pytest.raises(DataError, match="penalty='irn'"):
        train_head(cohort, GRAPH, penalty="irn")
    with pytest.raises(DataError, match="no setting 'strenght'"):
        train_head(cohort, GRAPH, strenght=2.0)
    with pytest.raises(DataError, match="env holds 1"):
        RobustHead(penalty="vrex").fit(cohort.X, cohort.obs["tumour"].to_numpy())
    with pytest.raises(DataError, match="not fitted"):
        RobustHead().predict(cohort.X)
    X = cohort.X.copy()
    X[3, 0] = np.nan
    with pytest.raises(DataError, match="not finite in 1 rows"):
        RobustHead().fit(X, cohort.obs["tumour"].to_numpy())
    with pytest.raises(DataError, match="7"):
        train_head(cohort, GRAPH, steps=5).predict(cohort.X[:, :7])


def test_the_monitor_agrees_with_the_index():
    cohort = confounded(0, 0.5)
    y, env, groups = (cohort.factor(c).codes for c in ("tumour", "site", "patient"))
    monitor = RobustnessMonitor(y, env, groups, k=7)
    logits = np.eye(2)[y]
    logits[env == 1] = logits[env == 1][:, ::-1]  # all wrong at the second site
    found = monitor(3, torch.tensor(cohort.X), torch.tensor(logits))
    truth = cfm.metrics.robustness_index(cohort, GRAPH, k=7, within=(), standardised=False)
    assert found.robustness_index == pytest.approx(truth.value, abs=1e-12)
    assert (found.accuracy, found.worst_site_accuracy, found.worst_site, found.epoch) == (0.5, 0.0, 1, 3)
    assert found.site_chance == 0.5
    assert found.site_readout > 0.9  # sites are far apart
    blind = monitor(4, np.random.default_rng(0).standard_normal((len(cohort), 8)))
    assert abs(blind.site_readout - 0.5) < 0.1
    assert np.isnan(blind.accuracy)
    assert [h.epoch for h in monitor.history] == [3, 4]
    with pytest.raises(DataError, match="in the order of y"):
        monitor(5, cohort.X[:5])


def test_the_callback_logs_and_lightning_is_optional(monkeypatch):
    cohort = confounded(0, 0.5, n_groups=40)
    monitor = RobustnessMonitor(*(cohort.factor(c).codes for c in ("tumour", "site", "patient")))
    module, logged = torch.nn.Linear(8, 2), {}
    module.log = logged.__setitem__
    monkeypatch.setitem(sys.modules, "lightning", None)
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    monkeypatch.setitem(sys.modules, "pytorch_lightning", None)
    X = torch.tensor(cohort.X).float()
    with pytest.raises(MissingDependencyError, match="lightning"):
        lightning_callback(monitor, lambda m: (X, m(X)))
    fake = types.ModuleType("pytorch_lightning")
    fake.Callback = object
    monkeypatch.setitem(sys.modules, "pytorch_lightning", fake)
    callback = lightning_callback(monitor, lambda m: (X, m(X)))
    callback.on_validation_epoch_end(types.SimpleNamespace(sanity_checking=True, current_epoch=0), module)
    assert logged == {}
    callback.on_validation_epoch_end(types.SimpleNamespace(sanity_checking=False, current_epoch=2), module)
    assert set(logged) == {"robustness_index", "site_readout", "worst_site_accuracy", "accuracy"}
    assert module.training
    assert monitor.history[-1].epoch == 2
