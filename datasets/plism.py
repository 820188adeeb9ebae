"""PLISM: one tissue array under thirteen stains and seven scanners, tile by tile. The card is ``plism.md``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from causalfm.cohort import Cohort
from causalfm.datasets.checksum_lock import read_lock
from causalfm.datasets.collecting import collect
from causalfm.datasets.fetching import Progress
from causalfm.datasets.hugging_face import hub_files, hub_get, newest_commit
from causalfm.datasets.public_set import PublicSet
from causalfm.datasets.set_tables import existing_folder, refuse_repeated, table_of
from causalfm.datasets.stored_images import StoredImages
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.tables import reading

SET = PublicSet(
    name="plism",
    title="PLISM, registered tiles (plism-dataset)",
    size="225 GB, 91 HDF5 files",
    licence="CC BY 4.0",
    terms="https://creativecommons.org/licenses/by/4.0/",
    source="Hugging Face, owkin/plism-dataset, commit locked at the first download",
    parts="slides as STAIN_SCANNER, such as GMH_S60",
)
REPOSITORY = "owkin/plism-dataset"
ENDING = "_to_GMH_S60.tif"  # every slide was registered to this one
COORDINATES = 3  # leading columns of features.npy: level, x, y
GRID = 16  # tiles along the side of a cell that stands in for a tissue core


def graph() -> CausalGraph:
    """Return the roles: scanner and stain were crossed by design, so nothing confounds them.

    ``tissue`` stands for biology: the organ where the caller gave a table of organs, else a cell of the grid of tiles.
    The core is the independent unit and the tile the specimen. The thirteen stains are serial sections: between stains
    the tissue itself differs a little, between scanners it does not.
    """
    return CausalGraph(
        "{tissue, scanner, stain} -> Z",
        biology="tissue",
        technical=["scanner", "stain"],
        group="core",
        specimen="tile",
    )


class SlideTiles(StoredImages):
    """Tiles of HDF5 files that hold one array per tile."""

    def __init__(self, files: Sequence[Path], which: np.ndarray, obs: pd.DataFrame) -> None:
        super().__init__(obs)
        self.files = list(files)
        self.which = which

    def _take(self, rows: np.ndarray) -> None:
        self.which = self.which[rows]

    def _read(self, i: int) -> np.ndarray:
        file = int(self.which[i])
        return np.asarray(self._block(file, partial(_opened, self.files[file]))[self.obs["tile"].iloc[i]])


def images(
    folder: str | Path, *, slides: Sequence[str] | None = None, organs: pd.DataFrame | Path | None = None
) -> SlideTiles:
    """Open the tiles, for ``causalfm.extract``.

    Parameters
    ----------
    folder
        Holds ``STAIN_SCANNER_to_GMH_S60.tif.h5``.
    slides
        Such as ``["GMH_S60", "GMH_AT2"]``. None: all that are there.
    organs
        Organ of each place on the array: a table with ``level``, ``left``, ``top``, ``organ``.

    Returns
    -------
    SlideTiles
        ``obs``: ``tile``, ``scanner``, ``stain``, ``tissue``, ``core``, ``x``, ``y``; slides sorted by name, tiles by
        name.

    Raises
    ------
    DataError
        No slides, names that do not say stain and scanner, slides that do not hold the same tiles, tiles without an
        organ.
    """
    import h5py

    root = existing_folder(folder, SET.title)
    files = _slides(sorted(root.glob(f"*{ENDING}.h5")), ".h5", slides)
    parts = []
    for path in files:
        with reading(path), h5py.File(path, "r") as file:
            parts.append(_places(sorted(file), path.name))
    obs = _crossed(files, parts, organs)
    return SlideTiles(files, np.repeat(np.arange(len(files)), [len(p) for p in parts]), obs)


def load(
    folder: str | Path, *, slides: Sequence[str] | None = None, organs: pd.DataFrame | Path | None = None
) -> Cohort:
    """Load features in plismbench's layout: ``STAIN_SCANNER_to_GMH_S60.tif/features.npy``, (tiles, 3 + d).

    Parameters
    ----------
    folder
        ``EXPORT/EXTRACTOR`` of plismbench.
    slides, organs
        As in :func:`images`.

    Raises
    ------
    DataError
        As :func:`images`; arrays of other forms.
    """
    root = existing_folder(folder, "plismbench's features")
    files = _slides(sorted(p.parent for p in root.glob(f"*{ENDING}/features.npy")), "", slides)
    parts, rows = [], []
    for path in files:
        with reading(path / "features.npy", f"features.npy of {path.name!r}"):
            array = np.load(path / "features.npy", allow_pickle=False)
        if array.ndim != 2 or array.shape[1] <= COORDINATES:
            raise DataError(
                f"features.npy of {path.name!r} has shape {array.shape}: level, x, y and features are expected."
            )
        names = ["tile_" + "_".join(str(int(v)) for v in place) for place in array[:, :COORDINATES]]
        order = np.argsort(names, kind="stable")
        parts.append(_places([names[i] for i in order], path.name))
        rows.append(array[order, COORDINATES:].astype(np.float32))
    info = {"dataset": SET.title, "licence": SET.licence, "source": SET.source}
    return Cohort(np.concatenate(rows), _crossed(files, parts, organs), info)


def download(
    folder: str | Path,
    *,
    parts: Sequence[str] | None = None,
    accept: str | None = None,
    progress: Progress | None = None,
    endpoint: str | None = None,
) -> list[Path]:
    """Fetch slides; the commit of the first download is locked and used from then on.

    Parameters
    ----------
    folder
        Where the HDF5 files go.
    parts
        Slides, such as ``["GMH_S60", "GMH_AT2"]``. None: all 91 (225 GB).
    accept
        Not needed: CC BY asks to name the authors.
    progress
        Called with (file, bytes there, bytes in all).
    endpoint
        Address of the hub.
    """
    revision = read_lock(Path(folder)).get("revision") or newest_commit(REPOSITORY, endpoint=endpoint)
    names = None if parts is None else {f"{part}{ENDING}.h5" for part in parts}
    files = hub_files(REPOSITORY, revision, partial(_is_wanted, names=names), endpoint=endpoint)
    if names is not None and (absent := sorted(names - {f.name for f in files})):
        raise DataError(f"{REPOSITORY} has no {', '.join(absent)}.")
    about = {**SET.about(), "repository": REPOSITORY, "revision": revision}
    get = hub_get(REPOSITORY, revision, endpoint=endpoint)
    return collect(files, folder, about=about, get=get, progress=progress)


def _is_wanted(path: str, names: set[str] | None) -> bool:
    return path.endswith(f"{ENDING}.h5") if names is None else path in names


def _opened(path: Path) -> object:
    import h5py

    return h5py.File(path, "r")


def _slides(paths: list[Path], ending: str, wanted: Sequence[str] | None) -> list[Path]:
    known = {path.name.removesuffix(ending).removesuffix(ENDING): path for path in paths}
    if not known:
        raise DataError(
            f"the folder holds no slide (STAIN_SCANNER{ENDING}{ending}): datasets/plism.md shows the layout."
        )
    if odd := [name for name in known if name.count("_") != 1]:
        raise DataError(f"the name of slide {odd[0]!r} does not say stain and scanner as STAIN_SCANNER.")
    if absent := [name for name in wanted or () if name not in known]:
        raise DataError(f"the folder has no slide {absent[0]!r}. Slides: {', '.join(known)}.")
    return [known[name] for name in (known if wanted is None else dict.fromkeys(wanted))]


def _places(names: list[str], slide: str) -> pd.DataFrame:
    """Return the tiles of a slide with their places, read off their names: ``tile_LEVEL_X_Y``."""
    fields = pd.Series(names, dtype=object).str.extract(r"^tile_(\d+)_(\d+)_(\d+)$")
    if not len(names) or fields.isna().to_numpy().any():
        raise DataError(f"{slide!r} holds arrays that are not named tile_LEVEL_X_Y: is it a slide of this set?")
    table = fields.astype(int).set_axis(["level", "x", "y"], axis=1).assign(tile=np.asarray(names, dtype=object))
    refuse_repeated(table, ["tile"], slide)
    return table


def _crossed(files: Sequence[Path], parts: list[pd.DataFrame], organs: pd.DataFrame | Path | None) -> pd.DataFrame:
    """Put the tables of the slides together; all must show the same tiles, or pairs would be lost in silence."""
    if odd := [i for i, part in enumerate(parts) if not part["tile"].equals(parts[0]["tile"])]:
        raise DataError(
            f"{files[odd[0]].name!r} does not hold the same tiles as {files[0].name!r} ({len(parts[odd[0]])} and "
            f"{len(parts[0])}): the copy is incomplete, or a slide was cut in another way."
        )
    tissue = _tissue(parts[0], organs)
    names = [path.name.split("_")[:2] for path in files]
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "tile": part["tile"],
                    "scanner": scanner,
                    "stain": stain,
                    "tissue": tissue,
                    "core": tissue,
                    "x": part["x"],
                    "y": part["y"],
                }
            )
            for part, (stain, scanner) in zip(parts, names, strict=True)
        ],
        ignore_index=True,
    )


def _tissue(places: pd.DataFrame, organs: pd.DataFrame | Path | None) -> pd.Series:
    if organs is None:
        return ("grid " + (places["x"] // GRID).astype(str) + "," + (places["y"] // GRID).astype(str)).astype(object)
    columns = ("level", "left", "top", "organ")
    path = Path("organs") if isinstance(organs, pd.DataFrame) else Path(organs)
    table = table_of(path, columns, organs if isinstance(organs, pd.DataFrame) else None)
    refuse_repeated(table, columns[:3], "the table of organs")
    found = places.merge(table, left_on=["level", "x", "y"], right_on=list(columns[:3]), how="left")["organ"]
    if found.isna().any():
        raise DataError(f"the table of organs has no organ for {int(found.isna().sum())} of {len(found)} tiles.")
    return found.astype(object)
