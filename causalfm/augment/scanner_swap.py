"""do(scanner := another): undo one scanner's response, and apply the other's to the light that is left."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import torch

from causalfm.arguments import check_seed, check_type
from causalfm.augment.optical_density import check_images, like, unit_range
from causalfm.augment.scanner_profile import LUMINANCE, ScannerProfile

PADDING = 16  # px mirrored at the edges, so that the Fourier transform does not join opposite sides
LARGEST_GAIN = 1.5  # of undoing a blur: beyond it noise grows more than detail (rendered: error 3.28 at 4, 2.98 at 1.5)


class ScannerSwap(torch.nn.Module):
    """Show tiles as another scanner would have.

    Parameters
    ----------
    source, target
        Their own scanner and the other.
    noise
        Add the target's noise, less what the source left (as if nothing had smoothed or sharpened that).
    random_state
        Seed of the noise, drawn on the CPU.

    Notes
    -----
    Undone in turn: sharpening, gamma, colour matrix, white point. Blur changes by the difference of the two
    point-spread functions; a sharper target is reached by at most 1.5-fold gain of the finest detail. A target with
    larger pixels sees beyond the tile, where the edge is mirrored. JPEG of the source stays; the target's is written
    by Pillow on the CPU and passes no gradient. Glass moves as well: scanners differ there too. Equal profiles change
    nothing (the tile is returned as it is, noise and JPEG not applied twice).

    Assumptions: Gaussian point-spread functions, a response that the profile describes.
    """

    def __init__(
        self, source: ScannerProfile, target: ScannerProfile, *, noise: bool = True, random_state: int = 0
    ) -> None:
        super().__init__()
        check_seed(random_state)
        check_type(source, ScannerProfile, "source", "describe the scanner of the tiles")
        check_type(target, ScannerProfile, "target", "describe the other scanner")
        self.source, self.target, self.noise = source, target, noise
        self._generator = torch.Generator().manual_seed(random_state)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return images ``(B, 3, H, W)`` of the same type and device.

        Raises
        ------
        DataError
            No batch of RGB images.
        """
        check_images(images)
        if self.source == self.target or not len(images):
            return images
        light = _light(unit_range(images), self.source)
        light = _seen(light, self.source, self.target)
        signal = light * light.new_tensor(self.target.white)[:, None, None]
        if self.noise:
            here, there = (_variance(signal.detach(), scanner) for scanner in (self.source, self.target))
            variance = (there - here).clamp(min=0.0)
            drawn = torch.randn(signal.shape, generator=self._generator).to(signal)
            signal = signal + variance.sqrt() * drawn
        mixed = torch.einsum("ij,bjhw->bihw", signal.new_tensor(self.target.colour_matrix), signal)
        # an exponent below 1 has no slope at 0
        response = mixed.clamp(1e-6, 1.0) ** self.target.gamma
        moved = like(_sharpened(response, self.target, undo=False), images)
        return moved if self.target.jpeg_quality is None else _jpeg(moved, self.target.jpeg_quality)


def _variance(signal: torch.Tensor, scanner: ScannerProfile) -> torch.Tensor:
    return scanner.shot_noise * signal.clamp(min=0.0) + scanner.read_noise**2


def _light(images: torch.Tensor, scanner: ScannerProfile) -> torch.Tensor:
    """Undo sharpening, gamma, colour matrix and white point."""
    plain = _sharpened(images, scanner, undo=True).clamp(1e-6, 1.0) ** (1.0 / scanner.gamma)
    back = torch.linalg.inv(torch.tensor(scanner.colour_matrix, dtype=torch.float64)).to(plain)
    return torch.einsum("ij,bjhw->bihw", back, plain) / plain.new_tensor(scanner.white)[:, None, None]


def _seen(light: torch.Tensor, source: ScannerProfile, target: ScannerProfile) -> torch.Tensor:
    """Change the blur, then sample at the target's pixels around the same centre."""
    variance = (target.blur_um**2 - source.blur_um**2) / source.um_per_px**2
    if variance:
        light = _filtered(light, lambda f2: torch.exp(-2 * np.pi**2 * variance * f2).clamp(max=LARGEST_GAIN))
    ratio = target.um_per_px / source.um_per_px
    if ratio == 1.0:
        return light
    theta = light.new_tensor([[ratio, 0.0, 0.0], [0.0, ratio, 0.0]]).expand(len(light), -1, -1)
    grid = torch.nn.functional.affine_grid(theta, list(light.shape), align_corners=False)
    return torch.nn.functional.grid_sample(light, grid, "bicubic", "reflection", align_corners=False)


def _sharpened(images: torch.Tensor, scanner: ScannerProfile, *, undo: bool) -> torch.Tensor:
    """Apply or undo the unsharp mask: detail of the luminance grows by ``1 + amount (1 - Gaussian)``."""
    if not scanner.sharpening:
        return images
    luminance = torch.einsum("c,bchw->bhw", images.new_tensor(LUMINANCE), images)[:, None]

    def gain(f2: torch.Tensor) -> torch.Tensor:
        blurred = torch.exp(-2 * np.pi**2 * scanner.sharpening_px**2 * f2)
        grown = 1.0 + scanner.sharpening * (1.0 - blurred)
        return 1.0 / grown if undo else grown

    return images + _filtered(luminance, gain) - luminance


def _filtered(images: torch.Tensor, gain: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Multiply the spectrum by ``gain(squared frequency)``, in cycles per pixel."""
    height, width = images.shape[2:]
    pad = min(PADDING, height - 1, width - 1)
    padded = torch.nn.functional.pad(images, (pad, pad, pad, pad), mode="reflect")
    fy = torch.fft.fftfreq(padded.shape[2], device=images.device, dtype=images.dtype)
    fx = torch.fft.rfftfreq(padded.shape[3], device=images.device, dtype=images.dtype)
    spectrum = torch.fft.rfft2(padded) * gain(fy[:, None] ** 2 + fx[None] ** 2)
    whole: torch.Tensor = torch.fft.irfft2(spectrum, s=padded.shape[2:])
    return whole[:, :, pad : pad + height, pad : pad + width]


def _jpeg(images: torch.Tensor, quality: int) -> torch.Tensor:
    from PIL import Image

    pixels = (unit_range(images.detach()) * 255.0).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    out = []
    for tile in pixels:
        stream = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(tile)).save(stream, format="JPEG", quality=quality, subsampling="4:2:0")
        out.append(np.array(Image.open(stream)))
    stored = torch.from_numpy(np.stack(out)).permute(0, 3, 1, 2).to(images.device)
    return stored if images.dtype == torch.uint8 else (stored.to(images.dtype) / 255.0)
