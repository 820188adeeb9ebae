"""Tell the format of a path from its ending, or from what lies in the folder."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from causalfm.errors import DataError
from causalfm.formats.croma_manifests import CONFOUNDER, REQUIRED
from causalfm.formats.extractions import is_extraction
from causalfm.formats.parquet import holds_embeddings, parts
from causalfm.formats.slide_tensors import ENDING
from causalfm.formats.slides import slide_files
from causalfm.formats.spatial_stores import is_spatial, slide_stores
from causalfm.formats.stores import is_store
from causalfm.formats.tensor_manifests import EVA_FILE, SLIDE2VEC_FILE
from causalfm.tables import existing, reading

MANIFESTS = ("manifest.csv", "process_list.csv")
SUFFIXES = {
    ".npz": "npz",
    ".npy": "npy",
    ".parquet": "parquet",
    ".h5ad": "h5ad",
    ".zarr": "zarr",
    ".h5": "trident",
    ".pt": "pt",
    ".csv": "a manifest",
}


def format_of(paths: list[Path]) -> str:
    """Return the one format of the paths.

    Raises
    ------
    DataError
        A path that is not there; no format, several, or a folder that could be several.
    """
    for i, path in enumerate(paths):
        if not path.exists():
            where = f"no file or folder {path.name!r}" if len(paths) == 1 else f"nothing at path {i} of {len(paths)}"
            raise DataError(f"there is {where} where you point: check the path.")
    kinds = sorted({kind for path in paths for kind in _kinds(path)})
    if len(kinds) == 1:
        return kinds[0]
    if len(paths) == 1 and paths[0].is_dir():
        endings = {"trident": "h5", "pt": "pt", "spatialdata": "zarr"}
        files = "".join(f", or pass sorted(folder.glob('*.{endings[kind]}'))" for kind in kinds if kind in endings)
        found = f"could be {' or '.join(kinds)}: point at the file{files}" if kinds else "holds none of these"
        raise DataError(
            f"the folder {paths[0].name!r} {found}. Folders: a Zarr store, an extraction, parquet parts, <slide>.h5 or "
            "<slide>.pt files, <slide>.zarr stores of lazyslide, or one with a manifest.csv (croma, eva) or "
            "process_list.csv (slide2vec)."
        )
    given = ", ".join(sorted({p.suffix.lower() or "no ending" for p in paths})) or "no file"
    raise DataError(f"embeddings come as one format out of {', '.join(SUFFIXES)} or a folder; given: {given}.")


def manifest_of(path: Path) -> Path:
    """Return the manifest of a folder whose kind is known, or the path itself."""
    return next(iter(_manifests(path)[0])) if path.is_dir() else path


def _kinds(path: Path) -> list[str]:
    suffix = path.suffix.lower()
    if not path.is_dir():
        if suffix == ".csv":
            return _manifest_kinds(existing(path))
        return [SUFFIXES[suffix]] if suffix in SUFFIXES else []
    if is_store(path) or suffix == ".zarr":
        return ["spatialdata" if is_spatial(path) else "zarr"]
    if is_extraction(path):
        return ["extraction"]
    return _kinds_of_folder(path)


def _kinds_of_folder(folder: Path) -> list[str]:
    """Return what the folder can be; tables beside embeddings count for nothing."""
    manifests, unknown = _manifests(folder)
    found = [kind for kinds in manifests.values() for kind in kinds]
    found += ["pt"] if slide_files(folder, ENDING) and not (manifests or unknown) else []  # manifests list such files
    found += ["trident"] if slide_files(folder) else []
    found += ["spatialdata"] if slide_stores(folder) else []
    files = parts(folder)
    if files and (not found or any(holds_embeddings(file) for file in files)):
        found.append("parquet")
    if unknown and not found:
        raise unknown[0]
    return found


def _manifests(folder: Path) -> tuple[dict[Path, list[str]], list[DataError]]:
    """Return the kinds of each manifest, and what is wrong with files of that name that are none."""
    found, unknown = {}, []
    for path in (folder / name for name in MANIFESTS if (folder / name).is_file()):
        try:
            found[path] = _manifest_kinds(path)
        except DataError as error:
            unknown.append(error)
    return found, unknown


def _manifest_kinds(path: Path) -> list[str]:
    with reading(existing(path)):
        columns = set(pd.read_csv(path, nrows=0).columns)
    needs = {"croma": {*REQUIRED}, "eva": {EVA_FILE}, "slide2vec": {"sample_id", SLIDE2VEC_FILE}}
    found = [kind for kind, needed in needs.items() if needed <= columns]
    if not found:
        listed = "; ".join(f"{kind}: {', '.join(sorted(needed))}" for kind, needed in needs.items())
        raise DataError(
            f"{path.name!r} is no manifest: it misses columns of each kind ({listed}; croma also has {CONFOUNDER!r} or "
            "columns of your own). A table of embeddings is passed as obs=, with the embeddings as path; embeddings in "
            "columns of a CSV are saved as an array first: np.save(path, table[columns].to_numpy('float32'))."
        )
    return found
