"""Tissue before staining: growth patterns that differ in structure, not in amounts of anything."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalfm.arguments import check_whole
from causalfm.datasets.histology_fields import enlarge, fibres, smooth_noise
from causalfm.datasets.histology_layout import GRID_UM, TISSUES, Layout, Proportions, lay_out
from causalfm.datasets.histology_nuclei import NucleusKind, add_nuclei
from causalfm.errors import DataError

PIXEL_UM = 0.5  # of the scene: 20x, the usual input of pathology encoders
SMALLEST_SIDE = 64  # px
WIDEST_UM = 0.52  # the largest pixel of a scanner that a scene leaves room for
_FACTOR = round(GRID_UM / PIXEL_UM)
_BORDER = 4  # px around the widest field of view, for the optics


@dataclass(frozen=True)
class Traits:
    """What a patient's tumour looks like, whatever its growth pattern.

    Attributes
    ----------
    nucleus_radius
        Mean radius of a tumour nucleus, um.
    pleomorphism
        Standard deviation of the nuclear size within a tile, relative.
    crowding
        Share of the epithelium that nuclei cover.
    unit_radius
        Radius of a gland or nest, um; the other patterns scale with it.
    stroma, space
        Shares of the tile that are stroma and empty space.
    lymphocytes
        Share of the stroma that lymphocyte nuclei cover.
    thickness
        Thickness of the patient's sections relative to the laboratory's usual: multiplies both concentrations.
    """

    nucleus_radius: float
    pleomorphism: float
    crowding: float
    unit_radius: float
    stroma: float
    space: float
    lymphocytes: float
    thickness: float


@dataclass(frozen=True, eq=False)
class Scene:
    """A piece of tissue before staining.

    Attributes
    ----------
    tissue, traits, seed
        What :func:`make_scene` was given.
    size
        Side of the tile that a scanner makes of it, px.
    hematoxylin, eosin
        Concentrations ``(w, w)`` float32 at ``PIXEL_UM``; w exceeds ``size``, so that larger pixels fit.
    """

    tissue: str
    traits: Traits
    seed: tuple[int, ...]
    size: int
    hematoxylin: np.ndarray
    eosin: np.ndarray


def sample_traits(rng: np.random.Generator) -> Traits:
    """Draw a patient's traits; the growth pattern plays no part."""

    def draw(mean: float, sd: float) -> float:
        return float(mean + sd * np.clip(rng.standard_normal(), -2.5, 2.5))

    return Traits(
        nucleus_radius=draw(3.7, 0.30),
        pleomorphism=draw(0.12, 0.03),
        crowding=draw(0.36, 0.035),
        unit_radius=draw(25.0, 2.5),
        stroma=draw(0.27, 0.04),
        space=draw(0.10, 0.015),
        lymphocytes=draw(0.05, 0.018),
        thickness=float(np.exp(draw(0.0, 0.05))),
    )


def make_scene(tissue: str, traits: Traits, seed: int | tuple[int, ...], *, size: int = 224) -> Scene:
    """Grow one tile of tissue.

    Parameters
    ----------
    tissue
        A growth pattern of ``TISSUES``.
    traits
        The patient's traits.
    seed
        Seed of this tile's structure; staining and scanning never touch it.
    size
        Side of the rendered tile, px.

    Returns
    -------
    Scene
        Its mean concentrations depend on the traits alone, equally for all patterns.

    Raises
    ------
    DataError
        Unknown tissue, or a side that is no whole number of 64 px or more.
    """
    if tissue not in TISSUES:
        raise DataError(f"tissue {tissue!r} is unknown: choose {', '.join(map(repr, TISSUES))}.")
    check_whole(size, "size", SMALLEST_SIDE, why="a smaller tile, px, holds no tissue pattern")
    seed = seed if isinstance(seed, tuple) else (seed,)
    rng = np.random.default_rng(seed)
    side = 2 * round(size * WIDEST_UM / PIXEL_UM / 2 + _BORDER) + size % 2
    proportions = Proportions(traits.unit_radius, traits.stroma, traits.space)
    layout = lay_out(tissue, rng, proportions, -(-side // _FACTOR))
    return Scene(tissue, traits, seed, size, *_concentrations(rng, traits, layout, side))


def _concentrations(rng: np.random.Generator, t: Traits, layout: Layout, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Fill the compartments with dye; the means are set by the traits, so the pattern cannot shift them."""
    nuclear = _nuclei(rng, t, layout, side)
    void = _depth(layout.space, t.space, side)
    collagenous = _depth(layout.stroma, t.stroma, side, outside=void)
    tissue, stroma = 1.0 - _covered(void), _covered(collagenous)
    grain, shade = smooth_noise(rng, side, 1.3), smooth_noise(rng, side, 9.0)
    collagen = fibres(rng, side, layout.fibre_turn, 26.0, 1.7)
    chromatin = np.ascontiguousarray(np.roll(grain, side // 2, axis=(0, 1)).T)  # the fine noise once more, from afar
    nuclear *= 1.0 + 0.28 * chromatin
    cytoplasm = (tissue - stroma).clip(0.0)
    hematoxylin = (0.14 + 0.03 * shade + 0.025 * grain) * cytoplasm + 0.05 * stroma + nuclear
    bundles = (0.62 + 0.24 * collagen).clip(0.0, 1.1)
    eosin = (cytoplasm * (0.42 + 0.05 * shade + 0.05 * grain) + stroma * bundles) * (
        1.0 - 0.55 * nuclear.clip(0.0, 1.0)
    )
    epithelium = 1.0 - t.stroma - t.space
    mean_h = 0.10 + 0.92 * (epithelium * t.crowding + t.stroma * (0.08 + t.lymphocytes))
    mean_e = 0.36 * epithelium + 0.58 * t.stroma
    return _with_mean(hematoxylin, t.thickness * mean_h), _with_mean(eosin, t.thickness * mean_e)


def _with_mean(dye: np.ndarray, mean: float) -> np.ndarray:
    dye = np.maximum(dye, np.float32(0.004))  # a trace everywhere: absorption stays positive
    return np.asarray(dye * np.float32(mean / dye.mean(dtype=np.float64)), dtype=np.float32)


def _nuclei(rng: np.random.Generator, t: Traits, layout: Layout, side: int) -> np.ndarray:
    """Draw the three cell types; their numbers follow from the traits, not from the pattern."""
    radius = t.nucleus_radius / PIXEL_UM
    in_stroma = ((layout.stroma > 0.0) & (layout.space <= 0.0)).astype(np.float32)
    epithelium = 1.0 - t.stroma - t.space
    along_fibres = np.full_like(layout.angle, layout.fibre_turn)
    cells = (
        (NucleusKind(radius, 1.25, t.pleomorphism, 1.0, 0.45), epithelium * t.crowding, layout.weight, layout.angle),
        (NucleusKind(0.72 * radius, 3.4, 0.12, 1.1), t.stroma * 0.08, in_stroma, along_fibres),
        (NucleusKind(2.6 / PIXEL_UM, 1.08, 0.08, 1.45), t.stroma * t.lymphocytes, in_stroma, along_fibres),
    )
    canvas = np.zeros((side, side), dtype=np.float32)
    for kind, share, weight, angle in cells:
        add_nuclei(rng, canvas, kind, round(share * side**2 / (np.pi * kind.radius**2)), weight, angle)
    return canvas


def _depth(coarse: np.ndarray, share: float, side: int, outside: np.ndarray | None = None) -> np.ndarray:
    """Interpolate depth inside a compartment (um), shifted so that exactly ``share`` of the tile is inside."""
    depth = enlarge(coarse, side, _FACTOR)
    if outside is not None:
        depth = np.minimum(depth, -outside)
    return np.asarray(depth - np.float32(np.quantile(depth[::3, ::3], 1.0 - share)))


def _covered(depth: np.ndarray) -> np.ndarray:
    """Share of each pixel that a compartment covers: an edge of about 1.5 px."""
    return np.asarray((0.5 + depth / np.float32(1.5 * PIXEL_UM)).clip(0.0, 1.0))
