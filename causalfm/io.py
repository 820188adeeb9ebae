"""Files to cohort and back. Nothing is unpickled, nothing is half written, nothing is aligned by guessing."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalfm.cohort import Cohort
from causalfm.errors import DataError, positions
from causalfm.formats.annotated import read_h5ad, write_h5ad
from causalfm.formats.arrays import read_npy, read_npz, read_table_beside, table_beside, write_array
from causalfm.formats.corrections import NAME, joined
from causalfm.formats.croma_manifests import read_croma
from causalfm.formats.extractions import read_extraction
from causalfm.formats.kinds import format_of, manifest_of
from causalfm.formats.lazy_arrays import lazily_mapped
from causalfm.formats.loaded import Loaded
from causalfm.formats.parquet import read_parquet, stack, write_parquet
from causalfm.formats.slide_tensors import ENDING, read_slide_tensors
from causalfm.formats.slides import read_slides, slide_files
from causalfm.formats.spatial_stores import is_spatial, read_spatial, slide_stores
from causalfm.formats.stores import read_zarr, write_zarr
from causalfm.formats.tensor_manifests import read_eva, read_slide2vec
from causalfm.lazy_rows import as_rows, is_dask
from causalfm.tables import existing, join_tables, mixed_columns, odd_columns, read_tables

FilePath = str | os.PathLike[str]
Table = pd.DataFrame | FilePath


def read(
    path: FilePath | Sequence[FilePath],
    obs: Table | Sequence[Table] | None = None,
    *,
    key: str | None = None,
    lazy: bool = False,
    memory_limit: int | None = None,
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
        - a folder of ``<slide>.h5`` or ``<slide>.pt`` as TRIDENT and CLAM write it, or a list of such files;
        - a folder of ``<slide>.zarr`` as lazyslide writes it, or one store, or a list of them;
        - a folder that :func:`causalfm.extract` wrote (stays a memory map in its default format);
        - a ``manifest.csv`` of croma or eva, a ``process_list.csv`` of slide2vec, or the folder with one of them.
    obs
        A DataFrame, or a CSV, CSV.gz or parquet file, or a list of these: one row per embedding, in the same order.
        Where the file has a table of its own, the ids of the two indexes must not be in another order.
        For TRIDENT, lazyslide and slide2vec one row per *slide*, in any order, joined by the slide's name; each slide
        in both or an error. Without it the table inside the file is used; for arrays the file ``<name>.obs.parquet``
        beside (``uni.npy.obs.parquet``), which :func:`write` makes.
    key
        Array of an npz file or Zarr group, ``obsm`` key of an AnnData, data set of slide files (``features``), model
        of a croma folder, table of lazyslide (the encoder).
    lazy
        Leave the embeddings where they are and read a few chunks at a time, on Dask (``docs/scale.md``): Zarr, parquet,
        ``.npy``, ``.h5ad`` and folders of :func:`causalfm.extract`. The table is read into memory.
    memory_limit
        With ``lazy``: bytes of embeddings that may be held at once; None: a quarter of the memory that is free.

    Returns
    -------
    Cohort
        ``info["source"]`` holds the name of the file (of several: their folder and count, because names can be
        patients) and ``info["format"]`` the format. Text columns have dtype object under every pandas.

    Raises
    ------
    DataError
        A file that is missing, empty, damaged, pickled or of unknown format; no table; unequal lengths; row ids in
        another order; parts of different models; slides in the table or in the folder only.
    """
    X, table, info, finite = _found(path, obs, key, lazy, memory_limit)
    return (Cohort._of_finite if finite else Cohort)(X, table, info)


def read_unchecked(path: Any, obs: Any, *, key: str | None, memory_limit: int) -> tuple[Cohort, bool]:
    """Read a cohort that stays outside memory, and tell whether its values are known to be finite; nobody looked."""
    X, table, info, finite = _found(path, obs, key, True, memory_limit)
    return Cohort._of_finite(X, table, info), finite


def _found(path: Any, obs: Any, key: str | None, lazy: bool, memory_limit: int | None) -> tuple[Any, ...]:
    """Return embeddings, table, provenance, and whether the values are known to be finite."""
    paths = [Path(p) for p in _as_list(path)]
    kind = format_of(paths)
    if key is not None and kind not in _KEYED:
        raise DataError(f"key= names an array of {', '.join(_KEYED)}; {paths[0].name!r} needs none.")
    given = [] if obs is None else _as_list(obs)
    tables = read_tables([t if isinstance(t, pd.DataFrame) else existing(t) for t in given])
    source = _sources(paths, slides=kind in _OF_SLIDES)
    source += _sources([Path(t) for t in given if not isinstance(t, pd.DataFrame)])
    table = join_tables(tables) if tables else None
    if lazy and kind not in _LAZY:
        raise DataError(f"lazy=True reads {', '.join(_LAZY)}; {paths[0].name!r} is {kind}: write it as one of these.")
    if memory_limit is not None and not lazy:
        raise DataError("memory_limit= says how much of a lazy cohort is held at once: pass lazy=True with it.")
    if kind in _BY_SLIDE:
        loaded = _BY_SLIDE[kind](paths, key, table)
        assert loaded.obs is not None
        table = join_tables([loaded.obs])
    else:
        each = [_outside(_LAZY[kind](p, key)) if lazy else _READERS[kind](p, key) for p in paths]
        loaded = each[0] if len(each) == 1 else _joined(each, paths)
        own = [_own_table(p, part, needed=table is None) for p, part in zip(paths, each, strict=True)]
        table, loaded = _with_table(loaded, [o for o in own if o is not None], table)
    return as_rows(loaded.X, memory_limit), table, {"source": source, "format": kind, **loaded.info}, loaded.finite


def write(cohort: Cohort, path: FilePath) -> Path:
    """Write a cohort so that ``read(path)`` finds all of it again; of ``info``, ``"corrections"`` is kept.

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
        mixed, odd = mixed_columns(cohort.obs), odd_columns(cohort.obs)
        where = (
            f"columns of mixed types: {', '.join(mixed)}; use astype(str)"
            if mixed
            else f"convert its columns to plain types ({', '.join(odd) or 'which one is not known'})"
        )
        raise DataError(f"{path.name!r}: obs cannot be stored ({type(error).__name__}): {where}.") from None
    return path


def _outside(part: Loaded) -> Loaded:
    return part if is_dask(part.X) else replace(part, X=lazily_mapped(part.X))


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _sources(paths: list[Path], *, slides: bool = False) -> list[str]:
    """Return names for ``info``; the name of one file among several, or of a slide, can identify a patient."""
    whole = [path.is_dir() and not is_spatial(path) for path in paths]
    if len(paths) == 1:
        return [paths[0].resolve().parent.name if slides and not whole[0] else paths[0].name]
    folders = dict.fromkeys(path.name for path, folder in zip(paths, whole, strict=True) if folder)
    files = Counter(path.resolve().parent.name for path, folder in zip(paths, whole, strict=True) if not folder)
    return [*folders, *(f"{name}: {count} files" for name, count in files.items())]


def _joined(each: list[Loaded], paths: list[Path]) -> Loaded:
    """Put parts one after the other, with what they say of their making."""
    info: dict[str, Any] = {}
    for name in dict.fromkeys(name for part in each for name in part.info):
        values = [part.info.get(name) for part in each]
        if name in ("files_not_listed", "images", "images_unreadable"):
            info[name] = sum(value or 0 for value in values)
        elif name == NAME:
            info[name] = joined([part.info for part in each])
        elif name == "fingerprint":
            info[name] = "confirmed" if set(values) == {"confirmed"} else "none"
        elif all(value == values[0] for value in values):
            info[name] = values[0]
        elif name == "record":
            info[name] = values
        else:
            found = ", ".join(sorted({str(value) for value in values}))
            raise DataError(f"the parts differ in {name} ({found}): embeddings of different models are no one matrix.")
    return Loaded(stack([part.X for part in each], [p.name for p in paths]), None, info, all(p.finite for p in each))


def _own_table(path: Path, part: Loaded, *, needed: bool) -> pd.DataFrame | None:
    if part.obs is not None:
        return part.obs
    return read_table_beside(path) if needed or table_beside(path).is_file() else None


def _with_table(loaded: Loaded, own: list[pd.DataFrame], given: pd.DataFrame | None) -> tuple[pd.DataFrame, Loaded]:
    """Return the table, given or the files' own; a given one must not contradict theirs."""
    if given is None:
        return join_tables(own), loaded
    if not isinstance(given.index, pd.RangeIndex) and not all(isinstance(t.index, pd.RangeIndex) for t in own):
        ids, theirs = [str(i) for table in own for i in table.index], given.index.map(str).tolist()
        if len(set(ids)) == len(ids) and sorted(ids) == sorted(theirs):
            _refuse_order(ids, theirs, "the index")
    if "fingerprint" not in loaded.info:
        return given, loaded
    if "sample_id" in given:
        samples = [str(i) for table in own for i in table["sample_id"]]
        if len(samples) == len(given):
            _refuse_order(samples, [str(i) for i in given["sample_id"]], "column 'sample_id'")
        return given, loaded
    return given, replace(loaded, info={**loaded.info, "fingerprint": "none"})  # it says nothing of this table


def _refuse_order(ids: list[str], given: list[str], where: str) -> None:
    differ = np.flatnonzero(np.array(ids, dtype=object) != np.array(given, dtype=object)).tolist()
    if differ:
        raise DataError(
            f"obs and the table of the file have different row ids in {where} ({positions(differ)}): bring obs into "
            "the order of causalfm.read(path).obs, or leave these ids out (the index: reset_index(drop=True)) if the "
            "rows are in one order already."
        )


def _read_trident(paths: list[Path], key: str | None, table: pd.DataFrame | None) -> Loaded:
    return read_slides([f for p in paths for f in (slide_files(p) if p.is_dir() else [existing(p)])], key, table)


def _read_tensors(paths: list[Path], key: str | None, table: pd.DataFrame | None) -> Loaded:
    return read_slide_tensors([f for p in paths for f in (slide_files(p, ENDING) if p.is_dir() else [p])], table)


def _read_spatial(paths: list[Path], key: str | None, table: pd.DataFrame | None) -> Loaded:
    return read_spatial([f for p in paths for f in ([p] if is_spatial(p) else slide_stores(p))], key, table)


def _read_slide2vec(paths: list[Path], key: str | None, table: pd.DataFrame | None) -> Loaded:
    if len(paths) > 1:
        raise DataError("slide2vec runs are read one at a time.")
    return read_slide2vec(manifest_of(paths[0]), table)


_KEYED = ("npz", "h5ad", "zarr", "trident", "spatialdata", "croma")
_READERS: dict[str, Callable[[Path, str | None], Loaded]] = {
    "npz": read_npz,
    "npy": read_npy,
    "parquet": read_parquet,
    "h5ad": read_h5ad,
    "zarr": read_zarr,
    "croma": lambda path, key: read_croma(manifest_of(path), key),
    "eva": lambda path, key: read_eva(manifest_of(path)),
    "extraction": lambda path, key: read_extraction(path, _READERS),
}
_LAZY: dict[str, Callable[[Path, str | None], Loaded]] = {
    "npy": read_npy,
    "parquet": partial(read_parquet, lazy=True),
    "h5ad": partial(read_h5ad, lazy=True),
    "zarr": partial(read_zarr, lazy=True),
    "extraction": lambda path, key: read_extraction(path, _LAZY),
}
_BY_SLIDE: dict[str, Callable[[list[Path], str | None, pd.DataFrame | None], Loaded]] = {
    "trident": _read_trident,
    "pt": _read_tensors,
    "spatialdata": _read_spatial,
    "slide2vec": _read_slide2vec,
}
_OF_SLIDES = ("trident", "pt", "spatialdata")  # files are named after slides, and slides can be patients
_WRITERS: dict[str, Callable[[Cohort, Path], None]] = {
    ".npz": write_array,
    ".npy": write_array,
    ".parquet": write_parquet,
    ".h5ad": write_h5ad,
    ".zarr": write_zarr,
}
ENDINGS = tuple(_WRITERS)
