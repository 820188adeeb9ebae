"""Rendered H&E-like tissue with known causes: the same tissue can be seen through any hospital and scanner.

Two growth patterns, glandular and solid, differ in structure only: amount of nuclei, stroma and empty space, and the
mean dye concentrations follow the same law in both. Colour comes from the hospital (Beer-Lambert stain vectors and
strengths), sharpness, gamma and noise from the scanner. All parameters are fixed constants. The card is
``histology.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pandas as pd
from scipy import ndimage

from causalfm.datasets.histology_tissue import TISSUES, Scene, make_scene, sample_traits
from causalfm.errors import DataError

_T = TypeVar("_T")
_BACKGROUND = 0.96  # light that passes through empty glass
_STREAMS = {"design": 0, "traits": 1, "tissue": 2, "noise": 3}


@dataclass(frozen=True)
class SiteParameters:
    """How a hospital stains.

    Attributes
    ----------
    stain
        Optical density per unit of concentration, rows hematoxylin and eosin, columns red, green, blue.
    strength
        Multipliers of the hematoxylin and eosin concentrations.
    """

    stain: tuple[tuple[float, float, float], tuple[float, float, float]]
    strength: tuple[float, float]


@dataclass(frozen=True)
class ScannerParameters:
    """How a scanner sees: optical blur (sd, px), gamma of the response, noise (sd, on a 0-1 scale)."""

    blur: float
    gamma: float
    noise: float


SITES = {
    "Northfield": SiteParameters(((0.65, 0.70, 0.29), (0.14, 0.89, 0.43)), (1.00, 1.00)),
    "Eastbrook": SiteParameters(((0.57, 0.74, 0.36), (0.22, 0.81, 0.54)), (1.12, 0.85)),
    "Southgate": SiteParameters(((0.61, 0.72, 0.33), (0.18, 0.86, 0.48)), (1.25, 1.15)),
    "Westmoor": SiteParameters(((0.71, 0.65, 0.26), (0.11, 0.92, 0.37)), (0.85, 0.95)),
}
SCANNERS = {"Argus 2": ScannerParameters(0.5, 1.00, 0.010), "Meridian": ScannerParameters(0.8, 1.12, 0.018)}
_ARGUS_SHARE = (0.5, 0.65, 0.35, 0.5)  # of each hospital's patients, in the order of SITES


def render(
    scene: Scene,
    site: str | SiteParameters,
    noise_seed: int | tuple[int, ...],
    *,
    scanner: str | ScannerParameters = "Argus 2",
) -> np.ndarray:
    """Stain and scan a scene: Beer-Lambert absorption, then blur, gamma and noise.

    Parameters
    ----------
    scene
        The tissue.
    site, scanner
        A name in ``SITES`` and ``SCANNERS``, or parameters of your own.
    noise_seed
        Seed of the sensor noise, apart from the tissue's.

    Returns
    -------
    numpy.ndarray
        ``(h, w, 3)`` uint8, RGB.

    Raises
    ------
    DataError
        Unknown site or scanner name.
    """
    hospital = site if isinstance(site, SiteParameters) else _lookup(SITES, site, "site")
    device = scanner if isinstance(scanner, ScannerParameters) else _lookup(SCANNERS, scanner, "scanner")
    stain = np.asarray(hospital.stain, dtype=np.float32) * np.asarray(hospital.strength, dtype=np.float32)[:, None]
    density = scene.hematoxylin * stain[0, :, None, None] + scene.eosin * stain[1, :, None, None]
    light = _BACKGROUND * np.exp(-density)  # (3, h, w)
    light = ndimage.gaussian_filter(light, (0, device.blur, device.blur), mode="nearest", truncate=3.0)
    light **= np.float32(device.gamma)
    light += device.noise * np.random.default_rng(noise_seed).standard_normal(light.shape, dtype=np.float32)
    return np.ascontiguousarray((light.clip(0.0, 1.0) * 255.0 + 0.5).astype(np.uint8).transpose(1, 2, 0))


def confounded_cohort(
    *,
    n_patients: int = 120,
    tiles_per_patient: int = 6,
    confounding: float = 0.6,
    random_state: int = 0,
    size: int = 128,
) -> tuple[np.ndarray, pd.DataFrame]:
    """Render patients of four hospitals that see different shares of solid tumours.

    Parameters
    ----------
    n_patients
        Patients in all, spread evenly over the hospitals; each has one growth pattern, one hospital, one scanner.
    tiles_per_patient
        Tiles of each patient.
    confounding
        Difference between the largest and the smallest hospital share of solid tumours, 0 to 1; 0.6 gives 80, 60,
        40 and 20 per cent. At 1 the outer hospitals see one pattern only.
    random_state
        The same seed gives the same bytes.
    size
        Side of a tile, px.

    Returns
    -------
    tuple of numpy.ndarray and pandas.DataFrame
        Images ``(n, size, size, 3)`` uint8, and the table of :func:`cohort_table`, aligned.

    Raises
    ------
    DataError
        Fewer than 8 patients, no tile, or ``confounding`` outside 0 to 1.

    Notes
    -----
    The graph that made it: ``age -> tumour; site <-> tumour; site -> scanner; {tumour, site, scanner} -> Z``.
    """
    obs = cohort_table(n_patients, tiles_per_patient, confounding, random_state)
    return render_cohort(obs, random_state=random_state, size=size), obs


def cohort_table(n_patients: int, tiles_per_patient: int, confounding: float, random_state: int) -> pd.DataFrame:
    """Lay out the cohort of :func:`confounded_cohort` without rendering it.

    Returns
    -------
    pandas.DataFrame
        One row per tile: ``patient``, ``site``, ``scanner``, ``tumour``, ``age`` (years), ``tile``; unique text index.
        Counts per hospital, pattern and scanner are fixed by design; age shifts which patients have solid tumours.
    """
    if n_patients < 2 * len(SITES) or tiles_per_patient < 1 or not 0.0 <= confounding <= 1.0:
        raise DataError(
            f"n_patients={n_patients}, tiles_per_patient={tiles_per_patient}, confounding={confounding}: "
            f"at least {2 * len(SITES)} patients, one tile and a confounding between 0 and 1 are needed."
        )
    rng = np.random.default_rng((_STREAMS["design"], random_state))
    age = rng.normal(62.0, 10.0, n_patients)
    site = np.arange(n_patients) % len(SITES)
    solid, argus = np.zeros(n_patients, dtype=bool), np.zeros(n_patients, dtype=bool)
    for h, share in enumerate(0.5 + confounding * np.linspace(0.5, -0.5, len(SITES))):
        here = np.flatnonzero(site == h)
        liability = 0.03 * age[here] + rng.logistic(size=len(here))  # older patients: solid more often
        solid[here[np.argsort(-liability)[: round(share * len(here))]]] = True
        for pattern in (False, True):  # within the cell, so that scanner and pattern are unrelated given the hospital
            cell = rng.permutation(here[solid[here] == pattern])
            argus[cell[: round(_ARGUS_SHARE[h] * len(cell))]] = True
    patients = pd.DataFrame(
        {
            "patient": [f"P{p:04d}" for p in range(n_patients)],
            "site": np.array(list(SITES), dtype=object)[site],
            "scanner": np.array(list(SCANNERS), dtype=object)[np.where(argus, 0, 1)],
            "tumour": np.array(TISSUES, dtype=object)[solid.astype(int)],
            "age": age.round(1),
        }
    )
    obs = patients.loc[patients.index.repeat(tiles_per_patient)].reset_index(drop=True)
    obs["tile"] = np.tile(np.arange(tiles_per_patient), n_patients)
    return obs.set_axis(obs["patient"] + "-" + obs["tile"].astype(str), axis=0)


def render_cohort(obs: pd.DataFrame, *, random_state: int, size: int = 128) -> np.ndarray:
    """Render a table of tiles; change ``site`` or ``scanner`` first to see the same tissue and noise elsewhere.

    Parameters
    ----------
    obs
        Rows of :func:`cohort_table`. Traits follow from the patient, structure from patient, tile and pattern.
    random_state
        Seed of tissue and noise.
    size
        Side of a tile, px.

    Returns
    -------
    numpy.ndarray
        ``(len(obs), size, size, 3)`` uint8.
    """
    images = np.empty((len(obs), size, size, 3), dtype=np.uint8)
    columns = (obs["patient"], obs["tile"], obs["tumour"], obs["site"], obs["scanner"])
    for row, (patient, tile, tumour, site, scanner) in enumerate(zip(*columns, strict=True)):
        number = int(str(patient).removeprefix("P"))
        traits = sample_traits(np.random.default_rng((_STREAMS["traits"], random_state, number)))
        scene = make_scene(tumour, traits, (_STREAMS["tissue"], random_state, number, tile), size=size)
        images[row] = render(scene, site, (_STREAMS["noise"], random_state, number, tile), scanner=scanner)
    return images


def _lookup(table: Mapping[str, _T], name: str, what: str) -> _T:
    if name not in table:
        raise DataError(f"{what} {name!r} is unknown: choose {', '.join(map(repr, table))}, or pass parameters.")
    return table[name]
