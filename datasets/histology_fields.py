"""Random fields and resampling for rendered tissue: thin matrices along one axis, applied to both axes in turn.

Sparse products run in one order whatever the number of threads, so the same seed gives the same bytes.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy import sparse, special

_FAINT = 0.006  # of the largest weight, 3.2 standard deviations out: counts as zero


@lru_cache(maxsize=128)
def gaussian_operator(n_out: int, n_in: int, step: float, sd: float, *, noise: bool = False) -> sparse.csr_array:
    """Blur and resample one axis; the middles of input and output coincide.

    Parameters
    ----------
    n_out, n_in
        Output and input pixels.
    step
        Distance of output pixels, in input pixels.
    sd
        Standard deviation of the Gaussian, in input pixels; 0 picks the nearest pixel.
    noise
        Rows of unit length, so that white noise keeps its variance, instead of rows that sum to one.

    Returns
    -------
    scipy.sparse.csr_array
        ``(n_out, n_in)`` float32. Each weight is the Gaussian's mass over one input pixel.
    """
    middle = n_in / 2 + (np.arange(n_out) + 0.5 - n_out / 2) * step
    edges = (np.arange(n_in + 1)[None] - middle[:, None]) / max(sd, 1e-6)
    weight = np.diff(special.ndtr(edges), axis=1)
    weight[weight < _FAINT * weight.max(axis=1, keepdims=True)] = 0.0
    weight /= np.sqrt((weight**2).sum(axis=1, keepdims=True)) if noise else weight.sum(axis=1, keepdims=True)
    return sparse.csr_array(weight.astype(np.float32))


def apply_both(operator: sparse.csr_array, image: np.ndarray) -> np.ndarray:
    """Apply an operator to the rows and the columns of ``(n, n)``."""
    columns = operator @ np.ascontiguousarray(image.T)
    return np.asarray(operator @ np.ascontiguousarray(columns.T))


@lru_cache(maxsize=1)
def _quantiles() -> np.ndarray:
    levels = 2**16
    return np.asarray(special.ndtri((np.arange(levels) + 0.5) / levels), dtype=np.float32)


def normals(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw standard normal values as float32, from 65,536 equally likely ones: three times as fast as the usual way."""
    drawn = np.frombuffer(rng.bytes(2 * math.prod(shape)), dtype="<u2")
    return _quantiles().take(drawn).reshape(shape)


def smooth_noise(rng: np.random.Generator, side: int, scale: float) -> np.ndarray:
    """Draw Gaussian noise of unit variance.

    Parameters
    ----------
    side
        Pixels along each axis.
    scale
        Standard deviation of its Gaussian kernel, px. Noise is drawn on a lattice of that spacing: coarse fields are
        cheap.

    Returns
    -------
    numpy.ndarray
        ``(side, side)`` float32.
    """
    nodes = int(np.ceil(side / scale)) + 8
    operator = gaussian_operator(side, nodes, 1.0 / scale, 1.0, noise=True)
    return apply_both(operator, normals(rng, (nodes, nodes)))


def enlarge(coarse: np.ndarray, side: int, factor: int) -> np.ndarray:
    """Interpolate a coarse map ``(m, m)`` smoothly to ``(side, side)``, ``factor`` pixels for one."""
    return apply_both(gaussian_operator(side, len(coarse), 1.0 / factor, 0.6), coarse.astype(np.float32))


def fibres(rng: np.random.Generator, side: int, turn: float, along: float, across: float) -> np.ndarray:
    """Draw wavy fibres: noise stretched along the direction ``turn`` and bent.

    Parameters
    ----------
    side
        Pixels along each axis.
    turn
        Direction of the fibres, radians.
    along, across
        Standard deviations of the kernel along and across a fibre, px.

    Returns
    -------
    numpy.ndarray
        ``(side, side)`` float32 of about unit variance.
    """
    span = int(np.ceil(np.sqrt(2.0) * side)) + 56  # any turn, and four standard deviations of the bend
    nodes = int(np.ceil(span / along)) + 8, int(np.ceil(span / across)) + 8
    lengthwise, crosswise = (
        gaussian_operator(span, n, 1.0 / scale, 1.0, noise=True)
        for n, scale in zip(nodes, (along, across), strict=True)
    )
    straight = crosswise @ np.ascontiguousarray((lengthwise @ normals(rng, nodes)).T)
    axis = np.arange(side, dtype=np.float32) - side / 2
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    u = cos * axis[None] + sin * axis[:, None]
    v = cos * axis[:, None] - sin * axis[None] + 7.0 * smooth_noise(rng, side, 22.0)
    row, column = ((w + span / 2).astype(np.int32).clip(0, span - 1) for w in (v, u))
    return np.asarray(straight.ravel()[row * span + column])
