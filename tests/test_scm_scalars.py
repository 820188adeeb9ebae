"""Scalar nodes of the causal model: numbers that follow, and levels that owe something to a number."""

import random

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import softmax
from scm_samples import AGED, aged

from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.scm import EmbeddingSCM
from causalfm.scm.gcm_mechanisms import functional_model
from causalfm.scm.logistic import multinomial_logits

STAINED = CausalGraph(
    "site -> {stain, scanner}; stain -> scanner; age -> stain; {site, stain, tumour, scanner} -> Z",
    biology="tumour",
    technical=["site", "stain", "scanner"],
    covariates="age",
    group="patient",
)


def stained(seed=0, n_patients=120, rows=(1, 4), within=0.0, d=5):
    """Sites shift the stain, age bends it, and the scanner depends on both; ``within`` varies the stain by tile.

    Returns the cohort, its stain at the first site, and its embeddings there with the scanner kept.
    """
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(7)
    site, tumour = np.arange(n_patients) % 3, np.arange(n_patients) // 3 % 2
    age = rng.uniform(30, 80, n_patients)
    row = np.repeat(np.arange(n_patients), rng.integers(rows[0], rows[1] + 1, n_patients))
    noise = 0.4 * rng.standard_normal(n_patients)[row] + within * rng.standard_normal(len(row))
    level = np.array([1.0, 2.0, 3.0])

    def stain_at(s):
        return level[s] + 0.5 * ((age[row] - 55) / 25) ** 2 + noise

    luck = rng.random(n_patients)[row]

    def scanner_at(s):
        chance = softmax(np.stack([np.zeros(len(row)), stain_at(s) - 2.0 + 0.3 * (s == 1)], axis=1), axis=1)
        return (luck >= chance[:, 0]).astype(int)

    direction, shift = fixed.standard_normal(d), fixed.standard_normal((3, d))
    machine = fixed.standard_normal((2, d))
    own = rng.standard_normal((n_patients, d))[row] * 0.3

    def Z_at(s, scanner):
        return shift[s] + stain_at(s)[:, None] * direction + machine[scanner] + tumour[row][:, None] + own

    obs = pd.DataFrame({"patient": [f"p{g}" for g in row], "site": [f"s{s}" for s in site[row]]})
    obs = obs.assign(tumour=[f"t{t}" for t in tumour[row]], age=age[row], stain=stain_at(site[row]))
    obs = obs.assign(scanner=[f"m{c}" for c in scanner_at(site[row])])
    zero, seen = np.zeros(len(row), dtype=int), scanner_at(site[row])
    return Cohort(Z_at(site[row], seen), obs), stain_at(zero), Z_at(zero, seen)


def test_a_number_that_follows_is_found():
    cohort, stain, _ = stained(n_patients=300)
    moved = EmbeddingSCM(STAINED).fit(cohort).counterfactual(cohort, {"site": "s0"})
    before = cohort.obs["stain"] - stain
    error = moved.obs["stain"] - stain
    assert np.sqrt((error**2).mean()) < 0.1 * np.sqrt((before**2).mean())
    one = moved.obs.groupby("patient")["stain"].nunique()
    assert (one == 1).all(), "the stain belongs to the patient, whose rows stay alike"


def test_the_embedding_follows_the_numbers():
    cohort, _, wanted = stained(n_patients=300)
    rows = np.flatnonzero(cohort.obs["scanner"] == "m0")
    moved = EmbeddingSCM(STAINED).fit(cohort).counterfactual(cohort[rows], {"site": "s0", "scanner": "m0"})
    assert np.linalg.norm(moved.X - wanted[rows]) < 0.1 * np.linalg.norm(cohort.X[rows] - wanted[rows])


@pytest.mark.parametrize("within", [0.0, 0.3])
def test_own_value_is_the_identity_and_the_last_intervention_counts(within):
    cohort, _, _ = stained(within=within)
    scm = EmbeddingSCM(STAINED).fit(cohort)
    direct = scm.counterfactual(cohort, {"site": "s1"})
    own = (cohort.obs["site"] == "s1").to_numpy()
    assert np.array_equal(direct.X[own], cohort.X[own])
    for name in ("stain", "scanner"):
        assert direct.obs[name][own].equals(cohort.obs[name][own])
        assert not direct.obs[name][~own].equals(cohort.obs[name][~own])
    by_way = scm.counterfactual(scm.counterfactual(cohort, {"site": "s2"}), {"site": "s1"})
    np.testing.assert_allclose(by_way.X, direct.X, atol=1e-10)
    pd.testing.assert_frame_equal(by_way.obs, direct.obs, rtol=1e-12)
    set_ = scm.counterfactual(scm.counterfactual(cohort, {"stain": 2.0}), {"site": "s1"})
    assert (set_.obs["stain"] == 2.0).all(), "a number that was set stays set"
    assert set_.obs["noise:stain"].isna().all()


def test_fits_count_patients_and_not_rows():
    """Rows of patients repeated, more at one site: nothing changes, and gcm on one row each finds the same line."""
    cohort, _, _ = stained()
    scm = EmbeddingSCM(STAINED).fit(cohort)
    many = np.repeat(np.arange(len(cohort)), np.where(cohort.obs["site"] == "s0", 7, 1))
    repeated = Cohort(cohort.X[many], cohort.obs.iloc[many].reset_index(drop=True))
    again = EmbeddingSCM(STAINED).fit(repeated)
    for name in ("stain", "scanner"):
        one, two = scm.fitted.scalars[name], again.fitted.scalars[name]
        knots = one.mean.parents.knots
        grid = np.column_stack([[0.0, 1.0, 2.0], np.tile(knots[:, 0] + 0.3, (3, 1))])
        assert one.spread == pytest.approx(two.spread, rel=1e-9)
        np.testing.assert_allclose(one.predictions(grid), two.predictions(grid), atol=1e-5)
    from dowhy import gcm

    graph = CausalGraph("site -> stain; {site, stain, tumour} -> Z", biology="tumour", technical=["site", "stain"],
                        group="patient")  # fmt: skip
    stain = EmbeddingSCM(graph).fit(cohort).fitted.scalars["stain"]
    first = cohort.obs.drop_duplicates("patient")
    peer = gcm.AdditiveNoiseModel(gcm.ml.create_linear_regressor())
    peer.fit(first[["site"]].to_numpy(str), first["stain"].to_numpy())
    sites = np.array([["s0"], ["s1"], ["s2"]])
    np.testing.assert_allclose(
        stain.predictions(np.array([[0.0], [1.0], [2.0]])), peer.prediction_model.predict(sites), atol=1e-10
    )
    assert stain.spread == pytest.approx(
        peer.estimate_noise(first["stain"].to_numpy(), first[["site"]].to_numpy(str)).std(), rel=0.03
    )


def test_levels_follow_a_number():
    cohort, _, _ = stained(n_patients=900, rows=(1, 1))
    scm = EmbeddingSCM(STAINED).fit(cohort)
    node = scm.fitted.scalars["scanner"]
    moved = scm.counterfactual(cohort, {"site": "s0"})
    low = cohort.obs[(cohort.obs["site"] == "s0")]["scanner"].eq("m1").mean()
    assert moved.obs["scanner"].eq("m1").mean() == pytest.approx(low, abs=0.05)
    noise = moved.obs["noise:scanner"].to_numpy()
    assert stats.kstest(noise, "uniform").pvalue > 0.001
    causes = node.causes(cohort)
    assert np.array_equal(node.predict(noise, causes), node.seen(cohort))
    assert list(node.order) == [1, 0]  # levels cumulate from the most common one on, in gcm in the order of classes
    assert np.array_equal(functional_model(node).evaluate(causes, 1.0 - noise)[:, 0], cohort.obs["scanner"])


def test_a_class_follows_the_age():
    cohort, _ = aged(n_groups=400, rows_per_group=1)
    rng = np.random.default_rng(0)
    chance = 1 / (1 + np.exp(-(cohort.obs["age"] - 60) / 5))
    cohort = cohort.replace(obs=cohort.obs.assign(tumour=np.where(rng.random(400) < chance, "class1", "class0")))
    scm = EmbeddingSCM(AGED, assume="additive").fit(cohort)
    old, young = (scm.counterfactual(cohort, {"age": a}).obs["tumour"].eq("class1") for a in (70.0, 50.0))
    assert old.mean() == pytest.approx(1 / (1 + np.exp(-2)), abs=0.08)
    assert young.mean() == pytest.approx(1 / (1 + np.exp(2)), abs=0.08)
    assert (old | ~young).all(), "nobody has the class when young only"


def test_logits_are_the_shares_and_stay_finite():
    codes = np.repeat([0, 1, 2], [50, 30, 20])
    group = np.tile([0, 1], 50)
    group[codes == 2] = 1  # never seen in the first
    design = np.column_stack([np.ones(100), group == 0, group == 1]).astype(float)
    logits = multinomial_logits(design, codes, np.ones(100), 3)
    found = softmax(design @ logits, axis=1)
    np.testing.assert_allclose(found.mean(axis=0), [0.5, 0.3, 0.2], atol=1e-6)
    assert 0 < found[0, 2] < 0.03
    from sklearn.linear_model import LogisticRegression

    peer = LogisticRegression(C=2.5**2, tol=1e-10, max_iter=5000).fit(design[:, 1:], codes)
    np.testing.assert_allclose(found, peer.predict_proba(design[:, 1:]), atol=1e-5)


def test_draws_follow_the_numbers():
    cohort, _, _ = stained(n_patients=600, rows=(1, 1))
    scm = EmbeddingSCM(STAINED).fit(cohort)
    drawn = scm.interventional(4000, {"site": "s1"}, random_state=1)
    at = cohort.obs[cohort.obs["site"] == "s1"]
    assert drawn.obs["stain"].mean() == pytest.approx(at["stain"].mean(), abs=0.1)
    assert drawn.obs["stain"].std() == pytest.approx(at["stain"].std(), rel=0.15)
    assert drawn.obs["scanner"].eq("m1").mean() == pytest.approx(at["scanner"].eq("m1").mean(), abs=0.06)
    np.testing.assert_allclose(drawn.X.mean(axis=0), cohort.X[at.index].mean(axis=0), atol=0.35)
    assert set(scm.interventional(50, {"stain": 2.0}).obs["stain"]) == {2.0}


def test_global_generators_stay_untouched():
    cohort, _, _ = stained()
    np.random.seed(3)  # noqa: NPY002 - the state that must not move
    random.seed(3)
    before = np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    scm = EmbeddingSCM(STAINED).fit(cohort)
    scm.counterfactual(cohort, {"site": "s1"})
    scm.interventional(20, {"site": "s1"})
    assert np.array_equal(np.random.get_state()[1], before[0])  # noqa: NPY002
    assert random.getstate() == before[1]


def test_dowhy_is_asked_only_where_a_number_has_to_follow(monkeypatch):
    """Its import takes seconds."""
    monkeypatch.setattr("causalfm.scm.scalar_nodes.functional_model", lambda node: pytest.fail("dowhy was imported"))
    cohort, _ = aged()
    scm = EmbeddingSCM(AGED).fit(cohort)
    assert set(scm.fitted.scalars) == {"tumour"}, "the class owes something to the age"
    scm.counterfactual(cohort, {"site": "site0"})
    scm.interventional(10, {"site": "site0"})


def test_saved_and_read_again(tmp_path):
    cohort, _, _ = stained()
    scm = EmbeddingSCM(STAINED).fit(cohort)
    scm.save(tmp_path / "m.safetensors")
    again = EmbeddingSCM.load(tmp_path / "m.safetensors")
    one, two = (m.counterfactual(cohort, {"site": "s1"}) for m in (scm, again))
    assert np.array_equal(one.X, two.X)
    pd.testing.assert_frame_equal(one.obs, two.obs)
    assert np.array_equal(*(m.interventional(30, {"site": "s1"}).X for m in (scm, again)))


def test_names_and_row_order_do_not_matter():
    cohort, _, _ = stained()
    scm = EmbeddingSCM(STAINED)
    moved = scm.fit(cohort).counterfactual(cohort, {"site": "s1"})
    order = np.random.default_rng(0).permutation(len(cohort))
    shuffled = scm.fit(cohort[order]).counterfactual(cohort[order], {"site": "s1"})
    np.testing.assert_allclose(shuffled.X, moved.X[order], atol=1e-8)
    names = {"s0": "C", "s1": "A", "s2": "B", "m0": "y", "m1": "x"}
    obs = cohort.obs.assign(**{c: cohort.obs[c].map(names) for c in ("site", "scanner")})
    renamed = cohort.replace(obs=obs)
    np.testing.assert_allclose(scm.fit(renamed).counterfactual(renamed, {"site": "A"}).X, moved.X, atol=1e-8)


def test_refusals():
    cohort, _, _ = stained()
    scm = EmbeddingSCM(STAINED).fit(cohort)
    with pytest.raises(DataError, match="'stain' follows from site and is a number"):
        scm.contrast({"site": "s0"}, {"site": "s1"})
    moved = scm.counterfactual(cohort, {"site": "s0"})
    edited = moved.replace(obs=moved.obs.assign(stain=moved.obs["stain"] + 0.01))
    with pytest.raises(DataError, match="does not lead to the stain beside it"):
        scm.counterfactual(edited, {"site": "s1"})
    with pytest.raises(DataError, match="beyond what was seen"):
        scm.counterfactual(cohort, {"stain": 40.0})
    tied = CausalGraph(
        "site -> stain; scanner -> stain; {stain, tumour} -> Z",
        biology="tumour", technical=["site", "scanner", "stain"], group="patient",
    )  # fmt: skip
    same = cohort.replace(obs=cohort.obs.assign(scanner=cohort.obs["site"].map({"s0": "x", "s1": "y", "s2": "y"})))
    with pytest.raises(DataError, match=r"what stain would be in .* is not identified"):
        EmbeddingSCM(tied).fit(same).counterfactual(same, {"site": "s0"})


def test_row_intervals_hold_the_error_of_the_equation():
    """The site acts through two numbers alone: their errors add up in one dimension and cancel in another."""
    graph = CausalGraph("site -> stain -> blur; {stain, blur, tumour} -> Z", biology="tumour",
                        technical=["site", "stain", "blur"], group="patient")  # fmt: skip
    inside, known = [], []
    for seed in range(100):
        rng = np.random.default_rng(900_000 + seed)
        site, tumour, row = np.arange(60) % 2, np.arange(60) // 2 % 2, np.repeat(np.arange(60), 2)
        own, more = rng.standard_normal(60), rng.standard_normal(60)
        stain = 1.0 * site + own
        blur = 0.8 * stain + more
        Z = np.column_stack([stain + blur, stain - 2 * blur, tumour])[row] + 0.3 * rng.standard_normal((120, 3))
        obs = pd.DataFrame(
            {"patient": row.astype(str), "site": site[row].astype(str), "tumour": tumour[row].astype(str)}
        )
        cohort = Cohort(Z, obs.assign(stain=stain[row], blur=blur[row]))
        at = int(np.flatnonzero(obs["site"] == "0")[7])
        truth = Z[at] + np.array([1.0 + 0.8, 1.0 - 1.6, 0.0])
        scm = EmbeddingSCM(graph).fit(cohort)
        _, errors = scm.counterfactual(cohort, {"site": "1"}, return_uncertainty=True)
        low, high = errors.interval([at])
        inside.append((low[0] <= truth) & (truth <= high[0]))
        known.append(errors.standard_error([at])[0])
    low, high = stats.binom.ppf(0.0005, 100, 0.95) / 100, stats.binom.isf(0.0005, 100, 0.95) / 100
    covered = np.mean(inside, axis=0)
    assert ((covered >= low) & (covered <= high)).all(), covered
    assert np.mean(known, axis=0)[0] > 0.3, "the difference of two means of 30 patients"
