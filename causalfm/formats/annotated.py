"""AnnData: embeddings in ``X`` or ``obsm[key]``, their table in ``obs``; in an h5ad file or a Zarr store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.formats.corrections import KEY, read_back, written
from causalfm.formats.hdf5 import mapped, refuse_broken_heaps
from causalfm.formats.loaded import Loaded
from causalfm.tables import atomic, existing, reading

if TYPE_CHECKING:
    from anndata import AnnData


def choose(X: Any, obsm: Mapping[str, Any], key: str | None) -> Any:
    """Return ``X``, or ``obsm[key]``.

    Raises
    ------
    DataError
        Unknown key, empty or sparse.
    """
    keys = ", ".join(obsm) or "none"
    if key is not None and key not in obsm:
        raise DataError(f"obsm has no key {key!r}. Keys: {keys}.")
    chosen = X if key is None else obsm[key]
    if chosen is None or getattr(chosen, "shape", None) == ():  # how stores write None
        raise DataError(f"adata.X is empty. Name the embeddings with key= (Cohort.from_anndata: obsm=). Keys: {keys}.")
    attributes = getattr(chosen, "attrs", {})
    sparse = hasattr(chosen, "toarray") and not isinstance(chosen, np.ndarray)  # views of dense arrays have it too
    if sparse or str(attributes.get("encoding-type", "")).endswith("_matrix"):
        raise DataError("the matrix is sparse: embeddings are dense. Pass obsm= or convert it with .toarray().")
    return chosen


def read_h5ad(path: Path, key: str | None, *, lazy: bool = False) -> Loaded:
    """Read ``obs`` and one matrix, nothing else of the file; a matrix in one piece stays a memory map."""
    import h5py
    from anndata.io import read_elem

    with reading(existing(path)), h5py.File(path, "r") as file:
        large = file.get("X")
        refuse_broken_heaps(path, large if isinstance(large, h5py.Dataset) else None)
        node = choose(file.get("X"), file.get("obsm", {}), key)
        if not isinstance(node, h5py.Dataset):
            return Loaded(read_elem(node).to_numpy(), read_elem(file["obs"]), corrections_of(file))
        return Loaded(mapped(node, path, lazy=lazy), read_elem(file["obs"]), corrections_of(file))


def corrections_of(root: Any) -> dict[str, Any]:
    """Return the records of corrections in an open AnnData file or store."""
    from anndata.io import read_elem

    uns = root.get("uns", {})
    return read_back(str(read_elem(uns[KEY]))) if KEY in uns else {}


def write_h5ad(cohort: Cohort, path: Path) -> None:
    """Write an h5ad file in the layout of HDF5 1.10, the first with checksums in its headers."""
    import h5py
    from anndata.io import write_elem

    adata = storable(cohort)
    with atomic(path) as temporary, h5py.File(temporary, "x", libver=("v110", "v110")) as file:
        write_elem(file, "/", adata)


def storable(cohort: Cohort) -> AnnData:
    """Return an AnnData that a file can hold: no missing text, which becomes a missing category.

    Raises
    ------
    DataError
        Column names that a store would take for a path.
    """
    odd = sorted(str(c) for c in cohort.obs.columns if "/" in str(c) or not str(c))
    if odd:
        raise DataError(
            f"AnnData files keep each column under its name and cannot hold {', '.join(map(repr, odd))}: rename them, "
            "without '/'."
        )
    adata = cohort.to_anndata()
    if (text := written(cohort.info)) is not None:
        adata.uns[KEY] = text
    for name, column in adata.obs.items():
        if column.dtype == object and column.isna().any():
            adata.obs[name] = pd.Categorical(column)
    return adata
