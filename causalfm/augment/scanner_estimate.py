"""Two scanners' profiles from tiles of each, relative to one another."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from causalfm.augment.optical_density import check_images, unit_range
from causalfm.augment.scanner_colour import colour_response
from causalfm.augment.scanner_detail import RADIUS_PX, detail_response
from causalfm.augment.scanner_noise import glass_noise, jpeg_quality
from causalfm.augment.scanner_profile import LUMINANCE, ScannerProfile
from causalfm.augment.scanner_swap import ScannerSwap
from causalfm.errors import DataError

LEAST_SIDE = 32  # px: smaller tiles have too few frequencies


@dataclass(frozen=True)
class ScannerEstimate:
    """What :func:`estimate_scanners` found; ``ScannerSwap(estimate.source, estimate.target)`` applies it.

    Attributes
    ----------
    source, target
        Profiles. Only their difference means something: the source has gamma 1 and no colour mixing by definition,
        and the sharper of the two has no blur.
    notes
        What could not be found and was left at nothing.
    """

    source: ScannerProfile
    target: ScannerProfile
    notes: tuple[str, ...]


def estimate_scanners(
    source: torch.Tensor,
    target: torch.Tensor,
    *,
    um_per_px: tuple[float, float] = (0.5, 0.5),
    paired: bool = False,
) -> ScannerEstimate:
    """Estimate how a target scanner sees, relative to a source scanner.

    Parameters
    ----------
    source, target
        Tiles ``(B, 3, H, W)`` of either scanner, uint8 or floats from 0 to 1, of comparable tissue in the same stain.
        A dozen tiles of several patients, with gaps that show glass, is little; more is better.
    um_per_px
        Pixel sizes, um. They are not estimated.
    paired
        Tile i of both shows the same tissue, registered to the pixel and of the same size. Then case mix cannot be
        taken for colour, nor texture for sharpness.

    Returns
    -------
    ScannerEstimate

    Raises
    ------
    DataError
        No batches of RGB images, empty ones, tiles under 32 px, pixel sizes that are not positive; with ``paired``
        other numbers, sides or pixel sizes.

    Notes
    -----
    White points: from glass (:func:`causalfm.augment.white_point`). Gamma and matrix: the cloud of 2 um colours is
    moved onto the other's (sliced Wasserstein distance; squared error of pairs). Blur and sharpening: from the ratio of
    the radially averaged power spectra (cross-spectrum of pairs) where tissue stands above the noise. JPEG quality:
    from saving once more. Noise: from glass, taken for shot noise.

    Not identified from unpaired tiles: a scanner's colour against another stain or another case mix of the tissues;
    gamma against thickness; sharpness against finer texture; noise on tissue; radius against amount of sharpening, and
    little of amount against blur (their product is what is found). Colours that the tissue does not show are
    extrapolated. So tiles of one laboratory, sampled alike, are needed. Runs on the CPU but for Fourier transforms.

    References
    ----------
    Bonneel et al., Sliced and Radon Wasserstein barycenters of measures, J Math Imaging Vis 51:22, 2015.
    """
    _check(source, target, um_per_px, paired=paired)
    glass, white, matrix, gamma = colour_response(source, target, um_per_px, paired=paired)
    own = ScannerProfile(um_per_px=um_per_px[0], white=_row(glass.clamp(max=1.0)))
    rows = tuple(_row(row) for row in matrix)
    other = ScannerProfile(
        um_per_px=um_per_px[0], white=_row(white.clamp(max=1.0)), colour_matrix=(rows[0], rows[1], rows[2]), gamma=gamma
    )
    in_colour = ScannerSwap(own, other)(unit_range(source.detach()))
    blur, amount = detail_response(in_colour, unit_range(target.detach()), um_per_px, paired=paired)
    own = replace(own, blur_um=math.sqrt(max(-blur, 0.0)), sharpening=max(-amount, 0.0), sharpening_px=RADIUS_PX)
    other = replace(other, blur_um=math.sqrt(max(blur, 0.0)), sharpening=max(amount, 0.0), sharpening_px=RADIUS_PX)
    other = replace(other, um_per_px=um_per_px[1])
    notes = []
    found = []
    for name, profile, tiles, light in (("source", own, source, glass), ("target", other, target, white)):
        quality = jpeg_quality(tiles)
        noise = glass_noise(tiles, light**profile.gamma, quality)
        if quality is None:
            notes.append(f"{name}: no quality of JPEG stands out (not compressed, or cut across its squares); left out")
        if noise is None:
            notes.append(f"{name}: too little glass to measure noise on; left out")
        found.append(replace(profile, jpeg_quality=quality, shot_noise=_shot_noise(noise or 0.0, profile)))
    return ScannerEstimate(found[0], found[1], tuple(notes))


def _shot_noise(sd: float, scanner: ScannerProfile) -> float:
    """Return the shot noise that leaves a standard deviation ``sd`` of the luminance on glass."""
    light = float(sum(weight * white for weight, white in zip(LUMINANCE, scanner.white, strict=True)))
    slope = float(scanner.gamma * light ** (scanner.gamma - 1.0))
    f = torch.fft.fftfreq(64)
    blurred = torch.exp(-2 * math.pi**2 * scanner.sharpening_px**2 * (f[:, None] ** 2 + f**2))
    grown = float((1 + scanner.sharpening * (1 - blurred)).square().mean())
    mixing = torch.tensor(LUMINANCE) @ torch.tensor(scanner.colour_matrix)
    return sd**2 / (slope**2 * grown * float(mixing.square().sum()) * light)


def _row(values: torch.Tensor) -> tuple[float, float, float]:
    red, green, blue = values.tolist()
    return red, green, blue


def _check(source: torch.Tensor, target: torch.Tensor, um_per_px: tuple[float, float], *, paired: bool) -> None:
    for name, images in (("source", source), ("target", target)):
        check_images(images, name)
        if not len(images) or min(images.shape[2:]) < LEAST_SIDE:
            raise DataError(f"{name} has shape {tuple(images.shape)}: pass tiles of at least {LEAST_SIDE} px.")
    if len(um_per_px) != 2 or not all(math.isfinite(size) and size > 0 for size in um_per_px):
        raise DataError(f"um_per_px={um_per_px!r}: pass two pixel sizes above 0, source and target, in um.")
    if paired and (source.shape != target.shape or um_per_px[0] != um_per_px[1]):
        raise DataError(
            f"paired tiles have shapes {tuple(source.shape)} and {tuple(target.shape)} and pixels of {um_per_px[0]} "
            f"and {um_per_px[1]} um: register and resample them first, or use paired=False."
        )
