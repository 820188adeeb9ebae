"""The published implementations, run beside ours."""

import contextlib
import io

import numpy as np
import pandas as pd
import pytest
from corrector_samples import sample

from causalfm.estimators import ComBat, LinearEraser
from causalfm.estimators.correctors.empirical_bayes import Prior, posterior


@pytest.fixture(scope="module")
def rows():
    X, obs, _ = sample(variance_by_site=0.6)
    return X, obs["site"], obs["tumour"], obs[["age"]]


@pytest.mark.parametrize("covariates", [True, False])
def test_combat_is_neurocombat_in_sample(rows, covariates):
    from neuroCombat import neuroCombat

    X, y, biology, age = rows
    table = pd.DataFrame({"site": y, "tumour": biology, "age": age["age"].astype("float32")})
    names = (["tumour"], ["age"]) if covariates else (None, None)
    with contextlib.redirect_stdout(io.StringIO()):
        peer = neuroCombat(X.T.copy(), table, "site", *names)["data"].T
    given = {"biology": biology, "covariates": table[["age"]]} if covariates else {}
    ours = ComBat().fit(X, y, **given).transform_given(X, y, **given)
    np.testing.assert_allclose(ours, peer, atol=1e-5, rtol=0)
    assert np.abs(ours - X).max() > 0.1


@pytest.mark.parametrize("reference", [None, "site1"])
def test_combat_with_a_prior_over_levels_is_combatlearn(rows, reference):
    from combatlearn.core import ComBatModel

    X, y, biology, age = rows
    given = {"discrete_covariates": biology.to_frame(), "continuous_covariates": age}
    peer = ComBatModel(method="fortin", reference_batch=reference).fit(X, batch=y, **given)
    expected = peer.transform(X, batch=y, **given).to_numpy()
    ours = ComBat(prior="levels", reference=reference).fit(X, y, biology=biology, covariates=age)
    np.testing.assert_allclose(ours.transform_given(X, y, biology=biology, covariates=age), expected, atol=1e-5, rtol=0)
    plain = ComBatModel(method="johnson").fit(X, batch=y).transform(X, batch=y).to_numpy()
    np.testing.assert_allclose(ComBat(prior="levels").fit_transform(X, y), plain, atol=1e-5, rtol=0)


def test_combat_on_other_rows_is_combatlearn_with_the_fit_frozen(rows):
    from combatlearn.core import ComBatModel

    X, y, biology, age = rows
    fitted, new = slice(0, 240), slice(240, None)
    peer = ComBatModel(method="fortin").fit(
        X[fitted], batch=y[fitted], discrete_covariates=biology[fitted].to_frame(), continuous_covariates=age[fitted]
    )
    expected = peer.transform(
        pd.DataFrame(X[new], index=y[new].index),
        batch=y[new],
        discrete_covariates=biology[new].to_frame(),
        continuous_covariates=age[new],
    )
    ours = ComBat(prior="levels").fit(X[fitted], y[fitted], biology=biology[fitted], covariates=age[fitted])
    given = {"biology": biology[new], "covariates": age[new]}
    np.testing.assert_allclose(ours.transform_given(X[new], y[new], **given), expected, atol=1e-5, rtol=0)


def test_mean_only_differs_from_neurocombat_by_the_weight_of_a_level_alone(rows):
    from neuroCombat import neuroCombat

    X, y, _, _ = rows
    with contextlib.redirect_stdout(io.StringIO()):
        peer = neuroCombat(X.T.copy(), pd.DataFrame({"site": y}), "site", mean_only=True)
    found = peer["estimates"]
    prior = Prior(found["gamma_bar"][:, None], found["t2"][:, None], None, None)
    as_one_row, _ = posterior(found["gamma_hat"], None, np.ones(3), prior)
    np.testing.assert_allclose(as_one_row, found["gamma.star"], atol=1e-10)
    by_rows, _ = posterior(found["gamma_hat"], None, np.bincount(pd.factorize(y)[0]).astype(float), prior)
    ours = ComBat(mean_only=True).fit(X, y)
    sd = np.sqrt(found["var.pooled"][:, 0])
    np.testing.assert_allclose(ours.solution_["shift"], by_rows * sd, atol=1e-8)
    # at one row's weight 63 % of a site's effect stay in, at the weight of its 120 rows 7 %
    sizes = [np.abs(v).sum() / np.abs(found["gamma_hat"]).sum() for v in (found["gamma.star"], by_rows)]
    assert sizes[0] < 0.4 < 0.9 < sizes[1]


@pytest.mark.parametrize("shrinkage", [True, False])
@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
def test_erasers_are_those_of_concept_erasure(rows, shrinkage):
    import torch
    from concept_erasure import LeaceEraser, OracleFitter, QuadraticEraser

    X, y, _, _ = rows
    x, z = torch.from_numpy(X), torch.from_numpy(pd.get_dummies(y).to_numpy(float))
    peer = LeaceEraser.fit(x, z, shrinkage=shrinkage, svd_tol=1e-8)(x).numpy()
    np.testing.assert_allclose(LinearEraser(shrinkage=shrinkage).fit_transform(X, y), peer, atol=1e-6, rtol=0)
    codes = torch.from_numpy(pd.factorize(y, sort=True)[0])
    peer = QuadraticEraser.fit(x, codes, shrinkage=shrinkage)(x, codes).numpy()
    ours = LinearEraser(form="quadratic", shrinkage=shrinkage)
    np.testing.assert_allclose(ours.fit_transform(X, y), peer, atol=1e-6, rtol=0)
    peer = OracleFitter.fit(x, z[:, 1:], svd_tol=1e-12).eraser(x, z[:, 1:]).numpy()
    np.testing.assert_allclose(LinearEraser(form="oracle").fit_transform(X, y), peer, atol=1e-6, rtol=0)


def test_leace_where_there_are_more_dimensions_than_rows():
    import torch
    from concept_erasure import LeaceEraser

    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((40, 60)) + 2.0, np.arange(40) % 3
    z = torch.from_numpy(np.eye(3)[y])
    peer = LeaceEraser.fit(torch.from_numpy(X), z, svd_tol=1e-6)(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(LinearEraser().fit_transform(X, y), peer, atol=1e-6, rtol=0)
