"""The comparison of mean displacements: unbiased products, intervals that hold the truth where plug-in ones do not."""

import numpy as np
import pytest

from experiments.displacements import Group, agreement, plug_in, products, simulated


def test_products_have_no_bias_though_noise_is_shared():
    rng = np.random.default_rng(0)
    draws = np.array([products(*simulated(rng, 0.8)) for _ in range(300)])
    error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    # |image|^2 = 1, |embedding|^2 = 1.2^2, inner product 0.8 * 1.2
    assert (np.abs(draws.mean(axis=0) - [1.0, 1.44, 0.96]) < 4 * error).all()


def test_the_plug_in_cosine_is_too_small_and_the_debiased_is_not():
    rng = np.random.default_rng(1)
    pairs = [simulated(rng, 0.8) for _ in range(100)]
    cosines = np.array(
        [(inner / np.sqrt(a * b), plug_in(*pair)) for pair in pairs for a, b, inner in [products(*pair)]]
    )
    assert cosines[:, 0].mean() == pytest.approx(0.8, abs=0.02)
    assert cosines[:, 1].mean() < 0.75


def test_equal_displacements_close_the_gap():
    rng = np.random.default_rng(2)
    means = rng.standard_normal((30, 2, 5)) * 0.01
    gap = np.array([1.0, 0.0, 2.0, 0.0, 0.0])
    found = agreement(Group(means, np.tile(gap, (30, 1))), Group(means + gap))
    assert found["cosine"][0] > 0.99
    assert found["closed"][0] == pytest.approx(1.0, abs=0.02)
    assert found["length"][0] == pytest.approx(1.0, abs=0.02)
    away = agreement(Group(means, np.tile(-gap, (30, 1))), Group(means + gap))
    assert away["closed"][2] < -0.9
