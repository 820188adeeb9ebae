"""Reinhard's transfer: mean and standard deviation of a tile in CIE L*a*b*, moved to those of another."""

from __future__ import annotations

import torch

from causalfm.augment.optical_density import check_images, like, optical_density, unit_range
from causalfm.augment.stain_matrices import LEAST_PIXELS
from causalfm.augment.tile_content import TISSUE, content_of, stained_pixels
from causalfm.errors import DataError

# sRGB, white point D65 (IEC 61966-2-1)
_TO_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
_WHITE = (0.95047, 1.0, 1.08883)
_CUT = 6.0 / 29.0


def rgb_to_lab(images: torch.Tensor) -> torch.Tensor:
    """Return CIE L*a*b* ``(B, 3, H, W)`` of sRGB images, uint8 or 0 to 1; L* lies between 0 and 100."""
    rgb = unit_range(images)
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4)
    ratio = torch.einsum("ij,bjhw->bihw", rgb.new_tensor(_TO_XYZ) / rgb.new_tensor(_WHITE)[:, None], linear)
    f = torch.where(ratio > _CUT**3, ratio.clamp(min=_CUT**3) ** (1 / 3), ratio / (3 * _CUT**2) + 4.0 / 29.0)
    x, y, z = f.unbind(dim=1)
    return torch.stack([116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)], dim=1)


def lab_to_rgb(lab: torch.Tensor) -> torch.Tensor:
    """Undo :func:`rgb_to_lab`: floats, not cut to 0 to 1."""
    lightness, a, b = lab.unbind(dim=1)
    y = (lightness + 16.0) / 116.0
    f = torch.stack([y + a / 500.0, y, y - b / 200.0], dim=1)
    ratio = torch.where(f > _CUT, f**3, 3 * _CUT**2 * (f - 4.0 / 29.0))
    back = torch.linalg.inv(torch.tensor(_TO_XYZ, dtype=torch.float64)).to(lab) * lab.new_tensor(_WHITE)
    linear = torch.einsum("ij,bjhw->bihw", back, ratio)
    bright = 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(linear <= 0.0031308, 12.92 * linear, bright)


def lab_statistics(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and standard deviation of L*, a*, b* over the stained pixels of each tile.

    Parameters
    ----------
    images
        ``(B, 3, H, W)``, uint8 or floats from 0 to 1.

    Returns
    -------
    mean, sd : torch.Tensor
        ``(B, 3)``; NaN for a tile with fewer than 16 stained pixels. Stained: some channel absorbs 0.15. Macenko's rule
        (every channel) would choose other tissue under another stain, and compare what cannot be compared.

    Raises
    ------
    DataError
        No batch of RGB images.
    """
    check_images(images)
    return _statistics(rgb_to_lab(images), stained_pixels(optical_density(images.detach())))


def reinhard(images: torch.Tensor, mean: torch.Tensor, sd: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Give every tile's tissue the mean and standard deviation of a donor.

    Parameters
    ----------
    images
        ``(B, 3, H, W)``, uint8 or floats from 0 to 1.
    mean, sd
        Of the donor, ``(3,)`` or ``(B, 3)``, from :func:`lab_statistics`.

    Returns
    -------
    moved : torch.Tensor
        Same shape and type. Pixels of glass stay: glass has no stain to be moved.
    changed : torch.Tensor
        ``(B,)`` bool; False for tiles of glass or pen, which stay as they are.

    Raises
    ------
    DataError
        No batch of RGB images; statistics that are not finite.

    References
    ----------
    Reinhard et al., Color transfer between images, IEEE CG&A 21:34, 2001 (in CIE L*a*b* instead of their l-alpha-beta).
    """
    check_images(images)
    shapes = [tuple(getattr(x, "shape", ())) for x in (mean, sd)]
    if not all(isinstance(x, torch.Tensor) for x in (mean, sd)) or not set(shapes) <= {(3,), (len(images), 3)}:
        raise DataError(
            f"mean and sd have shapes {shapes}: pass tensors (3,) or ({len(images)}, 3), of lab_statistics."
        )
    if not bool(torch.isfinite(mean).all() & torch.isfinite(sd).all()):
        raise DataError("mean or sd of the donor is not finite: the donor tile shows no tissue.")
    lab, density = rgb_to_lab(images), optical_density(images.detach())
    stained = stained_pixels(density)
    own_mean, own_sd = (x[:, :, None, None] for x in _statistics(lab, stained))
    mean, sd = (x.to(lab).reshape(-1, 3, 1, 1) for x in (mean, sd))
    changed = (content_of(density) == TISSUE) & torch.isfinite(own_mean).all(dim=1)[:, 0, 0]
    keep = ~changed[:, None, None, None]
    own_mean, own_sd = own_mean.masked_fill(keep, 0.0), own_sd.masked_fill(keep, 1.0)
    moved = like(lab_to_rgb((lab - own_mean) / own_sd.clamp(min=1e-3) * sd + mean), images)
    return torch.where(keep | ~stained[:, None], images, moved), changed


def _statistics(lab: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    weight, values = mask.flatten(1).to(lab.dtype)[:, None], lab.flatten(2)
    count = weight.sum(dim=2)
    mean = (values * weight).sum(dim=2) / count.clamp(min=1.0)
    spread = ((values - mean[:, :, None]) * weight).square().sum(dim=2) / (count - 1.0).clamp(min=1.0)
    empty = count < LEAST_PIXELS
    return mean.masked_fill(empty, torch.nan), spread.clamp(min=1e-12).sqrt().masked_fill(empty, torch.nan)
