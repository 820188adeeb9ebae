"""The conditional flow: its layers, its training, and what it finds that transport cannot."""

import dataclasses
import random

import numpy as np
import pytest
import torch
from scm_samples import AGED, SITE, aged, bent

from causalfm.scm import EmbeddingSCM
from causalfm.scm.coupling_layers import backward, forward, identity_weights
from causalfm.scm.flow_training import Rows, train

TO = {"site": "s0"}


def error(scm, cohort, wanted):
    return np.linalg.norm(scm.counterfactual(cohort, TO).X - wanted) / np.linalg.norm(cohort.X - wanted)


@pytest.fixture(scope="module")
def trained():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("causalfm.scm.flow_training.STEPS", 140)
        cohort, wanted = bent()
        return EmbeddingSCM(SITE, "flow").fit(cohort), cohort, wanted


def random_weights(k, c, seed=0):
    rng = np.random.default_rng(seed)
    start = identity_weights(k, c, rng)
    return {n: torch.from_numpy(v + (n != "kept") * 0.2 * rng.standard_normal(v.shape)) for n, v in start.items()}


@pytest.mark.parametrize("k", [1, 2, 5])
def test_layers_are_inverted_and_their_determinant_is_the_jacobians(k):
    weights, rng = random_weights(k, 3), np.random.default_rng(1)
    u, condition = torch.from_numpy(rng.standard_normal((7, k))), torch.from_numpy(rng.standard_normal((7, 3)))
    e, log_det = forward(u, condition, weights)
    assert not torch.allclose(e, u)
    torch.testing.assert_close(backward(e, condition, weights), u)
    for i in range(7):
        alone = forward(u[i : i + 1], condition[i : i + 1], weights)[0]  # one condition for all rows
        torch.testing.assert_close(alone[0], e[i])
        at = torch.autograd.functional.jacobian(
            lambda x, c=condition[i : i + 1]: forward(x[None], c, weights)[0][0], u[i]
        )
        torch.testing.assert_close(torch.linalg.slogdet(at)[1], log_det[i])


def test_untrained_it_is_transport(monkeypatch):
    monkeypatch.setattr("causalfm.scm.flow_training.STEPS", 0)
    cohort, _ = bent(n_patients=90)
    one, two = (EmbeddingSCM(SITE, m).fit(cohort) for m in ("flow", "optimal-transport"))
    np.testing.assert_allclose(one.counterfactual(cohort, TO).X, two.counterfactual(cohort, TO).X, atol=1e-10)
    np.testing.assert_allclose(one.log_likelihood(cohort), two.log_likelihood(cohort), atol=1e-8)


def test_bends_that_transport_cannot_see_are_found(trained):
    scm, cohort, wanted = trained
    transport, additive = (EmbeddingSCM(SITE, m).fit(cohort) for m in ("optimal-transport", "additive"))
    assert error(scm, cohort, wanted) < 0.9 * error(transport, cohort, wanted)
    assert error(scm, cohort, wanted) < 0.9 * error(additive, cohort, wanted)
    new, at = bent(seed=1)
    assert error(scm, new, at) < 0.92 * error(transport, new, at), "patients that were not trained on"
    assert scm.log_likelihood(new).mean() > transport.log_likelihood(new).mean()
    assert scm.fitted.noise.record["gain"] > 0


def test_own_level_is_the_identity_and_the_last_intervention_counts(trained):
    scm, cohort, _ = trained
    for dtype, tolerance in ((np.float64, 1e-9), (np.float32, 1e-5)):
        data = cohort.replace(X=cohort.X.astype(dtype))
        there = scm.counterfactual(data, {"site": "s1"})
        own = (cohort.obs["site"] == "s1").to_numpy()
        assert np.array_equal(there.X[own], data.X[own])
        by_way = scm.counterfactual(scm.counterfactual(data, {"site": "s2"}), {"site": "s1"})
        np.testing.assert_allclose(by_way.X, there.X, atol=tolerance)
        back = scm.counterfactual(there, {"site": "s0"}).X[cohort.obs["site"] == "s0"]
        np.testing.assert_allclose(back, data.X[cohort.obs["site"] == "s0"], atol=tolerance)


@pytest.mark.parametrize("bent_directions", [6, 4])  # directions of small variance are left to transport
def test_noise_and_residual_belong_together(trained, bent_directions):
    fitted, levels = trained[0].fitted.noise, np.array([1, 2])
    weights = {name: value.numpy() for name, value in random_weights(bent_directions, 5).items()}
    noise = dataclasses.replace(fitted, weights=weights)
    residual = np.random.default_rng(0).standard_normal((9, 6))
    white, log_det = noise.whiten(residual, levels)
    np.testing.assert_allclose(white + noise.colour(white, levels), residual, atol=1e-10)
    step = 1e-6 * np.eye(6)
    jacobian = (noise.whiten(residual[0] + step, levels)[0] - noise.whiten(residual[0] - step, levels)[0]) / 2e-6
    assert log_det[0] == pytest.approx(np.linalg.slogdet(jacobian)[1], abs=1e-6)


def test_draws_have_the_mean_of_the_level(trained):
    scm, _, _ = trained
    drawn = scm.interventional(3000, {"site": "s2"}, random_state=1).X
    np.testing.assert_allclose(drawn.mean(axis=0), bent(n_patients=3000)[0].X[2::3].mean(axis=0), atol=0.3)


def test_saved_and_read_again(trained, tmp_path):
    scm, cohort, _ = trained
    scm.save(tmp_path / "m.safetensors")
    again = EmbeddingSCM.load(tmp_path / "m.safetensors")
    assert np.array_equal(scm.counterfactual(cohort, TO).X, again.counterfactual(cohort, TO).X)
    assert np.array_equal(scm.log_likelihood(cohort), again.log_likelihood(cohort))
    assert again.fitted.noise.record == scm.fitted.noise.record


def test_no_worse_than_additive_where_noise_is_shared(monkeypatch):
    monkeypatch.setattr("causalfm.scm.flow_training.STEPS", 40)
    errors = []
    for seed in range(3):
        cohort, truth = aged(seed, d=8)
        wanted = cohort.X + truth.site[2] - truth.site[cohort.factor("site").codes]
        moved = [
            EmbeddingSCM(AGED, m).fit(cohort).counterfactual(cohort, {"site": "site2"}).X for m in ("flow", "additive")
        ]
        errors.append([np.linalg.norm(x - wanted) for x in moved])
    flow, additive = np.mean(errors, axis=0)
    assert flow <= 1.05 * additive


def rows_of(n, seed=0):
    rng = np.random.default_rng(seed)
    return Rows(rng.standard_normal((n, 3)), np.arange(n) % 2, np.eye(2) - 0.5, np.arange(n))


def test_training_is_seeded_and_leaves_global_generators_alone(monkeypatch):
    monkeypatch.setattr("causalfm.scm.flow_training.STEPS", 20)
    np.random.seed(3)  # noqa: NPY002 - the state that must not move
    before = np.random.get_state()[1].copy(), random.getstate(), torch.get_rng_state()  # noqa: NPY002
    one, two, other = (train(rows_of(60), seed, None)[0] for seed in (0, 0, 1))
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert not np.array_equal(one["kept"], other["kept"])
    assert np.array_equal(np.random.get_state()[1], before[0])  # noqa: NPY002
    assert random.getstate() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_few_patients_learn_nothing_and_none_is_believed_without_gain(monkeypatch):
    monkeypatch.setattr("causalfm.scm.flow_training.STEPS", 20)
    weights, record = train(rows_of(19), 0, None)
    assert record["strength"] == 0.0
    assert all((weights[name] == 0.0).all() for name in ("outward", "apart", "direct"))
    strengths = [train(rows_of(60, seed), seed, None)[1]["strength"] for seed in range(3)]
    assert sum(s == 0.0 for s in strengths) >= 2, "levels that do not differ"


def test_patients_weigh_equally(monkeypatch):
    monkeypatch.setattr("causalfm.scm.flow_training.STEPS", 20)
    rows = rows_of(40)
    many = np.repeat(np.arange(40), np.where(np.arange(40) < 5, 30, 1))
    once, repeated = train(rows, 0, None)[0], train(rows[many], 0, None)[0]
    for name in once:  # batches draw patients alike: the same ones, up to which copy
        np.testing.assert_allclose(once[name], repeated[name], atol=1e-4)
