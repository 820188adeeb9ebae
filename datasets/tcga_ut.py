"""TCGA-UT: patches of uniform tumour regions, 32 cancers. The card is ``tcga_ut.md``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from causalfm.datasets.collecting import collect
from causalfm.datasets.fetching import Progress
from causalfm.datasets.public_set import PublicSet, agree, chosen
from causalfm.datasets.set_tables import existing_folder
from causalfm.datasets.unpacking import unpack_new
from causalfm.datasets.zenodo import API, record_files
from causalfm.errors import DataError, positions
from causalfm.graph import CausalGraph

SET = PublicSet(
    name="tcga_ut",
    title="TCGA-UT (uniform tumour regions)",
    size="one zip per cancer, 32 in all; Zenodo tells the sizes",
    licence="CC BY-NC-SA 4.0",
    terms="https://creativecommons.org/licenses/by-nc-sa/4.0/",
    source="Zenodo record 5889558",
    parts="cancers as Zenodo names them, such as Lung_adenocarcinoma",
    consent=True,
)
RECORD = 5889558
RESOLUTIONS = tuple(str(i) for i in range(6))
MOST = 2**37
_SLIDE = re.compile(r"(TCGA-([A-Z0-9]{2})-[A-Z0-9]{4})-\d\d[A-Z]-.+")


def graph() -> CausalGraph:
    """Return the roles: the cancer is biology, the tissue source site technical, the patient the independent unit.

    Scanner, stain and the age of the slide are not in the names: what they do is part of the site's effect.
    """
    return CausalGraph.standard(biology="cancer", technical=["site"], group="patient")


def images(
    folder: str | Path,
    *,
    cancers: Sequence[str] | None = None,
    resolution: int = 0,
    sites: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """List the patches of one resolution, for ``causalfm.extract``.

    Parameters
    ----------
    folder
        Unpacked: ``CANCER/RESOLUTION/SLIDE/*.jpg``.
    cancers
        Folders wanted. None: all that are there.
    resolution
        0 (the finest, 0.5 um per px) to 5.
    sites
        Institution of each tissue source site code (the second field of a barcode). None: the code itself, which TCGA
        gave per institution **and** project: one code meets one cancer, and no effect of the site can be told from the
        cancer.

    Returns
    -------
    pandas.DataFrame
        ``path``, ``cancer``, ``slide``, ``patient``, ``site``; sorted by path.

    Raises
    ------
    DataError
        Unknown cancers or resolutions, no patches, folders that are not named by a TCGA slide, codes without
        institution.
    """
    root = existing_folder(folder, SET.title).absolute()
    if str(resolution) not in RESOLUTIONS:
        raise DataError(f"resolution={resolution!r}: choose 0 (the finest) to {RESOLUTIONS[-1]}.")
    there = sorted(p.name for p in root.iterdir() if (p / str(resolution)).is_dir())
    if not there:
        raise DataError(
            f"the folder holds no CANCER/{resolution}/SLIDE/*.jpg: pass the folder with the unpacked cancers; "
            "datasets/tcga_ut.md shows the layout."
        )
    files = [
        path
        for cancer in chosen(cancers, tuple(there))
        for path in sorted((root / cancer / str(resolution)).glob("*/*.jpg"))
    ]
    found = [_SLIDE.fullmatch(path.parent.name) for path in files]
    if not files or not all(found):
        odd = positions([i for i, match in enumerate(found) if match is None])
        raise DataError(
            f"{len(files)} patches were found, some in folders not named by a TCGA slide ({odd})."
            if files
            else f"the cancers have no patches of resolution {resolution}: unpack them again."
        )
    codes = [match[2] for match in found if match]
    if sites is not None and (absent := sorted(set(codes) - set(sites))):
        raise DataError(f"sites names no institution for the code {', '.join(absent)}: complete the mapping.")
    return pd.DataFrame(
        {
            "path": [str(path) for path in files],
            "cancer": [path.parents[2].name for path in files],
            "slide": [path.parent.name for path in files],
            "patient": [match[1] for match in found if match],
            "site": codes if sites is None else [sites[code] for code in codes],
        },
        dtype=object,
    )


def download(
    folder: str | Path,
    *,
    parts: Sequence[str] | None = None,
    accept: str | None = None,
    progress: Progress | None = None,
    api: str = API,
) -> list[Path]:
    """Fetch the zips of cancers with the MD5 that Zenodo gives, and unpack them.

    Parameters
    ----------
    folder
        Where the folders of the cancers go.
    parts
        Cancers, such as ``["Lung_adenocarcinoma", "Lung_squamous_cell_carcinoma"]``. None: all.
    accept
        The licence: it forbids commercial use.
    progress
        Called with (file, bytes there, bytes in all).
    api
        Address of Zenodo.
    """
    agree(SET, accept)
    names = None if parts is None else [f"{part}.zip" for part in parts]
    files = [f for f in record_files(RECORD, names, api=api) if f.name.endswith(".zip")]
    root = Path(folder)
    archives = collect(files, root, about=SET.about(), progress=progress)
    return unpack_new(archives, root, limit=MOST)
