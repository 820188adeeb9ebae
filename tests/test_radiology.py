"""Radiology presets: what each does to images whose answer is known, seeds, units, errors."""

import importlib.util
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import causalfm as cfm
from causalfm.augment import SITE_PRESETS, InterventionalAugment, SitePreset, rescan
from causalfm.errors import DataError, MissingDependencyError

needs_torchio = pytest.mark.skipif(
    importlib.util.find_spec("torchio") is None,
    reason="torchio is not installed: pip install 'causalfm[radiology]'",
)


def volumes(n=2, shape=(12, 20, 16), seed=0):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand((n, 2, *shape), generator=generator)
    return torch.nn.functional.avg_pool3d(noise, 3, 1, 1) * 2000 - 1000  # units with an offset, as HU


def test_the_neutral_preset_returns_the_images_and_needs_no_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchio", None)
    images = volumes()
    assert rescan(images, SITE_PRESETS["neutral"]) is images
    with pytest.raises(MissingDependencyError, match=r"causalfm\[radiology\]"):
        rescan(images, SITE_PRESETS["soft-kernel"])


@needs_torchio
@pytest.mark.parametrize("name", [name for name in SITE_PRESETS if name != "neutral"])
@pytest.mark.parametrize("flat", [False, True])
def test_a_preset_is_one_defined_change(name, flat):
    images, preset = volumes(), SITE_PRESETS[name]
    if flat:
        images, preset = images[:, :, 5], replace(preset, slice_axis=-2)
    kept, state = images.clone(), torch.get_rng_state()
    once = rescan(images, preset, random_state=3)
    assert torch.equal(torch.get_rng_state(), state)  # nobody else's random numbers are used up
    assert torch.equal(images, kept)
    assert once.shape == images.shape
    assert once.dtype == images.dtype
    assert torch.isfinite(once).all()
    assert (once - images).abs().mean() > 5
    assert torch.equal(once, rescan(images, preset, random_state=3))
    random = preset.spread > 0 or preset.bias > 0
    assert torch.equal(once, rescan(images, preset, random_state=4)) != random
    assert torch.equal(once[:1], rescan(images[:1], preset, random_state=3))  # whatever else is in the batch


@needs_torchio
def test_contrast_keeps_the_range_and_bias_has_its_size():
    images = volumes()
    bright = rescan(images, SitePreset(gamma=0.7))
    low, high = images.flatten(2).amin(2)[..., None, None, None], images.flatten(2).amax(2)[..., None, None, None]
    torch.testing.assert_close(
        bright, low + (high - low) * ((images - low) / (high - low)) ** 0.7, rtol=1e-4, atol=1e-2
    )
    field = (rescan(images, SitePreset(bias=0.3)) - low) / (images - low)
    inside = (images - low) > 100
    for row in range(2):
        a = field[row, 0].log()[inside[row, 0]]
        assert a.std() == pytest.approx(0.3, rel=0.05)
        assert a.mean() == pytest.approx(0.0, abs=0.02)
        both = inside[row].all(dim=0)  # the coil is one: channels share the field
        torch.testing.assert_close(field[row, 0][both], field[row, 1][both], rtol=1e-3, atol=1e-3)


@needs_torchio
def test_blur_is_in_millimetres_of_every_axis():
    point = torch.zeros((1, 1, 31, 31, 31))
    point[..., 15, 15, 15] = 1000.0
    blurred = rescan(point, SitePreset(blur_mm=3.0), voxel_mm=(3.0, 1.5, 1.0))[0, 0]
    assert float(blurred.sum()) == pytest.approx(1000.0, rel=1e-3)
    at = torch.arange(31.0) - 15
    for axis, sd in enumerate((1.0, 2.0, 3.0)):
        profile = blurred.sum(dim=[a for a in range(3) if a != axis]) / 1000
        assert float((profile * at**2).sum()) == pytest.approx(sd**2, rel=0.03)


@needs_torchio
def test_thick_slices_average_and_hold_the_ends():
    thick = SitePreset(slice_factor=4.0)
    flat = torch.full((1, 1, 17, 6, 5), -700.0)
    torch.testing.assert_close(rescan(flat, thick), flat)  # torchio 1.2.1's own Resample sets the last slice to 0
    ramp = torch.arange(24.0)[:, None, None].expand(1, 1, 24, 4, 4)
    torch.testing.assert_close(rescan(ramp, thick)[..., 6:18, :, :], ramp[..., 6:18, :, :], atol=0.02, rtol=0)
    stripes = (torch.arange(24.0) % 2)[:, None, None].expand(1, 1, 24, 4, 4)
    torch.testing.assert_close(
        rescan(stripes, thick)[..., 6:18, :, :], torch.full((1, 1, 12, 4, 4), 0.5), atol=0.05, rtol=0
    )
    across = stripes.transpose(2, 4)
    torch.testing.assert_close(rescan(across, replace(thick, slice_axis=-1)).transpose(2, 4), rescan(stripes, thick))


@needs_torchio
def test_ghosts_stand_where_the_number_says():
    point = torch.zeros((1, 1, 8, 32, 8))
    point[..., 3, 5, 2] = 1000.0
    ghosts = rescan(point, SitePreset(ghosts=4, ghost_strength=0.8))[0, 0]
    line = ghosts[3, :, 2].abs()
    copies = [(5 + 8 * k) % 32 for k in range(4)]
    assert sorted(line.topk(4).indices.tolist()) == sorted(copies)
    assert ghosts.flatten().abs().sum() == pytest.approx(float(line.sum()), rel=0.05)  # along one axis only


@needs_torchio
def test_whole_numbers_keep_their_type():
    images = volumes().round().to(torch.int16)
    moved = rescan(images, SITE_PRESETS["steep-contrast"])
    assert moved.dtype == torch.int16
    torch.testing.assert_close(moved.float(), rescan(images.float(), SITE_PRESETS["steep-contrast"]), atol=0.51, rtol=0)
    photo = (torch.rand((2, 1, 16, 16), generator=torch.Generator().manual_seed(0)) * 255).to(torch.uint8)
    assert rescan(photo, SitePreset(bias=0.5)).dtype == torch.uint8
    assert rescan(photo[:0], SitePreset(bias=0.5)).shape == (0, 1, 16, 16)


@needs_torchio
def test_sites_are_drawn_independently_of_biology():
    n, presets = 40, {name: SITE_PRESETS[name] for name in ("neutral", "flat-contrast", "soft-kernel")}
    obs = pd.DataFrame({"tumour": ["x", "y"] * 20, "site": ["neutral", "soft-kernel"] * 20, "patient": range(n)})
    graph = cfm.CausalGraph.standard(biology="tumour", technical=["site"], group="patient")
    augment = InterventionalAugment(graph, {"site": presets}, obs, donors={"site": list(presets)})
    images = volumes(n, (4, 8, 8))
    moved, done = augment(images, augment.encode(obs))
    assert set(done.codes[:, 0].tolist()) == {0, 1, 2}
    own = (done.codes == augment.encode(obs))[:, 0]
    assert torch.equal(moved[own], images[own])
    soft = (~own & (done.codes[:, 0] == augment.levels["site"].index("soft-kernel"))).nonzero()[:, 0]
    assert (moved[soft].flatten(1).std(dim=1) < 0.8 * images[soft].flatten(1).std(dim=1)).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"bias": -0.1}, "bias, .* are 0 or more"),
        ({"gamma": 0.0}, "gamma is above 0"),
        ({"slice_factor": 0.5}, "slice_factor is 1 or more"),
        ({"ghosts": 1.5}, "ghosts a whole number"),
        ({"ghost_strength": 1.5}, "ghost_strength at most 1"),
        ({"slice_axis": 0}, "slice_axis and ghost_axis are -3"),
        ({"blur_mm": float("inf")}, "finite numbers only"),
    ],
)
def test_presets_are_checked(wrong, message):
    with pytest.raises(DataError, match=message):
        SitePreset(**wrong)


def test_images_are_checked():
    images, soft = volumes(), SITE_PRESETS["soft-kernel"]
    spoilt = images.clone()
    spoilt[1, 0, 0, 0, 0] = np.nan
    for call, message in (
        (lambda: rescan(images[0, 0], soft), "pass a torch tensor"),
        (lambda: rescan(images.numpy(), soft), "pass a torch tensor"),
        (lambda: rescan(spoilt, soft), "not finite.*1"),
        (lambda: rescan(images, soft, voxel_mm=(1.0, 1.0)), "voxel_mm"),
        (lambda: rescan(images[:, :, 0], SITE_PRESETS["thick-slices"]), "depth"),
        (lambda: rescan(images[:, :, :0], soft), "some voxels"),
    ):
        with pytest.raises(DataError, match=message):
            call()


def test_what_is_no_preset_is_refused():
    with pytest.raises(DataError, match="preset must be a SitePreset"):
        rescan(torch.zeros(1, 1, 4, 4), "soft-kernel")
    with pytest.raises(DataError, match="finite numbers"):
        SitePreset(gamma="1")
