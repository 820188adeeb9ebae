"""What every estimator of effects returns: parts, intervals, copies, codings, the call that made it."""

import numpy as np
import pandas as pd
import pytest
from effect_samples import ESTIMATORS, scm, site_effect

from causalfm.cohort import Cohort
from causalfm.estimators import effect
from causalfm.estimators.effects import largest_pair


@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimates_are_means_of_parts(name: str) -> None:
    influence = site_effect(scm(), estimator=name).influence
    for j in range(3):
        np.testing.assert_allclose(influence.part(j).mean(axis=0), influence.theta[j], atol=1e-10)


def test_standardisation_is_the_same_by_influences_and_by_cells() -> None:
    found = site_effect(scm())
    assert found.influence is not None
    norms = [found.influence.norm(np.eye(3)[a] - np.eye(3)[b]) for a, b in ((0, 1), (0, 2))]
    for row, norm in zip(found.rows(), norms, strict=True):
        assert row["value"] == pytest.approx(norm.value)
        assert (row["low"], row["high"]) == pytest.approx(norm.interval(), rel=0.05, abs=0.02)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_scalar_outcomes_have_clustered_t_intervals(name: str) -> None:
    cohort = scm()
    cohort = cohort.replace(obs=cohort.obs.assign(first=cohort.X[:, 0]))
    found = site_effect(cohort, estimator=name, outcome="first")
    frame = found.to_frame()
    columns = "level reference outcome value low high se p_value df n_groups unit"
    assert list(frame.columns) == columns.split()
    assert frame["outcome"].unique().tolist() == ["first"]
    theta = site_effect(cohort, estimator=name).influence.theta[:, 0]
    np.testing.assert_allclose(frame["value"], theta[1:] - theta[0], atol=1e-8)
    assert ((frame["low"] < frame["value"]) & (frame["value"] < frame["high"])).all()
    assert found.outcome == "first"


@pytest.mark.parametrize("name", ESTIMATORS)
def test_copies_order_and_names_change_nothing(name: str) -> None:
    cohort = scm()
    found = site_effect(cohort, estimator=name)
    again = np.concatenate([np.arange(len(cohort))] * 2)
    copies = Cohort(cohort.X[again], cohort.obs.iloc[again].reset_index(drop=True))
    same = site_effect(copies, estimator=name)
    assert same.joint.value == pytest.approx(found.joint.value)
    assert (same.share.low, same.share.high) == pytest.approx((found.share.low, found.share.high))
    shifted = site_effect(cohort.replace(X=cohort.X + 100.0), estimator=name)
    assert shifted.joint.value == pytest.approx(found.joint.value, rel=1e-6)
    doubled = site_effect(cohort.replace(X=2.0 * cohort.X), estimator=name)
    assert doubled.joint.high == pytest.approx(4.0 * found.joint.high)
    assert doubled.share.value == pytest.approx(found.share.value)
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((5, 5)))[0]
    turned = site_effect(cohort.replace(X=cohort.X @ rotation), estimator=name)
    assert turned.joint.low == pytest.approx(found.joint.low)
    if name in ("standardisation", "ridge"):  # folds are dealt in the order of the rows
        order = np.random.default_rng(1).permutation(len(cohort))
        mixed = site_effect(cohort[order], estimator=name)
        assert mixed.joint.value == pytest.approx(found.joint.value)
        renamed = cohort.obs.replace({"site": {"site0": "z", "site1": "y", "site2": "x"}})
        assert site_effect(cohort.replace(obs=renamed), estimator=name).joint.value == pytest.approx(found.joint.value)


def test_seeds_deal_folds() -> None:
    values = [site_effect(scm(), estimator="aipw", random_state=seed).joint.value for seed in (0, 0, 1)]
    assert values[0] == values[1] != values[2]


def test_simultaneous_is_wider_than_one_by_one_and_finds_what_is_there() -> None:
    cohort = scm(site_effect=3.0)
    found = site_effect(cohort, estimator="aipw")
    table = found.simultaneous(n_draws=299)
    assert list(table.columns) == ["level", "outcome", "value", "low", "high", "p_value"]
    assert len(table) == 2 * 5
    one = found.influence.contrast(np.eye(3)[1:] - np.eye(3)[0])
    low, high = one.interval()
    np.testing.assert_allclose(table["value"], one.estimate.ravel())
    assert ((table["high"] - table["low"]).to_numpy() > 1.1 * (high - low).ravel()).all()
    assert (table["p_value"] >= one.p_values().ravel() - 0.02).all()
    assert table["p_value"].min() < 0.01
    assert found.simultaneous(n_draws=99, random_state=3).equals(found.simultaneous(n_draws=99, random_state=3))


def test_many_groups_are_bundled_without_moving_the_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = scm(n_groups=240)
    whole = site_effect(cohort, estimator="partially-linear")
    assert whole.influence.n_bundles == 240
    monkeypatch.setattr("causalfm.estimators.influence.comparison_groups.compared_groups.__kwdefaults__", {"most": 120})
    bundled = site_effect(cohort, estimator="partially-linear")
    assert bundled.influence.n_bundles == 120
    np.testing.assert_allclose(bundled.influence.theta, whole.influence.theta)
    assert bundled.joint.details["distance"] == pytest.approx(whole.joint.details["distance"], rel=0.05)
    width = [found.joint.high - found.joint.low for found in (whole, bundled)]
    assert width[1] == pytest.approx(width[0], rel=0.15)


def test_effect_coding_compares_with_the_mean() -> None:
    cohort = scm()
    cohort = cohort.replace(obs=cohort.obs.assign(first=cohort.X[:, 0]))
    frame = site_effect(cohort, outcome="first", coding="effect").to_frame()
    assert frame["level"].tolist() == ["site0", "site1", "site2"]
    assert frame["reference"].unique().tolist() == ["mean of the levels"]
    assert frame["value"].sum() == pytest.approx(0.0, abs=1e-9)
    plain = site_effect(cohort, outcome="first").to_frame()
    assert frame["value"][1] - frame["value"][0] == pytest.approx(plain["value"][0])
    assert site_effect(cohort, coding="effect").to_frame().shape == (3, 11)


@pytest.mark.parametrize("score", ["score", "correctness", "loss"])
def test_models_and_their_judgement(score: str) -> None:
    cohort = scm(biology_effect=3.0)
    direction = cohort.X[cohort.obs["tumour"] == "class1"].mean(axis=0) - cohort.X.mean(axis=0)

    def model(X: np.ndarray) -> np.ndarray:
        p = 1.0 / (1.0 + np.exp(-(X - cohort.X.mean(axis=0)) @ direction))
        return np.column_stack([1.0 - p, p])

    by_model = site_effect(cohort, outcome=model, score=score)
    by_array = site_effect(cohort, outcome=model(cohort.X), score=score)
    table = pd.DataFrame(model(cohort.X), columns=["class0", "class1"])
    by_table = site_effect(cohort, outcome=table, score=score)
    assert by_model.rows() == by_array.rows()
    assert [row["value"] for row in by_table.rows()] == pytest.approx([row["value"] for row in by_model.rows()])
    assert by_model.to_frame()["outcome"].unique().tolist() == (["class0", "class1"] if score == "score" else [score])
    truth = np.eye(2)[cohort.factor("tumour").codes]
    right = {"correctness": (model(cohort.X).argmax(1) == truth.argmax(1)), "loss": -np.log(model(cohort.X)[truth > 0])}
    if score != "score":
        by_hand = cohort.replace(obs=cohort.obs.assign(judged=right[score].astype(float)))
        values = [row["value"] for row in site_effect(by_hand, outcome="judged").rows()]
        assert values == pytest.approx([row["value"] for row in by_model.rows()])


def test_largest_pair_of_every_estimator() -> None:
    cohort = scm(site_effect=3.0)
    pairs = {frozenset(largest_pair(site_effect(cohort, estimator=name))[:2]) for name in ESTIMATORS}
    assert len(pairs) == 1


def test_an_effect_keeps_the_call_that_made_it() -> None:
    cohort = scm(n_groups=60, n_sites=2)
    settings = {"estimator": "aipw", "folds": 3, "coding": "effect", "random_state": 5}
    found = site_effect(cohort, **settings)
    again = effect(found._call["cohort"], found._call["graph"], **found._call["arguments"])
    assert again.rows() == found.rows()
    assert settings.items() <= dict(found._call["arguments"]).items()
