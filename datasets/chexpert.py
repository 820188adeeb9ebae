"""CheXpert: chest radiographs of one hospital, from a local copy. The card is ``chexpert.md``."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from causalfm.datasets.chest_findings import FINDINGS, findings_graph, in_words, only_frontal, refuse_absent
from causalfm.datasets.public_set import PublicSet, agree
from causalfm.datasets.set_tables import existing_file, existing_folder, refuse_repeated, table_of
from causalfm.errors import DataError, positions
from causalfm.graph import CausalGraph

SET = PublicSet(
    name="chexpert",
    title="CheXpert",
    size="about 11 GB in the small version",
    licence="Stanford University Dataset Research Use Agreement",
    terms="https://stanfordmlgroup.github.io/competitions/chexpert/",
    source="Stanford AIMI, CheXpert-v1.0 or CheXpert-v1.0-small",
    apply_at="https://stanfordmlgroup.github.io/competitions/chexpert/",
)
TABLES = ("train.csv", "valid.csv")
COLUMNS = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *FINDINGS)
_WAY = r"^[^/]+/((?:train|valid)/(patient\d+)/(study\d+)/[^/]+\.jpg)$"


def graph(finding: str = "No Finding", *, hospitals: bool = False) -> CausalGraph:
    """Return the roles: a finding is biology, the view technical, age and sex covariates, the patient the unit.

    The machine is not in the tables: what it does goes with the view. The view is chosen by how ill a patient is.
    Together with MIMIC-CXR, which has no age and sex, these are no covariates.
    """
    return findings_graph(finding, covariates=() if hospitals else ("age", "sex"), hospitals=hospitals)


def images(folder: str | Path, *, table: str = "train.csv", frontal: bool = True) -> pd.DataFrame:
    """List the radiographs of one table with their findings, for ``causalfm.extract``.

    Parameters
    ----------
    folder
        Your copy, ``CheXpert-v1.0`` or ``CheXpert-v1.0-small``: ``train.csv``, ``valid.csv``,
        ``train/patient00001/...``.
    table
        ``"train.csv"`` (labels read off reports by a program) or ``"valid.csv"`` (labels of radiologists).
    frontal
        Keep the frontal views AP and PA only.

    Returns
    -------
    pandas.DataFrame
        ``path``, ``patient``, ``study``, ``view``, ``hospital``, ``age`` (years), ``sex``, the fourteen findings as
        levels. ``attrs["left_out"]`` counts the other views.

    Raises
    ------
    DataError
        Missing file or columns, repeated images, paths of another form, values that the labels do not have.
    """
    root = existing_folder(folder, SET.title)
    if table not in TABLES:
        raise DataError(f"table={table!r} is not known: choose {' or '.join(TABLES)}.")
    frame = table_of(existing_file(root, table, SET.name), COLUMNS)
    refuse_repeated(frame, ["Path"], table)
    kept = only_frontal(frame, "AP/PA", frontal)
    way = kept["Path"].astype(str).str.extract(_WAY)
    if odd := way.index[way[0].isna()].tolist():
        raise DataError(f"{table}: {len(odd)} paths are not VERSION/train/patientN/studyN/FILE.jpg ({positions(odd)}).")
    paths = f"{root.absolute()}/" + way[0]
    refuse_absent(paths, SET.title)
    out = pd.DataFrame(
        {
            "path": paths.astype(object),
            "patient": way[1].astype(object),
            "study": (way[1] + "/" + way[2]).astype(object),
            "view": (kept["AP/PA"] if frontal else kept["AP/PA"].fillna("lateral")).astype(object),
            "hospital": "Stanford",
            "age": pd.to_numeric(kept["Age"]),
            "sex": kept["Sex"].astype(object),
        }
    )
    out = pd.concat([out, in_words(kept, table)], axis=1)
    out.attrs["left_out"] = {"not frontal": len(frame) - len(kept)}
    return out


def download(folder: str | Path, **_: object) -> list[Path]:
    """Say where to apply: credentialed data are fetched by their users."""
    agree(SET, None)
    raise AssertionError("agree refuses credentialed sets")
