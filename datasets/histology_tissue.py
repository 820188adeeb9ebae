"""Tissue before staining: two growth patterns that differ in structure, not in amounts of anything."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import fft, ndimage

from causalfm.errors import DataError

TISSUES = ("glandular", "solid")


@dataclass(frozen=True)
class Traits:
    """What a patient's tumour looks like, whatever its growth pattern.

    Attributes
    ----------
    nucleus_radius
        Mean radius of a tumour nucleus, px (1 px is about 1 micrometre).
    crowding
        Share of the epithelium that nuclei cover.
    unit_radius
        Radius of a gland, or of a solid nest, px.
    stroma, space
        Shares of the tile that are stroma and empty space.
    thickness
        Section thickness relative to the usual: multiplies both concentrations.
    """

    nucleus_radius: float
    crowding: float
    unit_radius: float
    stroma: float
    space: float
    thickness: float


@dataclass(frozen=True, eq=False)
class Scene:
    """A piece of tissue before staining: concentration maps ``(h, w)`` float32 of hematoxylin and eosin."""

    tissue: str
    traits: Traits
    seed: tuple[int, ...]
    hematoxylin: np.ndarray
    eosin: np.ndarray


def sample_traits(rng: np.random.Generator) -> Traits:
    """Draw a patient's traits; the growth pattern plays no part."""

    def draw(mean: float, sd: float) -> float:
        return float(mean + sd * np.clip(rng.standard_normal(), -2.5, 2.5))

    return Traits(
        nucleus_radius=draw(3.6, 0.35),
        crowding=draw(0.40, 0.04),
        unit_radius=draw(25.0, 3.0),
        stroma=draw(0.26, 0.04),
        space=draw(0.09, 0.015),
        thickness=float(np.exp(draw(0.0, 0.07))),
    )


def make_scene(tissue: str, traits: Traits, seed: int | tuple[int, ...], *, size: int = 128) -> Scene:
    """Grow one tile of tissue.

    Parameters
    ----------
    tissue
        ``"glandular"`` or ``"solid"``.
    traits
        The patient's traits.
    seed
        Seed of this tile's structure; staining and scanning never touch it.
    size
        Side of the tile, px.

    Returns
    -------
    Scene
        Its mean concentrations depend on the traits alone, equally for both patterns.

    Raises
    ------
    DataError
        Unknown tissue, or a side under 32 px.
    """
    if tissue not in TISSUES:
        raise DataError(f"tissue {tissue!r} is unknown: choose {' or '.join(map(repr, TISSUES))}.")
    if size < 32:
        raise DataError(f"a tile of {size} px holds no tissue pattern: use 32 px or more.")
    seed = seed if isinstance(seed, tuple) else (seed,)
    rng = np.random.default_rng(seed)
    layout = _glandular(rng, traits, size) if tissue == "glandular" else _solid(rng, traits, size)
    return Scene(tissue, traits, seed, *_concentrations(rng, traits, layout))


@dataclass(frozen=True, eq=False)
class _Layout:
    """Masks of the compartments, and where epithelial nuclei like to sit and how they point."""

    space: np.ndarray
    stroma: np.ndarray
    weight: np.ndarray
    angle: np.ndarray


def _glandular(rng: np.random.Generator, traits: Traits, size: int) -> _Layout:
    """Lay out glands: empty lumen inside, a ring of nuclei towards the outside, stroma between them."""
    y, x = _grid(size)
    centres = _centres(rng, size, 1.9 * traits.unit_radius)
    stretch, turn = rng.uniform((0.8, 0.0), (1.25, np.pi), (len(centres), 2)).astype(np.float32).T
    dx, dy = x - centres[:, 0, None, None], y - centres[:, 1, None, None]
    cos, sin = np.cos(turn)[:, None, None], np.sin(turn)[:, None, None]
    along, across = (cos * dx + sin * dy) * stretch[:, None, None], (cos * dy - sin * dx) / stretch[:, None, None]
    field = np.sqrt((along**2 + across**2).min(axis=0)) / traits.unit_radius + 0.06 * _noise(rng, size, 5.0)
    inner, outer = np.quantile(field, [traits.space, 1.0 - traits.stroma])
    space, stroma = field < inner, field > outer
    ring = (field - inner) / (outer - inner)
    weight = np.where(space | stroma, 0.0, np.exp(-(((ring - 0.66) / 0.2) ** 2)))
    slope_y, slope_x = np.gradient(ndimage.gaussian_filter(field, 2.0))
    return _Layout(space, stroma, weight, np.arctan2(slope_y, slope_x))


def _solid(rng: np.random.Generator, traits: Traits, size: int) -> _Layout:
    """Lay out solid nests: packed nuclei, thin septa of stroma, small irregular clefts and vacuoles."""
    y, x = _grid(size)
    centres = _centres(rng, size, 2.2 * traits.unit_radius)
    distance = (x - centres[:, 0, None, None]) ** 2 + (y - centres[:, 1, None, None]) ** 2
    nearest = np.sqrt(np.partition(distance, 1, axis=0)[:2])
    wall = nearest[1] - nearest[0] + 5.0 * _noise(rng, size, 6.0)
    stroma = wall < np.quantile(wall, traits.stroma)
    cleft = np.where(stroma, -np.inf, _noise(rng, size, 4.0))
    space = cleft > np.quantile(cleft, 1.0 - traits.space)
    rim = ndimage.gaussian_filter(space.astype(np.float32), 2.0) > 0.08  # nuclei keep off the edge, as in a gland
    weight = np.where(rim | stroma, 0.0, 1.0)
    return _Layout(space, stroma, weight, np.pi * _noise(rng, size, 8.0))


def _concentrations(rng: np.random.Generator, traits: Traits, layout: _Layout) -> tuple[np.ndarray, np.ndarray]:
    """Fill the compartments with dye; the means are set by the traits, so the pattern cannot shift them."""
    size = len(layout.space)
    epithelium = 1.0 - traits.stroma - traits.space
    radius = traits.nucleus_radius
    tumour = round(epithelium * traits.crowding * size**2 / (np.pi * radius**2))
    spindle = round(traits.stroma * 0.12 * size**2 / (np.pi * radius**2 * 0.6))
    fibre_angle = rng.uniform(0.0, np.pi) + 0.5 * _noise(rng, size, 20.0)
    texture = _fibres(rng, size)
    nuclei = _nuclei(rng, layout.weight, layout.angle, tumour, radius, aspect=1.25)
    fibroblasts = _nuclei(rng, layout.stroma.astype(float), fibre_angle, spindle, radius, aspect=2.6)
    nuclear = np.maximum(nuclei, fibroblasts)
    tissue = 1.0 - ndimage.gaussian_filter(layout.space.astype(np.float32), 0.7)
    stroma = ndimage.gaussian_filter(layout.stroma.astype(np.float32), 0.7)
    grain = 1.0 + 0.12 * _noise(rng, size, 1.2)
    hematoxylin = tissue * (0.16 - 0.10 * stroma) * grain + nuclear * (1.0 + 0.18 * _noise(rng, size, 1.0))
    eosin = (
        tissue
        * (0.42 * grain * (1.0 - stroma) + stroma * (0.74 + 0.16 * texture))
        * (1.0 - 0.6 * nuclear.clip(0.0, 1.0))
    )
    hematoxylin, eosin = hematoxylin.clip(0.01), eosin.clip(0.01)
    mean_h = 0.10 + 0.95 * (epithelium * traits.crowding + 0.1 * traits.stroma)
    mean_e = 0.36 * epithelium + 0.63 * traits.stroma
    hematoxylin *= traits.thickness * mean_h / hematoxylin.mean()
    eosin *= traits.thickness * mean_e / eosin.mean()
    return hematoxylin.astype(np.float32), eosin.astype(np.float32)


def _nuclei(
    rng: np.random.Generator, weight: np.ndarray, angle: np.ndarray, count: int, radius: float, *, aspect: float
) -> np.ndarray:
    """Place ``count`` ellipses where ``weight`` is high, apart from each other, and return their soft density."""
    size = len(weight)
    canvas = np.zeros((size, size))
    cumulative = np.cumsum(weight.ravel())
    if cumulative[-1] == 0.0 or count == 0:
        return canvas
    spots = np.searchsorted(cumulative, rng.random(6 * count) * cumulative[-1], side="right")
    row, column = np.divmod(spots[_spread(spots, size, count, 1.55 * radius)], size)
    points = np.stack([row, column], axis=1) + rng.random((count, 2)) - 0.5
    turn = angle[row, column] + rng.normal(0.0, 0.25, count)
    long = radius * np.sqrt(aspect) * rng.normal(1.0, 0.10, count).clip(0.7, 1.4)
    short = radius / np.sqrt(aspect) * rng.normal(1.0, 0.10, count).clip(0.7, 1.4)
    depth = rng.normal(1.0, 0.12, count).clip(0.6, 1.4)
    reach = int(np.ceil(long.max())) + 2
    step_y, step_x = (v.ravel() for v in np.mgrid[-reach : reach + 1, -reach : reach + 1])
    y, x = row[:, None] + step_y, column[:, None] + step_x
    dy, dx = y - points[:, :1], x - points[:, 1:]
    cos, sin = np.cos(turn)[:, None], np.sin(turn)[:, None]
    rho = np.hypot((cos * dx + sin * dy) / long[:, None], (cos * dy - sin * dx) / short[:, None])
    value = depth[:, None] / (1.0 + np.exp(np.clip(5.0 * (rho - 1.0), -30.0, 30.0))) * (0.85 + 0.2 * rho.clip(0.0, 1.0))
    inside = (y >= 0) & (y < size) & (x >= 0) & (x < size) & (rho < 2.0)
    np.maximum.at(canvas, (y[inside], x[inside]), value[inside])
    return canvas


def _spread(spots: np.ndarray, size: int, count: int, gap: float) -> np.ndarray:
    """Choose exactly ``count`` pixels: the first ones that keep the gap, topped up with the first that do not."""
    reach = int(gap)
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = dy**2 + dx**2 < gap**2
    blocked = np.zeros((size + 2 * reach, size + 2 * reach), dtype=bool)
    kept, crowded = [], []
    for place, spot in enumerate(spots.tolist()):
        row, column = divmod(spot, size)
        if blocked[row + reach, column + reach]:
            crowded.append(place)
            continue
        blocked[row : row + 2 * reach + 1, column : column + 2 * reach + 1] |= disc
        kept.append(place)
        if len(kept) == count:
            break
    return np.array(kept + crowded[: count - len(kept)])


def _centres(rng: np.random.Generator, size: int, spacing: float) -> np.ndarray:
    """Jittered hexagonal lattice ``(k, 2)`` that covers the tile and its margin, randomly shifted and turned."""
    reach = int(np.ceil(size / spacing)) + 2
    i, j = (v.ravel() for v in np.mgrid[-reach : reach + 1, -reach : reach + 1])
    lattice = np.stack([i + 0.5 * j, np.sqrt(0.75) * j], axis=1) + rng.uniform(-0.5, 0.5, 2)
    lattice = (lattice + rng.normal(0.0, 0.12, lattice.shape)) * spacing
    turn = rng.uniform(0.0, np.pi)
    turned: np.ndarray = lattice @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) + size / 2
    inside = ((turned > -0.8 * spacing) & (turned < size + 0.8 * spacing)).all(axis=1)
    return np.asarray(turned[inside], dtype=np.float32)


def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:size, :size].astype(np.float32)
    return y, x


def _noise(rng: np.random.Generator, size: int, scale: float) -> np.ndarray:
    """Smooth periodic noise ``(size, size)`` of unit variance; ``scale`` is the sd of its Gaussian kernel, px."""
    return _filtered(rng, _round_gain(size, scale))


def _fibres(rng: np.random.Generator, size: int) -> np.ndarray:
    """Wavy collagen: noise stretched along one random direction."""
    return _filtered(rng, _gain(size, 7.0, 1.1, rng.uniform(0.0, np.pi)))


def _filtered(rng: np.random.Generator, gain: np.ndarray) -> np.ndarray:
    shape = (len(gain), len(gain))
    field: np.ndarray = fft.irfft2(fft.rfft2(rng.standard_normal(shape, dtype=np.float32)) * gain, s=shape)
    return np.asarray(field / field.std())


def _gain(size: int, along: float, across: float, turn: float) -> np.ndarray:
    """Fourier transform of a Gaussian kernel without its mean: the noise averages zero."""
    fy, fx = fft.fftfreq(size)[:, None], fft.rfftfreq(size)[None]
    u, v = np.cos(turn) * fx + np.sin(turn) * fy, np.cos(turn) * fy - np.sin(turn) * fx
    gain = np.exp(-2.0 * np.pi**2 * ((along * u) ** 2 + (across * v) ** 2)).astype(np.float32)
    gain[0, 0] = 0.0
    return np.asarray(gain)


@lru_cache(maxsize=32)
def _round_gain(size: int, scale: float) -> np.ndarray:
    return _gain(size, scale, scale, 0.0)
