"""What effect() takes and refuses: outcomes in another order or without error, slopes, biology beside the factor."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import linear_scm
from causalfm.errors import DataError
from causalfm.estimators import Nuisances, effect
from causalfm.graph import CausalGraph

GRAPH = CausalGraph.standard(biology="tumour", technical="site", group="patient")
DOSED = CausalGraph(
    "age -> {tumour, Z}; {tumour, site} -> Z; site <-> tumour",
    biology="tumour",
    technical="site",
    group="patient",
    covariates="age",
    kinds={"age": "continuous"},
)


def site_effect(cohort: Cohort, graph: CausalGraph = GRAPH, **settings):
    return effect(cohort, graph, treatment=settings.pop("treatment", "site"), confirm=False, **settings)


def scm(**settings) -> Cohort:
    return linear_scm(**{"n_groups": 80, "d": 4, "n_sites": 3, "site_effect": 1.0, "confounding": 0.3, **settings})[0]


def patients(n: int, seed: int = 0) -> tuple[np.random.Generator, pd.DataFrame]:
    return np.random.default_rng(seed), pd.DataFrame({"patient": [f"p{i}" for i in range(n)]})


def test_a_series_is_aligned_or_refused() -> None:
    cohort = scm()
    scores = pd.Series(cohort.X[:, 0], index=cohort.obs.index)
    found = site_effect(cohort, outcome=scores)
    assert found.rows() == site_effect(cohort, outcome=scores.to_numpy()).rows()
    with pytest.raises(DataError, match="another index than obs"):
        site_effect(cohort, outcome=scores[::-1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"outcome": lambda block: 0.5}, r"returns shape \(\) for \d+ rows"),
        ({"outcome": lambda block: block[:3]}, r"returns shape \(3, 4\) for \d+ rows"),
        ({"outcome": lambda block: np.full(len(block), "high")}, "a model that returns ndarray, not all of it numbers"),
        ({"outcome": np.full(160, "high")}, "outcome of type ndarray, not all of it numbers"),
        ({"estimator": "aipw", "trim": "a"}, "trim='a': choose a finite number above 0"),
        ({"estimator": "aipw", "folds": np.where(np.arange(160) < 2, np.nan, 1.0)}, "no value in rows 0, 1"),
    ],
)
def test_refused_without_a_traceback(settings: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        site_effect(scm(), **settings)


@pytest.mark.parametrize("estimator", ["standardisation", "aipw"])
@pytest.mark.parametrize("of", ["site", "tumour", "nothing"])
def test_an_outcome_fixed_in_every_cell_has_no_error(of: str, estimator: str) -> None:
    cohort = scm()
    values = np.full(len(cohort), 0.1) if of == "nothing" else 0.1 * pd.factorize(cohort.obs[of])[0]
    with pytest.raises(DataError, match="same for all patients of a cell"):
        site_effect(cohort.replace(obs=cohort.obs.assign(score=values)), outcome="score", estimator=estimator)


def test_a_fixed_fact_is_no_negative_control() -> None:
    cohort = scm()
    told = cohort.replace(obs=cohort.obs.assign(code=cohort.obs["tumour"].astype(str) + "!"))
    with pytest.raises(DataError, match="'code' is the same for all patients of a cell"):
        site_effect(told).refute(refuters=(), outcomes="code", n_draws=20)


def test_a_level_may_be_named_by_its_number() -> None:
    cohort = scm()
    numbered = cohort.replace(obs=cohort.obs.assign(site=pd.factorize(cohort.obs["site"])[0]))
    assert site_effect(numbered, reference=1).reference == "1"


@pytest.mark.parametrize("settings", [{"coding": "effect"}, {"reference": "any value"}, {"reference": "70"}])
def test_a_slope_has_neither_coding_nor_reference(settings: dict) -> None:
    rng, table = patients(60)
    table = table.assign(age=rng.normal(size=60), tumour=rng.choice(["a", "b"], 60), site=rng.choice(["s", "t"], 60))
    X = rng.normal(size=(60, 3)) + np.outer(table["age"], [0.0, 2.0, 0.0])
    found = site_effect(Cohort(X, table), DOSED, treatment="age")
    shares, directions = found.directions()
    assert shares.tolist() == [1.0]
    assert abs(directions[0, 1]) > 0.95
    with pytest.raises(DataError, match="age is continuous"):
        site_effect(Cohort(X, table), DOSED, treatment="age", **settings)


def test_directions_without_variance_have_no_shares() -> None:
    nulls = [site_effect(scm(site_effect=0.0, n_groups=60, random_state=seed)) for seed in range(8)]
    empty = [found for found in nulls if found.share.value <= 0.0]
    assert empty
    for found in empty:
        assert np.isnan(found.directions()[0]).all()


@pytest.mark.parametrize("estimator", ["standardisation", "ridge", "aipw", "partially-linear"])
def test_biology_s_share_is_of_the_variance_of_its_own_patients(estimator: str) -> None:
    rng, table = patients(180)
    sex = np.repeat(["m", "f"], [120, 60])
    tumour = np.where(sex == "f", "a", np.tile(["a", "b"], 90))  # women have one class: biology is compared among men
    table = table.assign(sex=sex, tumour=tumour, site=np.tile(["s", "s", "t", "t"], 45))
    X = rng.normal(size=(180, 3)) * np.where(sex == "f", 6.0, 1.0)[:, None] + (tumour == "b")[:, None]
    graph = CausalGraph.standard(biology="tumour", technical="site", group="patient", covariates="sex")
    share = site_effect(Cohort(X, table), graph, estimator=estimator).biology_share
    assert share.n_groups == 120
    assert share.details["total_variance"] == pytest.approx(X[:120].var(axis=0, ddof=1).sum())
    assert share.value == pytest.approx(0.75 / 3.75, abs=0.08)  # 3 dimensions, 1/4 each, beside 3


def test_weights_of_biology_that_leave_too_few_groups_give_no_share() -> None:
    rng, table = patients(200)
    w = rng.normal(size=200)
    tumour = np.where(w > 0, "b", "a")  # four patients overlap
    tumour[np.argsort(w)[[30, 60]]], tumour[np.argsort(w)[[140, 170]]] = "b", "a"
    table = table.assign(w=w, tumour=tumour, site=rng.choice(["s", "t"], 200))
    graph = CausalGraph.standard(
        biology="tumour", technical="site", group="patient", covariates="w", kinds={"w": "continuous"}
    )
    models = Nuisances(propensity=LogisticRegression(C=1e4, max_iter=5000))
    X = rng.normal(size=(200, 2)) + w[:, None]
    found = site_effect(Cohort(X, table), graph, estimator="aipw", nuisances=models)
    assert found.rows()
    assert found.biology is None
    assert found.biology_share is None
    assert "weights leave classes of tumour fewer than 3 effective groups" in found.details["no_biology"]


def test_trim_is_about_the_factor_s_levels() -> None:
    rng, table = patients(200)
    table = table.assign(tumour=rng.choice(list("abcd"), 200), site=rng.choice(["s", "t"], 200))
    cohort = Cohort(rng.normal(size=(200, 2)), table)
    trimmed = site_effect(cohort, estimator="aipw", trim=0.4)  # below 1 / 2 sites, above 1 / 4 classes
    plain = site_effect(cohort, estimator="aipw")
    assert trimmed.details["raised_propensities"] > 0
    assert trimmed.biology == plain.biology


def test_pooled_levels_are_not_the_reference_unless_asked() -> None:
    cohort = scm(n_sites=6, n_groups=120)
    site = cohort.obs["site"]
    few = site.where(~site.isin(["site4", "site5"]) | (cohort.obs["patient"].astype(str).str[-1] < "3"), "site0")
    found = site_effect(cohort.replace(obs=cohort.obs.assign(site=few)), pool_rare=12)
    assert found.details["pooled"] == ["site4", "site5"]
    assert "2 pooled levels" in found.overlap.levels
    assert found.reference == "site0"


def test_other_packages_give_no_robustness_value() -> None:
    cohort = scm()
    scored = cohort.replace(obs=cohort.obs.assign(score=cohort.X[:, 0]))
    found = site_effect(scored, outcome="score", estimator="backdoor.linear_regression", clusters="aggregate")
    with pytest.raises(DataError, match="hands over no clustered standard error"):
        found.sensitivity()
