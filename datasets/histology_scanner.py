"""How a scanner sees: optics, pixel size, sensor noise, colour, gamma, sharpening, 8 bits, JPEG."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np

from causalfm.datasets.histology_fields import apply_both, gaussian_operator, normals
from causalfm.datasets.histology_tissue import PIXEL_UM, WIDEST_UM
from causalfm.errors import DataError

_Row = tuple[float, float, float]
_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True)
class ScannerParameters:
    """A scanner, in the order in which light and signal pass through it.

    Attributes
    ----------
    psf_um
        Standard deviation of the Gaussian point-spread function, um.
    um_per_px
        Pixel size, um; at most ``WIDEST_UM``.
    electrons
        Full well of the sensor: shot noise of signal I has variance I / electrons. Infinite: none.
    read_noise
        Standard deviation of the read noise, on a 0-1 scale.
    white
        Red, green and blue signal of empty glass.
    colour_matrix
        Mixes the linear channels, rows are outputs; rows that sum to one keep grey grey.
    gamma
        Exponent of the response.
    sharpening, sharpening_px
        Amount and radius (sd, px) of the unsharp mask on the luminance.
    jpeg_quality
        1 to 95; None stores the pixels as they are.
    """

    psf_um: float
    um_per_px: float
    electrons: float
    read_noise: float
    white: _Row
    colour_matrix: tuple[_Row, _Row, _Row]
    gamma: float
    sharpening: float
    sharpening_px: float
    jpeg_quality: int | None

    def __post_init__(self) -> None:
        if not 0.0 < self.um_per_px <= WIDEST_UM:
            raise DataError(f"um_per_px={self.um_per_px}: a scene has room for pixels up to {WIDEST_UM} um.")
        if self.jpeg_quality is not None and not 1 <= self.jpeg_quality <= 95:
            raise DataError(f"jpeg_quality={self.jpeg_quality}: choose 1 to 95, or None for no compression.")
        if min(self.psf_um, self.read_noise, self.sharpening) < 0.0 or min(self.gamma, self.electrons) <= 0.0:
            raise DataError("psf_um, read_noise and sharpening must not be negative; gamma and electrons are positive.")


SCANNERS = {
    "Argus 2": ScannerParameters(
        psf_um=0.30,
        um_per_px=0.50,
        electrons=12000.0,
        read_noise=0.004,
        white=(0.95, 0.95, 0.94),
        colour_matrix=((1.00, 0.00, 0.00), (0.00, 1.00, 0.00), (0.00, 0.00, 1.00)),
        gamma=1.00,
        sharpening=0.0,
        sharpening_px=1.0,
        jpeg_quality=90,
    ),
    "Meridian": ScannerParameters(
        psf_um=0.48,
        um_per_px=0.48,
        electrons=5000.0,
        read_noise=0.008,
        white=(0.93, 0.95, 0.96),
        colour_matrix=((0.95, 0.04, 0.01), (0.03, 0.94, 0.03), (0.01, 0.05, 0.94)),
        gamma=1.12,
        sharpening=0.0,
        sharpening_px=1.0,
        jpeg_quality=80,
    ),
    "Corvus X": ScannerParameters(
        psf_um=0.38,
        um_per_px=0.52,
        electrons=9000.0,
        read_noise=0.005,
        white=(0.97, 0.96, 0.97),
        colour_matrix=((1.10, -0.06, -0.04), (-0.05, 1.08, -0.03), (-0.02, -0.08, 1.10)),
        gamma=0.90,
        sharpening=0.8,
        sharpening_px=1.2,
        jpeg_quality=85,
    ),
    "Helios": ScannerParameters(
        psf_um=0.42,
        um_per_px=0.46,
        electrons=3500.0,
        read_noise=0.010,
        white=(0.96, 0.94, 0.90),
        colour_matrix=((0.97, 0.05, -0.02), (0.00, 0.96, 0.04), (-0.04, 0.08, 0.96)),
        gamma=1.20,
        sharpening=0.4,
        sharpening_px=1.0,
        jpeg_quality=70,
    ),
}


def scan(
    transmission: np.ndarray, scanner: ScannerParameters, noise_seed: int | tuple[int, ...], size: int
) -> np.ndarray:
    """Scan transmitted light.

    Parameters
    ----------
    transmission
        ``(w, 3, w)`` at ``PIXEL_UM``, between 0 and 1.
    scanner
        The scanner.
    noise_seed
        Seed of the sensor noise.
    size
        Side of the image, px.

    Returns
    -------
    numpy.ndarray
        ``(size, size, 3)`` uint8, RGB.
    """
    signal = _optics(transmission, scanner, size)
    signal *= np.asarray(scanner.white, dtype=np.float32)[:, None, None]
    _add_noise(signal, scanner, noise_seed)
    mixed = np.asarray(scanner.colour_matrix, dtype=np.float32) @ signal.reshape(3, -1)
    image = mixed.reshape(signal.shape).clip(0.0, 1.0) ** np.float32(scanner.gamma)
    if scanner.sharpening:
        luminance = (_LUMINANCE @ image.reshape(3, -1)).reshape(size, size)
        blurred = apply_both(gaussian_operator(size, size, 1.0, scanner.sharpening_px), luminance)
        image += np.float32(scanner.sharpening) * (luminance - blurred)
    stored = np.ascontiguousarray((image * 255.0 + 0.5).clip(0.0, 255.0).astype(np.uint8).transpose(1, 2, 0))
    return stored if scanner.jpeg_quality is None else _jpeg(stored, scanner.jpeg_quality)


def _optics(transmission: np.ndarray, scanner: ScannerParameters, size: int) -> np.ndarray:
    """Blur with the point-spread function and sample at the scanner's pixels: ``(3, size, size)``."""
    width = len(transmission)
    operator = gaussian_operator(size, width, scanner.um_per_px / PIXEL_UM, scanner.psf_um / PIXEL_UM)
    rows = (operator @ transmission.reshape(width, 3 * width)).reshape(3 * size, width)
    columns = operator @ np.ascontiguousarray(rows.T)
    return np.ascontiguousarray(columns.reshape(size, size, 3).transpose(2, 1, 0))


def _add_noise(signal: np.ndarray, scanner: ScannerParameters, seed: int | tuple[int, ...]) -> None:
    shot, read = np.float32(1.0 / scanner.electrons), np.float32(scanner.read_noise**2)
    if shot == 0.0 and read == 0.0:
        return
    noise = normals(np.random.default_rng(seed), signal.shape)
    noise *= np.sqrt(shot * signal + read)
    signal += noise


def _jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="JPEG", quality=quality, subsampling="4:2:0")
    return np.array(Image.open(stream))
