"""Zarr stores, version 2 or 3: AnnData, one array, or a group of arrays."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.formats.annotated import choose, corrections_of, storable
from causalfm.formats.lazy_arrays import lazy_array
from causalfm.formats.loaded import Loaded
from causalfm.tables import atomic, reading

OWN = "causalfm"  # attribute of stores written here: the shape, and the promise that every chunk was written
MARKS = ("zarr.json", ".zgroup", ".zarray", ".zmetadata")


def is_store(path: Path) -> bool:
    """Whether a folder is a Zarr store."""
    return path.is_dir() and any((path / mark).is_file() for mark in MARKS)


def read_zarr(path: Path, key: str | None, *, lazy: bool = False) -> Loaded:
    """Read a store: embeddings from ``X`` or ``obsm[key]`` (AnnData), array ``key`` or the only 2-D one (others).

    The table is the group ``obs`` in AnnData's encoding, if there is one.
    """
    import zarr
    from anndata.io import read_elem

    with reading(path):
        if not is_store(path):
            raise ValueError("no store")
        root: Any = zarr.open(path, mode="r")
        if isinstance(root, zarr.Array):
            return Loaded(_values(root, path, lazy=lazy))
        if OWN in root.attrs:
            _refuse_changes(root)
        annotated = root.attrs.get("encoding-type") == "anndata"
        node = choose(root.get("X"), root.get("obsm", {}), key) if annotated else _only_matrix(root, key, path)
        obs = read_elem(root["obs"]) if "obs" in root else None
        if not isinstance(node, zarr.Array):
            return Loaded(read_elem(node).to_numpy(), obs, corrections_of(root))
        return Loaded(_values(node, path, lazy=lazy), obs, corrections_of(root))


def _only_matrix(group: Any, key: str | None, path: Path) -> Any:
    arrays = dict(group.arrays())
    if key is None:
        flat = [name for name, array in arrays.items() if array.ndim == 2]
        key = flat[0] if len(flat) == 1 else None
    if key not in arrays:
        raise DataError(f"{path.name!r}: name one array with key=. Keys: {', '.join(sorted(arrays)) or 'none'}.")
    return arrays[key]


def refuse_lost_chunks(array: Any, label: str) -> None:
    """Refuse an array of which chunks are not there: Zarr gives the fill value and says nothing."""
    missing = missing_chunks(array)
    if missing:
        raise DataError(
            f"{label}: {missing} chunk files of the embeddings are not there and would read as "
            f"{array.fill_value}: copy the store again. If they hold nothing but this value, write them out "
            "(write_empty_chunks=True)."
        )


def _values(array: Any, path: Path, *, lazy: bool) -> Any:
    refuse_lost_chunks(array, repr(path.name))
    return lazy_array(array, (array.shards or array.chunks)[0]) if lazy else array[...]


def missing_chunks(array: Any) -> int:
    """Count the chunk files, or shard files, that are not there."""
    files = [math.ceil(n / c) for n, c in zip(array.shape, array.shards or array.chunks, strict=True)]
    per_file = math.prod(s // c for s, c in zip(array.shards or array.chunks, array.chunks, strict=True))
    return int(math.prod(files) - array.nchunks_initialized // per_file)


def _refuse_changes(root: Any) -> None:
    import zarr

    arrays = [node for _, node in root.members(max_depth=None) if isinstance(node, zarr.Array)]
    if list(root["X"].shape) != root.attrs[OWN]["shape"] or any(missing_chunks(a) for a in arrays if a.shape):
        raise ValueError("not as written")


def write_zarr(cohort: Cohort, path: Path) -> None:
    """Write an AnnData store with a checksum per chunk. Zarr version 2: anndata has not settled how it writes 3.

    Raises
    ------
    DataError
        A folder is in the way that is no store.
    """
    import zarr
    from anndata.io import write_elem
    from numcodecs import Zstd

    if path.exists() and not is_store(path):
        raise DataError(f"{path.name!r} is there and is no Zarr store: it is not replaced. Choose another name.")
    adata = storable(cohort)
    with atomic(path) as temporary, zarr.config.set({"array.write_empty_chunks": True}):
        root = zarr.open_group(temporary, mode="w", zarr_format=2)
        write_elem(root, "/", adata, dataset_kwargs={"compressor": Zstd(level=1, checksum=True)})
        root.attrs[OWN] = {"shape": list(cohort.X.shape)}
