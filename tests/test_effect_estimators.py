"""Every estimator of effects on data whose truth is known."""

import numpy as np
import pandas as pd
import pytest
from effect_samples import DOUBLE, ESTIMATORS, interacting, scm, site_effect
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression

from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import linear_scm, mean_square_distance
from causalfm.estimators import Nuisances
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


def test_simultaneous_rejects_nothing_in_most_null_cohorts() -> None:
    hits = 0
    for seed in range(60):
        cohort = scm(seed, n_groups=40, n_sites=2, site_effect=0.0, decay=0.0)
        hits += site_effect(cohort).simultaneous(n_draws=199)["p_value"].min() <= 0.05
    assert hits <= 9  # P(X > 9) = .001 at 5 %


# --- norms from one Gram matrix --------------------------------------------------------------------------------------


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
