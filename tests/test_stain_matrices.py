"""Stain vectors and amounts: known mixtures, the published implementation, exact ranks."""

import numpy as np
import pytest
import stain_samples
import torch
from stain_samples import STAINS, rendered

from causalfm.augment import concentrations, macenko, optical_density, vahadane
from causalfm.augment.optical_density import intensity
from causalfm.augment.stain_matrices import masked_percentile

tissue = stain_samples.tissue  # a fixture


def mixture(seed=0, n=4000):
    """Two dyes, a fifth of the pixels pure in either."""
    rng = np.random.default_rng(seed)
    vectors = np.array([[0.65, 0.70, 0.29], [0.07, 0.95, 0.30]])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    amounts = rng.uniform(0.4, 1.5, (2, n))
    amounts[0, : n // 5] = 0.0
    amounts[1, n // 5 : 2 * n // 5] = 0.0
    return torch.tensor(vectors), torch.tensor(amounts), torch.tensor(vectors.T @ amounts)


@pytest.mark.parametrize("method", [macenko, vahadane])
def test_two_dyes_without_noise_are_found(method):
    vectors, _, density = mixture()
    mask = torch.ones(1, density.shape[1], dtype=torch.bool)
    options = {"sparsity": 0.0, "iterations": 200} if method is vahadane else {}
    found = method(density[None], mask, **options)[0]
    # pure pixels are exact, so the extreme angles are the dyes
    torch.testing.assert_close(found, vectors, atol=2e-4, rtol=0)


def test_concentrations_solve_two_equations_and_stay_positive_where_asked():
    vectors, amounts, density = mixture()
    torch.testing.assert_close(concentrations(density[None], vectors[None])[0], amounts, atol=1e-10, rtol=0)
    noisy = density + 0.2 * torch.randn(density.shape, generator=torch.Generator().manual_seed(0), dtype=density.dtype)
    found = concentrations(noisy[None], vectors[None], sparsity=0.05, nonnegative=True)[0]
    assert found.min() == 0
    # Karush-Kuhn-Tucker: the gradient is 0 where an amount is positive and not negative where it is 0
    gradient = vectors @ (vectors.T @ found - noisy) + 0.05
    assert gradient[found > 0].abs().max() < 1e-9
    assert gradient[found == 0].min() > -1e-9


def test_macenko_agrees_with_torchstain(tissue):
    torchstain = pytest.importorskip("torchstain")
    for tile in (tissue["HE-1"][0], tissue["HE-4"][1]):
        peer = torchstain.normalizers.MacenkoNormalizer(backend="torch")
        peer.fit(tile.float())
        density = optical_density(tile[None], 239 / 255)
        found = macenko(density)
        torch.testing.assert_close(found[0].T, peer.HERef, atol=2e-4, rtol=0)
        amounts = concentrations(density, found).flatten(2)
        everything = torch.ones_like(amounts[:, 0], dtype=torch.bool)
        most = torch.stack([masked_percentile(amounts[:, dye], everything, (99.0,))[0, 0] for dye in (0, 1)])
        torch.testing.assert_close(most, peer.maxCRef, atol=2e-3, rtol=0)


def test_percentiles_are_exact_ranks():
    rng = torch.Generator().manual_seed(0)
    values = torch.stack([torch.rand(20_000, generator=rng), torch.arange(20_000.0), torch.zeros(20_000)])
    values[1, :300] = 1e6  # what a sparse sample overlooks
    mask = torch.rand(values.shape, generator=rng) < 0.7
    wanted = (0.0, 1.0, 40.0, 50.0, 99.0, 100.0)
    found = masked_percentile(values, mask, wanted)
    assert torch.equal(found, masked_percentile(values, mask, wanted, by_sorting=True))  # as on a GPU
    nothing = torch.zeros_like(mask)
    for way in (False, True):
        assert (masked_percentile(values, nothing, wanted, by_sorting=way) == 0).all()
        assert masked_percentile(values[:0], mask[:0], wanted, by_sorting=way).shape == (0, len(wanted))
    for row, own, got in zip(values, mask, found, strict=True):
        ordered = row[own].sort().values
        ranks = [round(0.01 * q * (len(ordered) - 1)) for q in wanted]
        assert torch.equal(ordered[ranks], got)


def test_batched_is_one_by_one(tissue):
    density = optical_density(tissue["HE-2"][:3])
    for method in (macenko, vahadane):
        together = method(density)
        alone = torch.cat([method(density[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_optical_density_and_back():
    grey = torch.tensor([0, 127, 255], dtype=torch.uint8).reshape(1, 3, 1, 1)
    found = optical_density(grey).flatten()
    torch.testing.assert_close(found, torch.tensor([np.log(256), np.log(2), 0.0], dtype=torch.float32))
    for white in (1.0, 239 / 255):
        torch.testing.assert_close(intensity(optical_density(grey, white), white), grey / 255.0)


def test_glass_and_ink_have_no_vectors_by_vahadane_either():
    """Their starting vectors were one direction twice: the solver stopped the whole batch."""
    batch = rendered(slice(0, 4), stain=STAINS[0]).clone()
    batch[1] = 243
    batch[3] = 22  # black ink
    found = vahadane(optical_density(batch))
    assert found.isnan().flatten(1).any(dim=1).tolist() == [False, True, False, True]
    assert torch.equal(found[::2], vahadane(optical_density(batch[::2])))
    assert vahadane(optical_density(batch[:, :, :1, :1])).isnan().all()
    twice = torch.tensor([[[0.6, 0.64, 0.48]] * 2])
    assert concentrations(torch.rand(1, 3, 5), twice, sparsity=0.02, nonnegative=True).isfinite().all()
