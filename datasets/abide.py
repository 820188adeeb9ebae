"""ABIDE I, preprocessed: functional connectivity from many sites. The card is ``abide.md``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from causalfm.arguments import check_choice
from causalfm.cohort import Cohort
from causalfm.datasets.collecting import collect
from causalfm.datasets.fetching import Progress, RemoteFile
from causalfm.datasets.public_set import PublicSet, agree, chosen
from causalfm.datasets.set_tables import (
    as_text,
    existing_file,
    existing_folder,
    refuse_gaps,
    refuse_odd_names,
    refuse_repeated,
    table_of,
)
from causalfm.errors import DataError, positions
from causalfm.graph import CausalGraph
from causalfm.tables import reading

SET = PublicSet(
    name="abide",
    title="ABIDE I, preprocessed (region time series)",
    size="a table and one text file per participant",
    licence="non-commercial research use",
    terms="http://preprocessed-connectomes-project.org/abide/",
    source="s3.amazonaws.com/fcp-indi/data/Projects/ABIDE_Initiative",
    parts="sites as SITE_ID spells them, such as NYU",
    consent=True,
)
BASE = "https://s3.amazonaws.com/fcp-indi/data/Projects/ABIDE_Initiative"
PHENOTYPES = "Phenotypic_V1_0b_preprocessed1.csv"
COLUMNS = ("SUB_ID", "SITE_ID", "FILE_ID", "DX_GROUP", "AGE_AT_SCAN", "SEX", "func_mean_fd")
NO_FILE = "no_filename"
DIAGNOSIS, SEX = {1: "autism", 2: "control"}, {1: "male", 2: "female"}
PIPELINES = ("cpac", "ccs", "dparsf", "niak")
STRATEGIES = ("filt_global", "filt_noglobal", "nofilt_global", "nofilt_noglobal")
ATLASES = ("rois_cc200", "rois_cc400", "rois_aal", "rois_ez", "rois_ho", "rois_tt", "rois_dosenbach160")


def graph() -> CausalGraph:
    """Return the roles: the diagnosis is biology, the site technical, age and sex covariates, the participant the unit.

    Scanner, field strength and sequence are not in the table: what they do is part of the site's effect. Head motion
    (``mean_fd``) follows from diagnosis and age and changes connectivity; it is left out of the graph, see the card.
    """
    return CausalGraph.standard(biology="diagnosis", technical=["site"], covariates=["age", "sex"], group="participant")


def load(
    folder: str | Path,
    *,
    pipeline: str = "cpac",
    strategy: str = "nofilt_noglobal",
    atlas: str = "rois_cc200",
    sites: Sequence[str] | None = None,
    max_motion: float | None = None,
    flat_regions: Literal["error", "drop"] = "error",
) -> Cohort:
    """Load functional connectivity: Fisher's z of the correlations between the time series of all pairs of regions.

    Parameters
    ----------
    folder
        Holds the table and ``Outputs/PIPELINE/STRATEGY/ATLAS/*.1D`` as the project's server does, or
        ``PIPELINE/STRATEGY/*.1D`` as nilearn leaves them.
    pipeline, strategy, atlas
        Which preprocessing.
    sites
        Levels of ``SITE_ID``. None: all.
    max_motion
        Leave out participants whose mean framewise displacement (mm) is this or more; the project's own script uses
        0.2.
    flat_regions
        A region without signal in a participant (outside of the scan) has no correlations. ``"error"``, or ``"drop"``:
        the region is left out for everybody.

    Returns
    -------
    Cohort
        ``X (participants, pairs of regions)`` float32, pairs (1, 2), (1, 3) ...; ``obs``: ``participant``, ``site``,
        ``diagnosis``, ``age`` (years), ``sex``, ``mean_fd`` (mm). ``info`` counts who and what was left out.

    Raises
    ------
    DataError
        Missing files or columns, unknown codes, series of different regions, regions without signal.
    """
    for name, value, options in (
        ("pipeline", pipeline, PIPELINES),
        ("strategy", strategy, STRATEGIES),
        ("atlas", atlas, ATLASES),
    ):
        check_choice(value, name, options)
    check_choice(flat_regions, "flat_regions", ("error", "drop"))
    root = existing_folder(folder, SET.title)
    table, left_out = _participants(existing_file(root, PHENOTYPES, SET.name), sites, max_motion)
    place = next((p for p in _places(root, pipeline, strategy, atlas) if p.is_dir()), None)
    if place is None:
        raise DataError(f"the folder has no Outputs/{pipeline}/{strategy}/{atlas}: datasets/abide.md shows the layout.")
    files = [place / f"{name}_{atlas}.1D" for name in table["FILE_ID"]]
    if absent := [i for i, path in enumerate(files) if not path.is_file()]:
        raise DataError(
            f"{len(absent)} of {len(files)} participants have no series ({positions(absent)} of those selected): "
            "fetch them, "
            "or select sites= that are there."
        )
    series = [_series(path, i) for i, path in enumerate(files)]
    kept, info = _common(series, flat_regions)
    X = np.stack([_connectivity(one[:, kept]) for one in series]).astype(np.float32)
    about = {"dataset": SET.title, "licence": SET.licence, "source": SET.source}
    how = {"pipeline": pipeline, "strategy": strategy, "atlas": atlas, "measure": "Fisher's z of correlations"}
    return Cohort(X, _described(table), {**about, **how, "left_out": left_out, **info})


def download(
    folder: str | Path,
    *,
    parts: Sequence[str] | None = None,
    accept: str | None = None,
    progress: Progress | None = None,
    pipeline: str = "cpac",
    strategy: str = "nofilt_noglobal",
    atlas: str = "rois_cc200",
    base: str = BASE,
) -> list[Path]:
    """Fetch the table and the series of each participant; SHA-256 is recorded at the first download.

    Parameters
    ----------
    folder
        Where everything goes, in the layout of the server.
    parts
        Sites. None: all.
    accept
        The terms: non-commercial research use.
    progress
        Called with (file, bytes there, bytes in all).
    pipeline, strategy, atlas
        As in :func:`load`.
    base
        Address of the server.
    """
    agree(SET, accept)
    root = Path(folder)
    collect([RemoteFile(PHENOTYPES, f"{base}/{PHENOTYPES}")], root, about=SET.about(), progress=progress)
    table, _ = _participants(root / PHENOTYPES, parts, None)
    way = f"Outputs/{pipeline}/{strategy}/{atlas}"
    names = [f"{way}/{name}_{atlas}.1D" for name in table["FILE_ID"]]
    files = [
        RemoteFile(name, f"{base}/{name}", label=f"series {i + 1} of {len(names)}") for i, name in enumerate(names)
    ]
    return collect(files, root, about=SET.about(), progress=progress)


def _participants(
    path: Path, sites: Sequence[str] | None, max_motion: float | None
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the participants with a series, and how many were left out for what."""
    table = table_of(path, COLUMNS)[list(COLUMNS)]
    refuse_repeated(table, ["SUB_ID"], path.name)
    known = tuple(sorted(table["SITE_ID"].astype(str).unique()))
    table = table[table["SITE_ID"].astype(str).isin(chosen(sites, known))]
    left_out = {"without a preprocessed series": int((table["FILE_ID"] == NO_FILE).sum())}
    table = table[table["FILE_ID"] != NO_FILE]
    if max_motion is not None:
        moved = ~(pd.to_numeric(table["func_mean_fd"], errors="coerce") < max_motion)
        left_out[f"with a mean displacement of {max_motion} mm or more, or none given"] = int(moved.sum())
        table = table[~moved]
    if table.empty:
        raise DataError("no participant is left after this selection: widen it.")
    refuse_odd_names(table["FILE_ID"], "[0-9A-Za-z_]+", path.name)
    refuse_gaps(table.reset_index(drop=True), [c for c in COLUMNS if c != "func_mean_fd"], path.name)
    return table.reset_index(drop=True), left_out


def _places(root: Path, pipeline: str, strategy: str, atlas: str) -> tuple[Path, ...]:
    return (
        root / "Outputs" / pipeline / strategy / atlas,
        root / pipeline / strategy / atlas,
        root / pipeline / strategy,
    )


def _series(path: Path, row: int) -> np.ndarray:
    """Return (time points, regions); the header line begins with ``#``."""
    with reading(path, f"the series of row {row}"):
        series = np.loadtxt(path, ndmin=2)
    if len(series) < 3 or not np.isfinite(series).all():
        raise DataError(f"the series of row {row} has {len(series)} time points, or values that are no numbers.")
    return series


def _common(series: list[np.ndarray], flat_regions: str) -> tuple[np.ndarray, dict[str, int]]:
    """Return the regions that all participants have a signal in."""
    regions = series[0].shape[1]
    if odd := [i for i, one in enumerate(series) if one.shape[1] != regions]:
        raise DataError(
            f"the series of {positions(odd)} have another number of regions than that of row 0 ({regions})."
        )
    flat = np.stack([np.ptp(one, axis=0) == 0 for one in series])
    if flat.any() and flat_regions == "error":
        where = np.flatnonzero(flat.any(axis=1)).tolist()
        raise DataError(
            f"{int(flat.any(axis=0).sum())} of {regions} regions have no signal in some participants "
            f"({positions(where)}): "
            "their correlations are not defined. flat_regions='drop' leaves these regions out for everybody."
        )
    kept = np.flatnonzero(~flat.any(axis=0))
    if len(kept) < 2:
        raise DataError("fewer than two regions have a signal in all participants: nothing can be correlated.")
    return kept, {"regions": regions, "regions_left_out": int(regions - len(kept))}


def _connectivity(series: np.ndarray) -> np.ndarray:
    correlation = np.corrcoef(series, rowvar=False)
    upper = correlation[np.triu_indices(len(correlation), 1)]
    if (np.abs(upper) >= 1).any():
        raise DataError("two regions have the same series: Fisher's z of a correlation of 1 is infinite.")
    z: np.ndarray = np.arctanh(upper)
    return z


def _described(table: pd.DataFrame) -> pd.DataFrame:
    coded = {}
    for column, names in (("DX_GROUP", DIAGNOSIS), ("SEX", SEX)):
        coded[column] = pd.to_numeric(table[column], errors="coerce").map(names)
        if (odd := np.flatnonzero(coded[column].isna())).size:
            raise DataError(f"column {column!r} has codes beside {sorted(names)} ({positions(odd.tolist())}).")
    return pd.DataFrame(
        {
            "participant": as_text(table["SUB_ID"]),
            "site": table["SITE_ID"].astype(object),
            "diagnosis": coded["DX_GROUP"].astype(object),
            "age": table["AGE_AT_SCAN"].astype(float),
            "sex": coded["SEX"].astype(object),
            "mean_fd": pd.to_numeric(table["func_mean_fd"], errors="coerce"),
        }
    )
