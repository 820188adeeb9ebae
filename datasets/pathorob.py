"""PathoROB: patches balanced over biological classes and medical centres. The card is ``pathorob.md``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from causalfm.cohort import Cohort
from causalfm.datasets.collecting import collect
from causalfm.datasets.fetching import Progress, RemoteFile
from causalfm.datasets.hugging_face import hub_files, hub_get
from causalfm.datasets.parquet_patches import ParquetPatches, open_parquet
from causalfm.datasets.public_set import PublicSet, agree, chosen
from causalfm.datasets.set_tables import existing_file, existing_folder, refuse_gaps, refuse_repeated, table_of
from causalfm.errors import DataError, positions
from causalfm.graph import CausalGraph
from causalfm.tables import reading

Name = Literal["camelyon", "tcga", "tolkach_esca"]

SET = PublicSet(
    name="pathorob",
    title="PathoROB (Camelyon, TCGA, Tolkach ESCA)",
    size="0.47 GB, 1.1 GB and 0.32 GB of parquet",
    licence="CC0 1.0, CC BY-NC-SA 4.0 and CC BY-SA 4.0",
    terms="https://github.com/bifold-pathomics/PathoROB#licenses",
    source="Hugging Face, bifold-pathomics/PathoROB-{camelyon,tcga,tolkach_esca}, pinned commits",
    parts="camelyon, tcga, tolkach_esca",
    consent=True,
)
REVISIONS = {
    "camelyon": "b2e762542abbf85dde3f23ec70a2bf1848dcf5c8",
    "tcga": "6e1dbd4306ebee9759b32503914523e84bddabd0",
    "tolkach_esca": "c42219a2c168c5995e44487f5747bdacaf4bc2da",
}
RAW = "https://raw.githubusercontent.com/bifold-pathomics/PathoROB/6583cf0b0d902c8cc032308262fa3a3befdc0687"
DESIGNS = {  # tables of designs in PathoROB's repository, with the SHA-256 that a public script gives for that commit
    "camelyon": ("camelyon.csv", "9cad199ae0329b685cdcd5187812b406d533a737c3b58d4eca79c46d95b749ef"),
    "tcga": ("tcga_4x4.csv", "1a50d09177001907c5793a7e89ccf1b3640bd55704cb9aae0d3bb33a4bcfca5c"),
    "tolkach_esca": (
        "tolkach_esca_reduced.csv",
        "da183b32e05ed6d7c791c8a949952597f230d1e9f4a334bbac82e5622388d142",
    ),
}
KEYS = ("slide_id", "patch_id")
STORED = (*KEYS, "medical_center")  # what PathoROB's own scripts read from the parquet files beside the image
DESIGN = ("subset", *STORED[:2], "biological_class", "medical_center")
_BARCODE = 12  # characters of a TCGA barcode that name the patient


def graph() -> CausalGraph:
    """Return the roles: the class is biology, the medical centre technical, the patient the independent unit.

    Scanner, stain and tissue processing are not in the tables: what they do is part of the centre's effect. Which
    classes a centre contributes was fixed by the sampling, hence ``medical_center <-> biological_class``.
    """
    return CausalGraph.standard(biology="biological_class", technical=["medical_center"], group="patient")


def images(folder: str | Path, name: Name) -> ParquetPatches:
    """Open the patches of one of the three sets, for ``causalfm.extract``.

    Parameters
    ----------
    folder
        Where :func:`download` put the set: ``folder/NAME/data/*.parquet``; or the folder ``NAME`` itself, or ``data``.
    name
        ``"camelyon"``, ``"tcga"`` (the patches of the 2 x 2 and 4 x 4 designs) or ``"tolkach_esca"``.

    Returns
    -------
    ParquetPatches
        ``obs`` has the columns of the files and ``patient``; ``.where(medical_center=["RUMC", "UMCU"])`` selects.

    Raises
    ------
    DataError
        No parquet file, missing columns, missing values, patches that are there twice.
    """
    files = _parquet(existing_folder(folder, SET.title), _known(name))
    patches = open_parquet(files, STORED)
    refuse_gaps(patches.obs, STORED, f"the parquet files of {name}")
    refuse_repeated(patches.obs, KEYS, f"the parquet files of {name}")
    patches.obs = patches.obs.assign(patient=_patients(patches.obs, name))
    return patches


def design(cohort: Cohort, metadata: str | Path, *, subset: str | None = None) -> Cohort:
    """Select the patches of one design, with its classes: ``ID`` or ``OOD``, or one pair of classes and centres.

    Parameters
    ----------
    cohort
        Embeddings of the patches that :func:`images` opened.
    metadata
        ``data/metadata/*.csv`` of PathoROB's repository.
    subset
        Level of the column ``subset``. None: all rows; the 2 x 2 designs of TCGA share patches, so they need one.

    Returns
    -------
    Cohort
        Rows in the order of the table; its columns replace those of the same name.

    Raises
    ------
    DataError
        A missing file, column or subset; patches that the cohort does not have (row positions); repeated patches.
    """
    table = _design(metadata, subset)
    position = pd.MultiIndex.from_frame(cohort.obs[list(KEYS)].astype(str))
    rows = position.get_indexer(pd.MultiIndex.from_frame(table[list(KEYS)].astype(str)))
    if (absent := np.flatnonzero(rows < 0)).size:
        raise DataError(
            f"the cohort has no embedding for {len(absent)} patches of the design ({positions(absent.tolist())})."
        )
    part = cohort[rows]
    return part.replace(obs=part.obs.assign(**{c: table[c].to_numpy() for c in table.columns}))


def load(features: str | Path, metadata: str | Path, name: Name, *, subset: str | None = None) -> Cohort:
    """Load embeddings that PathoROB's own scripts extracted.

    Parameters
    ----------
    features
        ``data/features/MODEL/NAME`` of PathoROB: one ``.npz`` per medical centre, an array per ``slide-patch``.
    metadata
        ``data/metadata/*.csv`` of PathoROB.
    name
        Which set it is.
    subset
        As in :func:`design`.

    Returns
    -------
    Cohort
        Rows in the order of the table.

    Raises
    ------
    DataError
        A missing file or column, patches without an embedding (row positions), repeated patches.
    """
    table = _design(metadata, subset)
    folder = existing_folder(features, "PathoROB's features")
    rows: dict[Any, np.ndarray] = {}
    for centre, part in table.groupby("medical_center", sort=False):
        file = existing_file(folder, f"{str(centre).replace(' ', '_')}.npz", "pathorob")
        ids = part["slide_id"].astype(str) + "-" + part["patch_id"].astype(str)
        with reading(file), file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            if absent := part.index[~ids.isin(arrays.files)].tolist():
                raise DataError(f"{file.name!r} has no embedding for {positions(absent)} of the table.")
            rows |= {i: np.asarray(arrays[key], dtype=np.float32).reshape(-1) for i, key in ids.items()}
    obs = table.assign(patient=_patients(table, _known(name)))
    info = {"dataset": f"PathoROB {name}", "licence": SET.licence, "source": SET.source}
    return Cohort(np.stack([rows[i] for i in range(len(obs))]), obs, info)


def download(
    folder: str | Path,
    *,
    parts: Sequence[Name] | None = None,
    accept: str | None = None,
    progress: Progress | None = None,
    endpoint: str | None = None,
    raw: str = RAW,
) -> list[Path]:
    """Fetch the parquet files and a table of designs at pinned commits; each set into a folder of its own.

    Parameters
    ----------
    folder
        Where ``camelyon/``, ``tcga/`` and ``tolkach_esca/`` are made.
    parts
        Sets wanted. None: all.
    accept
        The licence, as a sign that the non-commercial terms of TCGA-UT and the share-alike terms are accepted. Camelyon
        alone (CC0) needs none.
    progress
        Called with (file, bytes there, bytes in all).
    endpoint, raw
        Addresses of the hub and of PathoROB's repository.

    Raises
    ------
    DataError
        See :func:`causalfm.datasets.collecting.collect` and :func:`causalfm.datasets.hugging_face.hub_files`.
    """
    wanted = chosen(parts, tuple(REVISIONS))
    if wanted != ("camelyon",):
        agree(SET, accept)
    found: list[Path] = []
    for part in wanted:
        repository, revision = f"bifold-pathomics/PathoROB-{part}", REVISIONS[part]
        files: list[RemoteFile] = hub_files(repository, revision, lambda p: p.endswith(".parquet"), endpoint=endpoint)
        about = {**SET.about(), "repository": repository, "revision": revision}
        get = hub_get(repository, revision, endpoint=endpoint)
        found += collect(files, Path(folder) / part, about=about, get=get, progress=progress)
        name, sha256 = DESIGNS[part]
        table = RemoteFile(f"metadata/{name}", f"{raw}/data/metadata/{name}", checksum=f"sha256:{sha256}")
        found += collect([table], Path(folder) / part, about=about, progress=progress)
    return found


def _known(name: str) -> str:
    if name not in REVISIONS:
        raise DataError(f"name={name!r} is not known: choose {', '.join(REVISIONS)}.")
    return name


def _parquet(folder: Path, name: str) -> list[Path]:
    for place in (folder / name / "data", folder / name, folder / "data", folder):
        if found := sorted(place.glob("*.parquet")):
            return found
    raise DataError(
        f"the folder holds no parquet file of {name}: 'causalfm data get pathorob FOLDER' puts them into {name}/data/."
    )


def _design(metadata: str | Path, subset: str | None) -> pd.DataFrame:
    path = Path(metadata)
    table = table_of(existing_file(path.parent, path.name, "pathorob"), DESIGN)
    refuse_gaps(table, DESIGN, path.name)
    if subset is not None:
        table = table[table["subset"].astype(str) == subset].reset_index(drop=True)
        if table.empty:
            raise DataError(f"{path.name!r} has no subset {subset!r}.")
    if (
        len(table["subset"].unique()) > 1
        and table.duplicated([*KEYS, "subset"]).sum() == 0
        and table.duplicated(list(KEYS)).any()
    ):
        raise DataError(
            f"the subsets of {path.name!r} share patches: name one with subset=, and go through them in turn."
        )
    refuse_repeated(table, KEYS, path.name)
    return table


def _patients(obs: pd.DataFrame, name: str) -> pd.Series:
    slide = obs["slide_id"].astype(str)
    if name == "tcga":
        return slide.str[:_BARCODE].astype(object)
    if name == "tolkach_esca":  # whether case numbers start again in each centre is not documented
        return (obs["medical_center"].astype(str) + "/" + slide).astype(object)
    of_patient = slide.str.extract(r"^(patient_\d+)_node_\d+", expand=False)
    return of_patient.fillna(slide).astype(object)
