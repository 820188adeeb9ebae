"""Partially linear estimates against EconML's, on the same folds and nuisances."""

import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import linear_scm
from causalfm.dose_units import dose_units
from causalfm.estimators import Nuisances, effect
from causalfm.estimators.influence.comparison_groups import compared_doses, compared_groups
from causalfm.estimators.influence.crossfitting import deal_folds
from causalfm.estimators.influence.partially_linear import partially_linear
from causalfm.graph import CausalGraph
from causalfm.positivity import complete_table
from causalfm.units import patient_units

GRAPH = CausalGraph.standard(biology="tumour", technical="site", covariates=["age"], group="patient")
AGE = CausalGraph.standard(biology="tumour", technical="age", covariates=["site"], group="patient")


def cohort(**settings) -> Cohort:
    defaults = {"n_groups": 240, "rows_per_group": 1, "n_sites": 4, "d": 6, "site_effect": 1.0, "confounding": 0.4}
    return linear_scm(**{**defaults, "age_effect": 1.0, "age_by_site": 0.5, **settings})[0]


def linear_dml(Z: np.ndarray, T: np.ndarray, W: np.ndarray, fold: np.ndarray, **options) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from econml.dml import LinearDML

        folds = [(np.flatnonzero(fold != f), np.flatnonzero(fold == f)) for f in np.unique(fold)]
        model = LinearDML(cv=folds, model_y=Ridge(), random_state=0, **options)
        return np.asarray(model.fit(Z, T, X=None, W=W).intercept_)


def test_levels_are_those_of_econml() -> None:
    data = cohort()
    units = patient_units(data, GRAPH, ["site"], ["tumour", "age"])
    compared = compared_groups(units, complete_table(units.counts(), 3))
    fold = deal_folds(compared.level, compared.stratum, 4, 3)
    rows = fold[np.searchsorted(compared.groups, units.groups.codes)]  # one fold per row of the cohort
    models = Nuisances(outcome=Ridge(), propensity=LogisticRegression(C=1.0, max_iter=2000))
    found = effect(
        data, GRAPH, treatment="site", estimator="partially-linear", folds=rows, nuisances=models, confirm=False
    )
    influence = found.influence
    ours = influence.theta[1:] - influence.theta[0]
    theirs = linear_dml(
        compared.Z,
        compared.level,
        compared.W,
        fold,
        discrete_treatment=True,
        model_t=LogisticRegression(C=1.0, max_iter=2000),
    )
    assert theirs.T.shape == ours.shape == (3, 6)
    np.testing.assert_allclose(ours, theirs.T, atol=1e-6)
    assert np.abs(ours).max() > 0.1
    other, _ = partially_linear(compared, deal_folds(compared.level, compared.stratum, 4, 4), models)
    assert np.abs(other.theta - influence.theta).max() > 1e-3  # other folds are other numbers


def test_the_slope_is_that_of_econml() -> None:
    data = cohort()
    units = dose_units(data, AGE, ["age"], ["tumour", "site"])
    compared, dose = compared_doses(units)
    fold = deal_folds(compared.level, compared.stratum, 5, 0)
    rows = fold[np.searchsorted(compared.groups, units.groups.codes)]
    found = effect(
        data,
        AGE,
        treatment="age",
        estimator="partially-linear",
        folds=rows,
        nuisances=Nuisances(Ridge(), Ridge()),
        confirm=False,
    )
    theirs = linear_dml(compared.Z, dose, compared.W, fold, discrete_treatment=False, model_t=Ridge())
    np.testing.assert_allclose(found.influence.theta[0], theirs.ravel(), atol=1e-6)
    assert found.rows()[0]["level"] == "one standard deviation more"


@pytest.mark.parametrize("estimator", ["aipw", "partially-linear"])
def test_built_in_models_are_the_weights_that_the_errors_are_made_of(estimator: str) -> None:
    """``theta = omega' Z`` exactly: contrasts move with an outcome as their weights say."""
    data = cohort(d=2)
    found = effect(data, GRAPH, treatment="site", estimator=estimator, confirm=False).influence
    C = np.eye(4)[1:] - np.eye(4)[0]
    units = patient_units(data, GRAPH, ["site"], ["tumour", "age"])
    np.testing.assert_allclose(C @ found.scale.T @ units.Z[found.groups] / len(found), C @ found.theta, atol=1e-8)
