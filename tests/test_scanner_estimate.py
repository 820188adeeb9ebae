"""Scanner profiles estimated from tiles: the renderer's known scanners as judge."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from causalfm.augment import ScannerSwap, estimate_scanners, white_point
from causalfm.augment.scanner_noise import glass_noise, jpeg_quality
from causalfm.datasets import histology
from causalfm.errors import DataError
from experiments.scanner_errors import by_hand

ARGUS, CORVUS, HELIOS = "Argus 2", "Corvus X", "Helios"


def tiles(seeds, scanner, **changes):
    """Return tiles with pixels of 0.5 um unless told otherwise."""
    device = replace(histology.SCANNERS[scanner], **{"um_per_px": 0.5, **changes})
    out = []
    for i in seeds:
        traits = histology.sample_traits(np.random.default_rng((1, i)))
        scene = histology.make_scene(("glandular", "solid")[i % 2], traits, (2, i), size=224)
        out.append(torch.from_numpy(histology.render(scene, "HE-1", (3, i), scanner=device)).permute(2, 0, 1))
    return torch.stack(out)


@pytest.fixture(scope="module")
def scanned():
    """Other patients under each scanner to fit on, pairs to fit on, and tiles to judge on."""
    names = (ARGUS, CORVUS, HELIOS)
    fit = {name: tiles(range(100 * k, 100 * k + 12), name) for k, name in enumerate(names)}
    return fit, tiles(range(12), CORVUS), {name: tiles(range(1000, 1006), name) for name in names}


def error(a, b):
    return float((a.float() - b.float()).abs()[..., 8:-8, 8:-8].mean())


@pytest.mark.parametrize(("a", "b"), [(ARGUS, CORVUS), (HELIOS, ARGUS)])
def test_the_estimated_swap_is_nearly_that_of_the_true_profiles(scanned, a, b):
    fit, _, judged = scanned
    found = estimate_scanners(fit[a], fit[b])
    moved = ScannerSwap(found.source, found.target, noise=False)(judged[a])
    truth = ScannerSwap(by_hand(a, 0.5), by_hand(b, 0.5), noise=False)(judged[a])
    assert error(moved, judged[b]) < 0.3 * error(judged[a], judged[b])
    assert error(moved, judged[b]) < 1.25 * error(truth, judged[b])
    assert [found.source.jpeg_quality, found.target.jpeg_quality] == [
        histology.SCANNERS[name].jpeg_quality for name in (a, b)
    ]
    assert found.notes == ()


def test_pairs_find_sharpening_and_more_than_the_colours(scanned):
    fit, pairs, judged = scanned
    found = estimate_scanners(fit[ARGUS], pairs, paired=True)
    moved = ScannerSwap(found.source, found.target, noise=False)(judged[ARGUS])
    blunt = ScannerSwap(
        replace(found.source, blur_um=0.0, sharpening=0.0),
        replace(found.target, blur_um=0.0, sharpening=0.0),
        noise=False,
    )(judged[ARGUS])
    assert found.target.sharpening > 0.4  # 0.8 is true; found with a radius that is not
    assert found.source.sharpening == 0.0
    assert error(moved, judged[CORVUS]) < 0.9 * error(blunt, judged[CORVUS])


def test_a_scanner_beside_itself_changes_little(scanned):
    fit, _, judged = scanned
    found = estimate_scanners(fit[ARGUS][:6], fit[ARGUS][6:])
    moved = ScannerSwap(found.source, found.target, noise=False)(judged[ARGUS])
    assert error(moved, judged[ARGUS]) < 2.0  # two draws of noise differ by 2.1, other scanners by 8 and more


def test_white_points_are_those_of_glass(scanned):
    for name, own in scanned[0].items():
        device = histology.SCANNERS[name]
        glass = (np.array(device.colour_matrix) @ device.white).clip(0, 1) ** device.gamma
        assert np.abs(white_point(own).numpy() - glass).max() < 0.02, name


def test_quality_is_found_on_the_grid_only():
    some = tiles(range(2), ARGUS, jpeg_quality=None)
    assert jpeg_quality(some) is None
    stored = tiles(range(2), ARGUS, jpeg_quality=62)
    assert jpeg_quality(stored) == 62
    assert jpeg_quality(stored[:, :, 3:, 5:]) is None


def test_noise_of_glass_before_compression():
    for quality in (None, 85):
        noisy = tiles(range(4), ARGUS, jpeg_quality=quality, electrons=float("inf"), read_noise=0.012)
        found = glass_noise(noisy, white_point(noisy), quality)
        # luminance of three channels with independent noise
        assert found == pytest.approx(0.012 * np.sqrt(0.299**2 + 0.587**2 + 0.114**2), rel=0.2)
    assert glass_noise(noisy.clamp(max=150), torch.ones(3), None) is None


def test_what_cannot_be_told_is_said():
    dark = tiles(range(2), ARGUS, jpeg_quality=None).clamp(max=120)
    found = estimate_scanners(dark, tiles(range(2), ARGUS))
    assert any(note.startswith("source: no quality of JPEG") for note in found.notes)
    assert found.source.jpeg_quality is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": torch.zeros((0, 3, 64, 64))}, r"source has shape \(0, 3, 64, 64\)"),
        ({"target": torch.zeros((2, 3, 16, 64))}, "target has shape"),
        ({"um_per_px": (0.5, 0.0)}, "two pixel sizes above 0"),
        ({"um_per_px": (0.5, 0.25), "paired": True}, "register and resample"),
        ({"target": torch.full((2, 3, 64, 64), float("nan"))}, "floats lie between"),
    ],
)
def test_errors(change, message):
    usual = {"source": torch.zeros((2, 3, 64, 64)), "target": torch.zeros((2, 3, 64, 64))}
    with pytest.raises(DataError, match=message):
        estimate_scanners(**{**usual, **change})
