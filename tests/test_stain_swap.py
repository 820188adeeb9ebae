"""Swaps of stains: there and back, the renderer as judge, draws, gradients, odd batches, torch alone."""

import subprocess
import sys

import pytest
import stain_samples
import torch
from stain_samples import STAINS

from causalfm.augment import (
    HEDJitter,
    ScannerProfile,
    ScannerSwap,
    StainSwap,
    concentrations,
    lab_statistics,
    optical_density,
    reinhard,
)
from causalfm.augment.stain_swap import swap_operator

tissue, donors, library = stain_samples.tissue, stain_samples.donors, stain_samples.library  # fixtures

STATISTICS = (torch.tensor([60.0, 20.0, -15.0]), torch.tensor([12.0, 9.0, 8.0]))


def test_own_stain_changes_nothing_and_there_and_back_is_the_tile(tissue, library):
    swap, tiles = StainSwap(library), tissue["HE-1"]
    same, changed = swap(tiles, "HE-1", "HE-1")
    assert changed.all()
    assert (same.int() - tiles.int()).abs().max() <= 1
    floats = tiles.double() / 255
    there, _ = swap(floats, "HE-1", "HE-2")
    inside = ((there > 0) & (there < 1)).all(dim=1, keepdim=True)  # what was cut cannot come back
    back, _ = swap(there, "HE-2", "HE-1")
    assert inside.float().mean() > 0.9
    assert ((back - floats).abs() * inside).max() < 1e-5  # vectors are stored in float32


def test_concentrations_are_preserved(tissue, library):
    tiles = tissue["HE-1"].double() / 255
    moved, _ = StainSwap(library)(tiles, "HE-1", "HE-3")
    a, b = library.position(["HE-1", "HE-3"])

    def relative(images, place):
        vectors = library.vectors[place].double().expand(len(images), -1, -1)
        return (
            concentrations(optical_density(images, library.white[place].double()), vectors)
            / library.intensities[place].double()[:, None, None]
        )

    inside = ((moved > 0) & (moved < 1)).all(dim=1, keepdim=True)
    before, after = relative(tiles, a), relative(moved, b)
    assert inside.float().mean() > 0.9
    assert ((after - before).abs() * inside).max() < 1e-5
    operator = swap_operator(*(x[i : i + 1].double() for i in (a, b) for x in (library.vectors, library.intensities)))
    plane = library.vectors[a : a + 1].double().transpose(1, 2) @ torch.rand(
        1, 2, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    c = concentrations(plane, library.vectors[a : a + 1].double()) / library.intensities[a].double()[:, None]
    d = concentrations(operator @ plane, library.vectors[b : b + 1].double()) / library.intensities[b].double()[:, None]
    torch.testing.assert_close(c, d)


@pytest.mark.parametrize("donor", STAINS[1:])
def test_the_swap_is_the_true_rendering(tissue, donors, library, donor):
    tiles, truth = tissue["HE-1"], tissue[donor].float()

    def error(images):
        return float((images.float() - truth).abs().mean())

    swapped = error(StainSwap(library)(tiles, "HE-1", donor)[0])
    mean, sd = (x.mean(dim=0) for x in lab_statistics(donors[donor]))
    assert swapped < 0.25 * error(tiles)
    assert swapped < 0.75 * error(reinhard(tiles, mean, sd)[0])
    assert swapped < 0.25 * error(HEDJitter(0.05)(tiles)[0])


def test_the_judge_shares_no_code():
    from pathlib import Path

    root = Path(__file__).parents[1]
    judge, judged = [*(root / "datasets").glob("histology*.py")], [*(root / "causalfm" / "augment").glob("*.py")]
    assert judge
    assert judged
    assert [path.name for path in judge if "causalfm.augment" in path.read_text("utf-8")] == []
    assert [path.name for path in judged if "causalfm.datasets" in path.read_text("utf-8")] == []


def test_draws_are_seeded_and_independent_of_the_tile(tissue, library):
    tiles = tissue["HE-1"]
    first = StainSwap(library, random_state=3)
    assert torch.equal(first(tiles, "HE-1")[0], StainSwap(library, random_state=3)(tiles, "HE-1")[0])
    assert not torch.equal(first(tiles, "HE-1")[0], StainSwap(library, random_state=3)(tiles, "HE-1")[0])
    counts = torch.bincount(first._drawn(4000), minlength=4)
    # binomial(4000, 1/4): sd 27.4; 4 sd
    assert (counts - 1000).abs().max() < 110
    jitter = HEDJitter(random_state=1)
    assert torch.equal(jitter(tiles)[0], HEDJitter(random_state=1)(tiles)[0])
    assert torch.equal(jitter.eval()(tiles)[0], tiles)


def test_gradients_pass(tissue, library):
    tiles = (tissue["HE-1"][:2, :, :16, :16].double() / 255).requires_grad_()
    swap = StainSwap(library)
    assert torch.autograd.gradcheck(
        lambda x: swap(x, "HE-1", "HE-4")[0], tiles[:1, :, :3, :3].detach().requires_grad_()
    )
    for move in (lambda x: swap(x, donor="HE-4"), HEDJitter(), lambda x: reinhard(x, *STATISTICS)):
        (gradient,) = torch.autograd.grad(move(tiles)[0].sum(), tiles)
        assert torch.isfinite(gradient).all()
        assert gradient.abs().sum() > 0


def test_an_empty_batch_stays_empty(library):
    moved, changed = StainSwap(library)(torch.zeros((0, 3, 8, 8), dtype=torch.uint8))
    assert moved.shape == (0, 3, 8, 8)
    assert changed.shape == (0,)


ODD = {
    "half": lambda x: x.half() / 255,
    "brain": lambda x: (x.float() / 255).bfloat16(),
    "double": lambda x: x.double() / 255,
    "one pixel": lambda x: x[:, :, :1, :1],
    "one row": lambda x: x[:, :, :1],
    "one colour": lambda x: torch.full_like(x, 200),
    "black": torch.zeros_like,
    "white": lambda x: torch.full_like(x, 255),
    "turned": lambda x: x.transpose(2, 3),
    "none": lambda x: x[:0],
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_batches_keep_type_and_shape_and_stay_finite(kind, tissue, library):
    tiles = ODD[kind](tissue["HE-1"][:2, :, :64, :64])
    before, swap = tiles.clone(), StainSwap(library)
    scanner = ScannerProfile(blur_um=0.4, gamma=1.1, sharpening=0.3, shot_noise=1e-4, jpeg_quality=80)
    for move in (
        lambda x: swap(x, "HE-1", "HE-4")[0],
        lambda x: swap(x, donor="HE-4")[0],
        lambda x: HEDJitter()(x)[0],
        lambda x: reinhard(x, *STATISTICS)[0],
        ScannerSwap(ScannerProfile(), scanner),
    ):
        moved = move(tiles)
        assert (moved.dtype, moved.shape) == (tiles.dtype, tiles.shape)
        assert torch.isfinite(moved.float()).all()
        assert torch.equal(tiles, before)


ALONE = """
import importlib.abc, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"pandas", "scipy", "sklearn", "networkx", "anndata", "safetensors", "PIL"}:
            raise ImportError("blocked: " + name)

sys.meta_path.insert(0, Blocked())
import torch
from causalfm.augment import StainLibrary, StainSwap
tiles = torch.load(sys.argv[1], weights_only=True)
moved, changed = StainSwap(StainLibrary.fit(tiles, ["a", "b"] * (len(tiles) // 2)))(tiles)
assert changed.all()
print("moved")
"""


def test_torch_and_numpy_suffice(tmp_path, tissue):
    torch.save(tissue["HE-1"][:4].clone(), tmp_path / "tiles.pt")
    command = [sys.executable, "-c", ALONE, str(tmp_path / "tiles.pt")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "moved", done.stderr
