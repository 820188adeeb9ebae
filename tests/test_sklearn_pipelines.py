"""Correctors inside scikit-learn's pipelines and searches: what is held out is never seen."""

import numpy as np
import pandas as pd
import pytest
import sklearn
from corrector_samples import sample
from docs_blocks import run_page
from packaging.version import Version
from sklearn import clone, config_context
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, LeaveOneGroupOut, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from causalfm.estimators import ComBat, LinearEraser, MeanAligner

MAKE = {
    "mean": lambda: MeanAligner(unseen="adapt"),
    "combat": lambda: ComBat(unseen="adapt"),
    "leace": LinearEraser,
}


@pytest.fixture(autouse=True)
def routing():
    with config_context(enable_metadata_routing=True):
        yield


@pytest.fixture(scope="module")
def rows():
    X, obs, _ = sample()
    columns = {name: obs[name].to_numpy() for name in ("tumour", "site", "patient")}
    return X, columns


def routed(corrector):
    corrector.set_fit_request(factor=True, biology=True, groups=True)
    if hasattr(corrector, "unseen"):
        corrector.set_transform_request(factor=True)
    return make_pipeline(StandardScaler(), corrector, LogisticRegression())


def metadata(columns):
    return {"factor": columns["site"], "biology": columns["tumour"], "groups": columns["patient"]}


def solutions(pipeline, X, columns, cv):
    found = cross_validate(
        pipeline, X, columns["tumour"], cv=cv, params=metadata(columns), return_estimator=True, return_indices=True
    )
    return found, [fitted[1]._solved() for fitted in found["estimator"]]


@pytest.mark.parametrize("name", MAKE)
def test_what_stands_in_rows_held_out_changes_no_fit(rows, name):
    X, columns = rows
    found, before = solutions(routed(MAKE[name]()), X, columns, GroupKFold(3))
    for fold, (train, test) in enumerate(zip(found["indices"]["train"], found["indices"]["test"], strict=True)):
        assert not set(columns["patient"][train]) & set(columns["patient"][test])
        spoiled, other = X.copy(), {**columns, "tumour": columns["tumour"].copy(), "site": columns["site"].copy()}
        spoiled[test] = np.random.default_rng(0).normal(50.0, 9.0, size=spoiled[test].shape)
        other["tumour"][test] = other["tumour"][test][::-1]
        other["site"][test] = other["site"][test][::-1]
        _, (after,) = solutions(routed(MAKE[name]()), spoiled, other, [(train, test)])
        assert before[fold].keys() == after.keys()
        for part, value in after.items():
            np.testing.assert_array_equal(value, before[fold][part])
        direct = MAKE[name]().fit(
            StandardScaler().fit_transform(X[train]),
            columns["site"][train],
            biology=columns["tumour"][train],
            groups=columns["patient"][train],
        )
        for part, value in direct._solved().items():
            np.testing.assert_array_equal(value, before[fold][part])


def test_the_check_for_leaks_can_fail(rows):
    X, columns = rows
    spoiled = X.copy()
    spoiled[:40] += 50.0
    given = {"biology": columns["tumour"], "groups": columns["patient"]}
    one, other = (MeanAligner().fit(Z, columns["site"], **given)._solved() for Z in (X, spoiled))
    assert any(not np.array_equal(one[part], other[part]) for part in one)


def test_what_is_passed_and_not_asked_for_is_refused(rows):
    X, columns = rows
    pipeline = make_pipeline(
        LinearEraser().set_fit_request(factor=True).set_transform_request(factor=True), LogisticRegression()
    )
    with pytest.raises(UnsetMetadataPassedError, match="biology"):
        pipeline.fit(X, columns["tumour"], factor=columns["site"], biology=columns["tumour"])


def test_hospitals_left_out_are_new_to_the_corrector(rows):
    X, columns = rows
    corrector = MeanAligner(unseen="adapt").set_fit_request(factor=True, biology=True, groups=False)
    corrector.set_transform_request(factor=True)
    pipeline = make_pipeline(corrector, LogisticRegression())
    params = {**metadata(columns), "groups": columns["site"]}
    found = cross_validate(
        pipeline, X, columns["tumour"], cv=LeaveOneGroupOut(), params=params, return_estimator=True, return_indices=True
    )
    for fitted, test in zip(found["estimator"], found["indices"]["test"], strict=True):
        assert not set(fitted[0].levels_) & set(columns["site"][test])
        assert "learned from these rows" in str(fitted[0].account(columns["site"][test]).to_frame()["done"].iloc[0])


def test_tables_go_through_a_pipeline_and_its_clone(rows):
    X, columns = rows
    frame = pd.DataFrame(X, index=[f"r{i}" for i in range(len(X))]).add_prefix("z")
    pipeline = clone(routed(MeanAligner())).set_output(transform="pandas")
    pipeline.fit(frame, columns["tumour"], **metadata(columns))
    out = pipeline[:-1].transform(frame, factor=columns["site"])
    assert out.index.equals(frame.index)
    assert list(out.columns) == list(frame.columns) == list(pipeline[:-1].get_feature_names_out())


@pytest.mark.skipif(
    Version(sklearn.__version__) < Version("1.8"),
    reason="before 1.8 a pipeline's score gets no levels",
)
def test_the_code_of_the_page_runs_and_does_what_it_says(tmp_path, monkeypatch):
    with config_context(enable_metadata_routing=False):
        names = run_page("docs/interoperability.md", tmp_path, monkeypatch)
    assert len(names["scores"]) == 5
    assert names["scores"].min() > 0.5
    assert names["search"].cv_results_["mean_test_score"].min() > 0.5  # of either shrinkage; nan: no levels arrived
    kept = names["adata"].uns["causalfm"]
    assert set(kept) == {"graph", "robustness_index", "invariance_test", "effect"}
    assert {"cfm_distances", "cfm_connectivities"} <= set(names["adata"].obsp)
