"""What a tile shows: stained tissue, empty glass or ink. Stain cannot be read from the last two."""

from __future__ import annotations

import torch

from causalfm.augment.optical_density import check_images, optical_density

TISSUE, GLASS, PEN = 0, 1, 2
CONTENTS = ("tissue", "glass", "pen")
FINE = 64  # px
THINNEST = 0.15  # optical density in every channel, as Macenko et al. chose
LEAST_TISSUE = 0.05  # share of a tile
MOST_INK = 0.10  # share of a tile
# Hematoxylin and eosin, in any mixture, leave green at 0.8 of the densest channel or more (green ink: 0.2), and dense
# tissue holds eosin, so that blue stays above 0.35 of red (blue felt pen: 0.1 to 0.3, tissue beneath included). Only
# black ink is dense and grey; folds are dense and violet, and the dark rims of air bubbles are thin.
GREEN_INK, GREEN_DENSITY = 0.7, 0.5
BLUE_INK, BLUE_DENSITY = 0.35, 1.2
BLACK_INK, BLACK_DENSITY = 0.8, 1.2
PADDING = 4.0  # optical density that no ink reaches: a tile that leaves the slide is filled up with black


def least_channel(density: torch.Tensor) -> torch.Tensor:
    """Return the smallest of the channels of ``(B, 3, ...)``; three planes side by side are faster than ``amin``."""
    return torch.minimum(torch.minimum(density[:, 0], density[:, 1]), density[:, 2])


def densest_channel(density: torch.Tensor) -> torch.Tensor:
    """Return the largest of the channels of ``(B, 3, ...)``."""
    return torch.maximum(torch.maximum(density[:, 0], density[:, 1]), density[:, 2])


def tissue_pixels(density: torch.Tensor) -> torch.Tensor:
    """Return ``(B, H, W)``, True where every channel absorbs at least 0.15; ``density`` is ``(B, 3, H, W)``."""
    least = least_channel(density)
    return (least >= THINNEST) & (least < PADDING)


def stained_pixels(density: torch.Tensor) -> torch.Tensor:
    """Return ``(B, H, W)``, True where any channel absorbs at least 0.15, padding left out.

    The rule of :func:`tissue_pixels` passes over eosin that leaves red or blue alone, so how much tissue it finds
    depends on the stain (62 to 90 % of the same rendered tissue); this one finds the same under all (92 %).
    """
    return (densest_channel(density) >= THINNEST) & (least_channel(density) < PADDING)


def ink_pixels(density: torch.Tensor) -> torch.Tensor:
    """Return ``(B, H, W)``, True where green, blue or black ink covers the glass."""
    red, green, blue = density.unbind(dim=1)
    densest, least = densest_channel(density), least_channel(density)
    coloured = (green < GREEN_INK * densest) & (densest > GREEN_DENSITY)
    coloured |= (blue < BLUE_INK * red) & (red > BLUE_DENSITY)
    return coloured | ((least > BLACK_INK * densest) & (least > BLACK_DENSITY) & (least < PADDING))


def tile_content(images: torch.Tensor, white: float | torch.Tensor = 1.0) -> torch.Tensor:
    """Tell tissue (0), glass (1) and pen (2) apart.

    Parameters
    ----------
    images
        ``(B, 3, H, W)``, uint8 or floats from 0 to 1.
    white
        As for :func:`causalfm.augment.optical_density`.

    Returns
    -------
    torch.Tensor
        ``(B,)`` int64, positions in ``CONTENTS``. Pen: ink on more than a tenth of the pixels. Glass: less than a
        twentieth absorbs in every channel.

    Raises
    ------
    DataError
        No batch of RGB images.

    Notes
    -----
    Assumption: hematoxylin and eosin. Red pens have the hue of eosin and pass as tissue, as do strokes thinner than a
    tenth of the tile. Black padding (all channels under 4 of 255) counts neither as ink nor as tissue. Hits and false
    alarms are in ``docs/tile_content.md``.
    """
    check_images(images)
    return content_of(optical_density(images.detach(), white))


def content_of(density: torch.Tensor) -> torch.Tensor:
    """Return :func:`tile_content` of optical densities ``(B, 3, H, W)``."""
    if min(density.shape[2:]) >= FINE:  # shares of a quarter of the pixels are the same to a per cent
        density = density[:, :, ::2, ::2].contiguous()  # three passes over it follow
    tissue = tissue_pixels(density).flatten(1).float().mean(dim=1)
    ink = ink_pixels(density).flatten(1).float().mean(dim=1)
    content = torch.where(tissue < LEAST_TISSUE, GLASS, TISSUE)
    return torch.where(ink > MOST_INK, PEN, content)
