"""The causal model of embeddings: counterfactual rows against known equations."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scm_samples import AGED, SCANNED, SITE, aged, scanned, stretched

from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import linear_scm
from causalfm.errors import DataError, GraphError, NotIdentifiedError
from causalfm.graph import CausalGraph
from causalfm.scm import EmbeddingSCM

MECHANISMS = (
    "additive",
    "location-scale",
    "optimal-transport",
    "interaction",
    "interaction-location-scale",
    "random-effects",
)


def shared_noise_truth(cohort, truth, to):
    return cohort.X + truth.site[to] - truth.site[cohort.factor("site").codes]


def oracle(cohort, to):
    """Least squares with the true regressors: patients with equal weight, age linear."""
    site, tumour = cohort.factor("site"), cohort.factor("tumour")
    age = cohort.numeric("age")
    design = np.column_stack([np.eye(site.n_levels)[site.codes], tumour.codes, age - age.mean()])
    groups = cohort.factor("patient")
    root = np.sqrt(1.0 / groups.counts()[groups.codes])[:, None]
    found = np.linalg.lstsq(design * root, cohort.X * root, rcond=None)[0]
    return cohort.X + found[to] - found[site.codes]


# --- accuracy --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_error_is_at_most_a_tenth_above_oracle_least_squares(mechanism):
    errors = []
    for seed in range(12):
        cohort, truth = aged(seed)
        wanted = shared_noise_truth(cohort, truth, 2)
        moved = EmbeddingSCM(AGED, mechanism).fit(cohort).counterfactual(cohort, {"site": "site2"})
        errors.append([np.linalg.norm(z - wanted) for z in (moved.X, oracle(cohort, 2), cohort.X)])
    scm, best, nothing = np.mean(errors, axis=0)
    assert scm <= 1.1 * best
    assert best < 0.4 * nothing, "the cohorts are no challenge"


def test_additive_without_a_number_is_least_squares():
    cohort, _ = linear_scm(n_groups=60, d=5, rows_per_group=(1, 6), confounding=0.5, site_effect=1.0)
    codes = [cohort.factor(name).codes for name in ("site", "tumour")]
    design = np.column_stack([np.eye(4)[codes[0]], codes[1]])
    groups = cohort.factor("patient")
    root = np.sqrt(1.0 / groups.counts()[groups.codes])[:, None]
    found = np.linalg.lstsq(design * root, cohort.X * root, rcond=None)[0]
    moved = EmbeddingSCM(SITE).fit(cohort).counterfactual(cohort, {"site": "site1"})
    np.testing.assert_allclose(moved.X, cohort.X + found[1] - found[codes[0]], atol=1e-10)


def test_several_factors_at_once_and_one_after_the_other():
    cohort, (site, scanner, _) = scanned()
    scm = EmbeddingSCM(SCANNED).fit(cohort)
    moved = scm.counterfactual(cohort, {"site": "site1", "scanner": "scanner2"})
    assert set(moved.obs["site"]) == {"site1"}
    assert set(moved.obs["scanner"]) == {"scanner2"}
    truth = cohort.X + site[1] - site[cohort.factor("site").codes]
    truth += scanner[2] - scanner[cohort.factor("scanner").codes]
    assert np.linalg.norm(moved.X - truth) < 0.45 * np.linalg.norm(cohort.X - truth)
    step = scm.counterfactual(cohort, {"scanner": "scanner2"})
    both = scm.counterfactual(step, {"site": "site1"})  # a scanner that was set stays set
    np.testing.assert_allclose(both.X, moved.X, atol=1e-9)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_own_level_is_the_identity_and_the_last_intervention_counts(mechanism):
    cohort, _ = scanned()
    cohort = cohort.replace(X=cohort.X.astype(np.float32))
    scm = EmbeddingSCM(SCANNED, mechanism, assume="additive").fit(cohort)
    at_b = scm.counterfactual(cohort, {"site": "site1"})
    own = cohort.obs["site"].to_numpy() == "site1"
    assert at_b.X.dtype == np.float32
    assert np.abs(at_b.X[own] - cohort.X[own]).max() <= 1e-6
    assert at_b.obs[own]["scanner"].equals(cohort.obs[own]["scanner"])
    by_way_of_a = scm.counterfactual(scm.counterfactual(cohort, {"site": "site2"}), {"site": "site1"})
    np.testing.assert_allclose(by_way_of_a.X, at_b.X, atol=2e-6)  # float32: rounded once more on the way
    pd.testing.assert_frame_equal(by_way_of_a.obs, at_b.obs)
    exact = cohort.replace(X=cohort.X.astype(np.float64))
    one, two = (scm.counterfactual(c, {"site": "site1"}) for c in (exact, scm.counterfactual(exact, {"site": "site2"})))
    np.testing.assert_allclose(one.X, two.X, atol=1e-9)


# --- exogenous noise of the scanner ----------------------------------------------------------------------------------


def test_scanners_follow_the_site():
    cohort, _ = scanned(n_patients=600)
    moved = EmbeddingSCM(SCANNED).fit(cohort).counterfactual(cohort, {"site": "site0"})
    first = cohort.obs.drop_duplicates("patient").groupby("site")["scanner"].value_counts(normalize=True)
    now = moved.obs.drop_duplicates("patient")["scanner"].value_counts(normalize=True)
    for scanner in ("scanner0", "scanner1", "scanner2"):  # standard error of a share of 600: .02
        assert now[scanner] == pytest.approx(first["site0"][scanner], abs=0.07)
    assert (moved.obs.groupby("patient")["scanner"].nunique() == 1).all()
    kept = (moved.obs["scanner"] == cohort.obs["scanner"]).mean()
    assert 0.4 < kept < 0.95, "the noise is shared between sites, and the shares differ"


def test_edited_noise_is_refused():
    cohort, _ = scanned()
    scm = EmbeddingSCM(SCANNED).fit(cohort)
    moved = scm.counterfactual(cohort, {"site": "site0"})
    edited = moved.replace(obs=moved.obs.assign(scanner="scanner2"))
    with pytest.raises(DataError, match="does not lead to the scanner beside it"):
        scm.counterfactual(edited, {"site": "site1"})


# --- what must not matter --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_names_and_row_order_do_not_matter(mechanism):
    cohort, _ = scanned()
    scm = EmbeddingSCM(SCANNED, mechanism, assume="additive")
    moved = scm.fit(cohort).counterfactual(cohort, {"site": "site1"}).X
    order = np.random.default_rng(0).permutation(len(cohort))
    shuffled = cohort[order]
    np.testing.assert_allclose(scm.fit(shuffled).counterfactual(shuffled, {"site": "site1"}).X, moved[order], atol=1e-8)
    names = {"site0": "C", "site1": "A", "site2": "B", "scanner0": "y", "scanner1": "z", "scanner2": "x"}
    names |= {"tumour0": "n", "tumour1": "m"}
    obs = cohort.obs.assign(**{c: cohort.obs[c].map(names) for c in ("site", "scanner", "tumour")})
    renamed = cohort.replace(obs=obs)
    np.testing.assert_allclose(scm.fit(renamed).counterfactual(renamed, {"site": "A"}).X, moved, atol=1e-8)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_memory_map_equals_memory(mechanism, tmp_path):
    cohort, _ = aged(d=12)
    X = cohort.X.astype(np.float32)
    np.save(tmp_path / "X.npy", X)
    mapped = cohort.replace(X=np.load(tmp_path / "X.npy", mmap_mode="r"))
    assert isinstance(mapped.X, np.memmap)
    one, two = (
        EmbeddingSCM(AGED, mechanism).fit(c).counterfactual(c, {"site": "site0"}) for c in (cohort.replace(X=X), mapped)
    )
    assert np.array_equal(one.X, two.X)
    assert not isinstance(two.X, np.memmap)


@pytest.mark.parametrize("mechanism", ["additive", "optimal-transport", "interaction"])
def test_rotations_of_the_embedding_rotate_the_answer(mechanism):
    cohort, _ = stretched(d=10)
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((10, 10)))[0]
    turned = cohort.replace(X=cohort.X @ turn)
    scm = EmbeddingSCM(SITE, mechanism)
    one = scm.fit(cohort).counterfactual(cohort, {"site": "s0"}).X
    assert np.abs(one - cohort.X).max() > 0.5
    np.testing.assert_allclose(scm.fit(turned).counterfactual(turned, {"site": "s0"}).X, one @ turn, atol=1e-8)


def test_input_is_not_modified():
    cohort, _ = scanned()
    X, obs = cohort.X.copy(), cohort.obs.copy()
    EmbeddingSCM(SCANNED).fit(cohort).counterfactual(cohort, {"site": "site1"})
    assert np.array_equal(cohort.X, X)
    pd.testing.assert_frame_equal(cohort.obs, obs)


def test_blocks_and_patients_across_blocks_do_not_matter(monkeypatch):
    cohort, _ = aged(d=6)
    whole = EmbeddingSCM(AGED, "location-scale").fit(cohort)
    small = 8 * 6 * 7  # 7 rows at a time, patients of 5
    monkeypatch.setattr("causalfm.moments.ordered_blocks.__kwdefaults__", {"block_bytes": small})
    monkeypatch.setattr("causalfm.moments.weighted_products.__kwdefaults__", {"block_bytes": small})
    parts = EmbeddingSCM(AGED, "location-scale").fit(cohort)
    one, two = (
        scm.counterfactual(cohort, {"site": "site0"}, return_uncertainty=True)[1].standard_error()
        for scm in (whole, parts)
    )
    np.testing.assert_allclose(one, two, atol=1e-10)
    assert one.max() > 0.01


def peak_of(call):
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("rows_per_patient", [1, 40])
def test_memory_stays_below_the_size_of_the_data(rows_per_patient, tmp_path):
    n, d = 20_000, 512
    X = np.lib.format.open_memmap(tmp_path / "X.npy", mode="w+", dtype=np.float32, shape=(n, d))
    X[:] = np.random.default_rng(0).standard_normal(d, dtype=np.float32) * np.arange(n)[:, None] % 1.7
    patient = np.arange(n) // rows_per_patient
    columns = {"patient": patient, "site": patient % 5, "tumour": patient // 5 % 2}
    cohort = Cohort(X, pd.DataFrame({name: codes.astype(str).astype(object) for name, codes in columns.items()}))
    scm = EmbeddingSCM(SITE, "location-scale")
    assert peak_of(lambda: scm.fit(cohort)) < X.nbytes
    assert peak_of(lambda: scm.counterfactual(cohort, {"site": "0"})) < 2 * X.nbytes  # the answer is one X


# --- refusals --------------------------------------------------------------------------------------------------------


def test_site_that_is_the_biology_is_refused_with_the_table():
    cohort, _ = linear_scm(n_groups=40, n_sites=2, d=4)
    same = cohort.replace(obs=cohort.obs.assign(site=cohort.obs["tumour"].map({"class0": "A", "class1": "B"})))
    scm = EmbeddingSCM(SITE, assume="additive").fit(same)
    for ask in (
        lambda: scm.counterfactual(same, {"site": "A"}),
        lambda: scm.contrast({"site": "A"}, {"site": "B"}),
        lambda: scm.interventional(10, {"site": "A"}),
    ):
        with pytest.raises(DataError, match=r"not identified.*A: class0 20, class1 0; B: class0 0, class1 20"):
            ask()


def test_unseen_combinations_need_an_assumption():
    cohort, _ = linear_scm(n_groups=60, n_sites=3, d=4)
    keep = ~((cohort.obs["site"] == "site0") & (cohort.obs["tumour"] == "class1")).to_numpy()
    cohort = cohort[keep]
    with pytest.raises(DataError, match=r"fewer than 3 patients in the fit \(site=site0 with tumour=class1\)"):
        EmbeddingSCM(SITE).fit(cohort).counterfactual(cohort, {"site": "site0"})
    with pytest.raises(DataError, match="site=site0 holds fewer than 3 patients of tumour class1"):
        EmbeddingSCM(SITE).fit(cohort).contrast({"site": "site0"}, {"site": "site1"})
    both = (
        EmbeddingSCM(SITE)
        .fit(cohort)
        .contrast({"site": "site0", "tumour": "class0"}, {"site": "site1", "tumour": "class0"})
    )
    added = EmbeddingSCM(SITE, assume="additive").fit(cohort)
    np.testing.assert_allclose(both.difference, added.contrast({"site": "site0"}, {"site": "site1"}).difference)
    assert len(added.counterfactual(cohort, {"site": "site0"})) == len(cohort)


@pytest.mark.parametrize(
    ("do", "message"),
    [
        ({"site": "nowhere"}, "never saw this level"),
        ({"sitee": "site0"}, "Did you mean 'site'?"),
        ({}, "name at least one node"),
        ({"age": "old"}, "give a finite one"),
        ({"age": 300.0}, "beyond what was seen"),
        ({"Z": 1}, "no measured node"),
    ],
)
def test_interventions_that_cannot_be_answered(do, message):
    cohort, _ = aged()
    if "age" in do:  # age -> tumour would have to be followed
        graph = CausalGraph("{site, tumour, age} -> Z", biology="tumour", technical="site", group="patient")
    else:
        graph = AGED
    with pytest.raises((DataError, GraphError), match="(?s)" + message.replace("?", r"\?")):
        EmbeddingSCM(graph).fit(cohort).counterfactual(cohort, do)


def test_a_number_is_set():
    cohort, _ = aged(n_groups=400, age_effect=1.5)
    graph = CausalGraph("{site, tumour, age} -> Z", biology="tumour", technical="site", group="patient")
    moved = EmbeddingSCM(graph).fit(cohort).counterfactual(cohort, {"age": 60.0})
    slope = np.linalg.lstsq(
        np.column_stack([np.ones(len(cohort)), (cohort.numeric("age") - 60) / 10]), moved.X - cohort.X, rcond=None
    )[0][1]
    assert np.linalg.norm(slope) == pytest.approx(1.5, rel=0.15)
    assert set(moved.obs["age"]) == {60.0}


def test_levels_never_seen_are_refused_by_row():
    cohort, _ = aged()
    scm = EmbeddingSCM(AGED).fit(cohort)
    new = cohort.replace(obs=cohort.obs.assign(site=["elsewhere", *cohort.obs["site"][1:]]))
    with pytest.raises(DataError, match=r"never saw, in 1 rows \(row 0\): elsewhere"):
        scm.counterfactual(new, {"site": "site0"})
    with pytest.raises(DataError, match="never saw"):
        scm.log_likelihood(new)


def test_confounded_embedding_and_selection_are_refused():
    cohort, _ = aged()
    roles = {"biology": "tumour", "technical": "site", "group": "patient"}
    with pytest.raises(NotIdentifiedError, match="unmeasured common cause"):
        EmbeddingSCM(CausalGraph("{site, tumour, age} -> Z; site <-> Z", **roles)).fit(cohort)
    selected = CausalGraph("{site, tumour, age} -> Z; Z2 -> S; {site, Z2} -> Z", covariates=["age", "Z2"],
                           selected="S", **roles)  # fmt: skip
    obs = cohort.obs.assign(Z2=np.random.default_rng(0).standard_normal(len(cohort)))
    EmbeddingSCM(selected).fit(cohort.replace(obs=obs))  # selection by a parent of Z is harmless


def test_a_confounded_scanner_is_refused_only_where_it_follows():
    cohort, _ = scanned()
    graph = CausalGraph(
        "site -> scanner; site <-> scanner; {site, scanner, tumour, age} -> Z",
        biology="tumour",
        technical=["site", "scanner"],
        group="patient",
    )
    scm = EmbeddingSCM(graph).fit(cohort)
    with pytest.raises(NotIdentifiedError, match="what scanner owes to site"):
        scm.counterfactual(cohort, {"site": "site0"})
    assert len(scm.counterfactual(cohort, {"site": "site0", "scanner": "scanner0"})) == len(cohort)


def test_bad_arguments():
    cohort, _ = aged()
    with pytest.raises(DataError, match="Did you mean 'additive'"):
        EmbeddingSCM(AGED, "aditive")
    with pytest.raises(DataError, match="not fitted"):
        EmbeddingSCM(AGED).counterfactual(cohort, {"site": "site0"})
    scm = EmbeddingSCM(AGED).fit(cohort)
    with pytest.raises(DataError, match="X has 3 dimensions and the model 16"):
        scm.counterfactual(cohort.replace(X=cohort.X[:, :3]), {"site": "site0"})
    transport = EmbeddingSCM(AGED, "optimal-transport").fit(cohort)
    with pytest.raises(DataError, match="no intervals for rows"):
        transport.counterfactual(cohort, {"site": "site0"}, return_uncertainty=True)


def test_own_spelling_of_levels_is_kept():
    cohort, _ = aged()
    codes = cohort.factor("site").codes
    for column in (codes, pd.Categorical(codes), codes.astype(np.int16)):
        own = cohort.replace(obs=cohort.obs.assign(site=column))
        moved = EmbeddingSCM(AGED).fit(own).counterfactual(own, {"site": 2})
        assert moved.obs["site"].dtype == own.obs["site"].dtype
        assert (moved.obs["site"] == 2).all()


# --- intervals -------------------------------------------------------------------------------------------------------


def band(n, rate=0.95):
    return stats.binom.ppf(0.0005, n, rate) / n, stats.binom.isf(0.0005, n, rate) / n


@pytest.mark.parametrize("mechanism", ["additive", "interaction"])
def test_row_intervals_cover_under_shared_noise(mechanism):
    inside = []
    for seed in range(150):
        cohort, truth = aged(3_000 + seed, n_groups=48, d=4, rows_per_group=(1, 4), variance_by_site=1.0)
        wanted = shared_noise_truth(cohort, truth, 2)
        scm = EmbeddingSCM(AGED, mechanism).fit(cohort)
        _, errors = scm.counterfactual(cohort, {"site": "site2"}, return_uncertainty=True)
        row = int(np.flatnonzero(cohort.obs["site"] == "site0")[0])  # rows of a site share their error
        low, high = errors.interval([row])
        inside.append((low[0] <= wanted[row]) & (wanted[row] <= high[0]))
    low, high = band(150)  # dimensions are correlated: each is judged as if alone
    assert ((np.mean(inside, axis=0) >= low) & (np.mean(inside, axis=0) <= high)).all()


def test_contrast_intervals_cover_with_scanners_that_follow():
    inside = []
    for seed in range(150):
        rng = np.random.default_rng(50_000 + seed)
        G = 120
        site, tumour = np.arange(G) % 2, np.arange(G) // 2 % 2
        scanner = (rng.random(G) < np.array([0.25, 0.75])[site]).astype(int)
        Z = np.column_stack([site + 3.0 * scanner + tumour, 2.0 * scanner - site]) + rng.standard_normal((G, 2))
        obs = pd.DataFrame({"patient": np.arange(G).astype(str), "site": site.astype(str)})
        obs = obs.assign(tumour=tumour.astype(str), scanner=scanner.astype(str))
        graph = CausalGraph.standard(biology="tumour", technical=["site", "scanner"], group="patient")
        found = EmbeddingSCM(graph).fit(Cohort(Z, obs)).contrast({"site": "1"}, {"site": "0"})
        truth = np.array([1.0 + 3.0 * 0.5, 2.0 * 0.5 - 1.0])
        inside.append((found.low <= truth) & (truth <= found.high))
    low, high = band(150)
    assert ((np.mean(inside, axis=0) >= low) & (np.mean(inside, axis=0) <= high)).all()


def test_scaled_row_intervals_cover_where_sites_stretch():
    inside = []
    for seed in range(100):
        cohort, wanted = stretched(seed, n_patients=120)
        scm = EmbeddingSCM(SITE, "location-scale").fit(cohort)
        _, errors = scm.counterfactual(cohort, {"site": "s0"}, return_uncertainty=True)
        rows = [4, 8, 16]  # other sites, both classes
        low, high = errors.interval(rows)
        inside.append((low <= wanted[rows]) & (wanted[rows] <= high))
    assert 0.92 <= np.mean(inside) <= 0.98


def test_a_level_of_one_patient_has_no_interval():
    cohort, _ = linear_scm(n_groups=40, n_sites=2, d=3)
    first = (cohort.obs["patient"] == "p0").to_numpy()
    obs = cohort.obs.assign(site=np.where(first, "alone", cohort.obs["site"]))
    scm = EmbeddingSCM(SITE, assume="additive").fit(cohort.replace(obs=obs))
    found = scm.contrast({"site": "alone"}, {"site": "site1"})
    assert np.isinf(found.high).all()
    assert np.isfinite(scm.contrast({"site": "site0"}, {"site": "site1"}).high).all()
