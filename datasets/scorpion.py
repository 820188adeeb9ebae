"""SCORPION: the same tissue under five scanners. The card is ``scorpion.md``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from causalfm.datasets.collecting import collect
from causalfm.datasets.fetching import Progress
from causalfm.datasets.public_set import PublicSet, refuse_parts
from causalfm.datasets.set_tables import existing_folder
from causalfm.datasets.unpacking import unpack_new
from causalfm.datasets.zenodo import API, record_files
from causalfm.errors import DataError
from causalfm.graph import CausalGraph

SET = PublicSet(
    name="scorpion",
    title="SCORPION",
    size="one zip of 2,400 JPEG files",
    licence="CC BY 4.0",
    terms="https://creativecommons.org/licenses/by/4.0/",
    source="Zenodo record 16517924",
)
RECORD, ARCHIVE = 16517924, "SCORPION_dataset.zip"
SCANNERS = ("AT2", "DP200", "GT450", "P1000", "Philips")
MOST = 2**34
_PATH = re.compile(r"slide_(\d+)/sample_(\d+)/([^/]+)\.jpg")


def graph() -> CausalGraph:
    """Return the roles: every piece of tissue was seen by every scanner, so nothing confounds the scanner.

    ``tissue`` stands for biology: what the slide shows, or the diagnosis where the caller gave one. The slide is the
    independent unit, the region the specimen that is seen five times. Laboratory and stain are not in the files; they
    are the same for all five views of a region.
    """
    return CausalGraph(
        "{tissue, scanner} -> Z", biology="tissue", technical=["scanner"], group="slide", specimen="region"
    )


def images(folder: str | Path, *, tissue: Mapping[str, str] | None = None) -> pd.DataFrame:
    """List the images, for ``causalfm.extract``.

    Parameters
    ----------
    folder
        Unpacked: it holds ``slide_1/sample_1/AT2.jpg`` and so on, or the folder ``SCORPION_dataset`` that does.
    tissue
        Tissue or diagnosis of each slide, such as ``{"slide_1": "breast"}``: the set comes without. None: the slide's
        name.

    Returns
    -------
    pandas.DataFrame
        ``path``, ``slide``, ``region`` (slide and sample), ``scanner``, ``tissue``; sorted by slide, sample and
        scanner.

    Raises
    ------
    DataError
        No image, files that are not of this set, a region that not all of the five scanners saw, slides without a
        tissue.
    """
    root = existing_folder(folder, SET.title)
    root = root / "SCORPION_dataset" if (root / "SCORPION_dataset").is_dir() else root
    files = sorted(p for p in root.glob("slide_*/sample_*/*") if p.is_file())
    found = [_PATH.fullmatch(p.relative_to(root).as_posix()) for p in files]
    if not files or not all(found):
        odd = sum(match is None for match in found)
        raise DataError(
            f"the folder holds {len(files)} files in slide_*/sample_*, {odd} of them not named SCANNER.jpg: pass the "
            "unpacked SCORPION_dataset; datasets/scorpion.md shows its layout."
        )
    rows = [(int(m[1]), int(m[2]), m[3], str(p.absolute())) for m, p in zip(found, files, strict=True) if m]
    table = pd.DataFrame(sorted(rows), columns=["number", "sample", "scanner", "path"])
    _refuse_incomplete(table)
    slide = "slide_" + table["number"].astype(str)
    region = slide + "/sample_" + table["sample"].astype(str)
    if tissue is not None and (absent := sorted(set(slide) - set(tissue))):
        raise DataError(f"tissue names no tissue for {len(absent)} of {slide.nunique()} slides: complete the mapping.")
    return pd.DataFrame(
        {
            "path": table["path"],
            "slide": slide.astype(object),
            "region": region.astype(object),
            "scanner": table["scanner"].astype(object),
            "tissue": (slide if tissue is None else slide.map(dict(tissue))).astype(object),
        }
    )


def download(
    folder: str | Path,
    *,
    parts: Sequence[str] | None = None,
    accept: str | None = None,
    progress: Progress | None = None,
    api: str = API,
) -> list[Path]:
    """Fetch the archive with the MD5 that Zenodo gives for it, and unpack it.

    Parameters
    ----------
    folder
        Where ``SCORPION_dataset/`` goes.
    parts
        Refused: the set is one archive.
    accept
        Not needed: CC BY asks to name the authors, no more.
    progress
        Called with (file, bytes there, bytes in all).
    api
        Address of Zenodo.
    """
    refuse_parts(SET, parts)
    found = collect(record_files(RECORD, [ARCHIVE], api=api), folder, about=SET.about(), progress=progress)
    return unpack_new(found, Path(folder), limit=MOST)


def _refuse_incomplete(table: pd.DataFrame) -> None:
    seen = table.groupby(["number", "sample"])["scanner"].agg(set)
    partial = [i for i, scanners in enumerate(seen) if scanners != set(SCANNERS)]
    if partial:
        raise DataError(
            f"{len(partial)} of {len(seen)} regions were not seen by exactly the scanners {', '.join(SCANNERS)} (the "
            "first "
            f"is region {partial[0]} in sorted order): the copy is incomplete, fetch and unpack it again."
        )
