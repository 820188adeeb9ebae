"""SpatialData stores, as lazyslide writes them: one Zarr store per slide, embeddings and tiles in tables of their own.

References
----------
wsidata 0.12.0 and lazyslide 0.13.0: table ``<encoder>_<tiles>`` (AnnData: ``X``, ``obs`` with tile_id and library_id),
shapes ``<tiles>`` (tile_id, x, y, tissue_id and whatever was measured of tiles; x and y at level 0), attributes
``tile_spec`` and ``slide_properties`` of the root. spatialdata 0.7.3: ``tables/<name>`` with attributes region and
instance_key, ``shapes/<name>/shapes.parquet``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalfm.errors import DataError, positions
from causalfm.formats.annotated import choose
from causalfm.formats.loaded import Loaded
from causalfm.formats.slide_rows import Slide, gather
from causalfm.formats.stores import refuse_lost_chunks

MARK = "spatialdata_attrs"
# How the tiles were cut. The properties of the slide, beside it, hold what the scanner wrote: not for reports.
SPEC = ("mpp", "height", "width", "stride_height", "stride_width")
GEOMETRY = "geometry"


def is_spatial(path: Path) -> bool:
    """Whether a folder is a SpatialData store."""
    for name in ("zarr.json", ".zattrs"):  # versions 3 and 2
        if (path / name).is_file():
            try:
                found = json.loads((path / name).read_text("utf-8"))
                return MARK in found.get("attributes", found)
            except (ValueError, AttributeError, TypeError):
                return False
    return False


def slide_stores(folder: Path) -> list[Path]:
    """Return the SpatialData stores of a folder, sorted by name."""
    return sorted(p for p in folder.glob("*.zarr") if p.is_dir() and is_spatial(p))


def read_spatial(stores: list[Path], key: str | None, table: pd.DataFrame | None) -> Loaded:
    """Read one table of each store into one matrix (:func:`causalfm.formats.slide_rows.gather`).

    Parameters
    ----------
    stores
        ``<slide>.zarr``.
    key
        The encoder (``"uni"``) or the whole name of its table (``"uni_tiles"``); may be left out where there is one.
    table
        One row per slide, or None.

    Returns
    -------
    Loaded
        Per tile also what the store says of it: ``x``, ``y``, ``tissue_id``, columns of the two tables.

    Raises
    ------
    DataError
        As ``gather``; no such table, embeddings without their tile, a column that the two tables fill differently.
    """

    def fill(path: Path, rows: np.ndarray) -> None:
        group = _table(_open(path), key, "")[1]
        rows[...] = choose(group.get("X"), group.get("obsm", {}), None)[...]

    return gather(stores, table, lambda path, label: _inspect(path, key, label), fill)


def _open(path: Path) -> Any:
    import zarr

    return zarr.open_group(path, mode="r", use_consolidated=False)  # a summary can be older than the store


def _inspect(path: Path, key: str | None, label: str) -> Slide:
    from anndata.io import read_elem

    root = _open(path)
    name, group = _table(root, key, label)
    X = choose(group.get("X"), group.get("obsm", {}), None)
    refuse_lost_chunks(X, label)
    region, instance = group.attrs.get("region"), group.attrs.get("instance_key")
    own = read_elem(group["obs"]).drop(columns=[str(group.attrs.get("region_key"))], errors="ignore")
    if len(own) != X.shape[0]:
        raise ValueError("rows of the table")
    tiles = _tiles(path, region) if isinstance(region, str) else pd.DataFrame()
    known = _beside(own, tiles, str(instance), label)
    spec = root.attrs.get("tile_spec", {}).get(region, {}) if isinstance(region, str) else {}
    made = {"encoder": name.removesuffix(f"_{region}"), **{k: spec[k] for k in SPEC if spec.get(k) is not None}}
    return Slide(X.shape, X.dtype, {str(c): known[c].to_numpy() for c in known.columns}, made)


def _table(root: Any, key: str | None, label: str) -> tuple[str, Any]:
    tables = dict(root["tables"].groups()) if "tables" in root else {}
    fitting = [n for n, g in tables.items() if key in (n, n.removesuffix(f"_{g.attrs.get('region')}"))]
    name = next(iter(tables)) if key is None and len(tables) == 1 else next(iter(fitting), None)
    if name is None or len(fitting) > 1:
        raise DataError(f"{label}: name one table with key=. Tables: {', '.join(sorted(tables)) or 'none'}.")
    return name, tables[name]


def _tiles(path: Path, region: str) -> pd.DataFrame:
    """Return what is known of the tiles, but for their outlines; no columns if the store has none."""
    import pyarrow.parquet as pq

    files = {file.parent.name: file for file in path.glob("shapes/*/shapes.parquet")}  # names of the store alone
    if region not in files:
        return pd.DataFrame()
    file = files[region]
    columns = [c for c in pq.read_schema(file).names if c != GEOMETRY]
    found: pd.DataFrame = pq.read_table(file, columns=columns).to_pandas(ignore_metadata=True)
    return found


def _beside(own: pd.DataFrame, tiles: pd.DataFrame, instance: str, label: str) -> pd.DataFrame:
    """Return both tables in the order of the embeddings, tiles found by their number."""
    if tiles.empty:
        return own.drop(columns=[instance], errors="ignore")
    if instance in own and instance in tiles:
        rows = pd.Index(tiles[instance]).get_indexer(own[instance])
    else:
        rows = np.arange(len(own)) if len(own) == len(tiles) else np.full(len(own), -1)
    lost = np.flatnonzero(rows < 0).tolist()
    if lost:
        raise DataError(
            f"{label} holds {len(own)} embeddings and {len(tiles)} tiles; {len(lost)} embeddings have no tile "
            f"({positions(lost)}): extract it again."
        )
    tiles = tiles.iloc[rows].reset_index(drop=True)
    own = own.reset_index(drop=True)
    differ = [str(c) for c in own.columns if c in tiles and not _same(own[c], tiles[c])]
    if differ:
        raise DataError(
            f"{label} fills {', '.join(differ)} differently in the table of tiles and in that of the embeddings: drop "
            "the column from one of them."
        )
    both = pd.concat([tiles, own[[c for c in own.columns if c not in tiles]]], axis=1)
    return both.drop(columns=[c for c in both.columns if c == instance or str(c).startswith("__index_level_")])


def _same(a: pd.Series, b: pd.Series) -> bool:
    return bool((a.astype(str).to_numpy() == b.astype(str).to_numpy()).all())
