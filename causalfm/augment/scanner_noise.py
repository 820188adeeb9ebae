"""Noise and compression of a scanner, from its glass and from what saving once more does to its tiles."""

from __future__ import annotations

import io

import numpy as np
import torch

from causalfm.augment.optical_density import LEVELS, unit_range
from causalfm.augment.scanner_profile import LUMINANCE

QUALITIES = range(30, 96)
NEIGHBOURS = 3
UNMISTAKABLE = 0.5  # of the change that neighbouring qualities make
TRIED = 4  # tiles
BLOCK = 8  # px, the squares of JPEG
GLASS = 0.02  # below the white point, in each channel
LEAST_BLOCKS = 20
SDS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)  # levels of 255


def jpeg_quality(images: torch.Tensor) -> int | None:
    """Tell at which quality tiles were stored as JPEG; None where no quality stands out.

    Saving once more at the same quality changes almost nothing, at any other quality it does. Only tiles cut along the
    8 x 8 squares of the file show it.
    """
    grey = [np.array(tile) for tile in _grey(images[:TRIED])]
    change = np.array([np.mean([np.abs(_saved(tile, q) - tile).mean() for tile in grey]) for q in QUALITIES])
    best, found = UNMISTAKABLE, None
    for i, q in enumerate(QUALITIES):
        others = np.concatenate([change[max(i - NEIGHBOURS, 0) : i], change[i + 1 : i + 1 + NEIGHBOURS]])
        if change[i] < best * others.min():
            best, found = change[i] / others.min(), q
    return found


def glass_noise(images: torch.Tensor, white: torch.Tensor, quality: int | None) -> float | None:
    """Return the standard deviation of the luminance on glass before compression, 0 to 1; None without enough glass.

    On tissue noise and fine texture cannot be told apart.
    """
    values = unit_range(images.detach()).cpu()
    squares = torch.nn.functional.unfold(values, BLOCK, stride=BLOCK).reshape(len(values), 3, BLOCK**2, -1)
    squares = squares.permute(1, 2, 0, 3).flatten(2)  # (3, 64, n)
    glass = (squares.mean(dim=1) > white.to(squares).cpu()[:, None] - GLASS).all(dim=0)
    if int(glass.sum()) < LEAST_BLOCKS:
        return None
    luminance = torch.einsum("c,cpn->pn", values.new_tensor(LUMINANCE), squares[:, :, glass])
    seen = float(luminance.var(dim=0).median().sqrt()) * LEVELS
    left = [_left_by_jpeg(sd, quality) for sd in SDS]
    return float(np.interp(seen, np.maximum.accumulate(left), SDS)) / LEVELS


def _left_by_jpeg(sd: float, quality: int | None) -> float:
    """Return what rounding and compression leave of noise, levels of 255."""
    drawn = np.random.default_rng(0).normal(240.0, sd, (128, 128)).round().clip(0, 255).astype(np.uint8)
    stored = drawn.astype(float) if quality is None else _saved(drawn, quality)
    squares = stored.reshape(16, BLOCK, 16, BLOCK).swapaxes(1, 2).reshape(256, -1)
    return float(np.sqrt(np.median(squares.var(axis=1, ddof=1))))


def _grey(images: torch.Tensor) -> np.ndarray:
    luminance = torch.einsum("c,bchw->bhw", torch.tensor(LUMINANCE), unit_range(images.detach()).float().cpu())
    return (luminance * LEVELS).round().to(torch.uint8).numpy()


def _saved(grey: np.ndarray, quality: int) -> np.ndarray:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(grey).save(stream, format="JPEG", quality=quality)
    return np.array(Image.open(stream)).astype(float)
