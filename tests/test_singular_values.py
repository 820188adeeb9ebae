"""A factorisation that does not give up."""

import numpy as np
import pytest

from causalfm.datasets.linear_scm import linear_scm
from causalfm.graph import CausalGraph
from causalfm.invariance import invariance_test
from causalfm.singular_values import orthonormal, thin_svd


def test_the_slower_routine_takes_over(monkeypatch):
    X = np.random.default_rng(0).standard_normal((15, 20))
    _, s, vt = thin_svd(X)

    def gives_up(*args, **kwargs):
        raise np.linalg.LinAlgError("SVD did not converge")

    monkeypatch.setattr(np.linalg, "svd", gives_up)
    u, again, other = thin_svd(X)
    np.testing.assert_allclose(again, s, rtol=1e-12)
    np.testing.assert_allclose(np.abs((vt * other).sum(axis=1)), 1.0, rtol=1e-10)
    np.testing.assert_allclose((u * again) @ other, X, rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", ["mean", "gcm", "hsic"])
@pytest.mark.parametrize("of", ["site", "thickness"])
def test_invariance_is_answered_alike_by_the_slower_routine(method, of, monkeypatch):
    """Dummy columns, spline bases and cells: every factorisation of the tests falls back, with the same answer."""
    cohort, _ = linear_scm(n_groups=40, n_sites=2, d=5, random_state=1)
    dose = np.random.default_rng(0).standard_normal(40)[cohort.factor("patient").codes]
    cohort = cohort.replace(obs=cohort.obs.assign(thickness=dose))
    graph = CausalGraph.standard(biology="tumour", technical=of, covariates="age", group="patient")

    def ask():
        return invariance_test(cohort, graph, of=of, method=method, n_permutations=49)

    fast, given_up, svd = ask(), [], np.linalg.svd

    def gives_up(matrix, full_matrices=True):
        if full_matrices:  # of the levels' number, not of data
            return svd(matrix)
        given_up.append(matrix)
        raise np.linalg.LinAlgError("SVD did not converge")

    monkeypatch.setattr(np.linalg, "svd", gives_up)
    slow = ask()
    assert given_up
    assert slow.p_value == fast.p_value
    assert slow.statistic == pytest.approx(fast.statistic, rel=1e-9)
    assert slow.effect.value == pytest.approx(fast.effect.value, rel=1e-9)


def test_the_basis_spans_the_columns_and_nothing_that_is_rounding():
    rng = np.random.default_rng(0)
    columns = rng.standard_normal((9, 2)) @ rng.standard_normal((2, 4))  # rank 2
    basis = orthonormal(columns)
    np.testing.assert_allclose(basis.T @ basis, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(basis @ (basis.T @ columns), columns, atol=1e-12)
    assert orthonormal(1e-12 * columns).shape == (9, 2)
    assert orthonormal(1e-12 * columns, size=1.0).shape == (9, 0)  # what is left of columns of norm 1
    assert orthonormal(np.zeros((9, 3))).shape == orthonormal(np.zeros((9, 0))).shape == (9, 0)
