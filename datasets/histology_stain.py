"""How hospitals cut and stain: section thickness, stain protocols and their variation from run to run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class StainParameters:
    """One staining protocol, or one run of it.

    Attributes
    ----------
    vectors
        Optical density per unit of concentration, rows hematoxylin and eosin, columns red, green, blue.
    strength
        Multipliers of the hematoxylin and eosin concentrations.
    """

    vectors: tuple[tuple[float, float, float], tuple[float, float, float]]
    strength: tuple[float, float]

    @property
    def matrix(self) -> np.ndarray:
        """Optical density per unit of concentration in the tissue, ``(2, 3)``."""
        return np.asarray(np.asarray(self.vectors) * np.asarray(self.strength)[:, None])


@dataclass(frozen=True)
class SiteParameters:
    """A hospital's laboratory: relative thickness of its sections, and its usual stain protocol."""

    thickness: float
    stain: str


STAINS = {
    "HE-1": StainParameters(((0.65, 0.70, 0.29), (0.14, 0.89, 0.43)), (1.00, 1.00)),
    "HE-2": StainParameters(((0.54, 0.74, 0.42), (0.08, 0.78, 0.62)), (1.10, 0.80)),
    "HE-3": StainParameters(((0.62, 0.72, 0.32), (0.24, 0.84, 0.46)), (1.35, 1.25)),
    "HE-4": StainParameters(((0.76, 0.61, 0.20), (0.10, 0.94, 0.28)), (0.78, 0.90)),
}
SITES = {
    "Northfield": SiteParameters(1.00, "HE-1"),
    "Eastbrook": SiteParameters(1.10, "HE-2"),
    "Southgate": SiteParameters(0.92, "HE-3"),
    "Westmoor": SiteParameters(1.05, "HE-4"),
}
RUN_STRENGTH_SD = 0.04  # of the logarithm of each strength, from run to run
RUN_VECTOR_SD = 0.015  # of the logarithm of each entry of the vectors


def stain_run(protocol: StainParameters, rng: np.random.Generator) -> StainParameters:
    """Draw one run of a protocol: strengths and colours differ a little from day to day.

    The same generator state disturbs every protocol alike, so that do(stain) keeps the run's own luck.
    """
    strength = np.asarray(protocol.strength) * np.exp(RUN_STRENGTH_SD * rng.standard_normal(2))
    vectors = np.asarray(protocol.vectors) * np.exp(RUN_VECTOR_SD * rng.standard_normal((2, 3)))
    h, e = ((float(r), float(g), float(b)) for r, g, b in vectors)
    return StainParameters((h, e), (float(strength[0]), float(strength[1])))


def transmitted(hematoxylin: np.ndarray, eosin: np.ndarray, stain: StainParameters, thickness: float) -> np.ndarray:
    """Share of the light that passes (Beer-Lambert law).

    Parameters
    ----------
    hematoxylin, eosin
        Concentrations ``(h, w)``.
    stain
        Vectors and strengths.
    thickness
        Relative thickness of the section.

    Returns
    -------
    numpy.ndarray
        ``(h, 3, w)`` float32, between 0 and 1: rows, channels, columns, the order in which the optics are fast.
    """
    minus = (-thickness * stain.matrix).astype(np.float32)
    density = hematoxylin[:, None] * minus[0][:, None]
    density += eosin[:, None] * minus[1][:, None]
    return np.asarray(np.exp(density, out=density))
