"""What the methods promise, as theorems."""

import itertools

import numpy as np
import pytest
from corrector_samples import SITE_WISE, applied, gaps, sample
from scipy import linalg

from causalfm.estimators import (
    ComBat,
    LinearEraser,
    MeanAligner,
    NuisanceSubspace,
    NullspaceProjector,
    TransportAligner,
)
from causalfm.estimators.correctors.gaussian_maps import barycentre, coral_map, linear_shrinkage, roots, transport_map


@pytest.fixture(scope="module")
def rows():
    X, obs, _ = sample(variance_by_site=0.5)
    return X, obs["site"].to_numpy(), obs["tumour"].to_numpy()


def indicators(y):
    return (y[:, None] == np.unique(y)).astype(float)


def residual(values, given):
    Z = indicators(given)
    return values - Z @ np.linalg.lstsq(Z, values, rcond=None)[0]


@pytest.mark.parametrize("shrinkage", [True, False])
def test_leace_guards_against_every_linear_read_out(rows, shrinkage):
    X, y, _ = rows
    erased = LinearEraser(shrinkage=shrinkage).fit_transform(X, y)
    Z = indicators(y)
    before, after = (np.abs((V - V.mean(axis=0)).T @ (Z - Z.mean(axis=0))).max() / len(V) for V in (X, erased))
    assert after < 1e-12 < 1e-2 < before
    np.testing.assert_allclose(erased.mean(axis=0), X.mean(axis=0), atol=1e-12)


@pytest.mark.parametrize("n", [20, 40, 100])
def test_leace_guards_where_all_directions_vary_alike(n):
    """The estimated share of the sample covariance is negative there: the mixture had negative eigenvalues."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(n, 2)), rng.integers(0, 3, n)
    X -= X.mean(axis=0)
    X = linalg.solve_triangular(linalg.cholesky(X.T @ X / n, lower=True), X.T, lower=True).T * [1.0, 1.001]
    assert np.linalg.eigvalsh(linear_shrinkage(X.T @ X / n, n))[0] > 0.9
    erased = LinearEraser().fit_transform(X, y)
    assert np.abs((indicators(y) - indicators(y).mean(axis=0)).T @ erased).max() / n < 1e-12


def test_leace_given_biology_guards_given_biology_and_leaves_case_mix(rows):
    X, y, biology = rows
    erased = LinearEraser().fit_transform(X, y, biology=biology)
    left = residual(indicators(y), biology)
    assert np.abs(left.T @ erased).max() / len(X) < 1e-12 < np.abs(left.T @ X).max() / len(X)
    np.testing.assert_allclose(gaps(erased, y, biology), 0.0, atol=1e-10)
    Z = indicators(y) - indicators(y).mean(axis=0)
    assert np.abs(Z.T @ (erased - erased.mean(axis=0))).max() / len(X) > 1e-2


@pytest.mark.parametrize("make", [LinearEraser, NullspaceProjector, NuisanceSubspace])
def test_label_free_maps_are_idempotent(rows, make):
    X, y, biology = rows
    corrector = make().fit(X, y, biology=biology)
    once = corrector.transform(X)
    np.testing.assert_allclose(corrector.transform(once), once, atol=1e-10)
    assert np.abs(once - X).max() > 0.1


def leace_matrix(corrector, d):
    zero = corrector.transform(np.zeros((1, d)))
    return (corrector.transform(np.eye(d)) - zero).T


@pytest.mark.parametrize("given", [False, True])
def test_no_guarded_projection_moves_rows_less_than_leace(rows, given):
    X, y, biology = rows
    d, Z = X.shape[1], indicators(y)
    more = {"biology": biology} if given else {}
    P = leace_matrix(LinearEraser(shrinkage=False).fit(X, y, **more), d)
    centred = X - X.mean(axis=0)
    Z = residual(Z, biology) if given else Z - Z.mean(axis=0)
    cross, covariance = centred.T @ Z / len(X), centred.T @ centred / len(X)

    def cost(Q):
        return np.trace((Q - np.eye(d)) @ covariance @ (Q - np.eye(d)).T)

    assert np.abs(P @ cross).max() < 1e-12
    # closed form: I - W^+ U U' W with W the root of the inverse covariance and U spanning W times the cross-covariance
    root, back = roots(covariance)
    U = linalg.orth(back @ cross, rcond=1e-9)
    np.testing.assert_allclose(P, np.eye(d) - root @ U @ U.T @ back, atol=1e-10)
    assert np.linalg.matrix_rank(np.eye(d) - P, tol=1e-8) == 2
    rng, free = np.random.default_rng(0), linalg.null_space(cross.T)
    for scale in (1e-3, 1e-1, 1.0):
        for _ in range(50):  # every matrix with the same guarantee is P plus something whose rows are off the cross
            rival = P + scale * rng.standard_normal((d, free.shape[1])) @ free.T
            assert np.abs(rival @ cross).max() < 1e-10
            assert cost(rival) > cost(P)
    orthogonal = np.eye(d) - linalg.orth(cross, rcond=1e-9) @ linalg.orth(cross, rcond=1e-9).T
    assert cost(orthogonal) > cost(P) * 1.001


def test_the_oracle_moves_rows_less_than_leace(rows):
    X, y, _ = rows
    moved = [((LinearEraser(form=f, shrinkage=False).fit_transform(X, y) - X) ** 2).sum() for f in ("oracle", "leace")]
    assert moved[0] < moved[1]


def test_the_quadratic_form_equalises_means_and_covariances(rows):
    X, y, _ = rows
    erased = LinearEraser(form="quadratic", shrinkage=False).fit_transform(X, y)
    first, *others = (erased[y == level] for level in np.unique(y))
    for other in others:
        np.testing.assert_allclose(other.mean(axis=0), first.mean(axis=0), atol=1e-12)
        np.testing.assert_allclose(np.cov(other.T), np.cov(first.T), atol=1e-9)


@pytest.mark.parametrize("find", [transport_map, coral_map])
def test_gaussian_maps_in_closed_form(find):
    rng = np.random.default_rng(0)
    A, B = (np.cov(rng.standard_normal((30, 5)), rowvar=False) for _ in range(2))
    np.testing.assert_allclose(find(A, A), np.eye(5), atol=1e-10)
    np.testing.assert_allclose(find(A, B) @ A @ find(A, B).T, B, atol=1e-10)
    np.testing.assert_allclose(find(np.array([[4.0]]), np.array([[9.0]])), [[1.5]])
    # commuting covariances: axis by axis the ratio of standard deviations
    np.testing.assert_allclose(find(np.diag([1.0, 4.0]), np.diag([9.0, 1.0])), np.diag([3.0, 0.5]), atol=1e-12)


def test_the_transport_map_moves_least():
    rng = np.random.default_rng(1)
    A, B = (np.cov(rng.standard_normal((30, 4)), rowvar=False) for _ in range(2))
    found, rival = transport_map(A, B), coral_map(A, B)

    def moved(M):
        return np.trace((M - np.eye(4)) @ A @ (M - np.eye(4)).T)

    root, _ = roots(A)
    wasserstein = np.trace(A) + np.trace(B) - 2.0 * np.trace(roots(root @ B @ root)[0])
    assert moved(found) == pytest.approx(wasserstein, abs=1e-10)
    assert moved(found) < moved(rival)
    np.testing.assert_allclose(found, found.T, atol=1e-10)


def test_the_barycentre_of_commuting_covariances_averages_standard_deviations():
    centre = barycentre(np.stack([np.diag([1.0, 4.0]), np.diag([9.0, 16.0])]), np.array([1.0, 3.0]))
    np.testing.assert_allclose(centre, np.diag([(1.0 + 3 * 3.0) / 4, (2.0 + 3 * 4.0) / 4]) ** 2, atol=1e-9)


@pytest.mark.parametrize("find", ["transport", "coral"])
def test_the_aligner_equalises_covariances_and_in_one_dimension_takes_the_ratio_of_standard_deviations(rows, find):
    X, y, _ = rows
    aligned = TransportAligner(map=find, shrinkage=False, n_components=12).fit_transform(X, y)
    first, *others = (np.cov(aligned[y == level].T) for level in np.unique(y))
    for other in others:
        np.testing.assert_allclose(other, first, atol=1e-9)
    one = TransportAligner(map=find, shrinkage=False, n_components=1, reference="site0").fit(X[:, :1], y)
    sd = [X[y == level, 0].std(ddof=1) for level in np.unique(y)]
    np.testing.assert_allclose(one.solution_["inside"][:, 0, 0], sd[0] / np.array(sd), rtol=1e-10)


def test_equal_covariances_are_left_alone():
    rng = np.random.default_rng(0)
    half = rng.standard_normal((50, 4))
    X, y = np.concatenate([half, half + 3.0]), np.repeat(["a", "b"], 50)
    for find, shrinkage in itertools.product(("transport", "coral"), (True, False)):
        aligner = TransportAligner(map=find, shrinkage=shrinkage, n_components=4).fit(X, y)
        np.testing.assert_allclose(aligner.solution_["inside"], np.stack([np.eye(4)] * 2), atol=1e-8)


@pytest.mark.parametrize("name", SITE_WISE)
def test_no_difference_between_means_given_biology_is_left(rows, name):
    X, y, biology = rows
    corrector = SITE_WISE[name]().fit(X, y, biology=biology)
    before, left = (np.abs(gaps(V, y, biology)).max() for V in (X, applied(corrector, X, y)))
    exact = name in ("mean", "oracle")  # others shrink effects, or stretch rows about the mean of all
    other = name in ("causal, matched", "causal, aipw")  # no regression on all rows: they differ from it by noise
    assert left < (1e-10 if exact else 0.2 if other else 0.1) * before


def test_the_mean_aligner_is_the_regression(rows):
    X, y, biology = rows
    aligned = MeanAligner(reference="site0").fit_transform(X, y, biology=biology)
    effects = np.concatenate([np.zeros((1, X.shape[1])), gaps(X, y, biology)])
    np.testing.assert_allclose(aligned, X - effects[np.unique(y, return_inverse=True)[1]], atol=1e-10)


def test_empirical_bayes_shrinks_what_noise_explains_and_keeps_what_it_does_not():
    for effect, low, high in ((0.0, 0.0, 0.6), (3.0, 0.9, 1.0)):
        shares = []
        for seed in range(10):
            X, obs, _ = sample(n_groups=30, site_effect=effect, random_state=seed, n_sites=5, effect_seed=seed)
            fits = [
                MeanAligner(shrinkage=s).fit(X, obs["site"], groups=obs["patient"]).solution_["shift"]
                for s in ("none", "empirical-bayes")
            ]
            shares.append((fits[1] * fits[0]).sum() / (fits[0] ** 2).sum())
        assert low <= np.mean(shares) <= high


def test_the_nuisance_subspace_leaves_class_differences_as_they_were(rows):
    X, y, biology = rows
    corrector = NuisanceSubspace().fit(X, y, biology=biology)
    basis = corrector.solution_["basis"]
    classes = np.unique(biology)
    design = np.column_stack([indicators(y), biology == classes[1]]).astype(float)
    difference = np.linalg.lstsq(design, X, rcond=None)[0][-1]
    np.testing.assert_allclose(difference @ basis, 0.0, atol=1e-12)
    np.testing.assert_allclose(basis.T @ basis, np.eye(2), atol=1e-12)
    fewer = NuisanceSubspace(n_directions=1).fit(X, y, biology=biology).solution_["basis"]
    assert fewer.shape[1] == 1
    assert np.abs(fewer[:, 0] @ basis[:, 0]) == pytest.approx(1.0)


def test_inlp_ends_where_chance_explains_the_rest(rows):
    X, y, _ = rows
    rng = np.random.default_rng(0)
    assert NullspaceProjector().fit(rng.standard_normal((600, 12)), rng.integers(3, size=600)).solution_[
        "basis"
    ].shape == (12, 0)
    projector = NullspaceProjector().fit(X, y)
    assert 2 <= projector.solution_["basis"].shape[1] <= 10
    projected, Z = projector.transform(X), indicators(y) - indicators(y).mean(axis=0)
    explained = [
        1 - ((Z - V @ np.linalg.lstsq(V, Z, rcond=None)[0]) ** 2).sum() / (Z**2).sum()
        for V in (X - X.mean(axis=0), projected - projected.mean(axis=0))
    ]
    assert explained[0] > 0.15
    assert explained[1] < 0.08


def test_covbat_is_what_its_authors_do_row_by_row(rows):
    X, y, biology = rows
    combat = ComBat().fit(X, y, biology=biology)
    sd = combat.solution_["sd"]
    design = np.column_stack([indicators(y), biology == np.unique(biology)[1]]).astype(float)
    slope = np.linalg.lstsq(design, X, rcond=None)[0][-1]
    stand = X.mean(axis=0) + np.outer(design[:, -1] - design[:, -1].mean(), slope)
    left = (combat.transform_given(X, y, biology=biology) - stand) / sd
    values, vectors = np.linalg.eigh(np.cov(left.T, bias=True))
    values, vectors = values[::-1], vectors[:, ::-1]
    k = int(np.searchsorted(np.cumsum(values) / values.sum(), 0.8)) + 1
    axes = vectors[:, :k]
    scores = left @ axes
    aligned, levels = np.empty_like(scores), np.unique(y)
    pooled = np.sqrt(
        sum(((scores[y == v] - scores[y == v].mean(axis=0)) ** 2).sum(axis=0) for v in levels) / (len(X) - len(levels))
    )
    for v in levels:
        own = scores[y == v]
        aligned[y == v] = (own - own.mean(axis=0)) / own.std(axis=0, ddof=1) * pooled + scores.mean(axis=0)
    expected = stand + (left + (aligned - scores) @ axes.T) * sd
    found = ComBat(covbat=0.8).fit(X, y, biology=biology).transform_given(X, y, biology=biology)
    np.testing.assert_allclose(found, expected, atol=1e-9)
