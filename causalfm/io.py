"""Files to cohort and back. Nothing is unpickled, nothing is half written, nothing is aligned by guessing."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.formats.annotated import read_h5ad, write_h5ad
from causalfm.formats.arrays import read_npy, read_npz, read_table_beside, write_array
from causalfm.formats.croma_manifests import CONFOUNDER, REQUIRED, read_croma
from causalfm.formats.loaded import Loaded
from causalfm.formats.parquet import parts, read_parquet, stack, write_parquet
from causalfm.formats.slides import read_slides, slide_files
from causalfm.formats.stores import is_store, read_zarr, write_zarr
from causalfm.formats.tensor_manifests import EVA_FILE, SLIDE2VEC_FILE, read_eva, read_slide2vec
from causalfm.tables import existing, join_tables, mixed_columns, read_table, reading

FilePath = str | os.PathLike[str]
Table = pd.DataFrame | FilePath


def read(
    path: FilePath | Sequence[FilePath], obs: Table | Sequence[Table] | None = None, *, key: str | None = None
) -> Cohort:
    """Read embeddings and their table; ``docs/formats.md`` has an example of each format.

    Parameters
    ----------
    path
        A file or folder, or parts of one format, put one after the other in the order given:

        - ``.npz`` (one 2-D array, or name it with ``key``), ``.npy`` (stays a memory map);
        - ``.parquet`` or a folder of parts, sorted by path (a list column ``embedding``, or columns
          ``z0 .. z{d-1}``; the other columns are the table; folders ``site=A`` become text columns);
        - ``.h5ad`` (stays a memory map if stored in one piece), AnnData in Zarr, or a plain Zarr array or group;
        - a folder of ``<slide>.h5`` as TRIDENT writes it, or a list of such files;
        - a ``manifest.csv`` of croma or eva, a ``process_list.csv`` of slide2vec, or the folder with one of them.
    obs
        A DataFrame, or a CSV, CSV.gz or parquet file, or a list of these: one row per embedding, in the same order.
        For TRIDENT and slide2vec one row per *slide*, in any order, joined by the slide's name; each slide in both or
        an error. Without it the table inside the file is used; for arrays the file ``<name>.obs.parquet`` beside
        (``uni.npy.obs.parquet``), which :func:`write` makes.
    key
        Array of an npz file or Zarr group, ``obsm`` key of an AnnData, data set of slide files (``features``), model
        of a croma folder.

    Returns
    -------
    Cohort
        ``info["source"]`` holds the file names (no folders) and ``info["format"]`` the format. Text columns have
        dtype object under every pandas.

    Raises
    ------
    DataError
        A file that is missing, empty, damaged, pickled or of unknown format; no table; unequal lengths; slides in the
        table or in the folder only.
    """
    paths = [Path(p) for p in _as_list(path)]
    kind = _kind(paths)
    if key is not None and kind not in _KEYED:
        raise DataError(f"key= names an array of {', '.join(_KEYED)}; {paths[0].name!r} needs none.")
    given = [] if obs is None else _as_list(obs)
    tables = [t if isinstance(t, pd.DataFrame) else read_table(existing(t)) for t in given]
    sources = [p.name for p in paths] if kind != "trident" else [p.name if p.is_dir() else p.parent.name for p in paths]
    info = {
        "source": list(dict.fromkeys(sources)) + [Path(t).name for t in given if not isinstance(t, pd.DataFrame)],
        "format": kind,
    }
    if kind in _BY_SLIDE:
        loaded = _BY_SLIDE[kind](paths, key, join_tables(tables) if tables else None)
        tables = []
    else:
        each = [_READERS[kind](p, key) for p in paths]
        loaded = each[0] if len(each) == 1 else _joined(each, paths, needed=not tables)
    if not tables:
        tables = [read_table_beside(paths[0]) if loaded.obs is None else loaded.obs]
    build = Cohort._of_finite if loaded.finite else Cohort
    return build(loaded.X, join_tables(tables), {**info, **loaded.info})


def write(cohort: Cohort, path: FilePath) -> Path:
    """Write a cohort so that ``read(path)`` finds all of it again; ``info`` is not kept.

    Parameters
    ----------
    cohort
        What to write.
    path
        ``.npz`` and ``.npy`` hold ``X``, with the table beside as ``<name>.obs.parquet``. ``.parquet``, ``.h5ad``
        and ``.zarr`` hold both; the last two (AnnData) turn the index into text, and text columns with missing
        values into categories.

    Returns
    -------
    Path
        The file or store.

    Raises
    ------
    DataError
        Unknown format, or a column that the format cannot hold. An old file stays as it was.
    """
    path = Path(path)
    if path.suffix.lower() not in _WRITERS:
        raise DataError(f"{path.name!r}: a cohort is written as {', '.join(_WRITERS)}.")
    try:
        _WRITERS[path.suffix.lower()](cohort, path)
    except (DataError, MemoryError):
        raise
    except OSError as error:
        raise DataError(f"{path.name!r} cannot be written: {error.strerror or type(error).__name__}.") from None
    except Exception as error:  # from None: the libraries quote cell values, which can identify patients
        odd = mixed_columns(cohort.obs)
        where = (
            f"columns of mixed types: {', '.join(odd)}; use astype(str)"
            if odd
            else "convert its columns to plain types"
        )
        raise DataError(f"{path.name!r}: obs cannot be stored ({type(error).__name__}): {where}.") from None
    return path


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _joined(each: list[Loaded], paths: list[Path], *, needed: bool) -> Loaded:
    """Put parts one after the other, with their tables where no other is given."""
    X = stack([part.X for part in each], [p.name for p in paths])
    if not needed:
        return Loaded(X)
    tables = [read_table_beside(p) if part.obs is None else part.obs for p, part in zip(paths, each, strict=True)]
    return Loaded(X, join_tables(tables))


def _kind(paths: list[Path]) -> str:
    """Return the one format of the paths.

    Raises
    ------
    DataError
        None, several, or a folder that could be several.
    """
    kinds = sorted({kind for path in paths for kind in _kinds(path)})
    if len(kinds) == 1:
        return kinds[0]
    if len(paths) == 1 and paths[0].is_dir():
        found = f"could be {' or '.join(kinds)}: point at the file" if kinds else "holds none of these"
        raise DataError(
            f"the folder {paths[0].name!r} {found}. Folders: a Zarr store, parquet parts, <slide>.h5 files, or one "
            "with a manifest.csv (croma, eva) or process_list.csv (slide2vec)."
        )
    given = ", ".join(sorted({p.suffix.lower() or "no ending" for p in paths})) or "no file"
    raise DataError(f"embeddings come as one format out of {', '.join(_SUFFIXES)} or a folder; given: {given}.")


def _kinds(path: Path) -> list[str]:
    suffix = path.suffix.lower()
    if not path.is_dir():
        if suffix == ".csv":
            return _manifest_kinds(existing(path))
        return [_SUFFIXES[suffix]] if suffix in _SUFFIXES else []
    if is_store(path) or suffix == ".zarr":
        return ["zarr"]
    found = [kind for name in _MANIFESTS if (path / name).is_file() for kind in _manifest_kinds(path / name)]
    found += ["trident"] if slide_files(path) else []
    return found + (["parquet"] if parts(path) else [])


def _manifest_kinds(path: Path) -> list[str]:
    with reading(existing(path)):
        columns = set(pd.read_csv(path, nrows=0).columns)
    needs = {"croma": {*REQUIRED}, "eva": {EVA_FILE}, "slide2vec": {"sample_id", SLIDE2VEC_FILE}}
    found = [kind for kind, needed in needs.items() if needed <= columns]
    if not found:
        listed = "; ".join(f"{kind}: {', '.join(sorted(needed))}" for kind, needed in needs.items())
        raise DataError(
            f"{path.name!r} is no manifest: it misses columns of each kind ({listed}; croma also has {CONFOUNDER!r} or "
            "columns of your own). A table of embeddings is passed as obs=, with the embeddings as path."
        )
    return found


def _manifest(path: Path) -> Path:
    return next(path / name for name in _MANIFESTS if (path / name).is_file()) if path.is_dir() else path


def _read_trident(paths: list[Path], key: str | None, table: pd.DataFrame | None) -> Loaded:
    return read_slides([f for p in paths for f in (slide_files(p) if p.is_dir() else [existing(p)])], key, table)


def _read_slide2vec(paths: list[Path], key: str | None, table: pd.DataFrame | None) -> Loaded:
    if len(paths) > 1:
        raise DataError("slide2vec runs are read one at a time.")
    return read_slide2vec(_manifest(paths[0]), key, table)


_MANIFESTS = ("manifest.csv", "process_list.csv")
_SUFFIXES = {
    ".npz": "npz",
    ".npy": "npy",
    ".parquet": "parquet",
    ".h5ad": "h5ad",
    ".zarr": "zarr",
    ".h5": "trident",
    ".csv": "a manifest",
}
_KEYED = ("npz", "h5ad", "zarr", "trident", "croma")
_READERS: dict[str, Callable[[Path, str | None], Loaded]] = {
    "npz": read_npz,
    "npy": read_npy,
    "parquet": read_parquet,
    "h5ad": read_h5ad,
    "zarr": read_zarr,
    "croma": lambda path, key: read_croma(_manifest(path), key),
    "eva": lambda path, key: read_eva(_manifest(path), key),
}
_BY_SLIDE: dict[str, Callable[[list[Path], str | None, pd.DataFrame | None], Loaded]] = {
    "trident": _read_trident,
    "slide2vec": _read_slide2vec,
}
_WRITERS: dict[str, Callable[[Cohort, Path], None]] = {
    ".npz": write_array,
    ".npy": write_array,
    ".parquet": write_parquet,
    ".h5ad": write_h5ad,
    ".zarr": write_zarr,
}
