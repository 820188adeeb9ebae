"""A factorisation that does not give up."""

import numpy as np

from causalfm.singular_values import thin_svd


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
