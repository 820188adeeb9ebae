"""The colour of empty glass, read from the brightest patches of tiles: a density is measured against it."""

from __future__ import annotations

import torch

from causalfm.augment.optical_density import check_images, unit_range
from causalfm.errors import DataError

PATCH = 5  # px: means of so many pixels each way smooth noise, halos of sharpening and blocks of compression
BRIGHTEST = 100  # one patch in so many counts as glass
KEPT = 10  # of each tile one patch in so many is kept: enough, unless nearly all tiles are dark


def white_point(images: torch.Tensor) -> torch.Tensor:
    """Estimate the signal of empty glass.

    Parameters
    ----------
    images
        ``(B, 3, H, W)``, uint8 or floats from 0 to 1: tiles of one scanner; gaps in the tissue are enough.

    Returns
    -------
    torch.Tensor
        ``(3,)`` float, red, green, blue, 0 to 1: the mean colour of the brightest hundredth of all patches of 5 x 5 px,
        brightness being that of the darkest channel.

    Raises
    ------
    DataError
        No batch of RGB images, or an empty one.

    Notes
    -----
    Assumption: a hundredth of the area shows glass. Without any gap it is the palest tissue's colour, too dark.
    """
    check_images(images)
    if not len(images):
        raise DataError("images holds no tile: a white point needs at least one.")
    patches, n = bright_patches(images)
    return white_of(patches.permute(1, 0, 2).flatten(1), n * len(images))


def bright_patches(images: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Return the brightest patches' colours ``(B, 3, m)`` of each tile, and how many patches a tile has."""
    side = min(PATCH, *images.shape[2:])
    patches = torch.nn.functional.avg_pool2d(unit_range(images.detach()), side).flatten(2)
    n = patches.shape[2]
    places = patches.amin(dim=1).topk(-(-n // KEPT), dim=1).indices
    return patches.gather(2, places[:, None].expand(-1, 3, -1)), n


def white_of(patches: torch.Tensor, n: int) -> torch.Tensor:
    """Return the mean colour of the ``n / 100`` brightest of ``patches (3, m)``, kept from ``n``."""
    count = min(max(n // BRIGHTEST, 1), patches.shape[1])
    return patches[:, patches.amin(dim=0).topk(count).indices].mean(dim=1)
