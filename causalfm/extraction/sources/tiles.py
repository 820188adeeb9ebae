"""How whole slides are cut: side, resolution, grid or coordinates, and the rule for tissue."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalfm.errors import DataError, positions
from causalfm.formats.hdf5 import refuse_broken_heaps, refuse_holes
from causalfm.formats.slide_tables import file_positions
from causalfm.tables import existing, read_table, reading
from causalfm.validation import refuse_missing

CHROMA = 20
PLAUSIBLE = (0.01, 100.0)  # µm per pixel of level 0; writers that know nothing leave 1 pixel per inch or centimetre
RESOLUTIONS = ("mpp", "magnification", "downsample")


@dataclass(frozen=True)
class Tiles:
    """How to cut a whole slide.

    Attributes
    ----------
    size
        Side of a tile, px of the resolution that is asked for.
    mpp, magnification, downsample
        Exactly one: micrometres per pixel; the objective's power (20 for 20x); or level-0 pixels per pixel.
    overlap
        Of neighbouring tiles of the grid, px.
    tissue
        Least share of tissue of a tile of the grid; None keeps all. A pixel is tissue where its largest and its
        smallest channel differ by 20 grey levels or more: coloured, whatever the stain, which also takes pen marks for
        tissue and misses grey tissue.
    coords
        In place of the grid: a DataFrame, CSV or parquet with ``x`` and ``y`` (level-0 px, upper left corner) and, for
        several slides, ``slide``; or an HDF5 file as CLAM and TRIDENT write it, or the folder of them.
    """

    size: int
    mpp: float | None = None
    magnification: float | None = None
    downsample: float | None = None
    overlap: int = 0
    tissue: float | None = 0.1
    coords: pd.DataFrame | str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        given = [name for name in RESOLUTIONS if getattr(self, name) is not None]
        if len(given) != 1 or not 0 < getattr(self, given[0]) < np.inf:
            raise DataError(f"tiles need exactly one positive resolution of {', '.join(RESOLUTIONS)}.")
        if self.size < 1 or not 0 <= self.overlap < self.size:
            raise DataError(f"size={self.size}, overlap={self.overlap}: a size of at least 1, an overlap below it.")
        if self.tissue is not None and not 0 <= self.tissue <= 1:
            raise DataError(f"tissue={self.tissue}: a share between 0 and 1, or None to keep every tile.")

    def record(self) -> dict[str, Any]:
        """Return the settings for provenance; coordinates are known by the names of the tiles."""
        resolution = {name: value for name in RESOLUTIONS if (value := getattr(self, name)) is not None}
        if self.coords is not None:
            return {"size": self.size, **resolution, "coords": "given"}
        return {"size": self.size, **resolution, "overlap": self.overlap, "tissue": self.tissue}

    def factor(self, properties: Mapping[str, Any], label: str) -> float:
        """Return level-0 pixels per pixel of the tile.

        Parameters
        ----------
        properties
            Of the slide, as tiffslide names them.
        label
            What to call the slide.

        Raises
        ------
        DataError
            The slide does not say its resolution, has oblong pixels, or is coarser than what is asked for.
        """
        if self.downsample is not None:
            return _refuse_enlarging(self.downsample, label)
        if self.mpp is not None:
            own = [_number(properties.get(f"tiffslide.mpp-{axis}")) for axis in "xy"]
            if own[0] is None or own[1] is None or not PLAUSIBLE[0] <= own[0] <= PLAUSIBLE[1]:
                raise DataError(f"{label} does not say its micrometres per pixel: use magnification= or downsample=.")
            if abs(own[0] / own[1] - 1) > 0.01:
                raise DataError(f"{label} has oblong pixels ({own[0]:.4g} by {own[1]:.4g} µm), which are not read.")
            return _refuse_enlarging(self.mpp / own[0], label)
        assert self.magnification is not None
        power = _number(properties.get("tiffslide.objective-power"))
        if power is None:
            raise DataError(f"{label} does not say the power of its objective: use mpp= or downsample=.")
        return _refuse_enlarging(power / self.magnification, label)


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 0 < number < np.inf else None


def _refuse_enlarging(factor: float, label: str) -> float:
    if factor < 0.95:
        raise DataError(
            f"{label} is {1 / factor:.2f} times coarser than the resolution that is asked for: enlarging would invent "
            "detail. Ask for a coarser one."
        )
    return factor


def grid(width: int, height: int, factor: float, tiles: Tiles) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners of the columns and rows of whole tiles, level-0 px; cut tiles at the edges are left out.

    Parameters
    ----------
    width, height
        Of level 0.
    factor
        Level-0 pixels per pixel.
    tiles
        Side and overlap.
    """
    span, step = tiles.size * factor, (tiles.size - tiles.overlap) * factor
    counts = [max(0, int((side - span) // step) + 1) for side in (width, height)]
    columns, rows = (np.floor(np.arange(n) * step).astype(np.int64) for n in counts)
    return columns, rows


def is_tissue(pixels: np.ndarray) -> np.ndarray:
    """Return which pixels are coloured, for ``(h, w, 3)`` uint8."""
    coloured: np.ndarray = pixels.max(axis=2).astype(np.int16) - pixels.min(axis=2) >= CHROMA
    return coloured


def coordinates(tiles: Tiles, slides: list[str], factors: list[float]) -> pd.DataFrame:
    """Return ``slide`` (position), ``x``, ``y`` of the tiles that the user gives, in the user's order.

    Raises
    ------
    DataError
        Missing columns or values, slides without coordinates or unknown ones, coordinates of another tile size.
    """
    assert tiles.coords is not None
    if isinstance(tiles.coords, pd.DataFrame):
        return _of_table(tiles.coords, slides)
    path = Path(tiles.coords)
    if path.is_dir():
        files = [path / f"{name}.h5" for name in slides]
        files = [
            file if file.is_file() else path / f"{name}_patches.h5" for file, name in zip(files, slides, strict=True)
        ]
        missing = [i for i, file in enumerate(files) if not file.is_file()]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(slides)} slides have no file of coordinates (<slide>.h5, <slide>_patches.h5; "
                f"the first is slide {missing[0]}, sorted by name)."
            )
    elif path.suffix.lower() in (".h5", ".hdf5"):
        if len(slides) > 1:
            raise DataError("one file of coordinates and several slides: pass the folder of their files.")
        files = [path]
    else:
        return _of_table(read_table(existing(path)), slides)
    parts = [_of_hdf5(file, i, tiles.size * factors[i]) for i, file in enumerate(files)]
    return pd.concat(parts, ignore_index=True)


def _of_table(table: pd.DataFrame, slides: list[str]) -> pd.DataFrame:
    absent = [name for name in ("x", "y", *(["slide"] if len(slides) > 1 else [])) if name not in table]
    if absent:
        raise DataError(f"the table of coordinates has no column {', '.join(absent)}.")
    for name in ("x", "y", *(["slide"] if "slide" in table else [])):
        refuse_missing(table[name], name, "complete the table")
    place = {name: i for i, name in enumerate(slides)}
    if "slide" in table:
        where = [place.get(str(name), place.get(str(name).rpartition(".")[0], -1)) for name in table["slide"]]
    else:
        where = [0] * len(table)
    if unknown := [row for row, found in enumerate(where) if found < 0]:
        raise DataError(
            f"{len(unknown)} of {len(where)} rows of the coordinates name a slide that is not there "
            f"({positions(unknown)}): take them out, or pass the slides as well."
        )
    if lacking := sorted(set(range(len(slides))) - set(where)):
        raise DataError(
            f"{len(lacking)} of {len(slides)} slides have no row in the table of coordinates "
            f"({file_positions(lacking)}): leave them out."
        )
    return _whole(pd.DataFrame({"slide": where, "x": table["x"].to_numpy(), "y": table["y"].to_numpy()}))


def _of_hdf5(path: Path, slide: int, span: float) -> pd.DataFrame:
    import h5py

    label = f"file {slide} of the coordinates"
    with reading(existing(path, label), label):
        refuse_broken_heaps(path)
        with h5py.File(path, "r") as file:
            coords = file.get("coords")
            if not isinstance(coords, h5py.Dataset) or coords.ndim != 2 or coords.shape[1] != 2 or not len(coords):
                raise DataError(f"{label} has no data set 'coords' (n, 2).")
            refuse_holes(coords)
            said = _number(coords.attrs.get("patch_size_level0"))
            if said is not None and abs(said / span - 1) > 0.01:
                raise DataError(
                    f"{label} is for tiles of {said:g} level-0 px and {span:g} are asked for: give the size and the "
                    "resolution that the coordinates were made for."
                )
            values = coords[()]
    return _whole(pd.DataFrame({"slide": slide, "x": values[:, 0], "y": values[:, 1]}))


def _whole(frame: pd.DataFrame) -> pd.DataFrame:
    for name in ("x", "y"):
        values = pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=np.float64)
        odd = np.flatnonzero(~np.isfinite(values) | (values != np.round(values))).tolist()
        if odd:
            raise DataError(f"{len(odd)} coordinates {name!r} are no whole numbers (the first at row {odd[0]}).")
        frame[name] = values.astype(np.int64)
    return frame
