"""Artefacts of slides and scans, each with a seed of its own; none is there unless asked for.

They act on the light that has passed the section, ``(w, 3, w)`` in rows, channels, columns, before the scanner.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from causalfm.datasets.histology_fields import gaussian_operator, smooth_noise
from causalfm.errors import DataError

_INKS = np.array([[1.9, 1.1, 0.25], [1.6, 0.35, 1.2], [2.2, 2.2, 2.0]], dtype=np.float32)  # optical density: blue,
# green and black felt pens, columns red, green, blue


def _pen(light: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a stroke of felt pen on the cover glass: a wide band with a soft edge."""
    side = len(light)
    across = _across(rng, side, bend=0.08) + rng.uniform(-0.15, 0.15) * side
    width, ink = rng.uniform(0.12, 0.28) * side, _INKS[rng.integers(len(_INKS))] * np.float32(rng.uniform(0.6, 1.0))
    cover = (0.5 + (width - np.abs(across)) / 12.0).clip(0.0, 1.0) * (1.0 + 0.08 * smooth_noise(rng, side, 12.0))
    return np.asarray(light * np.exp(-cover.astype(np.float32)[:, None] * ink[:, None]))


def _fold(light: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Fold the section: a winding band of a little more than twice the tissue."""
    side = len(light)
    distance = np.abs(_across(rng, side, bend=0.10) + rng.uniform(-0.2, 0.2) * side)
    inside = (0.5 + (rng.uniform(0.04, 0.10) * side - distance) / 4.0).clip(0.0, 1.0)
    return np.asarray(light ** (1.0 + 1.3 * inside.astype(np.float32))[:, None])


def _defocus(light: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Put the whole tile out of focus."""
    return _blurred(light, rng.uniform(2.0, 4.5))


def _bubble(light: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Trap an air bubble under the cover glass: blurred and pale inside, a dark rim."""
    side = len(light)
    y, x = _axes(side)
    centre, radius = rng.uniform(-0.3, 0.3, 2) * side, rng.uniform(0.18, 0.38) * side
    depth = radius - np.hypot(y - centre[0], x - centre[1]) + 1.5 * smooth_noise(rng, side, 20.0)
    inside = (0.5 + depth / 6.0).clip(0.0, 1.0).astype(np.float32)[:, None]
    rim = 0.75 * np.exp(-((depth / 5.0) ** 2)).astype(np.float32)[:, None]
    pale = 0.35 + 0.65 * _blurred(light, 3.5)
    return np.asarray(((1.0 - inside) * light + inside * pale) * (1.0 - rim))


def _dust(light: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Drop a few dark specks on the cover glass, out of focus."""
    side = len(light)
    y, x = _axes(side)
    dark = np.zeros((side, side), dtype=np.float32)
    for _ in range(rng.integers(3, 9)):
        place, radius = rng.uniform(-0.5, 0.5, 2) * side, rng.uniform(1.5, 6.0)
        distance = np.hypot(y - place[0], x - place[1])
        dark = np.maximum(dark, rng.uniform(0.4, 0.9) * (0.5 + (radius - distance) / 5.0).clip(0.0, 1.0))
    return np.asarray(light * (1.0 - dark.astype(np.float32))[:, None])


ARTEFACTS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "pen": _pen,
    "fold": _fold,
    "defocus": _defocus,
    "bubble": _bubble,
    "dust": _dust,
}


def spoil(light: np.ndarray, kind: str, seed: int | tuple[int, ...]) -> np.ndarray:
    """Put one artefact of ``ARTEFACTS`` on transmitted light ``(w, 3, w)``; the light given stays as it is.

    Raises
    ------
    DataError
        Unknown artefact.
    """
    if kind not in ARTEFACTS:
        raise DataError(f"artefact {kind!r} is unknown: choose {', '.join(map(repr, ARTEFACTS))}.")
    return ARTEFACTS[kind](light, np.random.default_rng(seed))


def _across(rng: np.random.Generator, side: int, bend: float) -> np.ndarray:
    """Signed distance, px, to a bent line through the middle of the tile; ``bend`` is a share of the side."""
    y, x = _axes(side)
    turn = rng.uniform(0.0, np.pi)
    return np.asarray(np.cos(turn) * x + np.sin(turn) * y + bend * side * smooth_noise(rng, side, 0.25 * side))


def _axes(side: int) -> tuple[np.ndarray, np.ndarray]:
    axis = np.arange(side, dtype=np.float32) - np.float32(side / 2)
    return axis[:, None], axis[None]


def _blurred(light: np.ndarray, sd: float) -> np.ndarray:
    side = len(light)
    operator = gaussian_operator(side, side, 1.0, round(sd, 1))  # rounded: few operators are kept
    rows = (operator @ light.reshape(side, 3 * side)).reshape(3 * side, side)
    columns = operator @ np.ascontiguousarray(rows.T)
    return np.ascontiguousarray(columns.reshape(side, side, 3).transpose(1, 2, 0))
