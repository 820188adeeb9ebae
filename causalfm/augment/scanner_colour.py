"""Colour response of one scanner relative to another's: white points, gamma and matrix from coarse pixels."""

from __future__ import annotations

import torch

from causalfm.augment.optical_density import unit_range
from causalfm.augment.white_point import white_point

COARSE_UM = 2.0  # pixels are averaged over so much, so that sharpness, noise and compression hardly count
N_PIXELS = 4096
N_LEVELS = 128  # quantiles of every projection
N_DIRECTIONS = 24
RIDGE = 1e-4  # of squared matrix entries and log gamma, against squared intensity: holds what colours leave open
ROUNDS = 60
_OFF = ((0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1))


def coarse_pixels(images: torch.Tensor, um_per_px: float) -> torch.Tensor:
    """Return mean colours ``(3, n)``, float64, of squares of 2 um."""
    side = min(max(round(COARSE_UM / um_per_px), 1), *images.shape[2:])
    return torch.nn.functional.avg_pool2d(unit_range(images.detach()), side).permute(1, 0, 2, 3).flatten(1).double()


def colour_response(
    source: torch.Tensor, target: torch.Tensor, um_per_px: tuple[float, float], *, paired: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, float]:
    """Fit the target's response to light that the source measures with gamma 1 and no mixing.

    Returns
    -------
    tuple
        White of the source ``(3,)``, white of the target ``(3,)``, matrix ``(3, 3)``, gamma. The matrix keeps the
        colour of the target's glass.

    Notes
    -----
    Unpaired: the sliced Wasserstein distance between the two clouds of colours is made small; paired: the squared
    difference, pixel by pixel.
    """
    glass = [white_point(images).double().cpu() for images in (source, target)]
    here, there = (coarse_pixels(x, um).cpu() for x, um in zip((source, target), um_per_px, strict=True))
    # pairs have the same number of pixels, so that evenly spaced ones are pairs too
    here, there = (_thinned(x) for x in (here, there))
    directions = torch.eye(3, dtype=torch.float64) if paired else _directions()
    wanted = there if paired else _quantiles(directions @ there)
    light = here / glass[0][:, None]
    values = torch.zeros(7, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([values], max_iter=ROUNDS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        white, matrix, gamma = _response(values, glass[1])
        seen = directions @ (matrix @ (light * white[:, None])).clamp(1e-6, 1.0) ** gamma
        misfit = ((seen if paired else _quantiles(seen)) - wanted).square().mean() + RIDGE * values.square().sum()
        misfit.backward()  # type: ignore[no-untyped-call]
        return misfit

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    white, matrix, gamma = (x.detach() for x in _response(values, glass[1]))
    return glass[0], white, matrix, float(gamma)


def _thinned(pixels: torch.Tensor) -> torch.Tensor:
    n = pixels.shape[1]
    return pixels if n <= N_PIXELS else pixels[:, torch.arange(N_PIXELS) * n // N_PIXELS]


def _response(values: torch.Tensor, glass: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    gamma = values[6].exp()
    white = glass ** (1.0 / gamma)
    rows = [[torch.zeros_like(gamma)] * 3 for _ in range(3)]
    for value, (i, j) in zip(values[:6], _OFF, strict=True):
        rows[i][j] = value
    mixing = torch.stack([torch.stack(row) for row in rows])
    return white, mixing + torch.diag(1.0 - (mixing @ white) / white), gamma


def _quantiles(values: torch.Tensor) -> torch.Tensor:
    levels = (torch.arange(N_LEVELS, dtype=values.dtype) + 0.5) / N_LEVELS
    ordered = values.sort(dim=1).values
    place = levels * (values.shape[1] - 1)
    low = place.long()
    part = place - low
    return ordered[:, low] * (1 - part) + ordered[:, (low + 1).clamp(max=values.shape[1] - 1)] * part


def _directions() -> torch.Tensor:
    """Return ``(24, 3)``: the axes, then directions spread evenly over the half sphere (Fibonacci)."""
    n = N_DIRECTIONS - 3
    z = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    turn = torch.arange(n, dtype=torch.float64) * 2.399963229728653
    around = (1 - z.square()).sqrt()
    spiral = torch.stack([around * turn.cos(), around * turn.sin(), z], dim=1)
    return torch.cat([torch.eye(3, dtype=torch.float64), spiral])
