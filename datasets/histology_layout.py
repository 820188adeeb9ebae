"""Four growth patterns of a tumour: where space, stroma and epithelium lie, and where its nuclei sit.

Laid out on a coarse grid in micrometres and interpolated later: outlines are smooth at this scale. Every pattern
fills the same shares of space and stroma, so that patterns differ in structure and in nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from causalfm.datasets.histology_fields import smooth_noise

GRID_UM = 2.0  # spacing of the coarse grid


@dataclass(frozen=True)
class Proportions:
    """What a pattern must respect: the radius of its unit (um), shares of stroma and of empty space."""

    unit_radius: float
    stroma: float
    space: float


@dataclass(frozen=True, eq=False)
class Layout:
    """Compartments on the coarse grid ``(m, m)``.

    Attributes
    ----------
    space, stroma
        Depth inside the compartment, um; negative outside. Space goes before stroma.
    weight
        How much epithelial nuclei like to sit here.
    angle
        The direction in which they point, radians.
    fibre_turn
        Direction of the collagen, radians.
    """

    space: np.ndarray
    stroma: np.ndarray
    weight: np.ndarray
    angle: np.ndarray
    fibre_turn: float


@dataclass(frozen=True, eq=False)
class _Fields:
    """A pattern before its shares are fixed: higher is further inside, in um; nuclei and directions."""

    space: np.ndarray
    stroma: np.ndarray
    preference: np.ndarray
    angle: np.ndarray
    fibre_turn: float | None = None  # None: any


def _glandular(rng: np.random.Generator, p: Proportions, side: int) -> _Fields:
    """Glands: an empty lumen inside, a ring of nuclei towards the outside, stroma between them."""
    centres = _centres(rng, side, 1.9 * p.unit_radius)
    field = np.sqrt(_distances(centres, side, rng).min(axis=0)) + 1.6 * smooth_noise(rng, side, 5.0 / GRID_UM)
    inner, outer = np.quantile(field, [p.space, 1.0 - p.stroma])
    depth = (field - inner) / (outer - inner)
    return _Fields(-field, field, np.exp(-(((depth - 0.64) / 0.17) ** 2)), _uphill(field))


def _cribriform(rng: np.random.Generator, p: Proportions, side: int) -> _Fields:
    """Large nests with several punched-out round holes, stroma between the nests."""
    wall = _wall(rng, _centres(rng, side, 3.4 * p.unit_radius), side)
    hole = np.sqrt(_distances(_centres(rng, side, 1.25 * p.unit_radius), side, rng).min(axis=0))
    hole = hole + 0.7 * smooth_noise(rng, side, 4.0 / GRID_UM)
    space = np.minimum(-hole, 0.6 * (wall - np.quantile(wall, p.stroma + 0.08)) - 0.3 * p.unit_radius)
    preference = 1.0 - 0.5 * np.exp(-(((hole - 0.3 * p.unit_radius) / 4.0) ** 2))
    return _Fields(space, -0.5 * wall, preference, _uphill(hole) + 0.5 * np.pi)


def _trabecular(rng: np.random.Generator, p: Proportions, side: int) -> _Fields:
    """Winding ribbons two or three cells thick, with slits of stroma and space between them."""
    y, x = _grid(side)
    turn, period = rng.uniform(0.0, np.pi), 1.5 * p.unit_radius
    across = np.cos(turn) * x + np.sin(turn) * y + 5.0 * smooth_noise(rng, side, 16.0 / GRID_UM)
    wave = period / np.pi * np.cos(2.0 * np.pi / period * across + rng.uniform(0.0, 2.0 * np.pi))
    space = wave + 0.2 * period * smooth_noise(rng, side, 6.0 / GRID_UM)
    return _Fields(space, wave, np.ones_like(wave), _uphill(np.asarray(across)), turn + 0.5 * np.pi)


def _solid(rng: np.random.Generator, p: Proportions, side: int) -> _Fields:
    """Solid nests: packed nuclei, thin septa of stroma, small irregular clefts."""
    wall = _wall(rng, _centres(rng, side, 2.2 * p.unit_radius), side)
    cleft = 5.7 * smooth_noise(rng, side, 4.0 / GRID_UM) - 6.0 * np.exp(-np.maximum(wall, 0.0) / 8.0)
    return _Fields(cleft, -0.5 * wall, np.ones_like(wall), np.pi * smooth_noise(rng, side, 8.0 / GRID_UM))


_PATTERNS: dict[str, Callable[[np.random.Generator, Proportions, int], _Fields]] = {
    "glandular": _glandular,
    "cribriform": _cribriform,
    "trabecular": _trabecular,
    "solid": _solid,
}
TISSUES = tuple(_PATTERNS)  # from well to poorly differentiated


def lay_out(tissue: str, rng: np.random.Generator, proportions: Proportions, side: int) -> Layout:
    """Lay out one pattern of ``TISSUES`` on ``(side, side)`` coarse pixels, with the given shares."""
    fields = _PATTERNS[tissue](rng, proportions, side)
    space = fields.space - np.quantile(fields.space, 1.0 - proportions.space)
    rest = fields.stroma[space <= 0.0]
    stroma = fields.stroma - np.quantile(rest, 1.0 - proportions.stroma / (1.0 - proportions.space))
    inside = (space < -2.5) & (stroma < -1.5)  # um: nuclei keep off the edges
    turn = rng.uniform(0.0, np.pi) if fields.fibre_turn is None else fields.fibre_turn
    return Layout(space, stroma, np.where(inside, fields.preference, 0.0), fields.angle, turn)


def _wall(rng: np.random.Generator, centres: np.ndarray, side: int) -> np.ndarray:
    """Twice the distance to the border between two nests, um."""
    nearest = np.sqrt(np.partition(_distances(centres, side), 1, axis=0)[:2])
    wall: np.ndarray = nearest[1] - nearest[0] + 5.0 * smooth_noise(rng, side, 6.0 / GRID_UM)
    return wall


def _distances(centres: np.ndarray, side: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """Squared distance from every pixel to every centre, ``(k, side, side)``, um; with ``rng`` to ellipses."""
    y, x = _grid(side)
    dx, dy = x - centres[:, 0, None, None], y - centres[:, 1, None, None]
    if rng is None:
        return np.asarray(dx**2 + dy**2)
    stretch, turn = rng.uniform((0.8, 0.0), (1.25, np.pi), (len(centres), 2)).astype(np.float32).T[..., None, None]
    cos, sin = np.cos(turn), np.sin(turn)
    return np.asarray(((cos * dx + sin * dy) * stretch) ** 2 + ((cos * dy - sin * dx) / stretch) ** 2)


def _centres(rng: np.random.Generator, side: int, spacing: float) -> np.ndarray:
    """Jittered hexagonal lattice ``(k, 2)``, um, that covers the tile and its margin, randomly shifted and turned."""
    width = side * GRID_UM
    reach = int(np.ceil(width / spacing)) + 2
    i, j = (v.ravel() for v in np.mgrid[-reach : reach + 1, -reach : reach + 1])
    lattice = np.stack([i + 0.5 * j, np.sqrt(0.75) * j], axis=1) + rng.uniform(-0.5, 0.5, 2)
    lattice = (lattice + rng.normal(0.0, 0.12, lattice.shape)) * spacing
    turn = rng.uniform(0.0, np.pi)
    turned = lattice @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) + width / 2
    inside = ((turned > -0.8 * spacing) & (turned < width + 0.8 * spacing)).all(axis=1)
    return np.asarray(turned[inside], dtype=np.float32)


def _grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    axis = (np.arange(side, dtype=np.float32) + 0.5) * np.float32(GRID_UM)
    return axis[:, None], axis[None]


def _uphill(field: np.ndarray) -> np.ndarray:
    slope_y, slope_x = np.gradient(field)
    return np.asarray(np.arctan2(slope_y, slope_x))
