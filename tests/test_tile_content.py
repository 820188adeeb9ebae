"""What a tile holds: glass, ink and padding stay as they are and are reported; tissue is none of them."""

import stain_samples
import torch
from stain_samples import rendered

from causalfm.augment import HEDJitter, StainSwap, lab_statistics, reinhard, tile_content

tissue, donors, library = stain_samples.tissue, stain_samples.donors, stain_samples.library  # fixtures


def test_glass_and_pen_stay_and_are_reported(tissue, library):
    tiles = tissue["HE-1"][:4].clone()
    tiles[0] = 243
    tiles[1] = torch.tensor([30, 120, 60], dtype=torch.uint8)[:, None, None]  # green ink
    tiles[2] = 22  # black ink
    assert tile_content(tiles).tolist() == [1, 2, 2, 0]
    for move in (
        StainSwap(library, ["HE-4"]),
        lambda x: StainSwap(library)(x, "HE-1", "HE-4"),
        HEDJitter(),
        lambda x: reinhard(x, torch.tensor([50.0, 30.0, -20.0]), torch.tensor([10.0, 9.0, 8.0])),
    ):
        moved, changed = move(tiles)
        assert changed.tolist() == [False, False, False, True]
        assert torch.equal(moved[:3], tiles[:3])
        assert not torch.equal(moved[3], tiles[3])


def test_rendered_tissue_is_no_ink_whatever_its_stain(tissue):
    for tiles in tissue.values():
        assert (tile_content(tiles) == 0).all()


def test_rendered_pen_is_found_and_other_artefacts_are_not():
    # blue felt pen was never found (0 of 18) while the rule looked at green and black alone
    for artefact, least, most in (("pen", 20, 24), ("fold", 0, 0), ("bubble", 0, 0), ("dust", 0, 0)):
        called = int((tile_content(rendered(slice(0, 24), artefact=artefact, stain="HE-4")) == 2).sum())
        assert least <= called <= most, artefact


def test_black_padding_is_neither_ink_nor_tissue(tissue):
    # five MIDOG21 patches that leave the slide were called pen
    tiles = tissue["HE-1"].clone()
    tiles[:, :, :48] = 0
    assert (tile_content(tiles) == 0).all()
    mean, sd = lab_statistics(tiles)
    rest = lab_statistics(tissue["HE-1"][:, :, 48:])
    torch.testing.assert_close((mean, sd), rest)
    tiles[:] = 0
    assert (tile_content(tiles) == 1).all()
