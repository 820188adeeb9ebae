"""How a scanner turns light into pixels, in numbers set by hand or estimated."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from causalfm.errors import DataError

Row = tuple[float, float, float]
LUMINANCE = (0.299, 0.587, 0.114)  # what sharpening acts on
IDENTITY: tuple[Row, Row, Row] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


@dataclass(frozen=True)
class ScannerProfile:
    """A scanner; the defaults describe one that changes nothing.

    Attributes
    ----------
    um_per_px
        Pixel size, um.
    blur_um
        Standard deviation of the point-spread function, um.
    white
        Signal of empty glass, red, green, blue, above 0 to 1.
    colour_matrix
        Mixes the linear channels; rows are outputs.
    gamma
        Exponent of the response.
    sharpening, sharpening_px
        Amount and radius (sd, px) of an unsharp mask on the luminance.
    shot_noise, read_noise
        Variance of the linear signal I is ``shot_noise I + read_noise^2``.
    jpeg_quality
        1 to 95, or None.
    """

    um_per_px: float = 0.5
    blur_um: float = 0.0
    white: Row = (1.0, 1.0, 1.0)
    colour_matrix: tuple[Row, Row, Row] = IDENTITY
    gamma: float = 1.0
    sharpening: float = 0.0
    sharpening_px: float = 1.0
    shot_noise: float = 0.0
    read_noise: float = 0.0
    jpeg_quality: int | None = None

    def __post_init__(self) -> None:
        positive = (self.um_per_px, self.gamma, self.sharpening_px, *self.white)
        rest = (self.blur_um, self.sharpening, self.shot_noise, self.read_noise)
        shapes = (len(self.white), *map(len, self.colour_matrix))
        mixing = [x for row in self.colour_matrix for x in row]
        if shapes != (3, 3, 3, 3) or not all(isinstance(x, (int, float)) for x in (*positive, *rest, *mixing)):
            raise DataError("white holds 3 numbers, colour_matrix 3 rows of 3, everything else one.")
        if not all(math.isfinite(x) and x > 0 for x in positive) or max(self.white) > 1:
            raise DataError("um_per_px, gamma, sharpening_px and white are above 0, and white at most 1.")
        if not all(math.isfinite(x) and x >= 0 for x in rest):
            raise DataError("blur_um, sharpening, shot_noise and read_noise are 0 or more.")
        if not abs(float(torch.linalg.det(torch.tensor(self.colour_matrix, dtype=torch.float64)))) >= 1e-3:  # nor NaN
            raise DataError("colour_matrix cannot be undone: its determinant is nearly 0.")
        if self.jpeg_quality is not None and self.jpeg_quality not in range(1, 96):
            raise DataError(f"jpeg_quality={self.jpeg_quality}: choose a whole number from 1 to 95, or None.")
