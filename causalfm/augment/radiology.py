"""do(site := preset) for radiology: what one site's coil, protocol and reconstruction do to an image."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from causalfm.arguments import check_seed
from causalfm.errors import DataError, MissingDependencyError, positions

if TYPE_CHECKING:
    from collections.abc import Callable

ORDER = 3  # of the polynomial of the bias field
LETTERS = "DHW"


@dataclass(frozen=True)
class SitePreset:
    """What a site does to every image; the defaults change nothing.

    Attributes
    ----------
    bias
        Standard deviation over the image of the logarithm of the bias field, which has mean 0: a polynomial of order 3,
        its shape drawn for every image.
    gamma
        Exponent of the contrast, over the image's own range of intensities.
    blur_mm
        Standard deviation of a Gaussian blur, mm.
    slice_factor, slice_axis
        Slices so many times as thick along an axis, and interpolated back. Axes count from the last: -3 depth (D),
        -2 rows (H), -1 columns (W).
    ghosts, ghost_strength, ghost_axis
        Number of ghosts along the phase-encoding axis, and their strength relative to k-space, 0 to 1.
    spread
        Standard deviation of the logarithm of gamma, blur and ghost strength from image to image of the site.
    """

    bias: float = 0.0
    gamma: float = 1.0
    blur_mm: float = 0.0
    slice_factor: float = 1.0
    slice_axis: int = -3
    ghosts: int = 0
    ghost_strength: float = 0.5
    ghost_axis: int = -2
    spread: float = 0.0

    def __post_init__(self) -> None:
        if not all(math.isfinite(x) for x in astuple(self)):
            raise DataError("a preset holds finite numbers only.")
        if min(self.bias, self.blur_mm, self.ghosts, self.ghost_strength, self.spread) < 0 or self.gamma <= 0:
            raise DataError("bias, blur_mm, ghosts, ghost_strength and spread are 0 or more, gamma is above 0.")
        if self.slice_factor < 1 or self.ghost_strength > 1 or self.ghosts != int(self.ghosts):
            raise DataError("slice_factor is 1 or more, ghost_strength at most 1, ghosts a whole number.")
        if not {self.slice_axis, self.ghost_axis} <= {-3, -2, -1}:
            raise DataError("slice_axis and ghost_axis are -3 (D), -2 (H) or -1 (W).")


# Invented numbers, named for what they do and not for any vendor or hospital.
SITE_PRESETS = {
    "neutral": SitePreset(),
    "surface-coil": SitePreset(bias=0.25),
    "steep-contrast": SitePreset(gamma=1.3, spread=0.03),
    "flat-contrast": SitePreset(gamma=0.75, spread=0.03),
    "soft-kernel": SitePreset(blur_mm=1.0, spread=0.05),
    "thick-slices": SitePreset(slice_factor=4.0),
    "moving-patient": SitePreset(ghosts=4, ghost_strength=0.5, spread=0.1),
}


def rescan(
    images: torch.Tensor, preset: SitePreset, *, voxel_mm: float | tuple[float, ...] = 1.0, random_state: int = 0
) -> torch.Tensor:
    """Show images as a site with this preset would have: slices, blur, ghosts, bias field, contrast, in this order.

    Parameters
    ----------
    images
        ``(B, C, H, W)`` or ``(B, C, D, H, W)``, in any units.
    preset
        The site.
    voxel_mm
        Size of a voxel, mm; one number, or one per axis, (D,) H, W.
    random_state
        Seed of what differs from image to image; channels of an image share it.

    Returns
    -------
    torch.Tensor
        Same shape, type, device and units. Whole numbers are rounded, and cut to the range of their type. The neutral
        preset returns the images themselves.

    Raises
    ------
    DataError
        No images, values that are not finite, voxels that do not fit, thick slices along an axis that is not there.
    MissingDependencyError
        torchio is not installed and the preset needs it.

    Notes
    -----
    Bias and contrast act between an image's (channel's) least and largest intensity, so that offsets (-1000 HU) stay
    and results are in the units of the input. Runs on the CPU, one image at a time, and passes no gradient.

    References
    ----------
    Perez-Garcia et al., TorchIO, Computer Methods and Programs in Biomedicine 208 (2021).
    """
    check_seed(random_state)
    size = _check(images, preset, voxel_mm)
    steps = _steps(preset)
    if not steps or not len(images):
        return images
    tio, out = _torchio(), []
    for row, image in enumerate(images.detach().cpu()):
        rng = np.random.default_rng([random_state, row])
        scanned = image.double() if image.dtype == torch.float64 else image.float()
        flat = scanned.ndim == 3
        # torchio's axes are W, H, D; it computes in single precision
        scanned = (scanned[:, None] if flat else scanned).permute(0, 3, 2, 1).float().contiguous()
        with torch.random.fork_rng(devices=[]):  # torchio draws a number to decide whether to act at all
            for step in steps:
                scanned = step(tio, scanned, preset, size, rng)
        scanned = scanned.permute(0, 3, 2, 1)
        out.append(scanned[:, 0] if flat else scanned)
    return _typed(torch.stack(out), images)


def _steps(preset: SitePreset) -> list[Callable[..., torch.Tensor]]:
    """Return what the preset does, in order; nothing for a neutral one."""
    wanted = (
        (_thick, preset.slice_factor > 1.0),
        (_blurred, preset.blur_mm > 0.0),
        (_ghosted, preset.ghosts > 0 and preset.ghost_strength > 0.0),
        (_biased, preset.bias > 0.0),
        (_contrasted, preset.gamma != 1.0),
    )
    return [step for step, needed in wanted if needed]


def _varied(value: float, preset: SitePreset, rng: np.random.Generator) -> float:
    return float(value * np.exp(preset.spread * rng.standard_normal()))


def _thick(
    tio: Any, image: torch.Tensor, preset: SitePreset, size: tuple[float, ...], rng: np.random.Generator
) -> torch.Tensor:
    """Average over the thick slice, keep one in so many, interpolate."""
    del rng
    axis, factor = -1 - preset.slice_axis, preset.slice_factor
    deviation = [0.0, 0.0, 0.0]
    deviation[axis] = size[axis] * math.sqrt((factor**2 - 1.0) / 12.0)  # of a box less that of a voxel
    thick = torch.as_tensor(tio.Blur(tuple(deviation))(_image(tio, image, size)).data)
    # not torchio's Resample: it fills slices beyond the centre of the last thick one with 0
    n = image.shape[1 + axis]
    kept = _between(thick, 1 + axis, (torch.arange(math.ceil(n / factor)) + 0.5) * factor - 0.5)
    return _between(kept, 1 + axis, (torch.arange(n) + 0.5) / factor - 0.5)


def _between(image: torch.Tensor, dim: int, places: torch.Tensor) -> torch.Tensor:
    """Interpolate linearly at places along a dimension; the ends are held."""
    places = places.clamp(0.0, image.shape[dim] - 1.0)
    low = places.floor().long()
    share = (places - low).reshape([-1 if i == dim else 1 for i in range(image.ndim)]).to(image)
    high = (low + 1).clamp(max=image.shape[dim] - 1)
    return image.index_select(dim, low) * (1.0 - share) + image.index_select(dim, high) * share


def _blurred(
    tio: Any, image: torch.Tensor, preset: SitePreset, size: tuple[float, ...], rng: np.random.Generator
) -> torch.Tensor:
    deviation = _varied(preset.blur_mm, preset, rng)
    there = [deviation if n > 1 else 0.0 for n in image.shape[1:]]
    return torch.as_tensor(tio.Blur(tuple(there))(_image(tio, image, size)).data)


def _ghosted(
    tio: Any, image: torch.Tensor, preset: SitePreset, size: tuple[float, ...], rng: np.random.Generator
) -> torch.Tensor:
    strength = min(_varied(preset.ghost_strength, preset, rng), 1.0)
    ghost = tio.Ghosting(int(preset.ghosts), -1 - preset.ghost_axis, strength, None)
    return torch.as_tensor(ghost(_image(tio, image, size)).data)


def _biased(
    tio: Any, image: torch.Tensor, preset: SitePreset, size: tuple[float, ...], rng: np.random.Generator
) -> torch.Tensor:
    del size
    coefficients = rng.standard_normal(math.comb(ORDER + 3, 3)).tolist()
    field = torch.from_numpy(tio.BiasField.generate_bias_field(image, ORDER, coefficients)).log()
    field = preset.bias * (field - field.mean()) / field.std(correction=0).clamp(min=1e-6)
    least = image.flatten(1).amin(dim=1)[:, None, None, None]
    return least + (image - least) * field.exp()


def _contrasted(
    tio: Any, image: torch.Tensor, preset: SitePreset, size: tuple[float, ...], rng: np.random.Generator
) -> torch.Tensor:
    del size
    least = image.flatten(1).amin(dim=1)[:, None, None, None]
    span = image.flatten(1).amax(dim=1)[:, None, None, None] - least
    unit = (image - least) / torch.where(span > 0, span, torch.ones_like(span))
    return least + span * torch.as_tensor(tio.Gamma(_varied(preset.gamma, preset, rng))(_image(tio, unit)).data)


def _image(tio: Any, tensor: torch.Tensor, size: tuple[float, ...] = (1.0, 1.0, 1.0)) -> Any:
    return tio.ScalarImage(tensor=tensor, affine=np.diag([*size, 1.0]))


def _check(images: torch.Tensor, preset: SitePreset, voxel_mm: float | tuple[float, ...]) -> tuple[float, ...]:
    """Return the size of a voxel along W, H and D."""
    if not isinstance(images, torch.Tensor) or images.ndim not in (4, 5) or images.dtype == torch.bool:
        shape = tuple(getattr(images, "shape", ())) or type(images).__name__
        raise DataError(f"images has shape {shape}: pass a torch tensor (B, C, H, W) or (B, C, D, H, W).")
    if images.is_complex() or 0 in images.shape[1:]:
        raise DataError(f"images has shape {tuple(images.shape)} and type {images.dtype}: real numbers, some voxels.")
    if wrong := (~torch.isfinite(images.detach()).flatten(1).all(dim=1)).nonzero()[:, 0].tolist():
        raise DataError(f"images hold values that are not finite ({positions(wrong)}): repair or leave them out.")
    n = images.ndim - 2
    sizes = (float(voxel_mm),) * n if isinstance(voxel_mm, (int, float)) else tuple(map(float, voxel_mm))
    if len(sizes) != n or not all(math.isfinite(s) and s > 0 for s in sizes):
        raise DataError(f"voxel_mm={voxel_mm}: one size above 0, or {n} ({', '.join(LETTERS[-n:])}), in mm.")
    axes = [preset.slice_axis] * (preset.slice_factor > 1) + [preset.ghost_axis] * (preset.ghosts > 0)
    if n == 2 and -3 in axes:
        raise DataError("the preset acts along the depth, which images (B, C, H, W) do not have: choose axis -2 or -1.")
    return (*sizes[::-1], 1.0)[:3]


def _typed(values: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    if not images.is_floating_point():
        limits = torch.iinfo(images.dtype)
        values = values.round().clamp(limits.min, limits.max)
    return values.to(images.dtype).to(images.device)


def _torchio() -> Any:
    try:
        import torchio
    except ImportError:
        raise MissingDependencyError(
            "radiology presets need an optional package: pip install 'causalfm[radiology]'"
        ) from None
    return torchio
