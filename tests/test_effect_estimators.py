"""Every estimator of effects on data whose truth is known."""

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression

from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import linear_scm, mean_square_distance
from causalfm.errors import DataError
from causalfm.estimators import Nuisances, effect
from causalfm.estimators.effects import largest_pair
from causalfm.estimators.influence.comparison_groups import compared_groups
from causalfm.estimators.influence.standardising import saturated
from causalfm.estimators.variance_shares import joint_norm
from causalfm.gram_norms import gram_covariance
from causalfm.graph import CausalGraph
from causalfm.norm_contrasts import covariance
from causalfm.positivity import CompleteTable
from causalfm.standardisation import contrast_levels
from causalfm.units import patient_units
from experiments.calibration.effect_estimators import influences, laid_out

ESTIMATORS = ("standardisation", "ridge", "aipw", "partially-linear")
PLAIN = CausalGraph.standard(biology="tumour", technical="site", group="patient")


def site_effect(cohort: Cohort, graph: CausalGraph = PLAIN, **settings):
    return effect(cohort, graph, treatment=settings.pop("treatment", "site"), confirm=False, **settings)


def scm(seed: int = 0, **settings) -> Cohort:
    defaults = {"n_groups": 120, "n_sites": 3, "d": 5, "rows_per_group": 2, "site_effect": 1.0, "biology_effect": 2.0}
    return linear_scm(**{**defaults, "confounding": 0.4, **settings}, random_state=seed)[0]


# --- truth ----------------------------------------------------------------------------------------------------------

DESIGNS = {
    "confounded by biology, 2 levels": {"n_sites": 2, "n_groups": 60, "confounding": 0.6},
    "by covariates, 8 levels": {"n_sites": 8, "n_groups": 160, "age_effect": 2.0, "age_by_site": 1.5},
    "by both, 3 levels": {"n_groups": 90, "n_sites": 3, "age_effect": 2.0, "age_by_site": 1.0, "confounding": 0.4},
    "34 levels": {"n_sites": 34, "n_groups": 510, "confounding": 0.3},
    "a level of 2 %": {"n_sites": 4, "n_groups": 300, "groups_by_site": 22.0},
}


@pytest.mark.parametrize("design", DESIGNS)
def test_unbiased(design: str) -> None:
    settings = DESIGNS[design]
    runs = 12 if settings.get("n_sites", 3) < 30 else 4
    base = {"site_effect": 1.0, "biology_effect": 2.0, "rows_per_group": 1, "d": 4, "decay": 0.0, "effect_seed": 3}
    cohort, truth = linear_scm(**{**base, **settings}, random_state=0)
    truth = truth.site[[int(name.removeprefix("site")) for name in cohort.factor("site").levels]]  # site10 before site2
    C = np.eye(len(truth))[1:] - np.eye(len(truth))[0]
    errors: dict[str, list[np.ndarray]] = {}
    variances: dict[str, list[np.ndarray]] = {}
    naive = []
    for seed in range(runs):
        cohort = linear_scm(**{**base, **settings}, random_state=seed)[0]
        site = cohort.factor("site").codes
        naive.append(C @ (np.stack([cohort.X[site == s].mean(axis=0) for s in range(len(truth))]) - truth))
        for name, influence in influences(*laid_out(cohort, settings), seed).items():
            table = influence.contrast(C)
            errors.setdefault(name, []).append(table.estimate - C @ truth)
            variances.setdefault(name, []).append(table.se**2)
    assert len(errors) == len(ESTIMATORS)
    for name in errors:
        z = np.mean(errors[name], axis=0) / np.sqrt(np.mean(variances[name], axis=0) / len(errors[name]))
        # contrasts share their reference: the mean square of z, 1 if there is no bias, has about d degrees of freedom
        assert np.mean(z**2) < 4.6, (name, np.mean(z**2))  # P(chi2_4 / 4 > 4.6) = .001
        if design.startswith(("confounded", "by")):
            bias = [np.sqrt(np.mean(np.mean(parts, axis=0) ** 2)) for parts in (naive, errors[name])]
            assert bias[0] > 2.0 * bias[1], (name, bias)


def test_a_rare_level_is_there() -> None:
    cohort = linear_scm(**DESIGNS["a level of 2 %"])[0]
    assert site_effect(cohort).share.details["levels"]["site3"] == pytest.approx(0.02, abs=0.01)


def interacting(seed: int, n: int = 600) -> tuple[Cohort, float]:
    """Two sites, a confounder that acts on choice and outcome, an effect that depends on it; and the true mean effect.

    The outcome is linear given the confounder at each site, the choice logistic.
    """
    rng = np.random.default_rng(seed)
    w = rng.standard_normal(n)
    t = rng.random(n) < 1.0 / (1.0 + np.exp(-0.8 * w))
    y = 2.0 * w + t * (1.0 + 0.5 * w) + rng.standard_normal(n)
    obs = pd.DataFrame({"patient": np.arange(n).astype(str), "site": np.where(t, "b", "a"), "w": w})
    obs["tumour"] = np.where(np.arange(n) % 2, "x", "y")
    return Cohort(y[:, None], obs), 1.0 + 0.5 * float(w.mean())


DOUBLE = CausalGraph(
    "w -> site; {w, site, tumour} -> Z", biology="tumour", technical="site", covariates=["w"], group="patient"
)
RIGHT = (LinearRegression(), LogisticRegression(C=10.0, max_iter=2000))
WRONG = (DummyRegressor(), DummyClassifier(strategy="prior"))


def test_double_robustness() -> None:
    cases = {
        "both right": (RIGHT[0], RIGHT[1]),
        "outcome wrong": (WRONG[0], RIGHT[1]),
        "propensity wrong": (RIGHT[0], WRONG[1]),
        "both wrong": WRONG,
    }
    errors: dict[str, list[float]] = {name: [] for name in cases}
    for seed in range(10):
        cohort, truth = interacting(seed, 400)
        for name, models in cases.items():
            found = site_effect(cohort, DOUBLE, estimator="aipw", nuisances=Nuisances(*models))
            theta = found.influence.theta[:, 0]
            errors[name].append(float(theta[1] - theta[0]) - truth)
    bias = {name: float(np.mean(values)) for name, values in errors.items()}
    spread = {name: float(np.std(values) / np.sqrt(10)) for name, values in errors.items()}
    for name in ("both right", "outcome wrong", "propensity wrong"):
        assert abs(bias[name]) < 3.5 * spread[name] + 0.02, (bias, spread)
    assert bias["both wrong"] > 1.0, bias  # the confounder's share


def test_direct_is_not_total() -> None:
    """A site acts through its scanners, too: where they differ by site, the total effect holds theirs."""
    rng = np.random.default_rng(0)
    n = 400
    site = np.arange(n) % 2
    scanner = (rng.random(n) < np.where(site, 0.8, 0.2)).astype(int)
    tumour = rng.integers(2, size=n)
    Z = rng.standard_normal((n, 3))
    Z += np.array([1.0, 0.0, 0.0]) * site[:, None] + np.array([0.0, 2.0, 0.0]) * scanner[:, None] + tumour[:, None]
    obs = pd.DataFrame({"site": site, "scanner": scanner, "tumour": tumour, "patient": np.arange(n)}).astype(str)
    graph = CausalGraph.standard(biology="tumour", technical=["site", "scanner"], group="patient")
    for name in ESTIMATORS:
        total = site_effect(Cohort(Z, obs), graph, estimator=name)
        direct = site_effect(Cohort(Z, obs), graph, estimator=name, effect="direct")
        assert total.details["given"] == ["tumour"]
        assert direct.details["given"] == ["tumour", "scanner"]
        moved = [np.diff(found.influence.theta, axis=0)[0] for found in (total, direct)]
        np.testing.assert_allclose(moved[0], [1.0, 1.2, 0.0], atol=0.4)
        np.testing.assert_allclose(moved[1], [1.0, 0.0, 0.0], atol=0.4)


# --- one form of results --------------------------------------------------------------------------------------------


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


def test_one_contrast_of_one_dimension_is_welch() -> None:
    """Without conditioning columns and confounding standardisation is the two-sample problem."""
    rng = np.random.default_rng(5)
    site = np.repeat([0, 1], [12, 9])
    z = rng.standard_normal(21) * np.where(site, 2.0, 1.0)
    obs = pd.DataFrame({"site": site, "patient": np.arange(21), "tumour": np.arange(21) % 2}).astype(str)
    graph = CausalGraph("site -> Z; tumour", biology="tumour", technical="site", group="patient")
    from scipy import stats

    test = stats.ttest_ind(z[site == 1], z[site == 0], equal_var=False)
    (row,) = site_effect(Cohort(z[:, None], obs.assign(z=z)), graph, outcome="z").rows()
    assert row["df"] == pytest.approx(test.df)
    assert row["p_value"] == pytest.approx(test.pvalue)
    assert (row["low"], row["high"]) == pytest.approx(tuple(test.confidence_interval(0.95)))


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


# --- shares, directions, simultaneous ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ESTIMATORS)
def test_shares_of_variance(name: str) -> None:
    cohort, truth = linear_scm(n_groups=400, n_sites=4, d=6, site_effect=1.5, biology_effect=3.0, rows_per_group=4)
    found = site_effect(cohort, estimator=name)
    between = sum(mean_square_distance(v) * (len(v) - 1) / (2.0 * len(v)) for v in (truth.site, truth.biology))
    total = between + 1.0 + 0.25  # patients, and rows averaged over four; sites and classes are uncorrelated
    site = mean_square_distance(truth.site) * 3 / 8 / total
    assert found.share.low < site < found.share.high
    assert found.share.value == pytest.approx(site, rel=0.2)
    biology = mean_square_distance(truth.biology) / 4 / total
    assert found.biology_share.value == pytest.approx(biology, rel=0.15)
    ratio = found.variance_ratio
    assert ratio.low < ratio.value < ratio.high
    assert ratio.value == pytest.approx(found.share.value / found.biology_share.value)
    assert found.share.details["levels_drawn"] == "as in the patients compared"
    assert "influence" not in found.to_dict()
    assert not [key for key in found.to_dict() if key.startswith("_")]


def test_leading_directions() -> None:
    rng = np.random.default_rng(0)
    n, axis = 300, np.eye(6)[4]
    site = np.arange(n) % 3
    Z = rng.standard_normal((n, 6)) + 3.0 * np.outer(site, axis)
    obs = pd.DataFrame({"site": site, "patient": np.arange(n), "tumour": np.arange(n) // 3 % 2}).astype(str)
    shares, directions = site_effect(Cohort(Z, obs)).directions()
    assert shares.shape == (2,)
    assert directions.shape == (2, 6)
    assert shares.sum() == pytest.approx(1.0)
    assert shares[0] > 0.98
    assert directions[0] @ axis > 0.99
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1.0)


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


def test_simultaneous_rejects_nothing_in_most_null_cohorts() -> None:
    hits = 0
    for seed in range(60):
        cohort = scm(seed, n_groups=40, n_sites=2, site_effect=0.0, decay=0.0)
        hits += site_effect(cohort).simultaneous(n_draws=199)["p_value"].min() <= 0.05
    assert hits <= 9  # P(X > 9) = .001 at 5 %


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


# --- codings, pooling, errors ----------------------------------------------------------------------------------------


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


def test_rare_levels_are_pooled_only_when_asked() -> None:
    cohort = scm(n_sites=5, n_groups=60, groups_by_site=6.0, confounding=0.0)
    counts = cohort.obs.groupby("site")["patient"].nunique()
    assert counts.min() < 5
    pooled = site_effect(cohort, pool_rare=9)
    assert pooled.details["pooled"] == ["site3", "site4"]
    assert "2 pooled levels" in pooled.overlap.levels
    assert "pooled" not in site_effect(cohort).details
    with pytest.raises(DataError, match=r"pool_rare=4 finds 1 of 5 levels of site rare \(site4 \(3\)\)"):
        site_effect(cohort, pool_rare=4)


def test_a_level_too_rare_for_the_folds_is_named() -> None:
    cohort = scm(n_groups=60, n_sites=3)
    site, patients = cohort.obs["site"], cohort.obs["patient"].to_numpy()
    rare = cohort.obs.loc[site == "site2", "patient"].unique()
    fold = np.arange(60)[pd.factorize(patients)[0]] % 4
    fold[np.isin(patients, rare)] = 0
    with pytest.raises(DataError, match=r"site=site2 has 20 patients.*pool rare levels with pool_rare="):
        site_effect(cohort, estimator="aipw", folds=fold)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"estimator": "tmle"}, "choose one of 'standardisation', 'ridge', 'aipw', 'partially-linear'"),
        ({"coding": "dummy"}, "coding='dummy'"),
        ({"coding": "effect", "reference": "site0"}, "leave reference= out"),
        ({"effect": "indirect"}, "effect='indirect'"),
        ({"folds": 3, "nuisances": Nuisances(LinearRegression())}, "not cross-fitted"),
        ({"estimator": "aipw", "folds": 1}, "folds=1"),
        ({"estimator": "aipw", "folds": [0, 1]}, "2 entries and the cohort 240 rows"),
        ({"estimator": "aipw", "folds": np.arange(240) % 2}, "folds divides 120 of 120 patients"),
        ({"estimator": "aipw", "trim": 0.6}, "trim=0.6: choose a propensity above 0"),
        ({"estimator": "ridge", "trim": 0.1}, "estimator='aipw' only"),
        ({"estimator": "aipw", "nuisances": LinearRegression()}, "must be a causalfm.estimators.Nuisances"),
        ({"outcome": "tumour"}, "outcome='tumour' is a node of the graph or a unit"),
        ({"outcome": "patient"}, "outcome='patient' is a node of the graph or a unit"),
        ({"outcome": "Z", "score": "loss"}, "score='loss' judges predictions"),
        ({"outcome": np.zeros(3)}, r"shape \(3, 1\) and the cohort 240 rows"),
        ({"outcome": np.full(240, np.nan)}, "not finite in rows 0, 1, 2"),
        ({"outcome": np.ones((240, 3)) / 3, "score": "loss"}, "3 columns and tumour 2 classes"),
        ({"random_state": -1}, "random_state=-1"),
        ({"pool_rare": 1}, "pool_rare=1"),
    ],
)
def test_errors(settings: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        site_effect(scm(), **settings)


def test_weights_that_leave_too_few_groups_give_no_numbers() -> None:
    cohort, _ = interacting(0, 120)
    site = cohort.obs["site"].to_numpy().copy()
    w = cohort.obs["w"].to_numpy()
    site[:] = np.where(w > 0, "b", "a")  # no overlap but for two patients
    site[np.argsort(w)[[0, 1]]] = "b"
    site[np.argsort(w)[[-2, -1]]] = "a"
    models = Nuisances(propensity=LogisticRegression(C=1e4, max_iter=5000))
    found = site_effect(Cohort(cohort.X, cohort.obs.assign(site=site)), DOUBLE, estimator="aipw", nuisances=models)
    assert found.rows() == []
    assert "weights leave fewer than 3 effective groups" in found.details["reason"]
    assert np.isnan(found.joint.value)
    with pytest.raises(DataError, match="no group influences"):
        found.directions()


def test_trimmed_propensities_are_counted() -> None:
    cohort, _ = interacting(1)
    plain = site_effect(cohort, DOUBLE, estimator="aipw")
    trimmed = site_effect(cohort, DOUBLE, estimator="aipw", trim=0.2)
    assert plain.details["raised_propensities"] == 0
    assert trimmed.details["raised_propensities"] >= 10
    assert min(trimmed.details["effective_groups"].values()) > min(plain.details["effective_groups"].values())


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


def test_within_patients_only_standardisation_answers() -> None:
    cohort = scm(n_scanners=2)
    obs = cohort.obs.assign(scanner=[f"s{i % 2}" for i in range(len(cohort))])
    graph = CausalGraph.standard(biology="tumour", technical=["site", "scanner"], group="patient")
    paired = Cohort(cohort.X, obs)
    found = site_effect(paired, graph, treatment="scanner")
    assert found.overlap.paired
    assert (found.influence, found.share) == (None, None)
    with pytest.raises(DataError, match="scanner varies within patients"):
        site_effect(paired, graph, treatment="scanner", estimator="aipw")
    with pytest.raises(DataError, match="no group influences"):
        found.directions()


def test_an_effect_keeps_the_call_that_made_it() -> None:
    cohort = scm(n_groups=60, n_sites=2)
    settings = {"estimator": "aipw", "folds": 3, "coding": "effect", "random_state": 5}
    found = site_effect(cohort, **settings)
    again = effect(found._call["cohort"], found._call["graph"], **found._call["arguments"])
    assert again.rows() == found.rows()
    assert settings.items() <= dict(found._call["arguments"]).items()


# --- norms from one Gram matrix ---------------------------------------------------------------------------------------


def test_gram_norms_are_those_of_the_cells_where_both_apply() -> None:
    cohort = scm(n_groups=33, confounding=0.0)
    graph = CausalGraph("site -> Z; tumour", biology="tumour", technical="site", group="patient")
    units = patient_units(cohort, graph, ["site"], [])
    by_cells = contrast_levels(units, "tumour")
    influence = saturated(compared_groups(units, CompleteTable((0, 1, 2), (0,), 33)), by_cells.design)
    found = joint_norm(influence)
    for name in ("value", "observed", "noise", "noise_square", "along", "bend", "df_directional", "df_noise"):
        assert getattr(found, name) == pytest.approx(getattr(by_cells.joint, name)), name
    assert found.variance == pytest.approx(by_cells.joint.variance)
    pairs = [influence.norm(np.eye(3)[a] - np.eye(3)[b]) for a, b in ((0, 1), (0, 2))]
    wanted = covariance(by_cells.pairs[0, 1], by_cells.pairs[0, 2], by_cells.design.cells)
    spread = np.sqrt(pairs[0].variance * pairs[1].variance)
    assert gram_covariance(*pairs) / spread == pytest.approx(wanted / spread, abs=0.05)
    assert gram_covariance(found, found) == pytest.approx(
        4 * found.along - 2 * found.noise_square + found.noise_error, rel=1e-2
    )


def test_noise_is_taken_off_without_bias() -> None:
    """Where levels do not differ the squared distance is 0 on average, whatever the estimator."""
    values: dict[str, list[float]] = {}
    for seed in range(40):
        design = {"n_groups": 40, "n_sites": 2, "age_effect": 1.0, "age_by_site": 0.5, "site_effect": 0.0}
        cohort = scm(seed, **design, decay=0.0)
        for name, influence in influences(*laid_out(cohort, design), seed).items():
            values.setdefault(name, []).append(joint_norm(influence).value)
    for name, found in values.items():
        assert abs(np.mean(found)) < 3.3 * np.std(found) / np.sqrt(len(found)), name
