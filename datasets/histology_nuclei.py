"""Nuclei: placed apart from each other, drawn as soft ellipses with a rim and a nucleolus."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class NucleusKind:
    """What the nuclei of one cell type look like.

    Attributes
    ----------
    radius
        Radius of the circle of equal area, px.
    aspect
        Length over width.
    spread
        Standard deviation of the size, relative.
    depth
        Mean hematoxylin concentration.
    nucleolus
        Extra hematoxylin in the middle of the nucleolus.
    gap
        Smallest distance between two centres, in radii; undercut where there is no room left.
    """

    radius: float
    aspect: float
    spread: float
    depth: float
    nucleolus: float = 0.0
    gap: float = 1.6


def add_nuclei(
    rng: np.random.Generator,
    canvas: np.ndarray,
    kind: NucleusKind,
    count: int,
    weight: np.ndarray,
    angle: np.ndarray,
) -> None:
    """Draw ``count`` nuclei onto ``canvas`` in place; where two overlap, the denser one shows.

    Parameters
    ----------
    canvas
        Hematoxylin of the nuclei ``(side, side)`` float32.
    weight, angle
        Coarse maps ``(m, m)`` of where nuclei like to sit and the direction in which they point.
    """
    cumulative = np.cumsum(weight.ravel())
    if count < 1 or cumulative[-1] <= 0.0:
        return
    side, factor = len(canvas), len(canvas) / len(weight)
    cell = np.searchsorted(cumulative, rng.random(6 * count) * cumulative[-1], side="right")
    node = np.stack(np.divmod(cell, len(weight)), axis=1)
    centre = (node + rng.random((len(node), 2))) * factor
    chosen = _apart(centre, side, count, kind.gap * kind.radius)
    centre, node = centre[chosen].astype(np.float32), node[chosen]
    turn = angle[node[:, 0], node[:, 1]] + rng.normal(0.0, 0.25, count)
    _draw(rng, canvas, kind, centre, turn)


def _draw(
    rng: np.random.Generator, canvas: np.ndarray, kind: NucleusKind, centre: np.ndarray, turn: np.ndarray
) -> None:
    side, count = len(canvas), len(centre)
    size, shape, depth = rng.standard_normal((3, count)).clip(-2.0, 2.0).astype(np.float32)
    radius = kind.radius * (1.0 + kind.spread * size)
    length = radius * np.sqrt(kind.aspect * (1.0 + 0.15 * shape))
    width = radius**2 / length
    softness = 1.0 / (0.6 * width)  # the edge falls within about 2.5 px
    nucleus, y, x = _pixels(centre, length * (1.1 + softness), width * (1.1 + softness), turn, side)
    cos, sin = (f(turn).astype(np.float32)[nucleus] for f in (np.cos, np.sin))
    dy, dx = y + np.float32(0.5) - centre[nucleus, 0], x + np.float32(0.5) - centre[nucleus, 1]
    a, b = (cos * dx + sin * dy) / length[nucleus], (cos * dy - sin * dx) / width[nucleus]
    dent = rng.uniform(0.0, 0.4, count).astype(np.float32)
    rho = np.sqrt(a * a + b * b) + dent[nucleus] * a * b  # dented on two sides
    edge = (1.0 - (rho - 1.0) / softness[nucleus]).clip(0.0, 1.6) / np.float32(1.6)
    tone = np.float32(kind.depth) * (1.0 + 0.12 * depth)
    dark = tone[nucleus] * edge * (0.70 + 0.36 * np.minimum(rho, 1.0) ** 2)
    if kind.nucleolus:
        spot = rng.normal(0.0, 0.28, (2, count)).astype(np.float32)
        off = (a - spot[0, nucleus]) ** 2 + (b - spot[1, nucleus]) ** 2
        dark += np.float32(kind.nucleolus) * np.exp(-18.0 * off)
    np.maximum.at(canvas.reshape(-1), y.astype(np.intp) * side + x.astype(np.intp), dark)


def _pixels(
    centre: np.ndarray, length: np.ndarray, width: np.ndarray, turn: np.ndarray, side: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """List the pixels of turned ellipses: which ellipse, row and column (float32)."""
    cos2, sin2, cross = np.cos(turn) ** 2, np.sin(turn) ** 2, np.sin(turn) * np.cos(turn)
    height = np.sqrt(length**2 * sin2 + width**2 * cos2)  # half the extent along y
    low = np.maximum(np.ceil(centre[:, 0] - 0.5 - height), 0).astype(np.intp)
    high = np.minimum(np.floor(centre[:, 0] - 0.5 + height), side - 1).astype(np.intp)
    owner, row = _ranges(low, high)
    dy = row + 0.5 - centre[owner, 0]
    middle = dy * ((length**2 - width**2) * cross / height**2)[owner]
    half = (length * width / height)[owner] * np.sqrt((1.0 - (dy / height[owner]) ** 2).clip(0.0))
    left = np.maximum(np.ceil(centre[owner, 1] - 0.5 + middle - half), 0).astype(np.intp)
    right = np.minimum(np.floor(centre[owner, 1] - 0.5 + middle + half), side - 1).astype(np.intp)
    line, column = _ranges(left, right)
    return owner[line], row[line].astype(np.float32), column.astype(np.float32)


def _ranges(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Write out ``low[i]..high[i]`` (ends included, empty if reversed) for every i: the i and the numbers."""
    length = np.maximum(high - low + 1, 0)
    owner = np.repeat(np.arange(len(low)), length)
    first = np.cumsum(length) - length
    return owner, np.arange(len(owner)) - (first - low)[owner]


def _apart(points: np.ndarray, side: int, count: int, gap: float) -> np.ndarray:
    """Choose exactly ``count`` points: the first ones that keep the gap, topped up with the first that do not."""
    reach = int(gap)
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = dy**2 + dx**2 < gap**2
    blocked = np.zeros((side + 2 * reach + 8, side + 2 * reach + 8), dtype=bool)
    kept, crowded = [], []
    for place, (row, column) in enumerate(points.astype(np.int64).tolist()):
        if blocked[row + reach, column + reach]:
            crowded.append(place)
            continue
        blocked[row : row + 2 * reach + 1, column : column + 2 * reach + 1] |= disc
        kept.append(place)
        if len(kept) == count:
            break
    return np.array(kept + crowded[: count - len(kept)])
