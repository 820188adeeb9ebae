"""What an undeclared cause could do: published tables, peers on the same regression, planted causes."""

import itertools
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

import causalfm as cfm
from causalfm.cohort import Cohort
from causalfm.confidence import using_alpha
from causalfm.datasets.linear_scm import linear_scm
from causalfm.errors import DataError
from causalfm.estimators import e_value, effect, robustness_value, scalar_robustness_value, scalar_sensitivity
from causalfm.estimators.robustness.bias_bounds import Strength, adjusted, bias_factor, e_values
from causalfm.estimators.robustness.observed_strength import ALL, observed_strengths
from causalfm.graph import CausalGraph

GRAPH = CausalGraph.standard(biology="tumour", technical="site", group="patient")
DARFUR = {"value": 0.09731582, "error": 0.02325654, "df": 783.0}  # Cinelli and Hazlett 2020; R package sensemakr


# --- published numbers ------------------------------------------------------------------------------------------------


def test_darfur() -> None:
    assert scalar_robustness_value(4.184, 783) == pytest.approx(0.139, abs=5e-4)
    assert scalar_robustness_value(4.184, 783, alpha=0.05) == pytest.approx(0.076, abs=5e-4)
    found = scalar_sensitivity(**DARFUR, pair=("harmed", "not"), outcome="peace", unit="person")
    assert found.robustness_value == pytest.approx(0.139, abs=5e-4)
    assert found.robustness_value_low == pytest.approx(0.076, abs=5e-4)
    assert found.details["partial_r2"] == pytest.approx(0.022, abs=5e-4)
    assert "explain 14% of what is left of both harmed against not and peace, person by person" in found.sentence


@pytest.mark.parametrize(
    ("d", "y", "value", "error", "low", "high"),
    [
        (0.0092, 0.1246, 0.0752, 0.0219, 0.0323, 0.1182),  # 1, 2, 3 times as strong as the column female
        (0.0183, 0.2493, 0.0529, 0.0204, 0.0130, 0.0929),
        (0.0275, 0.3741, 0.0304, 0.0187, -0.0063, 0.0670),
    ],
)
def test_darfur_benchmarks(d: float, y: float, value: float, error: float, low: float, high: float) -> None:
    left = adjusted(*DARFUR.values(), d, y)
    assert [left[k] for k in ("value", "error", "low", "high")] == pytest.approx([value, error, low, high], abs=1e-4)


def test_darfur_times_as_strong() -> None:
    """The published strengths at 1 give those at 2 and 3."""
    share = 0.00916428 / 1.00916428
    overlap = share**2 / (1 - share) ** 2
    odds = 0.1246409 / ((1 + np.sqrt(overlap)) / np.sqrt(1 - overlap)) ** 2
    for k, (d, y) in zip((1, 2, 3), ((0.0092, 0.1246), (0.0183, 0.2493), (0.0275, 0.3741)), strict=True):
        assert Strength(share, odds).times(k) == pytest.approx((d, y), abs=1e-4)


def test_a_cause_too_strong_is_bounded_by_nothing() -> None:
    assert Strength(0.5, 0.1).times(1.0) == (1.0, 1.0)
    assert Strength(1.0, 0.1).times(0.5) == (1.0, 1.0)
    assert Strength(0.1, 30.0).times(1.0)[1] == 1.0
    assert bias_factor(1.0, 0.2) == np.inf
    assert bias_factor(1.0, 0.0) == 0.0
    assert adjusted(1.0, 0.1, 50.0, 1.0, 0.5)["low"] == -np.inf
    with pytest.raises(DataError, match="between 0 and 1"):
        bias_factor(1.2, 0.1)


def test_robustness_value_beyond_the_bend() -> None:
    """Where the interval shrinks too: the least equal share that lets the adjusted interval reach 0, by search."""
    for t, df in ((4.184, 783.0), (40.0, 20.0), (2.5, 8.0), (1.0, 50.0)):
        r, y = np.meshgrid(np.linspace(0, 0.999, 2000), np.linspace(0, 1, 200), indexing="ij")
        y = y * r  # a cause that explains less of the outcome leaves a wider interval
        left = t - np.sqrt(df) * bias_factor(r, y)
        left -= stats.t.isf(0.025, df - 1) * np.sqrt((1 - y) / (1 - r) * df / (df - 1))
        reached = r[:, 0][(left <= 0).any(axis=1)][0]
        assert scalar_robustness_value(t, df, alpha=0.05) == pytest.approx(reached, abs=2e-3)


def test_e_values() -> None:
    assert e_value(3.9) == pytest.approx(7.26, abs=5e-3)  # VanderWeele and Ding 2017
    assert e_value(1.0) == 1.0
    assert e_value(2.0) == e_value(0.5) == pytest.approx(3.4142, abs=1e-4)
    value, limit = e_values(-0.4, -0.9, 0.1, deviation=2.0)
    assert value == pytest.approx(e_value(np.exp(0.91 * 0.2)))
    assert limit == 1.0
    assert e_values(0.4, 0.1, 0.9, deviation=2.0)[1] == pytest.approx(e_value(np.exp(0.91 * 0.05)))
    assert e_values(0.29, 0.1, 0.5, baseline=0.1) == pytest.approx((e_value(3.9), e_value(2.0)))
    assert e_values(-0.1, -0.12, -0.05, baseline=0.1) == pytest.approx((np.inf, e_value(0.5)))
    with pytest.raises(DataError, match="above 0"):
        e_value(0.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: scalar_robustness_value(2.0, 1.0), "df above 1"),
        (lambda: scalar_robustness_value(2.0, 9.0, alpha=1.5), "alpha in"),
        (lambda: scalar_sensitivity(1.0, 0.0, 9, pair=("a", "b"), outcome="y"), "error=0.0"),
        (lambda: scalar_sensitivity(np.nan, 1.0, 9, pair=("a", "b"), outcome="y"), "value=nan"),
        (
            lambda: scalar_sensitivity(
                1.0, 1.0, 9, pair=("a", "b"), outcome="y", times=[-1], strengths={"x": Strength(0.1, 0.1)}
            ),
            "times=-1",
        ),
    ],
)
def test_arguments(call, message: str) -> None:
    with pytest.raises(DataError, match=message):
        call()


# --- peers on the same regression -------------------------------------------------------------------------------------


def regression(seed: int = 0, n: int = 150):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 3)) @ np.array([[1, 0.4, 0], [0, 1, 0.2], [0, 0, 1]])
    D = (X @ [0.5, 0.3, 0] + rng.standard_normal(n) > 0).astype(float)
    Y = 0.7 * D + X @ [0.8, -0.2, 0.4] + rng.standard_normal(n)
    return X, D, Y


def test_strengths_are_those_of_statsmodels() -> None:
    X, D, Y = regression()
    columns = {"a": X[:, :1], "pair": X[:, 1:]}
    found = observed_strengths(D, Y[:, None], columns)
    for name, others in (("a", X[:, 1:]), ("pair", X[:, :1]), (ALL, X[:, :0])):
        d_full, d_less = (sm.OLS(D, sm.add_constant(x) if x.size else np.ones(len(D))).fit() for x in (X, others))
        y_full, y_less = (sm.OLS(Y, np.column_stack([np.ones(len(D)), D, x])).fit() for x in (X, others))
        assert found[name].r2_treatment == pytest.approx(1 - d_full.ssr / d_less.ssr)
        assert found[name].odds_outcome == pytest.approx(y_less.ssr / y_full.ssr - 1)


def test_a_vector_of_traces_is_the_sum_of_its_dimensions() -> None:
    X, D, Y = regression()
    both = np.stack([Y, 3 * Y[::-1]], axis=1)
    found = observed_strengths(D, both, {"a": X[:, :1], "b": X[:, 1:2]})["a"]
    left = [sm.OLS(y, np.column_stack([np.ones(150), D, X[:, :2]])).fit().ssr for y in both.T]
    less = [sm.OLS(y, np.column_stack([np.ones(150), D, X[:, 1]])).fit().ssr for y in both.T]
    assert found.odds_outcome == pytest.approx(sum(less) / sum(left) - 1)


def test_dowhy_linear_sensitivity() -> None:
    from dowhy.causal_refuters.linear_sensitivity_analyzer import LinearSensitivityAnalyzer

    X, D, Y = regression()
    fit = sm.OLS(
        pd.Series(Y), pd.DataFrame(np.column_stack([np.ones(150), D, X]), columns=["const", "x1", "x2", "x3", "x4"])
    ).fit()
    frame = pd.DataFrame(X, columns=["a", "b", "c"]).assign(D=D)
    peer = LinearSensitivityAnalyzer(
        estimator=SimpleNamespace(model=fit, _observed_common_causes=frame[["a", "b", "c"]]),
        data=frame,
        treatment_name=["D"],
        benchmark_common_causes=["b"],
        frac_strength_treatment=[1.0, 2.0, 3.0],
        frac_strength_outcome=[1.0, 2.0, 3.0],
        common_causes_order=["a", "b", "c"],
    ).check_sensitivity(plot=False)
    strengths = observed_strengths(D, Y[:, None], {"a": X[:, :1], "b": X[:, 1:2], "c": X[:, 2:]})
    ours = scalar_sensitivity(
        fit.params["x1"], fit.bse["x1"], fit.df_resid, pair=("1", "0"), outcome="y", strengths=strengths
    )
    assert ours.robustness_value == pytest.approx(peer.stats["robustness_value"])
    assert ours.robustness_value_low == pytest.approx(peer.stats["robustness_value_alpha"])
    assert ours.details["partial_r2"] == pytest.approx(peer.stats["r2yt_w"])
    rows = [row for row in ours.benchmarks if row["column"] == "b"]
    for theirs, name in (
        ("r2tu_w", "r2_treatment"),
        ("r2yu_tw", "r2_outcome"),
        ("bias_adjusted_estimate", "value"),
        ("bias_adjusted_se", "error"),
    ):
        assert [row[name] for row in rows] == pytest.approx(peer.benchmarking_results[theirs].tolist())


def test_dowhy_e_value() -> None:
    from dowhy.causal_refuters.evalue_sensitivity_analyzer import EValueSensitivityAnalyzer

    peer = EValueSensitivityAnalyzer.__new__(EValueSensitivityAnalyzer)
    theirs = peer._evalue_MD(est=0.5, se=0.1, no_effect_baseline=0)
    value, limit = e_values(1.0, 1.0 - 2 * 1.78 / 0.91 * 0.1, 1.0 + 2 * 1.78 / 0.91 * 0.1, deviation=2.0)
    assert value == pytest.approx(theirs["evalue_estimate"])
    assert limit == pytest.approx(theirs["evalue_lower_ci"])


# --- planted causes ---------------------------------------------------------------------------------------------------


def plant(D: np.ndarray, Y: np.ndarray, X: np.ndarray, d: float, y: float, rng) -> np.ndarray:
    """A column with partial R2 ``d`` with D given X and ``y`` with Y given both, which hides some of the effect."""

    def off(v: np.ndarray, *given: np.ndarray) -> np.ndarray:
        left = v - (basis := np.linalg.qr(np.column_stack([np.ones(len(v)), X, *given]))[0]) @ (basis.T @ v)
        return left / np.linalg.norm(left)

    noise = off(rng.standard_normal(len(D)), D, Y)
    sign = np.sign(off(D) @ off(Y))
    return sign * np.sqrt(d) * off(D) + np.sqrt(1 - d) * (np.sqrt(y) * off(Y, D) + np.sqrt(1 - y) * noise)


@pytest.mark.parametrize("share", [0.5, 0.9, 1.0, 1.1, 1.5])
def test_a_planted_cause_overturns_beyond_the_robustness_value_only(share: float) -> None:
    X, D, Y = regression(seed=3)
    short = sm.OLS(Y, np.column_stack([np.ones(150), D, X])).fit()
    told = scalar_sensitivity(short.params[1], short.bse[1], short.df_resid, pair=("1", "0"), outcome="y")
    r = share * told.robustness_value
    U = plant(D, Y, X, r, r, np.random.default_rng(0))
    long = sm.OLS(Y, np.column_stack([np.ones(150), D, X, U])).fit()
    left = told.at(r, r)
    assert (long.params[1], long.bse[1]) == pytest.approx((left["value"], left["error"]), rel=1e-6, abs=1e-9)
    if share != 1.0:
        assert bool(long.params[1] > 0) is (share < 1.0)
    else:
        assert abs(long.params[1]) < 1e-9


def hidden_cause(seed: int, *, site: float, cause: float, lean: float):
    """``linear_scm`` with a cause of site and embedding that the table keeps; returns also its direction's norm."""
    cohort, _ = linear_scm(
        n_groups=400, rows_per_group=1, d=6, n_sites=2, site_effect=0.0, biology_effect=1.0, random_state=seed
    )
    rng = np.random.default_rng(seed)
    u = np.tile([0, 0, 1, 1], 100)  # equally frequent in both classes
    s = (rng.random(400) < 0.5 + lean * (u - 0.5)).astype(int)
    along = np.linspace(1, 0, 6) / np.linalg.norm(np.linspace(1, 0, 6))
    Z = cohort.X + along * (site * s + cause * u)[:, None]
    return Cohort(Z, cohort.obs.assign(site=[f"s{i}" for i in s], hidden=[f"u{i}" for i in u]))


@pytest.mark.parametrize(("site", "cause"), [(0.0, 1.5), (0.3, 1.5), (1.5, 1.0), (0.6, 4.0), (-0.5, 1.5)])
def test_an_unmeasured_confounder_is_flagged_where_it_overturns(site: float, cause: float) -> None:
    """Its strengths bound what the hidden cause did; one short of the robustness value did not do it all."""
    knows = CausalGraph.standard(biology="tumour", technical="site", covariates=["hidden"], group="patient")
    for seed in range(4):
        cohort = hidden_cause(seed, site=site, cause=cause, lean=0.6)
        short, long = (effect(cohort, g, treatment="site", confirm=False) for g in (GRAPH, knows))
        told = short.sensitivity()
        s = (cohort.obs["site"] == "s1").to_numpy(float)
        columns = {c: np.eye(2)[pd.factorize(cohort.obs[c])[0]] for c in ("tumour", "hidden")}
        mine = observed_strengths(s, cohort.X, columns)["hidden"]
        d, y = mine.r2_treatment, mine.odds_outcome / (1 + mine.odds_outcome)
        a, b = (next(iter(x._source[0].pairs.values())).gamma for x in (short, long))
        moved = np.linalg.norm(a - b)
        assert moved <= told.at(d, y)["bias"] * 1.03  # strata differ by a few patients
        assert moved >= 0.5 * told.at(d, y)["bias"]  # and the bound is not idle: one cause, one direction
        if max(d, y) < 0.97 * told.robustness_value:
            assert (a * b).sum() > 0
        if abs(site) + cause == 1.5:  # all of it is the hidden cause
            assert told.at(d, y)["value"] < 0.15 * told.value
            assert robustness_value((told.value / told.scale) ** 2) <= max(d, y)


def test_bounds_of_uneven_strata() -> None:
    """A cause at work where one level is rare: bounds from the residual variance of the level are exceeded threefold.

    Two strata of equal weight; in one, 1 in 20 patients is at the level and a hidden cause goes with it.
    """
    p_level, p_cause, jump, noise = (0.5, 0.05), ((0.5, 0.5), (0.1, 0.8)), (0.0, 1.0), 0.5
    P = np.zeros((2, 2, 2))
    for x, s, u in itertools.product((0, 1), repeat=3):
        share = p_level[x] if s else 1 - p_level[x]
        P[x, s, u] = 0.5 * share * (p_cause[x][s] if u else 1 - p_cause[x][s])
    bias = sum(0.5 * jump[x] * (p_cause[x][1] - p_cause[x][0]) for x in (0, 1))
    spread = sum(P[x, s].sum() * jump[x] ** 2 * p_cause[x][s] * (1 - p_cause[x][s]) for x in (0, 1) for s in (0, 1))
    r2_y, residual = spread / (spread + noise**2), spread + noise**2
    given_x, given_xu = P[:, 1].sum(axis=1) / 0.5, P[:, 1] / P.sum(axis=1)
    left, less = (0.5 * given_x * (1 - given_x)).sum(), (P.sum(axis=1) * given_xu * (1 - given_xu)).sum()
    linear = np.sqrt(residual / left) * bias_factor(1 - less / left, r2_y)
    short = (0.5 / (given_x * (1 - given_x))).sum()  # E[a^2]
    long = (P.sum(axis=1) / (given_xu * (1 - given_xu))).sum()
    weighted = np.sqrt(residual * short) * bias_factor(1 - short / long, r2_y)
    assert bias == pytest.approx(0.35)
    assert linear == pytest.approx(0.102, abs=1e-3)
    assert weighted >= bias


def test_vector_bound_uses_the_weights() -> None:
    """Cells of 12, 36, 12 and 4 patients: the scale is that of the weights, above that of the residual variance."""
    counts = {("a", "0"): 12, ("a", "1"): 36, ("b", "0"): 12, ("b", "1"): 4}
    obs = pd.DataFrame([{"site": s, "tumour": t} for (s, t), n in counts.items() for _ in range(n)])
    obs["patient"] = np.arange(64).astype(str)
    Z = np.random.default_rng(0).standard_normal((64, 3)) + 2.0 * (obs["site"] == "b").to_numpy()[:, None]
    told = effect(Cohort(Z, obs), GRAPH, treatment="site", confirm=False).sensitivity()
    cell = obs.groupby(["site", "tumour"]).ngroup().to_numpy()
    residual = sum(((Z[cell == c] - Z[cell == c].mean(axis=0)) ** 2).sum() for c in range(4)) / 60
    share = {"0": 24 / 64, "1": 40 / 64}
    squares = sum(share[t] ** 2 / n for (_, t), n in counts.items())
    assert told.scale == pytest.approx(np.sqrt(residual * 64 * squares))
    by_class = 24 / 64 * 0.25 + 40 / 64 * (36 * 4) / 40**2
    assert told.scale > 1.1 * np.sqrt(residual / by_class)
    (row,) = [r for r in told.benchmarks if r["times"] == 1.0]
    assert row["r2_treatment"] > 0
    assert row["bias"] == pytest.approx(told.scale * bias_factor(row["r2_treatment"], row["r2_outcome"]))
    assert told.like_declared == pytest.approx(row["bias"] / told.value)


def test_duplicated_rows_change_nothing() -> None:
    cohort = linear_scm(n_groups=60, d=4, n_sites=2, site_effect=1.0, confounding=0.3)[0]
    again = np.concatenate([np.arange(len(cohort)), np.flatnonzero(cohort.obs["patient"] == "p3")])
    obs = cohort.obs.iloc[again].reset_index(drop=True)
    one, two = (
        effect(c, GRAPH, treatment="site", confirm=False).sensitivity() for c in (cohort, Cohort(cohort.X[again], obs))
    )
    assert two.robustness_value == pytest.approx(one.robustness_value)
    assert [row["bias"] for row in two.benchmarks] == pytest.approx([row["bias"] for row in one.benchmarks])


# --- figure -----------------------------------------------------------------------------------------------------------


def test_the_line_of_nothing_left_passes_the_robustness_value() -> None:
    strengths = {"female": Strength(0.009, 0.12), "village": Strength(0.6, 0.1)}
    told = scalar_sensitivity(**DARFUR, pair=("harmed", "not"), outcome="peace", strengths=strengths)
    ax = cfm.plot_sensitivity(told)
    thick = [c for c in ax.collections if len(c.get_linewidths()) and c.get_linewidths()[0] == 2.0]
    points = np.concatenate([path.vertices for c in thick for path in c.get_paths()])
    r = told.robustness_value
    assert np.abs(points - r).sum(axis=1).min() < 0.02
    assert told.at(*points[len(points) // 2])["value"] == pytest.approx(0.0, abs=2e-3)
    texts = [text.get_text() for text in ax.texts]
    assert any("too strong to be bounded: 1 x village" in text for text in texts)
    assert {"1 x female", "2 x", "14%"} <= set(texts)
    with pytest.raises(DataError, match="must be a Sensitivity"):
        cfm.plot_sensitivity(pd.DataFrame())


def test_the_figure_of_an_effect_on_the_embedding() -> None:
    cohort = linear_scm(n_groups=60, d=4, n_sites=2, site_effect=1.5, confounding=0.3)[0]
    told = effect(cohort, GRAPH, treatment="site", confirm=False).sensitivity()
    ax = cfm.plot_sensitivity(told)
    assert "1 x tumour" in [text.get_text() for text in ax.texts]
    assert ax.get_title(loc="left") == f"distance {told.value:.3g}: what a hidden cause leaves of it"
    same = cohort.replace(X=np.repeat((cohort.obs["site"] == "site0").to_numpy(float)[:, None], 2, axis=1))
    flat = effect(same, GRAPH, treatment="site", confirm=False).sensitivity()
    with pytest.raises(DataError, match="nothing to draw"):
        cfm.plot_sensitivity(flat)


# --- any effect -------------------------------------------------------------------------------------------------------


def scored(seed: int = 1, G: int = 120) -> Cohort:
    cohort = linear_scm(
        n_groups=G, d=4, n_sites=2, site_effect=1.0, confounding=0.4, age_effect=0.5, age_by_site=0.6, random_state=seed
    )[0]
    return Cohort(cohort.X, cohort.obs.assign(score=cohort.X @ [1.0, 0.5, 0.0, 0.0]))


AGED = CausalGraph.standard(biology="tumour", technical="site", covariates=["age"], group="patient")


@pytest.mark.parametrize("estimator", ["standardisation", "ridge", "partially-linear"])
def test_a_scalar_effect_is_examined_by_patient(estimator: str) -> None:
    """Near the regression of patients' means (the same up to unequal variances), not that of rows."""
    cohort = scored()
    told = effect(cohort, AGED, treatment="site", outcome="score", estimator=estimator, confirm=False).sensitivity()
    means = cohort.obs.assign(z=cohort.X @ [1.0, 0.5, 0.0, 0.0]).groupby("patient", sort=False)
    first = means.first()
    columns = [np.ones(120), first["site"] == "site1", first["tumour"] == "class1", first["age"], first["age"] ** 2]
    fit = sm.OLS(means["z"].mean().to_numpy(), np.column_stack(columns).astype(float)).fit()
    assert told.outcome == "score"
    assert told.details["df"] == 120 - 6  # site, class, age's three splines and the mean
    assert told.robustness_value == pytest.approx(scalar_robustness_value(fit.tvalues[1], fit.df_resid), abs=0.05)
    rows = sm.OLS(
        cohort.obs["score"], np.column_stack([np.ones(600), cohort.obs["site"] == "site1"]).astype(float)
    ).fit()
    assert rows.bse["x1"] < 0.75 * told.details["error"]
    assert {row["column"] for row in told.benchmarks} == {"tumour", "age", ALL}
    assert "E-value" in told.sentence


@pytest.mark.parametrize("estimator", ["ridge", "partially-linear"])
def test_other_estimators_bound_the_norm_as_standardisation_does(estimator: str) -> None:
    one, two = (
        effect(scored(), AGED, treatment="site", estimator=e, confirm=False).sensitivity()
        for e in ("standardisation", estimator)
    )
    assert two.pair == one.pair
    assert two.robustness_value == pytest.approx(one.robustness_value, abs=0.05)
    assert two.scale == pytest.approx(one.scale, rel=0.15)


def test_a_slope_is_examined_too() -> None:
    graph = CausalGraph.standard(biology="tumour", technical="dose", group="patient")
    cohort = scored()
    dose = np.random.default_rng(0).standard_normal(120)[pd.factorize(cohort.obs["patient"])[0]]
    cohort = Cohort(cohort.X + dose[:, None], cohort.obs.assign(dose=dose, score=cohort.X[:, 0] + dose))
    vector = effect(cohort, graph, treatment="dose", confirm=False).sensitivity()
    scalar = effect(cohort, graph, treatment="dose", outcome="score", confirm=False).sensitivity()
    assert vector.pair == scalar.pair == ("one standard deviation more", "any value")
    assert vector.robustness_value > scalar.robustness_value > 0.4
    assert vector.like_declared < 0.5


def test_a_two_valued_outcome_has_the_e_value_of_its_risks() -> None:
    cohort = scored()
    flag = (cohort.X[:, 0] > 0.5).astype(int)
    found = effect(
        Cohort(cohort.X, cohort.obs.assign(flag=flag)), AGED, treatment="site", outcome="flag", confirm=False
    )
    told, risks = found.sensitivity(), found.influence.theta[:, 0]
    assert told.details["e_value"] == pytest.approx(e_value(risks[1] / risks[0]))
    assert told.details["e_value_of"] == "ratio of risks"
    assert 1.0 <= told.details["e_value_limit"] < told.details["e_value"]


def test_contrasts_are_chosen_by_name() -> None:
    cohort = linear_scm(n_groups=120, d=4, n_sites=3, site_effect=1.0)[0]
    cohort = Cohort(cohort.X, cohort.obs.assign(score=cohort.X[:, 0]))
    found = effect(cohort, GRAPH, treatment="site", outcome="score", confirm=False)
    told = {level: found.sensitivity(level=level) for level in ("site1", "site2")}
    assert [t.pair for t in told.values()] == [("site1", "site0"), ("site2", "site0")]
    largest = max(found.levels, key=lambda row: abs(row["value"]) / row["se"])["level"]
    assert found.sensitivity().to_dict() == told[largest].to_dict()
    half = found.sensitivity(q=0.5)
    assert half.robustness_value < found.sensitivity().robustness_value
    with pytest.raises(DataError, match="no contrast of level='site9'"):
        found.sensitivity(level="site9")
    with pytest.raises(DataError, match="for scalar outcomes"):
        effect(cohort, GRAPH, treatment="site", confirm=False).sensitivity(level="site1")


def test_what_is_left_of_a_scalar_has_the_confidence_that_was_asked_for():
    about = {**DARFUR, "pair": ("harmed", "not"), "outcome": "peace"}
    left = {alpha: scalar_sensitivity(**about, alpha=alpha).at(0.0, 0.0) for alpha in (0.05, 0.01)}
    assert left[0.05]["value"] == left[0.01]["value"]
    ratio = (left[0.01]["high"] - left[0.01]["low"]) / (left[0.05]["high"] - left[0.05]["low"])
    assert ratio == pytest.approx(2.58 / 1.96, rel=0.01)  # quantiles of the normal, at 782 degrees of freedom
    strict = scalar_sensitivity(**about, alpha=0.01)
    with using_alpha(0.01):
        assert scalar_sensitivity(**about) == strict  # the level in force
        wide = scalar_sensitivity(**about, alpha=0.05)  # what is given wins
    assert wide == scalar_sensitivity(**about)
    assert wide.high < strict.high
