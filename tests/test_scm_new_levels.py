"""Hospitals that the fit never saw: refused, shrunk to their population, or learned from a batch."""

import numpy as np
import pandas as pd
import pytest
from scm_samples import SCANNED, SITE, scanned, stretched

from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.scm import EmbeddingSCM
from causalfm.scm.level_prior import level_prior, patient_variance
from causalfm.scm.location_scale import ScaledNoise
from causalfm.scm.wider_noise import stretch

D = 10
SCALE = (np.arange(D) + 1.0) ** -0.5 / np.sqrt(((np.arange(D) + 1.0) ** -1).sum())


def world(seed, sites=8, per_site=12, fresh=6, between=0.7, prevalence=0.5, stretched_by=1.0):
    """Sites drawn from one population; the last one, with ``fresh`` patients, is new. Rows, and them at site 0."""
    rng = np.random.default_rng(seed)
    effect = between * rng.standard_normal((sites + 1, D)) * SCALE
    bio = np.stack([np.zeros(D), rng.standard_normal(D) * SCALE])
    n = sites * per_site + fresh
    site = np.concatenate([np.repeat(np.arange(sites), per_site), np.full(fresh, sites)])
    tumour = (rng.random(n) < np.where(site == sites, prevalence, 0.5)).astype(int)
    noise = rng.standard_normal((n, D)) * SCALE
    Z = effect[site] + bio[tumour] + noise * np.where(site == sites, stretched_by, 1.0)[:, None]
    columns = {"patient": np.arange(n), "site": site, "tumour": tumour}
    obs = pd.DataFrame({name: [f"{name}{c}" for c in codes] for name, codes in columns.items()})
    cohort, truth = Cohort(Z, obs), Z - effect[site] + effect[0]
    return cohort[: sites * per_site], cohort[sites * per_site :], truth[sites * per_site :]


def study(unseen, repeats=20, mechanism="additive", change=None, **settings):
    """Share of true counterfactuals in their intervals, and squared error over that of doing nothing."""
    covered, error, nothing = [], 0.0, 0.0
    for seed in range(repeats):
        cohort, new, truth = world(seed, **settings)
        scm = EmbeddingSCM(SITE, mechanism, assume="additive", unseen=unseen).fit(cohort)
        moved, errors = scm.counterfactual(
            new if change is None else change(new), {"site": "site0"}, return_uncertainty=True
        )
        low, high = errors.interval()
        covered.append(((low <= truth) & (truth <= high)).mean())
        error += ((moved.X - truth) ** 2).sum()
        nothing += ((new.X - truth) ** 2).sum()
    return float(np.mean(covered)), error / nothing


def unlabelled(cohort):
    return cohort.replace(obs=cohort.obs.drop(columns="tumour"))


@pytest.mark.parametrize(
    ("unseen", "settings"),
    [
        ("shrink", {}),
        ("shrink", {"sites": 3}),
        ("shrink", {"between": 0.2, "mechanism": "location-scale"}),
        ("adapt", {}),
        ("adapt", {"fresh": 1}),
        ("adapt", {"fresh": 30, "change": unlabelled}),
        ("adapt", {"mechanism": "interaction"}),
        ("adapt", {"mechanism": "random-effects", "fresh": 1}),
    ],
)
def test_intervals_cover_a_hospital_of_the_same_population(unseen, settings):
    covered, _ = study(unseen, **settings)
    assert 0.90 <= covered <= 0.995


def test_the_prior_of_shrunken_effects_is_that_of_the_population():
    """The variance of a patient was read off at 0.05 of 1, and the ratio at 4.4: a lone patient's rows covered 55 %."""
    fits = [EmbeddingSCM(SITE, "random-effects").fit(world(seed, sites=12)[0]).fitted for seed in range(6)]
    assert np.mean([patient_variance(f).sum() for f in fits]) == pytest.approx(1.0, abs=0.15)
    assert np.mean([level_prior(f, 1, shrunken=True).ratio for f in fits]) == pytest.approx(0.49 * 13 / 12, abs=0.15)


def test_a_batch_beats_the_population_and_more_patients_help():
    nothing, few, many = (study(u, fresh=f, repeats=12)[1] for u, f in (("shrink", 6), ("adapt", 6), ("adapt", 30)))
    assert many < few < 0.6 * nothing
    assert many < 0.25


def test_learning_does_not_overreach_where_hospitals_hardly_differ():
    """Without shrinkage four patients would give an error of their own: worse than the population."""
    few = {"fresh": 4, "between": 0.05, "repeats": 12}
    assert study("adapt", **few)[1] < 1.3 * study("shrink", **few)[1]


def test_the_assumption_on_the_case_mix_matters_and_labels_lift_it():
    settings = {"fresh": 30, "prevalence": 1.0, "repeats": 10}
    assert study("adapt", **settings)[0] > 0.9
    covered, error = study("adapt", change=unlabelled, **settings)
    assert covered < 0.8
    assert error > 1.5 * study("adapt", **settings)[1]


def test_the_posterior_is_that_of_a_random_effect():
    cohort, new, _ = world(3)
    scm = EmbeddingSCM(SITE, unseen="adapt", assume="additive").fit(cohort)
    moved = scm.counterfactual(new, {"site": "site0"}).X
    shift = (moved - new.X)[0]
    assert np.allclose(moved - new.X, shift)
    beta, parents = scm.fitted.mean.coefficients, scm.fitted.mean.parents
    sites, bio = beta[3:11], beta[1:3]
    assert parents.categorical == ("tumour", "site")
    kappa = level_prior(scm.fitted, 1).ratio
    known = beta[0] + sites.mean(axis=0) + bio[(new.obs["tumour"] == "tumour1").astype(int)]
    r = new.X - known
    left, unit = r - r.mean(axis=0), scm.fitted.error.moment[:16].sum(axis=0) / 96
    v = max(1.0, (left**2).sum() / 5 / unit.sum())
    u = r.mean(axis=0) * kappa / (kappa + v / 6)
    assert np.allclose(shift, sites[0] - sites.mean(axis=0) - u, atol=1e-9)


def test_shrinking_moves_from_the_mean_of_the_levels():
    cohort, new, _ = world(1)
    scm = EmbeddingSCM(SITE, unseen="shrink", assume="additive").fit(cohort)
    sites = scm.fitted.mean.coefficients[3:]
    moved, errors = scm.counterfactual(new, {"site": "site2"}, return_uncertainty=True)
    assert np.allclose(moved.X - new.X, sites[2] - sites.mean(axis=0), atol=1e-12)
    prior = level_prior(scm.fitted, 1)
    assert (errors.standard_error() ** 2 >= prior.variance - 1e-12).all()


def test_rows_at_known_levels_are_moved_as_ever():
    cohort, new, _ = world(2)
    whole = Cohort(np.concatenate([cohort.X, new.X]), pd.concat([cohort.obs, new.obs]))
    plain = EmbeddingSCM(SITE, assume="additive").fit(cohort).counterfactual(cohort, {"site": "site1"})
    for unseen in ("shrink", "adapt"):
        scm = EmbeddingSCM(SITE, unseen=unseen, assume="additive").fit(cohort)
        both, errors = scm.counterfactual(whole, {"site": "site1"}, return_uncertainty=True)
        assert np.array_equal(both.X[: len(cohort)], plain.X)
        alone = scm.counterfactual(cohort, {"site": "site1"}, return_uncertainty=True)[1]
        assert np.allclose(errors.standard_error(slice(0, 5)), alone.standard_error(slice(0, 5)), atol=1e-12)
        assert alone.unseen is None
        back = scm.counterfactual(both, {"site": "site3"}).X
        assert np.allclose(back, scm.counterfactual(whole, {"site": "site3"}).X, atol=1e-9)


def test_the_policy_is_stated_and_saved(tmp_path):
    cohort, new, _ = world(0)
    for unseen, word in (("shrink", "population"), ("adapt", "given tumour")):
        scm = EmbeddingSCM(SITE, unseen=unseen, assume="additive").fit(cohort)
        moved, errors = scm.counterfactual(new, {"site": "site0"}, return_uncertainty=True)
        note = moved.info["counterfactual"][-1]["unseen"]
        assert (note["policy"], note["levels"]) == (unseen, {"site": ["site8"]})
        assert word in note["assumption"]
        assert errors.unseen == note
        scm.save(tmp_path / "m.safetensors")
        again = EmbeddingSCM.load(tmp_path / "m.safetensors")
        assert again.unseen == unseen
        assert np.array_equal(again.counterfactual(new, {"site": "site0"}).X, moved.X)
        assert "unseen" not in scm.counterfactual(cohort, {"site": "site0"}).info["counterfactual"][-1]
    moved = scm.counterfactual(unlabelled(new), {"site": "site0"})
    assert "tumour" not in moved.obs
    assert "mix of tumour" in moved.info["counterfactual"][-1]["unseen"]["assumption"]


def test_a_class_that_was_made_up_is_not_moved():
    """Without labels a stand-in class served as the row's own where the class itself was to change."""
    cohort, new, _ = world(0)
    graph = CausalGraph("site -> tumour; {site, tumour} -> Z", biology="tumour", technical="site", group="patient")
    for which, do in ((graph, {"site": "site0"}), (SITE, {"tumour": "tumour1", "site": "site0"})):
        scm = EmbeddingSCM(which, unseen="adapt", assume="additive").fit(cohort)
        with pytest.raises(DataError, match="the intervention changes it"):
            scm.counterfactual(unlabelled(new), do)
        assert len(scm.counterfactual(new, do)) == len(new)


def test_a_new_level_can_be_set_only_once_it_was_learned():
    cohort, new, _ = world(0)
    whole = Cohort(np.concatenate([cohort.X, new.X]), pd.concat([cohort.obs, new.obs]))
    for unseen in ("refuse", "shrink"):
        scm = EmbeddingSCM(SITE, unseen=unseen, assume="additive").fit(cohort)
        with pytest.raises(DataError, match="never saw"):
            scm.counterfactual(whole if unseen == "shrink" else cohort, {"site": "site8"})
    scm = EmbeddingSCM(SITE, unseen="adapt", assume="additive").fit(cohort)
    there = scm.counterfactual(whole, {"site": "site8"})
    assert np.array_equal(there.X[-6:], new.X)
    again = scm.counterfactual(whole, {"site": "site0"}).X
    assert np.allclose(there.X[:3] - whole.X[:3], (new.X - again[-6:])[0], atol=1e-9)  # rows 0 to 2 are of site 0
    with pytest.raises(DataError, match="never saw"):
        scm.counterfactual(cohort, {"site": "site8"})


def test_to_a_learned_level_only_classes_that_were_seen_there():
    cohort, new, _ = world(0, prevalence=0.0)
    whole = Cohort(np.concatenate([cohort.X, new.X]), pd.concat([cohort.obs, new.obs]))
    scm = EmbeddingSCM(SITE, unseen="adapt").fit(cohort)
    with pytest.raises(DataError, match="site=site8 with tumour=tumour1"):
        scm.counterfactual(whole, {"site": "site8"})
    zeros = (whole.obs["tumour"] == "tumour0").to_numpy()
    assert len(scm.counterfactual(whole[zeros], {"site": "site8"})) == zeros.sum()


def test_scanners_of_a_new_hospital_follow():
    cohort, _ = scanned(n_patients=180)
    new, _ = scanned(5, n_patients=12)
    new = new.replace(obs=new.obs.assign(site="siteX", patient="n" + new.obs["patient"]))
    for unseen in ("shrink", "adapt"):
        scm = EmbeddingSCM(SCANNED, unseen=unseen, assume="additive").fit(cohort)
        moved = scm.counterfactual(new, {"site": "site0"})
        assert set(moved.obs["scanner"]) <= {"scanner0", "scanner1", "scanner2"}
        assert (moved.obs["scanner"] != new.obs["scanner"]).any()
        twice = scm.counterfactual(moved, {"site": "site1"})
        once = scm.counterfactual(new, {"site": "site1"})
        assert np.allclose(twice.X, once.X, atol=1e-9)
        assert twice.obs["scanner"].equals(once.obs["scanner"])
    fresh = new.replace(obs=new.obs.assign(scanner="scannerX"))
    assert set(scm.counterfactual(fresh, {"site": "site0"}).obs["scanner"]) > {
        "scanner0"
    }  # learned: all of one scanner
    shrunk = EmbeddingSCM(SCANNED, unseen="shrink", assume="additive").fit(cohort)
    with pytest.raises(DataError, match="scanner=scannerX was never seen"):
        shrunk.counterfactual(fresh, {"site": "site0"})
    assert len(shrunk.counterfactual(fresh, {"site": "site0", "scanner": "scanner0"})) == len(fresh)


def test_a_site_that_reaches_the_embedding_through_its_scanners_only_needs_no_prior():
    graph = CausalGraph(
        "site -> scanner; {scanner, tumour} -> Z; site <-> tumour",
        biology="tumour",
        technical=["site", "scanner"],
        group="patient",
    )
    cohort, _ = scanned(n_patients=90)
    new = cohort.replace(obs=cohort.obs.assign(site="siteX"))
    for unseen in ("shrink", "adapt"):
        scm = EmbeddingSCM(graph, unseen=unseen).fit(cohort)
        moved = scm.counterfactual(new, {"scanner": "scanner1"})
        assert np.array_equal(moved.X, scm.counterfactual(cohort, {"scanner": "scanner1"}).X)


def test_transport_keeps_the_shape_of_a_new_level():
    cohort, _ = stretched()
    new = cohort[cohort.obs["site"].to_numpy() == "s2"]
    new = new.replace(obs=new.obs.assign(site="sX"))
    scm = EmbeddingSCM(SITE, "optimal-transport", unseen="adapt").fit(cohort)
    moved = scm.counterfactual(new, {"site": "s0"})
    assert np.isfinite(moved.X).all()
    assert np.allclose(scm.counterfactual(new, {"site": "sX"}).X, new.X)


def test_a_stretch_is_learned_as_far_as_levels_differ():
    rng = np.random.default_rng(0)
    logs, variance = np.repeat(np.array([[-0.6], [0.0], [0.6]]), 4, axis=1), np.full((3, 4), 0.01)
    noise = ScaledNoise((np.vstack([logs, np.zeros(4)]),), (np.vstack([variance, np.full(4, 0.5)]),))
    squares = 4.0 * rng.chisquare(40, 50) / 40
    learned = stretch(noise, 0, 3, squares, 3)
    assert np.allclose(learned.logs[0][3], np.log(4.0), atol=0.1)
    assert (learned.variance[0][3] < noise.variance[0][3]).all()
    alike = ScaledNoise((np.zeros((4, 4)),), (variance[[0, 1, 2, 0]],))
    assert np.array_equal(stretch(alike, 0, 3, squares, 3).logs[0], np.zeros((4, 4)))
    assert stretch(noise, 0, 3, squares[:2], 3) is noise


def test_a_stretched_hospital_is_brought_to_scale():
    rng, errors = np.random.default_rng(1), {}
    n, sites = 400, 8
    site = np.arange(n) % sites
    stretches = np.exp(np.linspace(-0.5, 0.5, sites))
    noise = rng.standard_normal((n, D)) * SCALE
    obs = pd.DataFrame({"patient": [f"p{i}" for i in range(n)], "site": [f"s{s}" for s in site]})
    obs["tumour"] = [f"t{t}" for t in np.arange(n) // sites % 2]
    cohort, new = Cohort(noise * stretches[site][:, None], obs), (site == sites - 1)
    for unseen in ("shrink", "adapt"):
        scm = EmbeddingSCM(SITE, "location-scale", unseen=unseen).fit(cohort[~new])
        moved = scm.counterfactual(cohort[new], {"site": "s0"}).X
        errors[unseen] = ((moved - noise[new] * stretches[0]) ** 2).mean()
    assert errors["adapt"] < 0.5 * errors["shrink"]
