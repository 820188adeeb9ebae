"""CausalComBat: fitted where levels can be compared, equal to ComBat where that is everywhere."""

import json

import numpy as np
import pandas as pd
import pytest
from corrector_samples import LevelGiven, applied, sample
from sklearn import config_context
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from causalfm.errors import DataError, NotIdentifiedError
from causalfm.estimators import CausalComBat, ComBat

MAKE = {
    "regression": lambda **k: CausalComBat(**k),
    "aipw": lambda **k: CausalComBat(estimator="aipw", **k),
    "mean only": lambda **k: CausalComBat(mean_only=True, **k),
}


class CausalComBatGiven(LevelGiven, CausalComBat): ...


@parametrize_with_checks([CausalComBatGiven(), CausalComBatGiven(estimator="aipw")])
def test_scikit_learn_checks_where_levels_are_given(estimator, check):
    check(estimator)


def crossed(seed=0, n_each=12, d=6):
    """Every site sees the same ages in each class: the common support is everything."""
    rng = np.random.default_rng(seed)
    cells = [(s, c) for s in "ABC" for c in "xy"]
    obs = pd.DataFrame([(s, c, 40.0 + a) for s, c in cells for a in range(n_each)], columns=["site", "tumour", "age"])
    X = rng.normal(size=(len(obs), d)) * np.array([obs["site"].map({"A": 1.0, "B": 1.5, "C": 0.7})]).T
    X += obs["site"].map({"A": 0.0, "B": 1.0, "C": -1.0}).to_numpy()[:, None]
    return X, obs


@pytest.mark.parametrize("settings", [{}, {"reference": "B"}, {"prior": "levels"}, {"mean_only": True}])
def test_it_is_combat_where_every_row_can_be_compared(settings):
    X, obs = crossed()
    more = {"biology": obs["tumour"], "covariates": obs[["age"]]}
    ours, peer = CausalComBat(**settings).fit(X, obs["site"], **more), ComBat(**settings).fit(X, obs["site"], **more)
    assert len(ours.left_out_) == 0
    assert ours.report_.trimmed is None
    np.testing.assert_array_equal(ours.transform(X, factor=obs["site"]), peer.transform(X, factor=obs["site"]))
    np.testing.assert_array_equal(
        ours.transform_given(X, obs["site"], **more), peer.transform_given(X, obs["site"], **more)
    )
    # a balanced design leaves little to the models: doubly robust means are those of the levels, folds aside
    robust = CausalComBat(estimator="aipw", **settings).fit(X, obs["site"], **more)
    assert np.abs(robust.means_ - [X[obs["site"] == level].mean(axis=0) for level in "ABC"]).max() < 0.1


def by_age(seed, draw, curve, n=400, d=8):
    """Two sites whose patients differ in age; age acts along one direction, nonlinearly, the site along another."""
    rng = np.random.default_rng(seed)
    site = np.arange(n) % 2
    age, tumour = draw(rng, site), rng.integers(2, size=n)
    along = np.random.default_rng(99).normal(size=(3, d))
    X = 0.5 * rng.normal(size=(n, d)) + np.outer(curve(age), along[0]) + np.outer(tumour, along[1])
    X += 0.5 * np.outer(site - 0.5, along[2])
    obs = pd.DataFrame({"site": np.where(site, "b", "a"), "tumour": tumour.astype(str), "age": age})
    return X, obs, 0.5 * along[2], along[0]


def in_part(rng, site):
    return np.where(site == 0, rng.uniform(20, 72.5, len(site)), rng.uniform(37.5, 90, len(site)))


def shifted(rng, site):
    return rng.normal(50.0 + 15.0 * site, 10.0)


def error(corrector, seed, draw, curve, n=400):
    """Return what the estimated difference between sites has of the direction of age, and its squared error."""
    X, obs, truth, age = by_age(seed, draw, curve, n)
    corrector.fit(X, obs["site"], biology=obs["tumour"], covariates=obs[["age"]])
    wrong = corrector.solution_["shift"][1] - corrector.solution_["shift"][0] - truth
    return wrong @ age / (age @ age), (wrong @ wrong) / (truth @ truth)


@pytest.mark.parametrize("estimator", ["regression", "aipw"])
def test_the_effect_of_age_stays_where_combat_extrapolates_a_line_through_a_threshold(estimator):
    def threshold(age):
        return np.tanh((age - 55.0) / 5.0)

    combat = np.array([error(ComBat(), seed, in_part, threshold) for seed in range(8)])
    ours = np.array(
        [error(CausalComBat(estimator=estimator, on_violation="trim"), s, in_part, threshold) for s in range(8)]
    )
    assert combat[:, 0].mean() < -0.12  # ComBat takes age for the site
    assert abs(ours[:, 0].mean()) < 0.06
    assert (ours[:, 1] < 0.5 * combat[:, 1]).mean() > 0.8


def test_means_are_right_with_a_wrong_outcome_model_if_propensities_are_right():
    def hump(age):
        return 2.0 * np.exp(-(((age - 70.0) / 8.0) ** 2))

    found = {
        name: np.array(
            [error(CausalComBat(estimator=name, on_violation="trim"), s, shifted, hump, 4000)[0] for s in range(6)]
        )
        for name in ("regression", "aipw")
    }
    assert found["regression"].mean() > 0.08
    assert abs(found["aipw"].mean()) < 0.5 * found["regression"].mean()


@pytest.mark.parametrize("name", MAKE)
def test_rows_outside_the_common_support_are_refused_or_left_out_and_named(name):
    X, obs, _, _ = by_age(0, in_part, np.tanh)
    more = {"biology": obs["tumour"], "covariates": obs[["age"]]}
    with pytest.raises(DataError, match=r"rows \(rows \d+, .*outside the common support.*on_violation='trim'"):
        MAKE[name]().fit(X, obs["site"], **more)
    corrector = MAKE[name](on_violation="trim").fit(X, obs["site"], **more)
    out = corrector.left_out_
    ages = obs["age"].to_numpy()
    kept = np.delete(ages, out)
    apart = (ages < kept.min()) | (ages > kept.max())
    assert set(np.flatnonzero(apart)) <= set(out)
    assert 30.0 < kept.min() < 45.0 < 65.0 < kept.max() < 80.0
    assert f"{len(X) - len(out)} of {len(X)} groups" in corrector.report_.trimmed
    assert f"Left out: rows {out[0]}, {out[1]}" in corrector.report_.trimmed
    assert sum(row["rows"] for row in corrector.report_.rows()) == len(X) - len(out)
    with pytest.raises(DataError, match="use fit, and transform"):
        MAKE[name](on_violation="trim").fit_transform(X, obs["site"], **more)
    part = MAKE[name](on_violation="trim")
    part.set_params(on_violation="trim").fit(
        np.delete(X, out, 0), obs["site"].drop(out), biology=obs["tumour"].drop(out)
    )
    assert len(part.left_out_) == 0  # biology alone drops nobody here
    supported = corrector.supported(**more)
    assert supported[np.setdiff1d(np.arange(len(X)), out)].all()
    assert not supported[apart].any()
    with pytest.raises(DataError, match=r"outside the common support.*leave them out"):
        corrector.transform_given(X, obs["site"], **more)
    inside = np.flatnonzero(supported)
    given = {k: v.iloc[inside] for k, v in more.items()}
    assert corrector.transform_given(X[inside], obs["site"].iloc[inside], **given).shape == X[inside].shape
    with pytest.raises(DataError, match="they say which rows"):
        corrector.supported()


def test_patients_are_matched_as_wholes():
    X, obs, _, _ = by_age(1, in_part, np.tanh)
    twice = np.repeat(np.arange(len(X)), 3)
    order = np.random.default_rng(0).permutation(len(twice))
    twice = twice[order]
    single = CausalComBat(estimator="aipw", on_violation="trim").fit(
        X, obs["site"], biology=obs["tumour"], covariates=obs[["age"]]
    )
    table = obs.iloc[twice].reset_index(drop=True)
    rows = CausalComBat(estimator="aipw", on_violation="trim").fit(
        X[twice], table["site"], biology=table["tumour"], covariates=table[["age"]], groups=twice
    )
    assert set(twice[rows.left_out_]) == set(single.left_out_)
    np.testing.assert_allclose(rows.means_, single.means_, atol=1e-8)
    np.testing.assert_allclose(rows.solution_["shift"], single.solution_["shift"], atol=1e-6)
    with pytest.raises(DataError, match="biology varies within"):
        CausalComBat(estimator="aipw", on_violation="trim").fit(
            X[twice], table["site"], biology=table.index % 2, groups=twice
        )
    with pytest.raises(DataError, match="y varies within"):
        CausalComBat(estimator="aipw").fit(X[twice], table.index % 2, groups=twice)


def test_levels_that_go_with_biology_are_refused_with_the_table_or_trimmed():
    X, obs, _ = sample(n_groups=120, n_sites=4, confounding=0.0)
    alone = obs["site"].isin(["site0", "site1"]).to_numpy()
    biology = obs["tumour"].where(alone, np.where(obs["site"] == "site2", "class2", "class3"))
    with pytest.raises(NotIdentifiedError, match="Rows by level"):
        CausalComBat().fit(X, obs["site"], biology=biology)
    corrector = CausalComBat(on_violation="trim").fit(X, obs["site"], biology=biology, groups=obs["patient"])
    assert corrector.levels_ == ("site0", "site1")
    with pytest.raises(DataError, match="nothing is left to compare"):
        CausalComBat(on_violation="trim").fit(X, obs["site"], biology=obs["site"])


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rows_are_read_in_any_precision_left_as_they_are_and_saved(name, dtype, tmp_path):
    X, obs = crossed()
    X = X.astype(dtype)
    kept, more = X.copy(), {"biology": obs["tumour"], "covariates": obs[["age"]]}
    corrector = MAKE[name](unseen="shrink").fit(X, obs["site"], **more)
    out = applied(corrector, X, obs["site"])
    np.testing.assert_array_equal(X, kept)
    assert out.dtype == (np.float64 if dtype == np.float64 else np.float32)
    exact = MAKE[name]().fit(X.astype(float), obs["site"], **more)
    np.testing.assert_allclose(out, applied(exact, X.astype(float), obs["site"]), atol=1e-5)
    corrector.save(tmp_path / "c.safetensors")
    again = CausalComBat.load(tmp_path / "c.safetensors")
    met = obs["site"].replace("C", "elsewhere")
    np.testing.assert_array_equal(applied(again, X, met), applied(corrector, X, met))
    np.testing.assert_array_equal(again.supported(**more), corrector.supported(**more))
    assert json.dumps(again.report_.to_dict()) == json.dumps(corrector.report_.to_dict())
    with pytest.raises(DataError, match="elsewhere"):
        applied(exact, X, met)
    spoiled = X.copy()
    spoiled[5, 0] = np.nan
    for call in (
        lambda: MAKE[name]().fit(spoiled, obs["site"], **more),
        lambda: applied(corrector, spoiled, obs["site"]),
    ):
        with pytest.raises(DataError, match=r"\(row 5\)"):
            call()


def test_settings_and_columns_that_cannot_be_used_are_refused():
    X, obs = crossed()
    with pytest.raises(DataError, match="choose 'regression' or 'aipw'"):
        CausalComBat(estimator="iptw").fit(X, obs["site"])
    with pytest.raises(DataError, match="random_state"):
        CausalComBat(random_state=-1).fit(X, obs["site"])
    with pytest.raises(DataError, match="rename it"):
        CausalComBat().fit(X, obs["site"], covariates=obs[["age"]].rename(columns={"age": "group"}))
    with pytest.raises(DataError, match="fewer than 2 to learn from: merge levels, or choose estimator='regression'"):
        CausalComBat(estimator="aipw", mean_only=True).fit(X, ["lone", *obs["site"][1:]])
    assert not hasattr(CausalComBat(), "partial_fit")  # matching compares all rows


def test_a_pipeline_routes_levels_and_biology():
    X, obs = crossed()
    with config_context(enable_metadata_routing=True):
        corrector = CausalComBat().set_fit_request(factor=True, biology=True).set_transform_request(factor=True)
        pipeline = make_pipeline(corrector, LogisticRegression())
        pipeline.fit(X, obs["tumour"], factor=obs["site"], biology=obs["tumour"])
        moved = pipeline[:-1].transform(X, factor=obs["site"])
    peer = ComBat().fit(X, obs["site"], biology=obs["tumour"])
    np.testing.assert_allclose(moved, applied(peer, X, obs["site"]), atol=1e-12)
