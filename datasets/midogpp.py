"""MIDOG++: mitotic figures and look-alikes, seven tumours, several scanners. The card is ``midogpp.md``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalfm.arguments import check_whole
from causalfm.datasets.collecting import collect
from causalfm.datasets.fetching import Progress, RemoteFile
from causalfm.datasets.public_set import PublicSet, chosen
from causalfm.datasets.set_tables import existing_file, existing_folder, refuse_gaps, refuse_repeated, table_of
from causalfm.datasets.stored_images import StoredImages
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.tables import reading

SET = PublicSet(
    name="midogpp",
    title="MIDOG++",
    size="65 GB of TIFF regions",
    licence="CC0 1.0",
    terms="https://creativecommons.org/publicdomain/zero/1.0/",
    source="figshare collection 6615571; tables from DeepMicroscopy/MIDOGpp at pinned commits",
    parts="tumours, such as human breast cancer",
)
RAW = "https://raw.githubusercontent.com/DeepMicroscopy/MIDOGpp"
DATABASE, DOMAINS, LISTING = "MIDOG++.json", "datasets_xvalidation.csv", "Setup.ipynb"
TABLES = (
    RemoteFile(DATABASE, f"{RAW}/bd26c8197fc785b3e414ff2d41a63c1809dae1bc/databases/MIDOG%2B%2B.json"),
    RemoteFile(DOMAINS, f"{RAW}/b9604fc4baa3d81787cd11b8b334e7feda01f113/datasets_xvalidation.csv"),
    RemoteFile(LISTING, f"{RAW}/415702dda3e4ec29d6ab8b4d7b2be80a3056b1ee/Setup.ipynb"),
)
FIGSHARE = "https://figshare.com/ndownloader/files"
HOSTS = ("ndownloader.figshare.com", "s3-eu-west-1.amazonaws.com")
COLUMNS = ("Slide", "Tumor", "Scanner", "Origin", "Species")
SPELLINGS = {"Hamammatsu XR": "Hamamatsu XR"}  # one scanner under two spellings in the published table
CATEGORIES = ("mitotic figure", "not mitotic figure")
_LISTED = re.compile(r"'(\d+)': '(\d{3}\.tiff)'")


def graph(*, tumours: bool = False) -> CausalGraph:
    """Return the roles: mitotic figure or look-alike is biology, the scanner technical, the case the independent unit.

    Every laboratory used scanners of its own but Utrecht, which had three: the scanner stands for laboratory, stain and
    scanner together unless one laboratory is selected.

    Parameters
    ----------
    tumours
        Whether the rows are of several tumours, which are then a covariate.
    """
    return CausalGraph.standard(
        biology="label", technical=["scanner"], group="case", covariates=["tumour"] if tumours else ()
    )


class Figures(StoredImages):
    """Squares around the annotated cells, cut from the TIFF of their region; one region is held at a time."""

    def __init__(self, folder: Path, side: int, obs: pd.DataFrame) -> None:
        super().__init__(obs)
        self.folder = folder
        self.side = side

    def _take(self, rows: np.ndarray) -> None:
        """Nothing beside ``obs`` depends on the rows."""

    def _read(self, i: int) -> np.ndarray:
        row = self.obs.iloc[i]
        pixels = self._block(row["file"], partial(_region, self.folder / row["file"]))
        height, width = pixels.shape[:2]
        if min(height, width) < self.side:
            raise ValueError(f"the region has {width} x {height} px, and the square {self.side}")
        # at an edge the square moves inwards: nothing is padded, the cell is off its centre
        left, top = (
            int(np.clip(round(row[c]) - self.side // 2, 0, n - self.side)) for c, n in (("x", width), ("y", height))
        )
        return np.asarray(pixels[top : top + self.side, left : left + self.side])


def images(
    folder: str | Path, *, side: int = 64, tumours: Sequence[str] | None = None, origins: Sequence[str] | None = None
) -> Figures:
    """Open the annotated cells as squares, for ``causalfm.extract``.

    Parameters
    ----------
    folder
        Holds ``MIDOG++.json``, ``datasets_xvalidation.csv`` and the regions, ``001.tiff`` and so on (or in
        ``images/``).
    side
        Of the squares, in px (0.23 to 0.25 um each).
    tumours, origins
        Levels of the table wanted. None: all.

    Returns
    -------
    Figures
        ``obs``: ``label``, ``scanner``, ``tumour``, ``origin``, ``species``, ``case``, ``file``, ``x``, ``y`` (centre,
        px).

    Raises
    ------
    DataError
        Missing files or columns, an annotation of a region without a domain or a file, unknown levels.
    """
    root = existing_folder(folder, SET.title)
    check_whole(side, "side", 8)
    domains = _domains(existing_file(root, DOMAINS, SET.name))
    for column, wanted in (("tumour", tumours), ("origin", origins)):
        keep = chosen(wanted, tuple(sorted(domains[column].unique())))
        domains = domains[domains[column].isin(keep)]
    cells = _cells(_database(existing_file(root, DATABASE, SET.name)))
    obs = cells.merge(domains, on="case", how="inner", validate="many_to_one")
    place = root / "images" if (root / "images").is_dir() else root
    there = {name: (place / name).is_file() for name in obs["file"].unique()}
    if not all(there.values()):
        lost = obs[~obs["file"].map(there)].groupby("tumour")["file"].nunique()
        counts = ", ".join(f"{count} of {tumour}" for tumour, count in lost.items())
        raise DataError(f"regions are not in the folder ({counts}): fetch them, or select tumours= that are complete.")
    return Figures(place.absolute(), side, obs.astype({"case": object}))


def download(
    folder: str | Path,
    *,
    parts: Sequence[str] | None = None,
    accept: str | None = None,
    hosts: tuple[str, ...] = (),
    progress: Progress | None = None,
    tables: Sequence[RemoteFile] = TABLES,
    figshare: str = FIGSHARE,
) -> list[Path]:
    """Fetch the tables, then the regions that the authors' own list names; SHA-256 is recorded at the first download.

    Parameters
    ----------
    folder
        Where everything goes.
    parts
        Tumours. None: all (65 GB).
    accept
        Not needed: public domain.
    hosts
        Further hosts that figshare may send on to.
    progress
        Called with (file, bytes there, bytes in all).
    tables, figshare
        Addresses.
    """
    root = Path(folder)
    collect(tables, root, about=SET.about(), progress=progress)
    domains = _domains(root / DOMAINS)
    keep = chosen(parts, tuple(sorted(domains["tumour"].unique())))
    wanted = {f"{int(case):03d}.tiff" for case in domains["case"][domains["tumour"].isin(keep)]}
    with reading(root / LISTING):
        listed = {name: number for number, name in _LISTED.findall((root / LISTING).read_text("utf-8"))}
    if absent := wanted - set(listed):
        raise DataError(f"{LISTING} lists no address for {len(absent)} regions: see the card.")
    files = [
        RemoteFile(name, f"{figshare}/{listed[name]}", hosts=(*HOSTS, *hosts), label=f"region {i + 1} of {len(wanted)}")
        for i, name in enumerate(sorted(wanted))
    ]
    return collect(files, root, about=SET.about(), progress=progress)


def _domains(path: Path) -> pd.DataFrame:
    with reading(path):
        frame = pd.read_csv(path, sep=";", dtype=str)
    table = table_of(path, COLUMNS, frame)[list(COLUMNS)]
    refuse_gaps(table, COLUMNS, path.name)
    refuse_repeated(table, ["Slide"], path.name)
    table = table.set_axis(["case", "tumour", "scanner", "origin", "species"], axis=1).astype(object)
    return table.assign(scanner=table["scanner"].replace(SPELLINGS))


def _database(path: Path) -> Mapping[str, Any]:
    with reading(path):
        found = json.loads(path.read_text("utf-8"))
    if not isinstance(found, dict) or not {"images", "categories", "annotations"} <= set(found):
        raise DataError(f"{path.name!r} has not the parts images, categories and annotations of an MS COCO file.")
    return found


def _cells(database: Mapping[str, Any]) -> pd.DataFrame:
    """Return one row per annotation; boxes are (left, top, right, bottom), unlike in MS COCO."""
    try:
        names = {int(c["id"]): str(c["name"]) for c in database["categories"]}
        files = {int(i["id"]): str(i["file_name"]) for i in database["images"]}
        rows = [(a["image_id"], names[a["category_id"]], *map(float, a["bbox"])) for a in database["annotations"]]
        table = pd.DataFrame(rows, columns=["image", "label", "left", "top", "right", "bottom"])
        table["file"] = [files[i] for i in table["image"]]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{DATABASE} is not built as it should be ({type(error).__name__}: {error}).") from None
    if odd := sorted(set(table["label"]) - set(CATEGORIES)):
        raise DataError(f"{DATABASE} has categories that are not known: {', '.join(odd)}.")
    if any(not re.fullmatch(r"\d{3}\.tiff", name) for name in set(table["file"])):
        raise DataError(f"{DATABASE} names files that are not regions of this set (001.tiff ...).")
    if (table["right"] <= table["left"]).any() or (table["bottom"] <= table["top"]).any():
        raise DataError(f"{DATABASE} has boxes that are not (left, top, right, bottom): is it another version?")
    return pd.DataFrame(
        {
            "label": table["label"],
            "file": table["file"],
            "case": table["image"].astype(int).astype(str),
            "x": (table["left"] + table["right"]) / 2,
            "y": (table["top"] + table["bottom"]) / 2,
        }
    ).sort_values(["file", "y", "x"], ignore_index=True)


def _region(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path, formats=("TIFF",)) as image:
        return np.asarray(image.convert("RGB"))
