"""What scikit-learn asks of an estimator, asked of every corrector."""

import numpy as np
import pytest
from corrector_samples import ALL, LABEL_FREE, SITE_WISE, LevelGiven, rows_of
from sklearn.utils.estimator_checks import parametrize_with_checks

from causalfm.estimators import CausalComBat, ComBat, LinearEraser, MeanAligner, SCMCorrector, TransportAligner
from causalfm.graph import CausalGraph

LABELS = "transform needs the level of each row, which the check does not pass"
BIOLOGY = "fit needs the biology of the graph, which the check does not pass"
NO_FACTOR = dict.fromkeys(
    (
        "check_estimators_dtypes",
        "check_dtype_object",
        "check_estimators_nan_inf",
        "check_estimators_pickle",
        "check_f_contiguous_array_estimator",
        "check_transformer_data_not_an_array",
        "check_transformer_general",
        "check_transformer_preserve_dtypes",
        "check_methods_sample_order_invariance",
        "check_methods_subset_invariance",
        "check_dict_unchanged",
        "check_fit_idempotent",
    ),
    LABELS,
)
NO_BIOLOGY = dict.fromkeys(
    (
        "check_fit_score_takes_y",
        "check_estimators_overwrite_params",
        "check_dont_overwrite_parameters",
        "check_estimators_fit_returns_self",
        "check_readonly_memmap_input",
        "check_n_features_in_after_fitting",
        "check_positive_only_tag_during_fit",
        "check_pipeline_consistency",
        "check_fit2d_1feature",
        "check_fit_check_is_fitted",
        "check_n_features_in",
        "check_fit2d_predict1d",
    ),
    BIOLOGY,
)
SCM_ONLY: dict[str, str] = {}
GRAPH = CausalGraph.standard(biology="tumour", technical=["site"], group="patient")


class MeanAlignerGiven(LevelGiven, MeanAligner): ...


class ComBatGiven(LevelGiven, ComBat): ...


class CausalComBatGiven(LevelGiven, CausalComBat): ...


class LinearEraserGiven(LevelGiven, LinearEraser): ...


class TransportAlignerGiven(LevelGiven, TransportAligner): ...


GIVEN = {
    c.__mro__[2]: c
    for c in (MeanAlignerGiven, ComBatGiven, CausalComBatGiven, LinearEraserGiven, TransportAlignerGiven)
}


def given_levels(corrector):
    return GIVEN[type(corrector)](**corrector.get_params())


class BiologyGiven(SCMCorrector):
    """The causal model with classes at random; rows stand at the first level where no level is passed."""

    def fit(self, X, y=None, **given):
        return super().fit(X, y, biology=np.random.default_rng(0).integers(2, size=rows_of(X)))

    def transform(self, X, factor=None):
        if factor is None and hasattr(self, "scm_"):
            factor = [self.targets_[0]["site"]] * rows_of(X)
        return super().transform(X, factor=factor)

    def fit_transform(self, X, y=None, **params):
        return self.fit(X, y, **params).transform(X)


def reasons(corrector):
    if isinstance(corrector, SCMCorrector):
        return {**NO_FACTOR, **NO_BIOLOGY}
    needs = hasattr(corrector, "unseen") and getattr(corrector, "form", "") != "leace"
    return NO_FACTOR if needs else {}


@parametrize_with_checks(
    [*(make() for make in ALL.values()), SCMCorrector(GRAPH)], expected_failed_checks=reasons, xfail_strict=True
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@parametrize_with_checks([given_levels(make()) for make in SITE_WISE.values()], expected_failed_checks=lambda e: {})
def test_scikit_learn_checks_where_levels_are_given(estimator, check):
    check(estimator)


@parametrize_with_checks([BiologyGiven(GRAPH, assume="additive")], expected_failed_checks=lambda e: SCM_ONLY)
def test_scikit_learn_checks_where_biology_is_given(estimator, check):
    check(estimator)


@pytest.mark.parametrize("name", LABEL_FREE)
def test_label_free_correctors_fail_no_check(name):
    assert reasons(LABEL_FREE[name]()) == {}
