"""GradientReversalAdapter: the site goes for unseen patients as far as its adversary reads it, and biology stays."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from corrector_samples import sample
from safetensors.numpy import load_file
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from causalfm.errors import DataError, NotIdentifiedError
from causalfm.estimators import GradientReversalAdapter, LinearEraser

FORMS = ("linear", "mlp")


def short(form, **settings):
    return GradientReversalAdapter(form=form, **{"steps": 60, "width": 16, **settings})


def halves(seed, variance_by_site=0.0, n_groups=240):
    """Rows, table, and who is trained on: half of the patients of every site."""
    X, obs, _ = sample(n_groups=n_groups, confounding=0.3, random_state=seed, variance_by_site=variance_by_site, d=32)
    return X, obs, obs["patient"].str[1:].astype(int).to_numpy() // 3 % 2 == 0


def per_patient(model, X, obs, train, column):
    """Share of the rows of each unseen patient whose level is read."""
    right = model.fit(X[train], obs[column][train]).predict(X[~train]) == obs[column][~train]
    return right.groupby(obs["patient"][~train]).mean().to_numpy()


def logistic():
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))


@pytest.mark.parametrize(("form", "most"), [("linear", 0.15), ("mlp", 0.15)])
def test_the_site_goes_for_unseen_patients_and_biology_stays_within_its_interval(form, most):
    left = []
    for seed in (0, 1):
        X, obs, train = halves(seed)
        more = {"biology": obs["tumour"][train], "groups": obs["patient"][train]}
        adapter = GradientReversalAdapter(form=form).fit(X[train], obs["site"][train], **more)
        moved = adapter.transform(X)
        before, after = (per_patient(logistic(), V, obs, train, "site").mean() for V in (X, moved))
        by_class = pd.get_dummies(obs["tumour"]).to_numpy(float)
        chance = per_patient(logistic(), by_class, obs, train, "site").mean()
        left.append((after - chance) / (before - chance))
        lost = per_patient(logistic(), X, obs, train, "tumour") - per_patient(logistic(), moved, obs, train, "tumour")
        assert lost.mean() <= 0.01 + 2.0 * lost.std(ddof=1) / np.sqrt(len(lost))
        assert adapter.choice_.strength > 0
        assert abs(adapter.choice_.after) < adapter.choice_.before
        assert f"then {adapter.choice_.after:.2f}" in adapter.report_.assumptions
    assert np.mean(left) < most


def test_another_reader_finds_the_site_that_a_linear_adversary_lost():
    X, obs, train = halves(0, variance_by_site=0.8)
    more = {"biology": obs["tumour"][train], "groups": obs["patient"][train]}
    moved = GradientReversalAdapter().fit(X[train], obs["site"][train], **more).transform(X)
    forest = RandomForestClassifier(100, min_samples_leaf=3, random_state=0)
    found, linear = (per_patient(model, moved, obs, train, "site").mean() for model in (forest, logistic()))
    assert found > linear + 0.08


@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_moved_where_there_is_nothing_to_remove_or_nobody_to_ask(form):
    X, obs, _ = sample(n_groups=120, site_effect=0.0, confounding=0.3)
    adapter = short(form).fit(X, obs["site"], biology=obs["tumour"], groups=obs["patient"])
    np.testing.assert_allclose(adapter.transform(X), X, atol=1e-12)
    assert adapter.choice_.strength == 0
    assert "nothing is moved: on 30 groups held out" in adapter.report_.assumptions
    few = obs["patient"].isin(obs["patient"].unique()[:15]).to_numpy()
    adapter = short(form).fit(X[few], obs["site"][few], groups=obs["patient"][few])
    np.testing.assert_allclose(adapter.transform(X), X, atol=1e-12)
    assert "too few groups to hold any out" in adapter.report_.assumptions


@pytest.mark.parametrize("form", FORMS)
def test_the_seed_decides_and_global_generators_are_left_alone(form):
    import torch

    X, obs, _ = sample()
    more = {"biology": obs["tumour"], "groups": obs["patient"]}
    state = torch.random.get_rng_state()
    found = [
        short(form, strength=1.0, steps=300, random_state=s).fit(X, obs["site"], **more).transform(X) for s in (3, 3, 4)
    ]
    np.testing.assert_array_equal(found[0], found[1])
    if form == "linear":  # the other form may move nothing
        assert np.abs(found[0] - found[2]).max() > 1e-3
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rows_are_read_in_any_precision_left_as_they_are_and_saved(form, dtype, tmp_path):
    X, obs, _ = sample()
    X = X.astype(dtype)
    kept, more = X.copy(), {"biology": obs["tumour"], "covariates": obs[["age"]], "groups": obs["patient"]}
    adapter = short(form, strength=3.0, steps=300).fit(X, obs["site"], **more)
    assert adapter.choice_.strength == (3.0 if form == "linear" else 0.0)  # where biology suffers, nothing is moved
    out = adapter.transform(X)
    np.testing.assert_array_equal(X, kept)
    assert out.dtype == (np.float64 if dtype == np.float64 else np.float32)
    np.testing.assert_allclose(out, adapter.transform(X.astype(float)), atol=1e-5)
    adapter.save(tmp_path / "a.safetensors")
    again = GradientReversalAdapter.load(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(again.transform(X), out)
    assert json.dumps(again.report_.to_dict()) == json.dumps(adapter.report_.to_dict())
    assert max(array.shape[0] for array in load_file(tmp_path / "a.safetensors").values()) <= 24  # no row goes along
    spoiled = X.copy()
    spoiled[5, 0] = np.nan
    for call in (lambda: short(form).fit(spoiled, obs["site"], **more), lambda: adapter.transform(spoiled)):
        with pytest.raises(DataError, match=r"\(row 5\)"):
            call()


@pytest.mark.parametrize("form", FORMS)
def test_a_linear_reader_of_the_rows_of_the_fit_finds_nothing_where_the_game_ends_at_its_start(form):
    X, obs, _ = sample()
    more = {"covariates": obs[["age"]], "groups": obs["patient"]}  # no biology that could forbid the start
    adapter = short(form, strength=1e-6, steps=1, device="cpu").fit(X, obs["site"], **more)
    assert adapter.choice_.strength > 0
    moved, eraser = adapter.transform(X), LinearEraser().fit(X, obs["site"], **more).transform(X)
    if form == "linear":
        np.testing.assert_allclose(moved, eraser, atol=0.1 * np.abs(eraser - X).max())

    def largest(V):
        design = np.column_stack([pd.get_dummies(obs["site"]), obs["age"]]).astype(float)
        at = np.linalg.lstsq(design, V, rcond=None)[0][:3]
        return np.abs(at - at.mean(axis=0)).max()

    assert largest(moved) < 0.05 * largest(X)


@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_moved_where_the_factor_cannot_go_without_biology(form):
    X, obs, _ = sample(n_groups=120, confounding=0.3)
    axis = np.random.default_rng(0).normal(size=12)
    classes, sites = (
        obs[name].map({v: i for i, v in enumerate(sorted(obs[name].unique()))}) for name in ("tumour", "site")
    )
    Z = np.random.default_rng(1).normal(size=X.shape) + np.outer(
        2.0 * classes + 0.7 * sites, axis
    )  # one direction for both
    adapter = short(form).fit(Z, obs["site"], biology=obs["tumour"], groups=obs["patient"])
    assert adapter.choice_.strength == 0
    np.testing.assert_allclose(adapter.transform(Z), Z, atol=1e-12)
    assert "no map that keeps biology" in adapter.report_.assumptions


def test_a_projection_is_applied_once_and_for_all():
    X, obs, _ = sample()
    adapter = short("linear", strength=3.0, steps=300).fit(X, obs["site"], biology=obs["tumour"], groups=obs["patient"])
    once = adapter.transform(X)
    assert np.abs(once - X).max() > 0.1
    np.testing.assert_allclose(adapter.transform(once), once, atol=1e-9)
    assert np.linalg.matrix_rank((once - X) - (once - X).mean(axis=0), tol=1e-8) == 2  # levels less one


def test_settings_and_levels_that_cannot_be_used_are_refused():
    X, obs, _ = sample()
    for settings, message in (
        ({"form": "deep"}, "choose 'linear' or 'mlp'"),
        ({"width": 0}, "width"),
        ({"steps": 0}, "steps"),
        ({"strength": 0.0}, "strength"),
        ({"strength": "auto"}, "held-out"),
        ({"random_state": -1}, "random_state"),
    ):
        with pytest.raises(DataError, match=message):
            GradientReversalAdapter(**settings).fit(X, obs["site"])
    with pytest.raises(NotIdentifiedError, match="Rows by level"):
        short("linear").fit(X, obs["site"], biology=obs["site"])
    assert not hasattr(short("linear"), "partial_fit")


def test_torch_is_loaded_by_the_fit_only():
    code = (
        "import sys; from causalfm.estimators import GradientReversalAdapter as A; A(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
