"""Rendered H&E-like tissue with known causes: the same tissue can be seen through any hospital, stain and scanner.

Growth patterns differ in structure only: amount of nuclei, stroma and empty space, and the mean dye concentrations
follow the same law in all of them. Colour comes from the stain (Beer-Lambert vectors and strengths, with variation
from run to run), section thickness from the hospital, sharpness, pixel size, colour response, noise and compression
from the scanner. All parameters are fixed constants. The card is ``histology.md``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import pandas as pd

from causalfm.arguments import check_seed, check_whole
from causalfm.datasets.histology_artefacts import ARTEFACTS, spoil
from causalfm.datasets.histology_cohort import GRAPH, cohort_table, intervene
from causalfm.datasets.histology_layout import TISSUES
from causalfm.datasets.histology_scanner import SCANNERS, ScannerParameters, scan
from causalfm.datasets.histology_stain import SITES, STAINS, SiteParameters, StainParameters, stain_run, transmitted
from causalfm.datasets.histology_tissue import SMALLEST_SIDE, Scene, Traits, make_scene, sample_traits
from causalfm.errors import DataError, positions

__all__ = [
    "ARTEFACTS",
    "GRAPH",
    "SCANNERS",
    "SITES",
    "STAINS",
    "TISSUES",
    "ScannerParameters",
    "Scene",
    "SiteParameters",
    "StainParameters",
    "Traits",
    "cohort_table",
    "confounded_cohort",
    "intervene",
    "make_scene",
    "render",
    "render_cohort",
    "sample_traits",
    "stain_run",
]

_T = TypeVar("_T")
_STREAMS = {"traits": 1, "tissue": 2, "noise": 3, "run": 4, "artefact": 5}  # 0 is the design of the table


def render(
    scene: Scene,
    stain: str | StainParameters,
    noise_seed: int | tuple[int, ...],
    *,
    scanner: str | ScannerParameters = "Argus 2",
    site: str | SiteParameters | None = None,
    artefacts: Sequence[tuple[str, int | tuple[int, ...]]] = (),
) -> np.ndarray:
    """Cut, stain and scan a scene.

    Parameters
    ----------
    scene
        The tissue.
    stain
        A name in ``STAINS``, or parameters of your own (such as those of :func:`stain_run`).
    noise_seed
        Seed of the sensor noise, apart from the tissue's.
    scanner
        A name in ``SCANNERS``, or parameters of your own.
    site
        The hospital that cut the section: its thickness. A name in ``SITES``, parameters, or None for thickness 1.
    artefacts
        Pairs (name in ``ARTEFACTS``, seed), in the order in which they act.

    Returns
    -------
    numpy.ndarray
        ``(scene.size, scene.size, 3)`` uint8, RGB.

    Raises
    ------
    DataError
        Unknown stain, scanner, site or artefact.
    """
    chemistry = stain if isinstance(stain, StainParameters) else _lookup(STAINS, stain, "stain")
    device = scanner if isinstance(scanner, ScannerParameters) else _lookup(SCANNERS, scanner, "scanner")
    laboratory = _lookup(SITES, site, "site") if isinstance(site, str) else site
    light = transmitted(scene.hematoxylin, scene.eosin, chemistry, 1.0 if laboratory is None else laboratory.thickness)
    for kind, seed in artefacts:
        light = spoil(light, kind, seed)
    return scan(light, device, noise_seed, scene.size)


def confounded_cohort(
    *,
    n_patients: int = 120,
    tiles_per_patient: int = 6,
    confounding: float = 0.6,
    random_state: int = 0,
    size: int = 224,
    tissues: Sequence[str] = ("glandular", "solid"),
) -> tuple[np.ndarray, pd.DataFrame]:
    """Render patients of four hospitals that see different shares of the growth patterns.

    Parameters
    ----------
    n_patients
        Patients in all, spread evenly over the hospitals; each has one growth pattern, hospital, stain and scanner.
    tiles_per_patient
        Tiles of each patient.
    confounding
        How far the hospitals differ, 0 to 1. With two patterns it is the difference between the largest and the
        smallest hospital share of the second; 0.6 gives 80, 60, 40 and 20 per cent. At 1 the outer hospitals see
        none of the first or of the last pattern.
    random_state
        The same seed gives the same bytes.
    size
        Side of a tile, px.
    tissues
        The growth patterns, two or more of ``TISSUES``.

    Returns
    -------
    tuple of numpy.ndarray and pandas.DataFrame
        Images ``(n, size, size, 3)`` uint8, and the table of :func:`cohort_table`, aligned.

    Raises
    ------
    DataError
        Fewer than four patients a pattern, no tile, ``confounding`` outside 0 to 1, unknown or repeated tissues.

    Notes
    -----
    The graph that made it is ``GRAPH``:
    ``age -> tumour; site <-> tumour; site -> {scanner, stain}; {tumour, site, scanner, stain} -> Z``.
    """
    obs = cohort_table(n_patients, tiles_per_patient, confounding, random_state, tissues=tissues)
    return render_cohort(obs, random_state=random_state, size=size), obs


def render_cohort(obs: pd.DataFrame, *, random_state: int, size: int = 224, n_jobs: int | None = None) -> np.ndarray:
    """Render a table of tiles; change it first to see the same tissue and noise under other causes.

    Parameters
    ----------
    obs
        Rows of :func:`cohort_table`, as they are, from :func:`intervene`, or with ``site``, ``stain``, ``scanner`` or
        ``tumour`` changed. A column ``artefact`` (name in ``ARTEFACTS``; none where it is "", or missing, as "" is
        after a CSV file) spoils tiles. Traits and the luck of the staining run follow from the patient, structure from
        patient, tile and pattern.
    random_state
        Seed of everything but the table.
    size
        Side of a tile, px.
    n_jobs
        Threads; None takes as many as there are cores. The bytes do not depend on it.

    Returns
    -------
    numpy.ndarray
        ``(len(obs), size, size, 3)`` uint8.

    Raises
    ------
    DataError
        A column is missing, a patient or tile is not named as in :func:`cohort_table`, a level is unknown, a side is
        under 64 px, or a seed is no whole number of 0 or more.
    """
    check_seed(random_state)
    check_whole(size, "size", SMALLEST_SIDE, why="a smaller tile, px, holds no tissue pattern")
    if n_jobs is not None and n_jobs < 1:
        raise DataError(f"n_jobs={n_jobs}: one thread or more, or None for as many as there are cores.")
    rows = _rows(obs)
    images = np.empty((len(rows), size, size, 3), dtype=np.uint8)

    def fill(place: int) -> None:
        images[place] = _tile(rows[place], random_state, size)

    jobs = n_jobs or os.cpu_count() or 1
    if jobs == 1:
        for place in range(len(rows)):
            fill(place)
    else:
        with ThreadPoolExecutor(jobs) as pool:
            for done in pool.map(fill, range(len(rows))):
                del done  # raises what the thread raised
    return images


def _tile(row: tuple[int, int, str, str, str, str, str], random_state: int, size: int) -> np.ndarray:
    patient, tile, tumour, site, stain, scanner, artefact = row

    def stream(name: str, *rest: int) -> tuple[int, ...]:
        return (_STREAMS[name], random_state, patient, *rest)

    traits = sample_traits(np.random.default_rng(stream("traits")))
    scene = make_scene(tumour, traits, stream("tissue", tile), size=size)
    run = stain_run(_lookup(STAINS, stain, "stain"), np.random.default_rng(stream("run")))
    spoilt = [(artefact, stream("artefact", tile))] if artefact else []
    return render(scene, run, stream("noise", tile), scanner=scanner, site=site, artefacts=spoilt)


def _rows(obs: pd.DataFrame) -> list[tuple[int, int, str, str, str, str, str]]:
    needed = ["patient", "tile", "tumour", "site", "stain", "scanner"]
    missing = [name for name in needed if name not in obs]
    if missing:
        raise DataError(f"columns {', '.join(map(repr, missing))} are missing: cohort_table writes all it needs.")
    wrong = np.flatnonzero(~obs["patient"].astype(str).str.fullmatch(r"P\d+").to_numpy(bool))
    if len(wrong):
        raise DataError(f"column 'patient', {positions(wrong.tolist())}: names must be P and a number, as in P0012.")
    if not pd.api.types.is_integer_dtype(obs["tile"]) or (obs["tile"] < 0).any():
        raise DataError("column 'tile' must hold whole numbers of 0 or more: each is the seed of a tile's structure.")
    number = obs["patient"].astype(str).str[1:].astype(int)
    artefact = obs.get("artefact", pd.Series("", obs.index)).astype(object)
    columns = (number, obs["tile"], *(obs[name] for name in needed[2:]), artefact.where(artefact.notna(), ""))
    return list(zip(*(list(column) for column in columns), strict=True))


def _lookup(table: Mapping[str, _T], name: str, what: str) -> _T:
    if name not in table:
        raise DataError(f"{what} {name!r} is unknown: choose {', '.join(map(repr, table))}, or pass parameters.")
    return table[name]
