"""MIMIC-CXR-JPG: chest radiographs of one hospital, from a local copy. The card is ``mimic_cxr.md``."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from causalfm.datasets.chest_findings import FINDINGS, findings_graph, in_words, only_frontal, refuse_absent
from causalfm.datasets.public_set import PublicSet, agree
from causalfm.datasets.set_tables import (
    as_text,
    existing_folder,
    refuse_gaps,
    refuse_odd_names,
    refuse_repeated,
    table_of,
)
from causalfm.errors import DataError
from causalfm.graph import CausalGraph

SET = PublicSet(
    name="mimic_cxr",
    title="MIMIC-CXR-JPG",
    size="377,110 JPEG files",
    licence="PhysioNet Credentialed Health Data License",
    terms="https://physionet.org/content/mimic-cxr-jpg/",
    source="PhysioNet, mimic-cxr-jpg",
    apply_at="https://physionet.org/content/mimic-cxr-jpg/",
)
METADATA, LABELS, SPLIT = (f"mimic-cxr-2.0.0-{name}.csv" for name in ("metadata", "chexpert", "split"))
KEYS = ("subject_id", "study_id")
COLUMNS = ("dicom_id", *KEYS, "ViewPosition")


def graph(finding: str = "No Finding", *, hospitals: bool = False) -> CausalGraph:
    """Return the roles: a finding is biology, the view technical, the patient the independent unit.

    Age, sex and the machine are not in these tables: unmeasured here, so what they do to an image goes with the view.
    The view is chosen by how ill a patient is (``view <-> finding``).
    """
    return findings_graph(finding, hospitals=hospitals)


def images(folder: str | Path, *, frontal: bool = True) -> pd.DataFrame:
    """List the radiographs with their findings, for ``causalfm.extract``.

    Parameters
    ----------
    folder
        Your copy: ``mimic-cxr-2.0.0-metadata.csv(.gz)``, ``...-chexpert.csv(.gz)``, ``files/p10/p10000032/...``;
        ``...-split.csv(.gz)`` is used where it is there.
    frontal
        Keep the views AP and PA only.

    Returns
    -------
    pandas.DataFrame
        ``path``, ``patient``, ``study``, ``view``, ``hospital``, the fourteen findings as levels, ``split``. Studies
        without CheXpert labels are left out; ``attrs["left_out"]`` counts them.

    Raises
    ------
    DataError
        Missing files or columns, repeated images or studies, values that the labels do not have.
    """
    root = existing_folder(folder, SET.title)
    metadata = table_of(_file(root, METADATA), COLUMNS)
    labels = table_of(_file(root, LABELS), (*KEYS, *FINDINGS))
    refuse_gaps(metadata, ("dicom_id", *KEYS), METADATA)
    refuse_repeated(metadata, ["dicom_id"], METADATA)
    for column, pattern in (("dicom_id", "[0-9A-Za-z-]+"), *((key, r"\d+") for key in KEYS)):
        refuse_odd_names(as_text(metadata[column]), pattern, METADATA)
    refuse_repeated(labels, ["study_id"], LABELS)
    words = pd.concat([labels[["study_id"]], in_words(labels, LABELS)], axis=1)
    table = only_frontal(metadata[list(COLUMNS)], "ViewPosition", frontal)
    both = table.merge(words, on="study_id", how="inner", validate="many_to_one")
    patient, study, image = (as_text(both[c]) for c in ("subject_id", "study_id", "dicom_id"))
    place = f"{root.absolute()}/files/p" + patient.str[:2] + "/p" + patient  # Path is slow for 377,110 images
    paths = place + "/s" + study + "/" + image + ".jpg"
    refuse_absent(paths, SET.title)
    out = pd.DataFrame(
        {"path": paths.astype(object), "patient": patient, "study": study, "view": both["ViewPosition"].astype(object)}
    )
    out["hospital"] = "Beth Israel Deaconess"
    out = pd.concat([out, both[list(FINDINGS)]], axis=1)
    out = _with_split(out, image, root)
    out.attrs["left_out"] = {
        "without CheXpert labels": len(table) - len(both),
        "not frontal": len(metadata) - len(table),
    }
    return out


def download(folder: str | Path, **_: object) -> list[Path]:
    """Say where to apply: credentialed data are fetched by their users."""
    agree(SET, None)
    raise AssertionError("agree refuses credentialed sets")


def _file(root: Path, name: str, *, needed: bool = True) -> Path:
    """Return a table, packed or not."""
    for path in (root / f"{name}.gz", root / name):
        if path.is_file():
            return path
    if needed:
        raise DataError(
            f"the folder has no file {name}.gz (or {name}): datasets/{SET.name}.md says where it comes from."
        )
    return root / name


def _with_split(table: pd.DataFrame, image: pd.Series, root: Path) -> pd.DataFrame:
    path = _file(root, SPLIT, needed=False)
    if not path.is_file():
        return table
    split = table_of(path, ("dicom_id", "split"))
    refuse_repeated(split, ["dicom_id"], SPLIT)
    return table.assign(split=image.map(split.set_index("dicom_id")["split"]))
