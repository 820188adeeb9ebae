"""Scanner swaps: the renderer as judge, identity, gradients, errors."""

from dataclasses import replace

import pytest
import torch

from causalfm.augment import ScannerProfile, ScannerSwap
from causalfm.datasets import histology
from causalfm.errors import DataError
from experiments.scanner_errors import by_hand

NAMES = tuple(histology.SCANNERS)


@pytest.fixture(scope="module")
def scanned():
    """The same tissue under every scanner, all with pixels of 0.5 um, and with pixels of their own."""
    obs = histology.cohort_table(8, 1, 0.0, 0)
    scenes = [
        histology.make_scene(t, histology.sample_traits(_rng(i)), i, size=128) for i, t in enumerate(obs["tumour"])
    ]

    def scan(scanner):
        tiles = [histology.render(scene, "HE-1", i, scanner=scanner) for i, scene in enumerate(scenes)]
        return torch.stack([torch.from_numpy(tile).permute(2, 0, 1) for tile in tiles])

    own = {name: scan(name) for name in NAMES}
    return {name: scan(replace(histology.SCANNERS[name], um_per_px=0.5)) for name in NAMES}, own


def _rng(seed):
    import numpy as np

    return np.random.default_rng(seed)


def error(a, b, border=0):
    difference = (a.float() - b.float()).abs()
    return float(difference[..., border : difference.shape[-2] - border, border : difference.shape[-1] - border].mean())


@pytest.mark.parametrize("target", NAMES[1:])
@pytest.mark.parametrize("own_pixels", [False, True])
def test_the_swap_is_the_true_scan(scanned, target, own_pixels):
    tiles = scanned[own_pixels]
    size = None if own_pixels else 0.5
    # noise off: two draws of noise never agree, and the judge is what the scanner does on average
    moved = ScannerSwap(by_hand(NAMES[0], size), by_hand(target, size), noise=False)(tiles[NAMES[0]])
    assert moved.dtype == torch.uint8
    before = error(tiles[NAMES[0]], tiles[target], 8)
    after = error(moved, tiles[target], 8)
    assert after < 0.6 * before, (before, after)


def test_there_and_back(scanned):
    smooth = torch.nn.functional.avg_pool2d(scanned[0][NAMES[0]].double() / 255, 5, 1, 2)
    smooth = smooth * 0.8  # light above the white point would be cut, and cannot come back
    a = ScannerProfile(blur_um=0.2, white=(0.9, 0.95, 0.97), gamma=1.2, sharpening=0.5)
    b = ScannerProfile(blur_um=0.3, colour_matrix=((0.95, 0.05, 0.0), (0.0, 1.0, 0.0), (0.02, 0.0, 0.98)))
    back = ScannerSwap(b, a)(ScannerSwap(a, b)(smooth))
    assert (back - smooth).abs()[..., 16:-16, 16:-16].quantile(0.99) < 2 / 255
    assert torch.equal(ScannerSwap(a, a)(smooth), smooth)


def test_noise_has_the_stated_variance_and_seed():
    grey = torch.full((2, 3, 64, 64), 0.5)
    noisy = ScannerProfile(shot_noise=0.0004, read_noise=0.01)
    moved = ScannerSwap(ScannerProfile(), noisy, random_state=1)(grey)
    # variance 0.0004 * 0.5 + 0.0001 = 0.0003; relative error of a variance of 24576 draws: 1 sd 0.9 %
    assert abs(float((moved - 0.5).var()) / 0.0003 - 1) < 0.04
    assert torch.equal(moved, ScannerSwap(ScannerProfile(), noisy, random_state=1)(grey))
    assert not torch.equal(moved, ScannerSwap(ScannerProfile(), noisy, random_state=2)(grey))


def test_gradients_pass():
    tile = (torch.rand(1, 3, 6, 6, dtype=torch.float64) * 0.5 + 0.25).requires_grad_()
    source = ScannerProfile(gamma=1.1, sharpening=0.2)
    target = ScannerProfile(um_per_px=0.45, blur_um=0.4, gamma=0.9, white=(0.9, 0.9, 0.9))
    assert torch.autograd.gradcheck(ScannerSwap(source, target), tile)


SHAPES = "white holds 3 numbers, colour_matrix 3 rows of 3"
SINGULAR = "colour_matrix cannot be undone"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"gamma": 0.0}, "gamma, .* are above 0"),
        ({"white": (1.2, 1.0, 1.0)}, "white at most 1"),
        ({"blur_um": -1.0}, "blur_um, .* are 0 or more"),
        ({"jpeg_quality": 99}, "jpeg_quality=99: choose a whole number from 1 to 95"),
        ({"colour_matrix": ((1.0, 1.0, 0.0),) * 3}, SINGULAR),
        ({"read_noise": float("nan")}, "read_noise are 0 or more"),
        ({"white": (1.0, 1.0)}, SHAPES),
        ({"gamma": "2"}, SHAPES),
        ({"colour_matrix": ((1.0, 0.0), (0.0, 1.0))}, SHAPES),
        ({"colour_matrix": ((float("nan"), 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))}, SINGULAR),
        ({"jpeg_quality": 80.5}, "jpeg_quality=80.5: choose a whole number"),
    ],
)
def test_profiles_that_describe_no_scanner_are_refused(wrong, message):
    with pytest.raises(DataError, match=message):
        ScannerProfile(**wrong)


def test_what_is_no_profile_is_refused():
    with pytest.raises(DataError, match="target must be a ScannerProfile"):
        ScannerSwap(ScannerProfile(), "Eastbrook")
