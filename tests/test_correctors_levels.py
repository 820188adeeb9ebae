"""Levels of the factor at the rows to correct: asked for, routed by pipelines, and those that the fit never saw."""

import json

import corrector_samples
import numpy as np
import pytest
from corrector_samples import ALL, SITE_WISE, applied, given, scm, with_ages
from sklearn import config_context
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from causalfm.errors import DataError
from causalfm.estimators import LinearEraser, MeanAligner
from causalfm.graph import CausalGraph

rows = corrector_samples.rows  # a fixture


@pytest.mark.parametrize("name", [*SITE_WISE, "scm"])
def test_levels_are_asked_for(rows, name):
    X, obs = rows
    corrector = (scm() if name == "scm" else with_ages(name)).fit(X, obs["site"], **given(obs))
    with pytest.raises(DataError, match=r"transform\(X, factor=...\) needs them"):
        corrector.transform(X)


@pytest.mark.parametrize("name", ALL)
def test_pipelines_route_the_levels_where_routing_is_on(rows, name):
    X, obs = rows
    site, tumour = obs["site"].to_numpy(), obs["tumour"].to_numpy()
    with config_context(enable_metadata_routing=True):
        corrector = ALL[name]().set_fit_request(factor=True, biology=True)
        if hasattr(corrector, "unseen"):
            corrector.set_transform_request(factor=True)
        pipeline = make_pipeline(StandardScaler(), corrector, LogisticRegression())
        pipeline.fit(X, tumour, factor=site, biology=tumour)  # y is the outcome: the site travels beside it
        more = {"factor": site} if hasattr(corrector, "unseen") else {}
        scaled = StandardScaler().fit_transform(X)
        seen = applied(ALL[name]().fit(scaled, site, biology=tumour), scaled, site)
        np.testing.assert_allclose(pipeline[:-1].transform(X, **more), seen, atol=1e-10)
        params = {"factor": site, "biology": tumour}
        assert cross_val_score(pipeline, X, tumour, cv=3, params=params).min() > 0.5


def test_routing_stays_off(rows):
    X, obs = rows
    MeanAligner().fit_transform(X, obs["site"])
    with pytest.raises(RuntimeError, match="enable_metadata_routing"):
        MeanAligner().set_transform_request(factor=True)


def test_label_free_correctors_take_their_place_in_a_pipeline_as_they_are(rows):
    X, obs = rows
    score = cross_val_score(make_pipeline(LinearEraser(), LogisticRegression()), X, obs["site"], cv=3).mean()
    assert score < 0.5 < cross_val_score(LogisticRegression(), X, obs["site"], cv=3).mean()


@pytest.mark.parametrize("name", [*SITE_WISE, "scm"])
def test_levels_never_seen_follow_the_policy(rows, name):
    X, obs = rows
    make = (lambda **k: scm(**k)) if name == "scm" else SITE_WISE[name]
    met = obs["site"].where(obs["site"] != "site2", "elsewhere")
    new = (met == "elsewhere").to_numpy()
    graph = CausalGraph.standard(biology="tumour", technical=["site"], group="patient")
    more = {"biology": obs["tumour"], "groups": obs["patient"]}
    out = {}
    for policy in ("refuse", "shrink", "adapt"):
        corrector = make(unseen=policy)
        if name == "scm":
            corrector.set_params(graph=graph)
        corrector.fit(X, obs["site"], **more)
        seen = applied(corrector, X, obs["site"])
        if policy == "refuse":
            with pytest.raises(DataError, match="elsewhere"):
                applied(corrector, X, met)
            continue
        out[policy] = applied(corrector, X, met)
        np.testing.assert_allclose(out[policy][~new], seen[~new], atol=1e-10)  # other rows are none of its business
    left = {k: np.linalg.norm((v[new] - seen[new]).mean(axis=0)) for k, v in out.items()}
    assert left["adapt"] < 0.5 * left["shrink"]
    moved = {k: np.abs(v[new] - X[new]).max() for k, v in out.items()}
    assert moved["shrink"] < 0.5 * moved["adapt"]  # nothing is known of the level: its rows keep their distances


@pytest.mark.parametrize("name", SITE_WISE)
def test_a_level_met_again_under_another_name_is_learned_again(rows, name):
    X, obs = rows
    met = obs["site"].where(obs["site"] != "site1", "again")
    corrector = SITE_WISE[name](unseen="adapt").fit(X, obs["site"], biology=obs["tumour"])
    seen = corrector.transform_given(X, obs["site"], biology=obs["tumour"])
    again = corrector.transform_given(X, met, biology=obs["tumour"])
    assert np.abs(again - seen).mean() < 0.05 * np.abs(seen - X).mean() + 0.02


def test_what_is_done_to_each_level_is_stated(rows):
    X, obs = rows
    corrector = MeanAligner(unseen="adapt").fit(X, obs["site"], **given(obs))
    account = corrector.account(["site0", "new", "new"])
    assert [(r["level"], r["rows"], r["seen"]) for r in account.rows()] == [("new", 2, False), ("site0", 1, True)]
    assert "mix of the fit" in account.rows()[0]["done"]
    report = corrector.report_
    assert report.unit == "groups"
    assert report.given == ("biology", "age")
    assert sum(r["weight"] for r in report.rows()) == pytest.approx(90)
    assert sum(r["rows"] for r in report.rows()) == 360
    assert "add up" in report.assumptions
    assert json.dumps(report.to_dict())
    assert LinearEraser().fit(X, obs["site"]).account(["other"]).rows()[0]["done"] == "erased without its level"
    two = (obs["site"] != "site2").to_numpy()
    corrector = MeanAligner(unseen="shrink").fit(X[two], obs["site"][two])
    with pytest.raises(DataError, match="at least 3 levels"):
        corrector.transform(X, factor=obs["site"])


def test_new_rows_count_as_patients_where_the_fit_counted_them(rows):
    X, obs = rows
    part = (obs["site"] != "site2").to_numpy()
    moved = {}
    for copies in (1, 5):  # of every row, at the fit and at the new site alike: no more patients than before
        at = np.repeat(np.flatnonzero(part), copies)
        corrector = MeanAligner(shrinkage="empirical-bayes", unseen="adapt")
        corrector.fit(X[at], obs["site"].iloc[at], groups=obs["patient"].iloc[at])
        new = np.repeat(np.flatnonzero(~part)[:8], copies)
        moved[copies] = corrector.transform(X[new], factor=obs["site"].iloc[new])[::copies]
    np.testing.assert_allclose(moved[1], moved[5], atol=1e-8)
