"""Stain vectors of many tiles at once, after Macenko and after Vahadane, and how much of each dye a pixel holds."""

from __future__ import annotations

import numpy as np
import torch

from causalfm.augment.tile_content import THINNEST, least_channel
from causalfm.errors import DataError

HEMATOXYLIN, EOSIN = 0, 1
SAME_DIRECTION = 0.9998  # cosine of 1.1 degrees: then the tile shows one dye, and concentrations have no solution
LEAST_PIXELS = 16  # two percentiles of angles from fewer pixels are noise


def macenko(density: torch.Tensor, mask: torch.Tensor | None = None, *, percentile: float = 1.0) -> torch.Tensor:
    """Stain vectors from the extreme angles in the plane of the two largest eigenvectors.

    Parameters
    ----------
    density
        Optical densities, ``(B, 3, N)`` or ``(B, 3, H, W)``.
    mask
        Pixels that count, ``(B, N)`` or ``(B, H, W)``; None takes those that absorb 0.15 in every channel.
    percentile
        The extreme angles are this percentile and 100 minus it; the nearest pixel's, not interpolated.

    Returns
    -------
    torch.Tensor
        ``(B, 2, 3)``, rows hematoxylin and eosin of length 1. Hematoxylin absorbs more red. NaN for a tile with fewer
        than 16 pixels that count, or of one colour.

    Raises
    ------
    DataError
        Another shape, or a percentile outside 0 to 50.

    Notes
    -----
    Assumptions: two dyes; some pixels hold nearly pure dye of either kind. Not differentiable in the image.

    References
    ----------
    Macenko et al., A method for normalizing histology slides for quantitative analysis, ISBI 2009.
    """
    if not 0.0 <= percentile < 50.0:
        raise DataError(f"percentile={percentile!r}: choose 0 or more and less than 50.")
    points, use = _points(density.detach(), mask)
    with torch.no_grad():
        enough = use.sum(dim=1) >= LEAST_PIXELS
        plane = _plane(points, use, enough)
        along, across = torch.bmm(plane.transpose(1, 2), points).unbind(dim=1)
        angles = torch.atan2(across, along)
        ends = masked_percentile(angles, use, (percentile, 100.0 - percentile))  # (B, 2)
        directions = torch.stack([ends.cos(), ends.sin()], dim=1)  # (B, 2 of the plane, 2 ends)
        vectors = torch.bmm(plane, directions).transpose(1, 2)
        swap = vectors[:, 0, 0] <= vectors[:, 1, 0]
        vectors = torch.where(swap[:, None, None], vectors.flip(1), vectors)
        alike = (vectors[:, 0] * vectors[:, 1]).sum(dim=1).abs() > SAME_DIRECTION
        return vectors.masked_fill((~enough | alike)[:, None, None], torch.nan)


def vahadane(
    density: torch.Tensor,
    mask: torch.Tensor | None = None,
    *,
    sparsity: float = 0.02,
    iterations: int = 60,
    n_pixels: int = 4096,
) -> torch.Tensor:
    """Stain vectors by sparse non-negative factorisation, started from :func:`macenko`.

    Parameters
    ----------
    density, mask
        As for :func:`macenko`.
    sparsity
        Weight of the sum of concentrations in ``|V C - OD|^2 / 2 + sparsity |C|``.
    iterations
        Rounds of exact concentrations and one update of either vector.
    n_pixels
        Pixels of a tile that are used, evenly spaced among those that count.

    Returns
    -------
    torch.Tensor
        ``(B, 2, 3)``, rows hematoxylin and eosin of length 1, none negative; NaN as for :func:`macenko`.

    Raises
    ------
    DataError
        Another shape.

    Notes
    -----
    Vahadane-type: the objective of the paper, solved by alternation (two dyes have a closed form) instead of SPAMS.

    References
    ----------
    Vahadane et al., Structure-preserving color normalization and sparse stain separation, IEEE TMI 35:1962, 2016.
    """
    points, use = _points(density.detach(), mask)
    with torch.no_grad():
        points, use = _thinned(points, use, n_pixels)
        vectors = macenko(points, use)
        found = ~vectors.isnan().any(dim=2).any(dim=1)
        whole, points, use = vectors, points[found], use[found]  # glass and ink have nothing to be factorised
        vectors = _unit(vectors[found].clamp(min=1e-4))
        points = points.clamp(min=0.0) * use[:, None].to(points.dtype)
        for _ in range(iterations):
            amounts = concentrations(points, vectors, sparsity=sparsity, nonnegative=True)
            amounts = amounts * use[:, None].to(points.dtype)
            gram, cross = amounts @ amounts.transpose(1, 2), amounts @ points.transpose(1, 2)  # (B, 2, 2), (B, 2, 3)
            for dye in (HEMATOXYLIN, EOSIN):
                other = 1 - dye
                rest = cross[:, dye] - gram[:, dye, other, None] * vectors[:, other]
                rest = rest.clamp(min=1e-6)  # a vector of zeros has no length
                vectors = torch.stack([rest, vectors[:, other]][:: 1 if dye == HEMATOXYLIN else -1], dim=1)
                vectors = _unit(vectors)
        swap = vectors[:, 0, 0] <= vectors[:, 1, 0]
        vectors = torch.where(swap[:, None, None], vectors.flip(1), vectors)
        whole[found] = vectors
        return whole


def concentrations(
    density: torch.Tensor, vectors: torch.Tensor, *, sparsity: float = 0.0, nonnegative: bool = False
) -> torch.Tensor:
    """How much of either dye each pixel holds, by least squares.

    Parameters
    ----------
    density
        ``(B, 3, N)`` or ``(B, 3, H, W)``.
    vectors
        ``(B, 2, 3)``.
    sparsity
        Weight of the sum of concentrations; only with ``nonnegative``.
    nonnegative
        Solve under ``C >= 0`` instead of freely; exact.

    Returns
    -------
    torch.Tensor
        ``(B, 2, N)`` or ``(B, 2, H, W)``. Differentiable.
    """
    points = density.flatten(2)
    gram = vectors @ vectors.transpose(1, 2)
    free: torch.Tensor
    if not nonnegative:
        free = torch.linalg.solve(gram, vectors) @ points
    else:
        cross = vectors @ points
        free = torch.linalg.inv_ex(gram).inverse @ (cross - sparsity)  # of one dye twice: not finite, and not taken
        # of two dyes at least one is zero where the free solution is negative: then each alone, and the better one
        alone = ((cross - sparsity) / gram.diagonal(dim1=1, dim2=2)[:, :, None]).clamp(min=0.0)
        gain = alone.square() * gram.diagonal(dim1=1, dim2=2)[:, :, None]
        first = gain[:, :1] >= gain[:, 1:]
        single = alone * torch.cat([first, ~first], dim=1).to(alone.dtype)
        free = torch.where(((free >= 0) & free.isfinite()).all(dim=1, keepdim=True), free, single)
    return free.reshape(len(free), 2, *density.shape[2:])


def masked_percentile(
    values: torch.Tensor, mask: torch.Tensor, percentiles: tuple[float, ...], *, by_sorting: bool | None = None
) -> torch.Tensor:
    """Return percentiles ``(B, p)`` of ``values (B, N)`` where ``mask``: the nearest value; 0 where nothing counts.

    ``by_sorting``: None sorts on a GPU and selects with NumPy on the CPU, where that is faster; both exact.
    """
    if not values.numel():
        return values.new_zeros((len(values), len(percentiles)))
    counts = mask.sum(dim=1).tolist()
    ranks = [[round(0.01 * q * (n - 1)) if n else 0 for q in percentiles] for n in counts]
    filled = torch.where(mask, values.detach(), torch.inf)
    if values.device.type != "cpu" if by_sorting is None else by_sorting:
        found = filled.sort(dim=1).values.gather(1, torch.tensor(ranks, device=values.device))
    else:
        rows = zip(filled.numpy(), ranks, strict=True)
        found = torch.tensor(np.array([[np.partition(row, k)[k] for k in wanted] for row, wanted in rows]))
        found = found.reshape(len(values), len(percentiles)).to(values.dtype)
    result: torch.Tensor = found.masked_fill(found.isinf(), 0.0)
    return result


def _points(density: torch.Tensor, mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    if density.ndim not in (3, 4) or density.shape[1] != 3:
        raise DataError(f"density has shape {tuple(density.shape)}: pass (B, 3, N) or (B, 3, H, W).")
    points = density.flatten(2)
    use = least_channel(points) >= THINNEST if mask is None else mask.flatten(1)
    if use.shape != (points.shape[0], points.shape[2]) or use.dtype != torch.bool:
        raise DataError(
            f"mask has shape {tuple(use.shape)} and type {use.dtype} for densities of shape {tuple(density.shape)}: "
            "pass one truth value for each pixel."
        )
    return points, use


def _plane(points: torch.Tensor, use: torch.Tensor, enough: torch.Tensor) -> torch.Tensor:
    """Return the eigenvectors ``(B, 3, 2)`` of the two largest eigenvalues; the larger is the second column."""
    weighted = points * use.to(points.dtype)[:, None]
    count = use.sum(dim=1).clamp(min=2).to(points.dtype)[:, None]
    mean = weighted.sum(dim=2) / count
    # densities spread about as far as they are large: nothing is lost by subtracting the mean afterwards
    second = weighted @ points.transpose(1, 2) - count[:, :, None] * mean[:, :, None] * mean[:, None]
    covariance = second / (count - 1.0)[:, :, None]
    identity = torch.eye(3, dtype=points.dtype, device=points.device)
    covariance = torch.where(enough[:, None, None], covariance, identity)
    plane = torch.linalg.eigh(covariance).eigenvectors[:, :, 1:]
    # an eigenvector has no sign; pointing into the densities, angles do not jump at 180 degrees
    towards = (plane * mean[:, :, None]).sum(dim=1, keepdim=True)
    return torch.where(towards < 0, -plane, plane)


def _thinned(points: torch.Tensor, use: torch.Tensor, n_pixels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Keep at most ``n_pixels`` pixels of each tile, evenly spaced among those that count."""
    n = points.shape[2]
    if n <= n_pixels:
        return points, use
    order = torch.argsort((~use).to(torch.uint8), dim=1, stable=True)  # those that count first, in place
    counts = use.sum(dim=1).clamp(min=1)
    steps = torch.arange(n_pixels, device=points.device)
    places = torch.where(counts[:, None] > n_pixels, steps * counts[:, None] // n_pixels, steps.expand(len(points), -1))
    chosen = order.gather(1, places)
    return points.gather(2, chosen[:, None].expand(-1, 3, -1)), use.gather(1, chosen)


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(vectors, dim=2)
