"""CausalComBat: fitted where levels can be compared, equal to ComBat where that is everywhere."""

import json

import numpy as np
import pandas as pd
import pytest
from corrector_samples import applied, sample
from safetensors.numpy import load_file
from sklearn import config_context
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from causalfm.errors import DataError, NotIdentifiedError
from causalfm.estimators import CausalComBat, ComBat
from causalfm.estimators.correctors.empirical_bayes import posterior, prior_over
from causalfm.estimators.correctors.nearest_matching import kway_matching
from causalfm.estimators.correctors.support_region import _outward
from causalfm.matching import propensities

MAKE = {
    "regression": lambda **k: CausalComBat(**k),
    "matched": lambda **k: CausalComBat(estimator="matched", **k),
    "aipw": lambda **k: CausalComBat(estimator="aipw", **k),
    "mean only": lambda **k: CausalComBat(mean_only=True, **k),
}


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
    kept = np.delete(ages, np.concatenate([out, corrector.unmatched_]))
    apart = (ages < kept.min()) | (ages > kept.max())
    assert set(np.flatnonzero(apart)) <= {*out, *corrector.unmatched_}
    assert 30.0 < kept.min() < 45.0 < 65.0 < kept.max() < 80.0
    assert f"{len(X) - len(out)} of {len(X)} groups" in corrector.report_.trimmed
    assert f"Left out: rows {out[0]}, {out[1]}" in corrector.report_.trimmed
    assert sum(row["rows"] for row in corrector.report_.rows()) == len(X) - len(out) - len(corrector.unmatched_)
    assert bool(len(corrector.unmatched_)) == (name == "matched")
    assert str(out[0]) in corrector.report_.trimmed
    again = MAKE[name](on_violation="trim").fit_transform(X, obs["site"], **more)  # as transform does, all are moved
    np.testing.assert_array_equal(again, corrector.transform(X, factor=obs["site"]))
    part = MAKE[name](on_violation="trim")
    part.set_params(on_violation="trim").fit(
        np.delete(X, out, 0), obs["site"].drop(out), biology=obs["tumour"].drop(out)
    )
    assert len(part.left_out_) == 0  # biology alone drops nobody here
    supported = corrector.supported(**more)
    fitted_on = np.setdiff1d(np.arange(len(X)), np.concatenate([out, corrector.unmatched_]))
    assert supported[fitted_on].all()
    assert not supported[(ages < kept.min() - 5.0) | (ages > kept.max() + 5.0)].any()  # bounds are rounded outward
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
    with pytest.raises(DataError, match="choose one of 'regression', 'matched', 'aipw'"):
        CausalComBat(estimator="iptw").fit(X, obs["site"])
    with pytest.raises(DataError, match="random_state"):
        CausalComBat(random_state=-1).fit(X, obs["site"])
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


def shift_error(corrector, curve, seeds, n=400):
    return np.array([error(corrector(), seed, shifted, curve, n) for seed in seeds])


def test_matching_balances_what_a_line_through_a_threshold_leaves():
    def threshold(age):
        return np.tanh((age - 55.0) / 5.0)

    matched, regression = (
        shift_error(lambda e=e: CausalComBat(estimator=e, on_violation="trim"), threshold, range(8))
        for e in ("matched", "regression")
    )
    assert matched[:, 0].mean() < 0.6 * regression[:, 0].mean()
    assert matched[:, 1].mean() < 0.7 * regression[:, 1].mean()


def test_each_match_lies_within_the_caliper_and_is_used_once():
    rng = np.random.default_rng(0)
    level = np.repeat([0, 1], [40, 100])
    x = np.concatenate([rng.normal(0.0, 1.0, 40), rng.normal(1.0, 1.0, 100)])[:, None]
    x[0] = -9.0  # nobody is near
    kept = kway_matching(level, x, 0.1)
    assert not kept[0]
    score = propensities(level, x)[:, 0]
    width = 0.1 * score.std(ddof=1)
    gaps = np.abs(score[(level == 0) & kept][:, None] - score[(level == 1) & kept])
    assert gaps.min(axis=1).max() <= width
    assert gaps.min(axis=0).max() <= width
    assert (kept & (level == 1)).sum() <= 2 * (kept & (level == 0)).sum()  # floor(100 / 40) each
    wide = kway_matching(level, x, 100.0)
    assert (wide & (level == 1)).sum() == 80
    assert wide[level == 0].all()
    order = rng.permutation(140)
    np.testing.assert_array_equal(kway_matching(level[order], x[order], 0.1), kept[order])
    three = np.concatenate([level, np.full(50, 2)])
    found = kway_matching(three, np.concatenate([x, np.full((50, 1), 30.0)]), 0.1)
    np.testing.assert_array_equal(found[:140], kept)  # a level that is far from all keeps nobody, and takes nobody
    assert not found[140:].any()


def test_a_caliper_that_nobody_meets_is_refused():
    X, obs, _, _ = by_age(0, in_part, np.tanh, n=60)
    more = {"biology": obs["tumour"], "covariates": obs[["age"]]}
    with pytest.raises(DataError, match="Widen it"):
        CausalComBat(estimator="matched", caliper=1e-12, on_violation="trim").fit(X, obs["site"], **more)
    with pytest.raises(DataError, match="caliper"):
        CausalComBat(estimator="matched", caliper=0.0).fit(X, obs["site"], **more)


def test_doubly_robust_locations_count_the_patients_that_they_rest_on():
    X, obs, _, _ = by_age(0, shifted, np.tanh)
    corrector = CausalComBat(estimator="aipw", on_violation="trim")
    corrector.fit(X, obs["site"], biology=obs["tumour"], covariates=obs[["age"]])
    count = np.array([row["weight"] for row in corrector.report_.rows()])
    assert (corrector._effective < 0.8 * count).all()  # unequal weights tell less
    X, obs = crossed(n_each=40)
    flat = CausalComBat(estimator="aipw").fit(X, obs["site"], biology=obs["tumour"], covariates=obs[["age"]])
    np.testing.assert_allclose(flat._effective, 80.0, rtol=0.1)
    delta, gamma = np.ones((2, 50)), np.random.default_rng(0).normal(size=(2, 50))
    prior = prior_over(gamma, delta, 1)
    few, many = (posterior(gamma, delta, np.full(2, 40.0), prior, np.full(2, m))[0] for m in (10.0, 40.0))
    shrunk = [np.abs(p - prior.mean).mean() / np.abs(gamma - prior.mean).mean() for p in (few, many)]
    v = prior.variance.mean()
    np.testing.assert_allclose(shrunk, [10 * v / (10 * v + 1), 40 * v / (40 * v + 1)], atol=0.02)


def test_a_file_holds_no_number_of_a_patient(tmp_path):
    """Sentinels: the least and the greatest age are those of one patient each, and of no other."""
    X, obs, _, _ = by_age(0, in_part, np.tanh)
    site = obs["site"].to_numpy().copy()
    inside = np.flatnonzero((obs["age"] > 42.0) & (obs["age"] < 68.0))
    X, obs = X[inside], obs.iloc[inside].reset_index(drop=True)
    more = {"biology": obs["tumour"], "groups": np.arange(len(obs))}
    corrector = CausalComBat(on_violation="trim").fit(X, site[inside], covariates=obs[["age"]], **more)
    corrector.save(tmp_path / "c.safetensors")
    arrays = load_file(tmp_path / "c.safetensors")
    saved = np.concatenate([np.asarray(v, dtype=float).ravel() for v in arrays.values()])
    centre = corrector.regressors_.shifts["age"]
    kept = np.sort(np.delete(obs["age"].to_numpy(), corrector.left_out_))
    low, high = arrays["low"][0] + centre, arrays["high"][0] + centre
    assert low <= kept[0]
    assert high >= kept[-1]
    for edge, bound in ((kept[:5], low), (kept[-5:], high)):
        assert abs(bound - edge).min() > 1e-3 * np.ptp(kept)
        step = np.ptp(edge)
        assert abs(bound - edge).max() < 6.0 * step  # rounded, not made up
    for age in kept:  # nor any other array
        assert np.abs(saved - (age - centre)).min() > 1e-7
        assert np.abs(saved - age).min() > 1e-7
    nudged = obs.assign(age=obs["age"].where(obs["age"] != kept[0], kept[0] + 0.2 * (kept[1] - kept[0])))
    moved = CausalComBat(on_violation="trim").fit(X, site[inside], covariates=nudged[["age"]], **more)
    same = moved.solution_["low"][0] + moved.regressors_.shifts["age"]
    assert abs(same - low) < 0.5 * np.ptp(kept[:5])
    assert len(arrays["cells"]) == 2
    assert max(len(v) for v in arrays.values() if v.ndim) < 20  # no row goes along


@pytest.mark.parametrize("many", [1, 3])
def test_a_bound_is_rounded_so_that_five_patients_lie_where_it_may_be(many):
    rng = np.random.default_rng(0)
    for scale in (1e-3, 1.0, 1e4):
        values = np.repeat(scale * rng.normal(size=40), many)
        unit = np.repeat(np.arange(40), many)
        bound, outer = _outward(values, unit), np.sort(scale * np.unique(values / scale))[:5]
        assert bound <= outer[0]
        step = outer[4] - outer[0]
        assert bound > outer[0] - 5.0 * step
        digits = bound / 10.0 ** np.floor(np.log10(step))
        assert abs(digits - round(digits)) < 1e-6  # no more digits than the step has
    assert _outward(np.array([3.25] * 5 + [9.0]), np.arange(6)) == 3.25  # shared by five
    assert _outward(np.array([3.25] * 4 + [9.0]), np.arange(5)) == 0.0
    assert _outward(np.array([3.25] * 5 + [9.0]), np.array([0, 0, 0, 0, 0, 1])) == 0.0  # rows of one


@pytest.mark.parametrize("name", MAKE)
def test_rows_at_a_new_level_are_learned_with_the_frozen_fit(name):
    X, obs = crossed(n_each=30)
    known = (obs["site"] != "C").to_numpy()
    more = {"biology": obs["tumour"][known], "covariates": obs[["age"]][known]}
    corrector = MAKE[name](unseen="adapt").fit(X[known], obs["site"][known], **more)
    moved = corrector.transform(X, factor=obs["site"])
    np.testing.assert_array_equal(moved[known], corrector.transform(X[known], factor=obs["site"][known]))
    before, after = (np.abs(V[~known].mean(axis=0) - V[known].mean(axis=0)).mean() for V in (X, moved))
    assert after < 0.25 * before
    assert "learned" in corrector.account(["C"]).rows()[0]["done"]


def test_a_pipeline_trims():
    X, obs, _, _ = by_age(0, in_part, np.tanh)
    settings = {"factor": obs["site"], "biology": obs["tumour"], "covariates": obs[["age"]]}
    with config_context(enable_metadata_routing=True):
        corrector = CausalComBat(on_violation="trim")
        corrector.set_fit_request(**dict.fromkeys(settings, True)).set_transform_request(factor=True)
        pipeline = make_pipeline(corrector, LogisticRegression()).fit(X, obs["tumour"], **settings)
        assert pipeline.predict(X, factor=obs["site"]).shape == (len(X),)
    assert len(pipeline[0].left_out_) > 0
    assert "Left out: rows" in pipeline[0].report_.trimmed
