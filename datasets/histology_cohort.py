"""Tables of rendered cohorts: who is seen where, and what an intervention changes in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from causalfm.datasets.histology_layout import TISSUES
from causalfm.datasets.histology_scanner import SCANNERS
from causalfm.datasets.histology_stain import SITES, STAINS
from causalfm.errors import DataError

GRAPH = "age -> tumour; site <-> tumour; site -> {scanner, stain}; {tumour, site, scanner, stain} -> Z"
OWN_STAIN_SHARE = 0.8  # of a hospital's patients; the others' slides went to the next hospital's laboratory
ARGUS_SHARE = {"Northfield": 0.50, "Eastbrook": 0.65, "Southgate": 0.35, "Westmoor": 0.50}
_SCANNERS = ("Argus 2", "Meridian")  # in every hospital; the other scanners are for interventions
_CHOICES: dict[str, tuple[str, ...]] = {"site": tuple(SITES), "scanner": tuple(SCANNERS), "stain": tuple(STAINS)}


def cohort_table(
    n_patients: int,
    tiles_per_patient: int,
    confounding: float,
    random_state: int,
    *,
    tissues: Sequence[str] = ("glandular", "solid"),
) -> pd.DataFrame:
    """Lay out the cohort of ``confounded_cohort`` without rendering it; arguments and errors are the same.

    Returns
    -------
    pandas.DataFrame
        One row per tile, unique text index. ``patient``, ``site``, ``scanner``, ``stain``, ``tumour``, ``age``
        (years), ``tile``; ``scanner_draw`` and ``stain_draw`` (0 to 1) are the patient's own luck, from which the
        hospital's shares decide scanner and stain: :func:`intervene` reads them.

    Notes
    -----
    Counts per hospital, pattern, scanner and stain are fixed by design; age shifts which patients have the later
    patterns of ``tissues``. Scanner and stain look at the hospital only.
    """
    _check_design(n_patients, tiles_per_patient, confounding, random_state, tissues)
    rng = np.random.default_rng((0, random_state))
    age = rng.normal(62.0, 10.0, n_patients)
    site = np.arange(n_patients) % len(SITES)
    tumour, draws = np.zeros(n_patients, dtype=int), np.zeros((2, n_patients))
    tilt = np.linspace(1.0, -1.0, len(SITES))[:, None] * np.linspace(-1.0, 1.0, len(tissues))
    for h, share in enumerate((1.0 + confounding * tilt) / len(tissues)):
        here = np.flatnonzero(site == h)
        liability = 0.03 * age[here] + rng.logistic(size=len(here))  # older patients: later patterns more often
        last = np.round(np.cumsum(share) * len(here)).astype(int)
        tumour[here[np.argsort(liability)]] = np.searchsorted(last, np.arange(len(here)), side="right")
        for pattern in range(len(tissues)):  # within the cell: neither draw is related to the pattern or the other
            cell = here[tumour[here] == pattern]
            for draw in draws:
                draw[rng.permutation(cell)] = (np.arange(len(cell)) + 0.5) / max(len(cell), 1)
    patients = pd.DataFrame(
        {
            "patient": [f"P{p:04d}" for p in range(n_patients)],
            "site": np.array(list(SITES), dtype=object)[site],
            "tumour": np.array(tissues, dtype=object)[tumour],
            "age": age.round(1),
            "scanner_draw": draws[0].round(6),
            "stain_draw": draws[1].round(6),
        }
    )
    patients = _assign(patients)
    obs = patients.loc[patients.index.repeat(tiles_per_patient)].reset_index(drop=True)
    obs["tile"] = np.tile(np.arange(tiles_per_patient), n_patients)
    return obs.set_axis(obs["patient"] + "-" + obs["tile"].astype(str), axis=0)


def intervene(
    obs: pd.DataFrame, *, site: str | None = None, scanner: str | None = None, stain: str | None = None
) -> pd.DataFrame:
    """Set a cause and let its consequences follow (Pearl's do-operator), for every row.

    ``intervene(obs, site="Eastbrook")`` moves each patient to Eastbrook, whose shares then decide scanner and stain
    from the patient's own draws. A scanner or stain that is set loses its draw (missing): a later do(site) leaves it.
    Own site changes nothing, and do(a) then do(b) is do(b) for one cause, do(a, b) for two. To change one column and
    nothing after it, use ``obs.assign(site="Eastbrook")``.

    Parameters
    ----------
    obs
        A table of :func:`cohort_table`.
    site, scanner, stain
        The level to set; None leaves the factor to its causes.

    Returns
    -------
    pandas.DataFrame
        A new table. Rendered with the same ``random_state`` it shows the same tissue with the same noise.

    Raises
    ------
    DataError
        An unknown level, or a column that is missing.
    """
    needed = ("site", "scanner", "stain", "scanner_draw", "stain_draw")
    if missing := [name for name in needed if name not in obs]:
        raise DataError(
            f"columns {', '.join(map(repr, missing))} are missing: cohort_table writes all it needs. To change one "
            "column and nothing after it, use obs.assign(...)."
        )
    chosen = {name: v for name, v in {"site": site, "scanner": scanner, "stain": stain}.items() if v is not None}
    for name, level in chosen.items():
        if level not in _CHOICES[name]:
            raise DataError(f"{name} {level!r} is unknown: choose {', '.join(map(repr, _CHOICES[name]))}.")
    moved = obs if site is None else _assign(obs.assign(site=site))
    chosen.pop("site", None)
    return moved.assign(**chosen, **{f"{name}_draw": np.nan for name in chosen})


def _assign(table: pd.DataFrame) -> pd.DataFrame:
    """Let each hospital's shares decide scanner and stain from the patient's draws; without a draw they stay."""
    names = list(SITES)
    own = {name: SITES[name].stain for name in names}
    other = {name: SITES[names[(i + 1) % len(names)]].stain for i, name in enumerate(names)}
    argus = table["scanner_draw"] < table["site"].map(ARGUS_SHARE)
    usual = table["stain_draw"] < OWN_STAIN_SHARE
    site = table["site"]
    scanner, stain = np.where(argus, *_SCANNERS), site.map(own).where(usual, site.map(other)).astype(object)
    if "scanner" in table:  # one that was set by an intervention
        scanner = np.where(table["scanner_draw"].isna(), table["scanner"], scanner)
        stain = stain.where(table["stain_draw"].notna(), table["stain"])
    return table.assign(scanner=scanner, stain=stain)


def _check_design(
    n_patients: int, tiles_per_patient: int, confounding: float, random_state: int, tissues: Sequence[str]
) -> None:
    unknown = [tissue for tissue in tissues if tissue not in TISSUES]
    if unknown or len(set(tissues)) != len(tissues) or len(tissues) < 2:
        raise DataError(f"tissues={tuple(tissues)}: choose two or more of {', '.join(map(repr, TISSUES))}, each once.")
    least = len(tissues) * len(SITES)
    if n_patients < least or tiles_per_patient < 1 or not 0.0 <= confounding <= 1.0 or random_state < 0:
        raise DataError(
            f"n_patients={n_patients}, tiles_per_patient={tiles_per_patient}, confounding={confounding}, "
            f"random_state={random_state}: at least {least} patients, one tile, a confounding between 0 and 1 and "
            "a seed of 0 or more are needed."
        )
