"""Rare levels, folds, thin overlap and wrong settings: what the estimators of effects count, name and refuse."""

import numpy as np
import pandas as pd
import pytest
from effect_samples import DOUBLE, ESTIMATORS, interacting, scm, site_effect
from sklearn.linear_model import LinearRegression, LogisticRegression

from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.estimators import Nuisances
from causalfm.graph import CausalGraph


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


def test_within_patients_only_standardisation_answers() -> None:
    cohort = scm(n_scanners=2)
    obs = cohort.obs.assign(scanner=[f"s{i % 2}" for i in range(len(cohort))])
    graph = CausalGraph.standard(biology="tumour", technical=["site", "scanner"], group="patient")
    paired = Cohort(cohort.X, obs)
    found = site_effect(paired, graph, treatment="scanner")
    assert found.overlap.paired
    assert (found.influence, found.share) == (None, None)
    for name in ESTIMATORS[1:]:
        with pytest.raises(DataError, match="scanner varies within patients"):
            site_effect(paired, graph, treatment="scanner", estimator=name)
    with pytest.raises(DataError, match="no group influences"):
        found.directions()
