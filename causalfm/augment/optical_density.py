"""Images as absorbed light: by the law of Beer and Lambert, dyes add up in optical density and not in RGB."""

from __future__ import annotations

import torch

from causalfm.errors import DataError

LEVELS = 255.0


def check_images(images: torch.Tensor, name: str = "images") -> None:
    """Refuse what is no batch of RGB images.

    Raises
    ------
    DataError
        Another shape than ``(B, 3, H, W)``, neither uint8 nor floating, floats that are not finite or outside 0 to 1.
    """
    if not isinstance(images, torch.Tensor) or images.ndim != 4 or images.shape[1] != 3:
        shape = tuple(getattr(images, "shape", ())) or type(images).__name__
        raise DataError(f"{name} has shape {shape}: pass a torch tensor (B, 3, H, W), red, green, blue.")
    if min(images.shape[2:]) < 1:
        raise DataError(f"{name} has shape {tuple(images.shape)}: an image without pixels.")
    if images.dtype == torch.uint8 or not images.numel():
        return
    if not images.is_floating_point():
        raise DataError(f"{name} is {images.dtype}: pass uint8 (0 to 255) or floats (0 to 1).")
    low, high = images.detach().amin(), images.detach().amax()
    if not bool((low >= 0) & (high <= 1)):  # NaN fails both
        raise DataError(f"{name} has values from {float(low):.3g} to {float(high):.3g}: floats lie between 0 and 1.")


def unit_range(images: torch.Tensor) -> torch.Tensor:
    """Return images as float32 (or float64, if they are) between 0 and 1."""
    if images.dtype == torch.uint8:
        return images.float() / LEVELS
    return images if images.dtype == torch.float64 else images.float()


def like(values: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Return float values between 0 and 1 in the type of ``images``; uint8 is rounded, beyond the range is cut."""
    values = values.clamp(0.0, 1.0)
    return (values * LEVELS).round().to(torch.uint8) if images.dtype == torch.uint8 else values.to(images.dtype)


def optical_density(images: torch.Tensor, white: float | torch.Tensor = 1.0) -> torch.Tensor:
    """Absorbed light, ``-log((255 I + 1) / (255 white + 1))``.

    Parameters
    ----------
    images
        ``(B, 3, H, W)``, uint8 or floats from 0 to 1.
    white
        Intensity of empty glass, 0 to 1: one number (``239 / 255`` is the 240 of the literature), or a tensor ``(3,)``
        or ``(B, 3)`` for each channel (:func:`causalfm.augment.white_point`). Brighter pixels get a negative density,
        so that the way back is exact.

    Returns
    -------
    torch.Tensor
        ``(B, 3, H, W)`` float; the added 1 keeps black finite, 5.5.

    References
    ----------
    Macenko et al., ISBI 2009. Ruifrok and Johnston, Anal Quant Cytol Histol 23:291, 2001.
    """
    full = _full(white)
    counts = images.float() if images.dtype == torch.uint8 else unit_range(images) * LEVELS
    return (counts + 1.0).mul(1.0 / full).log().neg()


def _full(white: float | torch.Tensor) -> float | torch.Tensor:
    return (LEVELS * white + 1.0)[..., None, None] if isinstance(white, torch.Tensor) else LEVELS * white + 1.0


def intensity(density: torch.Tensor, white: float | torch.Tensor = 1.0) -> torch.Tensor:
    """Undo :func:`optical_density`: floats on the scale 0 to 1, not cut to that range."""
    return torch.exp(-density).mul(_full(white) / LEVELS).sub(1.0 / LEVELS)


def developed(density: torch.Tensor, images: torch.Tensor, white: float | torch.Tensor) -> torch.Tensor:
    """Return densities as pixels in the type of ``images``; beyond its range they are cut."""
    if images.dtype != torch.uint8:
        return like(intensity(density, white), images)
    # whole numbers pass no gradient, so every step may write in place; half a level less than 1 rounds when cut
    counts = torch.exp(-density).mul_(_full(white)).sub_(0.5).clamp_(0.0, LEVELS)
    return counts.to(torch.uint8)
