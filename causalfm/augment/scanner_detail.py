"""Sharpness of one scanner relative to another's: blur and sharpening from radially averaged power spectra."""

from __future__ import annotations

import math

import torch

from causalfm.augment.scanner_profile import LUMINANCE

N_BINS = 40
LOWEST = 0.05  # cycles/um: below, tissue structure of the sampled tiles differs
NOISE_FROM = 0.8  # of the largest frequency along an axis: there noise and compression are all that is left
ABOVE_NOISE = 20.0  # power of detail that is trusted, against that
RADIUS_PX = 1.0  # sd of the unsharp mask; so few frequencies do not tell radius and amount apart
RIDGE = 1e-4  # of the squared amount, against the squared log ratio
AMOUNTS = tuple(0.1 * i for i in range(21))


def detail_response(
    source: torch.Tensor, target: torch.Tensor, um_per_px: tuple[float, float], *, paired: bool
) -> tuple[float, float]:
    """Fit how detail of the target differs from the source's, both in the target's colours.

    Returns
    -------
    tuple
        Difference of the blur variances, target - source, um^2, and amount of sharpening, negative where it is the
        source's; both 0 where fewer than four frequencies stand above the noise.

    Notes
    -----
    ``log gain^2 = c - 4 pi^2 d f^2 + 2 log(1 + a (1 - exp(-2 pi^2 r^2 f^2)))`` by least squares, d and c in closed
    form on a grid of a. Unpaired, gain^2 is the ratio of powers, and c takes up how much structure the tissues have;
    paired, gain is cross-spectrum over power, which noise of the target does not touch, and c is 0. Only frequencies
    at which both powers are 20 times that of the highest frequencies count: above them noise and compression, which
    are no detail, decide the ratio.
    """
    frequency, gain = _gain(source, target, um_per_px, paired=paired)
    if len(frequency) < 4:
        return 0.0, 0.0
    design = -4 * math.pi**2 * frequency.square()[:, None]
    if not paired:
        design = torch.cat([design, torch.ones_like(design)], dim=1)
    best = (math.inf, 0.0, 0.0)
    for signed in sorted({sign * amount for amount in AMOUNTS for sign in (1, -1)}, key=abs):
        px = um_per_px[1] if signed >= 0 else um_per_px[0]
        grown = 1 + abs(signed) * (1 - torch.exp(-2 * math.pi**2 * (RADIUS_PX * px * frequency) ** 2))
        rest = gain - math.copysign(2.0, signed) * grown.log()
        found = torch.linalg.lstsq(design, rest[:, None]).solution
        misfit = float((rest - (design @ found)[:, 0]).square().mean()) + RIDGE * signed**2
        if misfit < best[0]:
            best = (misfit, float(found[0]), signed)
    return best[1:]


def _gain(
    source: torch.Tensor, target: torch.Tensor, um_per_px: tuple[float, float], *, paired: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return trusted frequencies, cycles/um, and the log of the squared gain there."""
    edges = torch.linspace(LOWEST, 0.5 / max(um_per_px), N_BINS + 1, dtype=torch.float64)
    spectra = [_spectrum(images) for images in (source, target)]
    radii = [_radius(images, um) for images, um in zip((source, target), um_per_px, strict=True)]
    powers, trusted = [], torch.ones(N_BINS, dtype=torch.bool)
    for spectrum, radius, um in zip(spectra, radii, um_per_px, strict=True):
        power = spectrum.abs().square().mean(dim=0)
        noise = power[(radius > NOISE_FROM * 0.5 / um) & (radius <= 0.5 / um)].mean()
        powers.append(_binned(power, radius, edges))
        trusted &= (powers[-1] > ABOVE_NOISE * noise).int().cumprod(dim=0).bool()  # up to the first that is not
    if paired:
        cross = _binned((spectra[1] * spectra[0].conj()).real.mean(dim=0), radii[0], edges)
        trusted &= cross > 0
        gain = 2 * (cross / powers[0]).clamp(min=1e-6).log()
    else:
        gain = (powers[1] / powers[0]).log()
    return ((edges[1:] + edges[:-1]) / 2)[trusted], gain[trusted]


def _spectrum(images: torch.Tensor) -> torch.Tensor:
    """Return the windowed Fourier transform of the luminance ``(B, H, W / 2 + 1)``, mean removed."""
    values = torch.einsum("c,bchw->bhw", images.new_tensor(LUMINANCE), images).double()
    height, width = values.shape[1:]
    rows, columns = (torch.hann_window(n, dtype=values.dtype, device=values.device) for n in (height, width))
    window = rows[:, None] * columns
    values = values - values.mean(dim=(1, 2), keepdim=True)
    spectrum: torch.Tensor = torch.fft.rfft2(values * window) / window.square().sum().sqrt()
    return spectrum.cpu()  # what follows is small


def _radius(images: torch.Tensor, um: float) -> torch.Tensor:
    fy = torch.fft.fftfreq(images.shape[2], d=um, dtype=torch.float64)
    fx = torch.fft.rfftfreq(images.shape[3], d=um, dtype=torch.float64)
    radius: torch.Tensor = (fy[:, None].square() + fx.square()).sqrt()
    return radius


def _binned(power: torch.Tensor, radius: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
    place = torch.bucketize(radius, edges) - 1
    inside = (place >= 0) & (place < len(edges) - 1)
    total = torch.zeros(len(edges) - 1, dtype=power.dtype).index_add_(0, place[inside], power[inside])
    mean: torch.Tensor = total / torch.bincount(place[inside], minlength=len(edges) - 1).clamp(min=1)
    return mean
