"""Parts of the causal model against brute force and against the equations that drew the data."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scm_samples import AGED, SCANNED, SITE, aged, scanned, stretched

from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import linear_scm
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.scm import EmbeddingSCM
from causalfm.scm.cells import lay_out
from causalfm.scm.exogenous import luck_of, node_table
from causalfm.scm.parents import parents_of_embedding
from causalfm.scm.principal import directions, residual_sample
from causalfm.scm.regression import fit_mean
from causalfm.scm.residuals import leverages, residual_moments
from causalfm.scm.runs import lay_out_runs
from causalfm.scm.scales import shrink_logs, unit_noise


def parts(cohort, graph, *, crossed=False):
    parents = parents_of_embedding(cohort, graph, crossed=crossed)
    values = parents.read(cohort)
    cells = lay_out(values, cohort.factor("patient"), parents)
    mean, _ = fit_mean(cohort.X, parents, values, cells.row_weight)
    sample = residual_sample(cohort.X, mean, values, cells)
    basis, variance = directions(sample.residual, sample.weight, 3)
    runs = lay_out_runs(values, cells, parents)
    return parents, values, cells, mean, residual_moments(cohort.X, mean, runs, cells, basis, variance)


def error(mechanism, cohort, wanted, graph=SITE, to="s0"):
    moved = EmbeddingSCM(graph, mechanism).fit(cohort).counterfactual(cohort, {"site": to})
    return np.linalg.norm(moved.X - wanted) / np.linalg.norm(cohort.X - wanted)


def test_a_sample_holds_patients_of_all_sites_where_ids_begin_with_the_site():
    """The first 2,048 ids of 3,000 left out the last site altogether."""
    n = 3_000
    site = np.arange(n) // 1_000
    obs = pd.DataFrame({"patient": [f"{s}-{g:04d}" for g, s in enumerate(site)], "site": site.astype(str)})
    cohort = Cohort(np.random.default_rng(0).standard_normal((n, 2)), obs.assign(tumour=(np.arange(n) % 2).astype(str)))
    parents = parents_of_embedding(cohort, SITE, crossed=False)
    values = parents.read(cohort)
    cells = lay_out(values, cohort.factor("patient"), parents)
    mean, _ = fit_mean(cohort.X, parents, values, cells.row_weight)
    sample = residual_sample(cohort.X, mean, values, cells)
    assert len(sample.rows) == 2_048
    np.testing.assert_allclose(np.bincount(site[sample.rows]), 2_048 / 3, atol=3)


# --- errors of the coefficients --------------------------------------------------------------------------------------


@pytest.mark.parametrize("within", [False, True])
def test_variances_are_the_clustered_sandwich(within):
    """Scores of patients grown by their leverage, squared and summed: with splines, and with classes in patients."""
    cohort, _ = linear_scm(
        n_groups=30, d=3, rows_per_group=(2, 5), n_sites=2, age_effect=1.0, biology_within_group=within
    )
    parents, values, cells, mean, moments = parts(cohort, AGED)
    design = parents.rows(values)
    weight = 1.0 / cohort.factor("patient").counts()[cohort.factor("patient").codes]
    residual = cohort.X - design @ mean.coefficients
    groups = cohort.factor("patient").codes
    leverage = leverages(mean, cells)
    middle = np.zeros((3, parents.width, parents.width))
    for g in range(30):
        rows = groups == g
        for j in range(3):
            score = design[rows].T @ (weight[rows] * residual[rows, j])
            middle[j] += np.outer(score, score) / (1.0 - leverage[g])
    contrasts = np.random.default_rng(0).standard_normal((4, 30)) @ design[:30]
    wanted = np.einsum("ra,ab,jbc,cd,rd->rj", contrasts, mean.inverse, middle, mean.inverse, contrasts)
    np.testing.assert_allclose(moments.error.variance(contrasts), wanted, rtol=1e-9)
    if within:
        assert len(np.unique(cells.patient)) < len(cells.patient)


def test_two_sites_have_welchs_degrees_of_freedom():
    cohort, _ = linear_scm(n_groups=24, n_sites=2, groups_by_site=3.0, d=2, rows_per_group=1, biology_effect=0.0)
    cohort = cohort.replace(obs=cohort.obs.assign(tumour=np.where(np.arange(24) % 2, "a", "b")))
    graph = type(SITE)("site -> Z; tumour", biology="tumour", technical="site", group="patient")
    found = EmbeddingSCM(graph).fit(cohort).contrast({"site": "site1"}, {"site": "site0"})
    a, b = (cohort.X[(cohort.obs["site"] == s).to_numpy()] for s in ("site1", "site0"))
    variance = a.var(axis=0, ddof=1) / len(a) + b.var(axis=0, ddof=1) / len(b)
    np.testing.assert_allclose(found.standard_error**2, variance)
    na, nb = len(a), len(b)
    equal = (1 / na + 1 / nb) ** 2 / (1 / (na**2 * (na - 1)) + 1 / (nb**2 * (nb - 1)))  # variances alike
    np.testing.assert_allclose(found.high - found.difference, stats.t.ppf(0.975, equal) * np.sqrt(variance))


def test_moments_of_residuals_by_hand():
    cohort, _ = linear_scm(n_groups=40, d=4, rows_per_group=(1, 6), n_sites=2)
    _, values, cells, mean, moments = parts(cohort, SITE)
    residual = cohort.X - mean.parents.rows(values) @ mean.coefficients
    groups = cohort.factor("patient")
    square, product = np.zeros_like(moments.square), np.zeros_like(moments.product)
    for g in range(40):
        rows = groups.codes == g
        cell = int(np.flatnonzero((cells.levels == values.levels[rows][0]).all(axis=1))[0])
        grow = 1.0 / (1.0 - leverages(mean, cells)[g]) - 1.0
        own = residual[rows].mean(axis=0)
        second = residual[rows].T @ residual[rows] / rows.sum() + grow * np.outer(own, own)
        square[cell] += np.diag(second)
        product[cell] += moments.basis.T @ second @ moments.basis
    np.testing.assert_allclose(moments.square, square)
    np.testing.assert_allclose(moments.product, product, atol=1e-12)
    assert moments.count.sum() == pytest.approx(40)


def test_spread_of_patients_tells_how_much_a_row_is_worth():
    alike = linear_scm(n_groups=3000, d=5, rows_per_group=4, noise=1e-9)[0]
    single = linear_scm(n_groups=3000, d=5, rows_per_group=1)[0]
    many = linear_scm(n_groups=3000, d=5, rows_per_group=10, group_effect=1e-9)[0]
    for cohort, wanted in ((alike, 2.0), (single, 2.0), (many, 0.2)):  # variance of a chi-squared over its square
        assert parts(cohort, SITE)[4].spread == pytest.approx(wanted, rel=0.1)


def test_spread_of_patients_is_known_where_cells_hold_few():
    """Forty hospitals, four patients of each class: squares of the cells' means hold a quarter of the variance too."""
    rng = np.random.default_rng(0)
    codes = np.arange(320)
    obs = pd.DataFrame({"patient": codes.astype(str), "site": (codes % 40).astype(str)})
    cohort = Cohort(rng.standard_normal((320, 200)), obs.assign(tumour=(codes // 40 % 2).astype(str)))
    assert parts(cohort, SITE)[4].spread == pytest.approx(2.0, rel=0.15)  # 1.26 if that is left in


# --- scales ----------------------------------------------------------------------------------------------------------


def test_scales_of_sites_are_found():
    cohort, wanted = stretched(n_patients=600)
    assert error("location-scale", cohort, wanted) < 0.6 * error("additive", cohort, wanted)


def test_scales_are_shrunken_where_there_are_none():
    cohort, truth = aged(n_groups=40, d=64)
    scm = EmbeddingSCM(AGED, "location-scale").fit(cohort)
    raw = [np.log(cohort.X[cohort.factor("site").codes == s].var(axis=0)) for s in range(4)]
    assert np.std(scm.fitted.noise.logs[scm.fitted.mean.parents.categorical.index("site")]) < 0.2 * np.std(raw)
    wanted = cohort.X + truth.site[0] - truth.site[cohort.factor("site").codes]
    scaled = error("location-scale", cohort, wanted, AGED, "site0")
    assert scaled < 1.05 * error("additive", cohort, wanted, AGED, "site0")


def test_shrinkage_is_the_normal_mean_problem():
    """Levels of ten thousand dimensions: the best share of the raw logs is signal over signal and noise."""
    rng = np.random.default_rng(0)
    true = 0.3 * rng.standard_normal((8, 10_000))
    patients = np.repeat([10.0, 40.0], 4)
    raw = true + np.sqrt(2.0 / patients)[:, None] * rng.standard_normal(true.shape)
    raw -= raw.mean(axis=1, keepdims=True)
    raw -= patients @ raw / patients.sum()
    (noise,) = unit_noise(patients, np.arange(8)[:, None], [8])
    np.testing.assert_allclose(noise, 1 / patients - 1 / patients.sum())
    shrunken, variance = shrink_logs(raw, patients, noise, 2.0, 0.0)
    share = 0.09 / (0.09 + 2.0 * noise)
    np.testing.assert_allclose((shrunken * raw).sum(axis=1) / (raw**2).sum(axis=1), share, rtol=0.05)
    np.testing.assert_allclose(variance[:, 0], share * 2.0 / patients, rtol=0.05)


def test_a_spread_that_confounded_factors_share_is_not_believed():
    """A hospital with one patient of the second class: its spread is known as far as the class's is elsewhere."""
    levels = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    alone = unit_noise(np.array([50.0, 50.0, 50.0, 50.0]), levels, [2, 2])
    tied = unit_noise(np.array([99.0, 1.0, 1.0, 99.0]), levels, [2, 2])
    np.testing.assert_allclose(alone, 1 / 200)
    rho = 0.98  # correlation of the two factors; variance inflation 1 / (1 - rho**2)
    np.testing.assert_allclose(tied, 1 / 200 / (1 - rho**2))


# --- transport -------------------------------------------------------------------------------------------------------


def turned(n_patients, turn, seed=0):
    cohort, wanted = stretched(seed, n_patients=n_patients)
    return cohort.replace(X=cohort.X @ turn), wanted @ turn


def test_transport_finds_shapes_in_any_direction():
    turn = np.linalg.qr(np.random.default_rng(5).standard_normal((6, 6)))[0]
    cohort, wanted = turned(900, turn)
    transport = error("optimal-transport", cohort, wanted)
    assert transport < 0.7 * error("additive", cohort, wanted)
    assert transport < 0.8 * error("location-scale", cohort, wanted)


def test_transport_matches_means_and_covariances():
    cohort, _ = stretched(
        n_patients=3000, shapes=list(np.eye(6) + 0.4 * np.random.default_rng(2).standard_normal((3, 6, 6)))
    )
    moved = EmbeddingSCM(SITE, "optimal-transport").fit(cohort).counterfactual(cohort, {"site": "s0"})
    centred = moved.X - 0.7 * cohort.factor("tumour").codes[:, None]
    site = cohort.factor("site").codes
    own = np.cov(centred[site == 0].T)
    before = cohort.X - 0.7 * cohort.factor("tumour").codes[:, None]
    for s in (1, 2):
        far = np.linalg.norm(np.cov(before[site == s].T) - own)
        assert np.linalg.norm(np.cov(centred[site == s].T) - own) < 0.12 * far


def test_transport_in_one_dimension_is_location_scale():
    cohort, _ = stretched(n_patients=2000, d=1)
    one, two = (
        EmbeddingSCM(SITE, m).fit(cohort).counterfactual(cohort, {"site": "s0"}).X
        for m in ("optimal-transport", "location-scale")
    )
    np.testing.assert_allclose(one, two, rtol=0.04, atol=0.01)
    assert np.abs(one - cohort.X).max() > 1.0


def test_few_patients_keep_transport_near_the_identity():
    cohort, truth = aged(n_groups=40, d=64)
    wanted = cohort.X + truth.site[0] - truth.site[cohort.factor("site").codes]
    found = error("optimal-transport", cohort, wanted, AGED, "site0")
    assert found < 1.05 * error("additive", cohort, wanted, AGED, "site0")


# --- interactions ----------------------------------------------------------------------------------------------------


def crossed(seed, strength, n_patients=240, d=8):
    rng = np.random.default_rng(seed)
    site, tumour = np.arange(n_patients) % 3, np.arange(n_patients) // 3 % 2
    main, both = rng.standard_normal((3, d)), strength * rng.standard_normal((3, 2, d))
    Z = main[site] + both[site, tumour] + rng.standard_normal((n_patients, d))
    obs = pd.DataFrame({"patient": np.arange(n_patients).astype(str), "site": [f"s{s}" for s in site]})
    obs["tumour"] = [f"t{t}" for t in tumour]
    return Cohort(Z, obs), Z + main[0] - main[site] + both[0, tumour] - both[site, tumour]


def test_interactions_are_found_and_shrunken():
    with_, without = [], []
    for seed in range(10):
        cohort, wanted = crossed(seed, 1.0)
        with_.append([error(m, cohort, wanted) for m in ("interaction", "additive")])
        cohort, wanted = crossed(seed, 0.0)
        without.append([error(m, cohort, wanted) for m in ("interaction", "additive")])
    there, additive = np.mean(with_, axis=0)
    assert there < 0.5 * additive
    absent, additive = np.mean(without, axis=0)
    assert absent < 1.1 * additive


def test_intervals_of_shrunken_interactions_cover():
    """At a strength where shrinkage is strongest against what it shrinks: its bias belongs to the error."""
    inside = []
    for seed in range(150):
        cohort, wanted = crossed(seed, 0.2, n_patients=90, d=6)
        scm = EmbeddingSCM(SITE, "interaction").fit(cohort)
        _, errors = scm.counterfactual(cohort, {"site": "s0"}, return_uncertainty=True)
        low, high = errors.interval([4, 8])
        inside.append((low <= wanted[[4, 8]]) & (wanted[[4, 8]] <= high))
    assert 0.925 <= np.mean(inside) <= 0.97  # 1,800 intervals in 150 cohorts


def test_interactions_and_scales_together():
    both, alone = [], []
    for seed in range(3):
        cohort, wanted = crossed(seed, 1.0, n_patients=300)
        scale = np.exp(0.5 * np.random.default_rng(77).standard_normal((3, 8)))
        site, extra = cohort.factor("site").codes, 1.5 * np.random.default_rng(seed + 9).standard_normal(cohort.X.shape)
        cohort, wanted = cohort.replace(X=cohort.X + extra * scale[site]), wanted + extra * scale[0]
        both.append(error("interaction-location-scale", cohort, wanted))
        alone.append([error(m, cohort, wanted) for m in ("interaction", "location-scale")])
    assert np.mean(both) < 0.9 * np.mean(alone, axis=0).min()


# --- exogenous noise -------------------------------------------------------------------------------------------------


def test_noise_leads_back_to_what_was_seen_and_is_uniform():
    cohort, _ = scanned(n_patients=900)
    groups, scanner, site = (cohort.factor(n) for n in ("patient", "scanner", "site"))
    table = node_table(scanner, [site], groups)
    noise = table.abduct(scanner.codes, site.codes[:, None], luck_of("scanner", groups, 0))
    assert np.array_equal(table.predict(noise, site.codes[:, None]), scanner.codes)
    per_patient = noise[np.unique(groups.codes, return_index=True)[1]]
    assert stats.kstest(per_patient, "uniform").pvalue > 0.001
    other = table.abduct(scanner.codes, site.codes[:, None], luck_of("scanner", groups, 1))
    assert not np.allclose(noise, other)


def test_a_level_never_seen_under_its_parents_is_refused():
    cohort, _ = scanned()
    keep = ~((cohort.obs["site"] == "site0") & (cohort.obs["scanner"] == "scanner2")).to_numpy()
    scm = EmbeddingSCM(SCANNED).fit(cohort[keep])
    with pytest.raises(DataError, match="scanner=scanner2 was never seen with the site of"):
        scm.counterfactual(cohort, {"site": "site1"})


# --- draws and densities ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", ["additive", "location-scale", "optimal-transport", "interaction"])
def test_log_likelihood_is_the_gaussian_density(mechanism):
    cohort, _ = stretched(n_patients=1500, d=4)
    scm = EmbeddingSCM(SITE, mechanism).fit(cohort)
    density, noise = scm.fitted.density, scm.fitted.noise
    values = scm.fitted.mean.parents.read(cohort)
    residual = cohort.X - scm.fitted.mean.parents.rows(values) @ scm.fitted.mean.coefficients
    rows = values.levels[:, 1] == 1
    whitened = residual[rows] - 0.0
    spread = (density.basis * density.inside) @ density.basis.T
    unit = np.eye(4) + noise.colour(np.eye(4), np.array([values.levels[rows][0, 0], 1]))  # rows: images of dimensions
    first = values.levels[rows][:, 0] == values.levels[rows][0, 0]
    wanted = stats.multivariate_normal(np.zeros(4), unit.T @ spread @ unit).logpdf(whitened[first])
    np.testing.assert_allclose(scm.log_likelihood(cohort)[np.flatnonzero(rows)[first]], wanted, rtol=1e-6)
    far = cohort.replace(X=cohort.X + np.where(np.arange(1500) == 7, 30.0, 0.0)[:, None])
    assert scm.log_likelihood(far).argmin() == 7


@pytest.mark.parametrize("mechanism", ["location-scale", "optimal-transport"])
def test_draws_have_the_mean_and_the_covariance_of_the_level(mechanism):
    cohort, _ = stretched(n_patients=1500, d=4)
    scm = EmbeddingSCM(SITE, mechanism).fit(cohort)
    drawn, other = (scm.interventional(20_000, {"site": s}, random_state=3) for s in ("s1", "s0"))
    found = scm.contrast({"site": "s1"}, {"site": "s0"}).difference
    np.testing.assert_allclose(drawn.X.mean(axis=0) - other.X.mean(axis=0), found, atol=0.12)
    own = cohort.X[cohort.factor("site").codes == 1]
    np.testing.assert_allclose(np.cov(drawn.X.T), np.cov(own.T), atol=0.2 * np.cov(own.T).max())
    assert set(drawn.obs["site"]) == {"s1"}
    assert drawn.obs["tumour"].value_counts(normalize=True).to_dict() == pytest.approx({"t0": 0.5, "t1": 0.5}, abs=0.02)


def test_draws_follow_the_graph():
    cohort, _ = scanned(n_patients=300)
    scm = EmbeddingSCM(SCANNED).fit(cohort)
    drawn = scm.interventional(5000, {"site": "site2"})
    at = cohort.obs[cohort.obs["site"] == "site2"]["scanner"].value_counts(normalize=True)
    assert drawn.obs["scanner"].value_counts(normalize=True).to_dict() == pytest.approx(at.to_dict(), abs=0.03)
    assert drawn.obs["age"].std() == pytest.approx(cohort.obs["age"].std(), rel=0.1)
    assert np.array_equal(drawn.X, scm.interventional(5000, {"site": "site2"}).X)


def test_draws_fit_the_graph_that_they_were_drawn_from():
    """Only the coarsest unit had a column: what takes the graph refused the draws for the others."""
    cohort, _ = scanned(n_patients=90)
    roles = {"biology": "tumour", "technical": ["site", "scanner"], "covariates": "age"}
    graph = CausalGraph.standard(**roles, group=["slide", "patient"], specimen="tissue")
    rows = np.arange(len(cohort)).astype(str)
    cohort = cohort.replace(obs=cohort.obs.assign(slide=rows, tissue=rows))
    drawn = EmbeddingSCM(graph).fit(cohort).interventional(40)
    graph.check(drawn)
    assert [drawn.obs[unit].nunique() for unit in ("tissue", "slide", "patient")] == [40] * 3
