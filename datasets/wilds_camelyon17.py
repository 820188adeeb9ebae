"""Camelyon17-WILDS: lymph node patches of five hospitals. The card is ``wilds_camelyon17.md``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from causalfm.datasets.collecting import collect
from causalfm.datasets.fetching import Progress, RemoteFile
from causalfm.datasets.public_set import PublicSet, refuse_parts
from causalfm.datasets.set_tables import (
    as_text,
    existing_file,
    existing_folder,
    refuse_gaps,
    refuse_odd_names,
    refuse_repeated,
    table_of,
)
from causalfm.datasets.unpacking import unpack_new
from causalfm.errors import DataError, positions
from causalfm.graph import CausalGraph

SET = PublicSet(
    name="wilds_camelyon17",
    title="Camelyon17-WILDS, version 1.0",
    size="10.7 GB, a tar.gz of 96 px PNG files",
    licence="CC0 1.0",
    terms="https://creativecommons.org/publicdomain/zero/1.0/",
    source="CodaLab bundle 0xe45e15f39fb54e9d9e919556af67aabe",
)
METADATA = "metadata.csv"
ARCHIVE = RemoteFile(
    "camelyon17_v1.0.tar.gz",
    "https://worksheets.codalab.org/rest/bundles/0xe45e15f39fb54e9d9e919556af67aabe/contents/blob/",
    size=10_658_709_504,
)
MOST = 2**35  # bytes that may come out
COLUMNS = ("patient", "node", "x_coord", "y_coord", "tumor", "slide", "center", "split")
TUMOUR = {0: "no tumour", 1: "tumour"}
HELD_OUT = {1: "val", 2: "test"}  # the official split, by hospital; elsewhere column split says train or id_val
SPLITS = {0: "train", 1: "id_val"}


def graph() -> CausalGraph:
    """Return the roles: tumour is biology, the hospital technical, the patient the independent unit.

    Scanner and stain are not in the table: what they do is part of the hospital's effect.
    """
    return CausalGraph.standard(biology="tumor", technical=["center"], group="patient")


def images(folder: str | Path) -> pd.DataFrame:
    """List the patches, for ``causalfm.extract``.

    Parameters
    ----------
    folder
        The unpacked folder, with ``metadata.csv`` and ``patches/``.

    Returns
    -------
    pandas.DataFrame
        ``path``, ``tumor`` (``"tumour"``: within the central 32 px), ``center``, ``patient``, ``node``, ``slide``,
        ``split`` (the official one: train, id_val, val, test), ``x_coord``, ``y_coord``.

    Raises
    ------
    DataError
        Missing file or columns, missing values, codes that the set does not have, repeated patches.
    """
    root = existing_folder(folder, SET.title)
    table = table_of(existing_file(root, METADATA, SET.name), COLUMNS)[list(COLUMNS)]
    refuse_gaps(table, COLUMNS, METADATA)
    for column in ("node", "x_coord", "y_coord", "center", "slide"):
        table[column] = as_text(table[column])
        refuse_odd_names(table[column], r"\d+", METADATA)
    refuse_odd_names(as_text(table["patient"]), r"\d+", METADATA)
    table["patient"] = as_text(table["patient"]).str.zfill(3)
    refuse_repeated(table, ("patient", "node", "x_coord", "y_coord"), METADATA)
    held_out = table["center"].map({str(k): v for k, v in HELD_OUT.items()})
    table["split"] = held_out.fillna(_coded(table, "split", {**SPLITS, 2: "test", 3: "val"}))
    table["tumor"] = _coded(table, "tumor", TUMOUR)
    stem = "patient_" + table["patient"] + "_node_" + table["node"]
    name = "patch_" + stem + "_x_" + table["x_coord"] + "_y_" + table["y_coord"] + ".png"
    table.insert(0, "path", f"{root.absolute()}/patches/" + stem + "/" + name)  # Path is slow for half a million
    table["center"] = "hospital " + table["center"]
    return table


def download(
    folder: str | Path,
    *,
    parts: Sequence[str] | None = None,
    accept: str | None = None,
    hosts: tuple[str, ...] = (),
    progress: Progress | None = None,
) -> list[Path]:
    """Fetch the archive and unpack it; its SHA-256 is recorded, since none is published.

    Parameters
    ----------
    folder
        Where ``patches/`` and ``metadata.csv`` go.
    parts
        Refused: the set is one archive.
    accept
        Not needed: public domain.
    hosts
        Hosts that CodaLab may send on to.
    progress
        Called with (file, bytes there, bytes in all).

    Raises
    ------
    DataError
        See :func:`causalfm.datasets.collecting.collect` and :func:`causalfm.datasets.unpacking.unpack_new`.
    """
    refuse_parts(SET, parts)
    archive = RemoteFile(ARCHIVE.name, ARCHIVE.url, ARCHIVE.size, ARCHIVE.checksum, hosts)
    found = collect([archive], folder, about=SET.about(), progress=progress)
    return unpack_new(found, Path(folder), limit=MOST)


def _coded(table: pd.DataFrame, column: str, names: dict[int, str]) -> pd.Series:
    coded = pd.to_numeric(table[column], errors="coerce").map(names)
    if coded.isna().any():
        where = coded.index[coded.isna()].tolist()
        raise DataError(f"{METADATA}: column {column!r} has codes beside {sorted(names)} ({positions(where)}).")
    return coded.astype(object)
