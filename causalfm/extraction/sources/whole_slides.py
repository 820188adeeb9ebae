"""Tiles of whole slides through tiffslide: read at one resolution, whatever levels the file has."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causalfm.errors import DataError, MissingDependencyError, positions
from causalfm.extraction.sources.archives import PerProcess, Stamp
from causalfm.extraction.sources.decoding import Decoding, UnreadableError, to_rgb
from causalfm.extraction.sources.file_names import SLIDES, ending, is_hidden
from causalfm.extraction.sources.protocol import Source
from causalfm.extraction.sources.tiles import Tiles, coordinates, grid, is_tissue
from causalfm.formats.slide_tables import file_positions
from causalfm.tables import existing

if TYPE_CHECKING:
    from PIL import Image
    from tiffslide import TiffSlide

ENDINGS = (*SLIDES, ".tif", ".tiff")
OPEN_AT_ONCE = 4
FINEST = 8  # tissue is looked for at the coarsest level where a tile is still this many px


@dataclass(frozen=True)
class _Geometry:
    """Where tiles of a slide come from: ``level`` and ``side`` of a tile there; ``span``, its side at level 0."""

    level: int
    side: int
    span: float
    factor: float
    width: int
    height: int
    downsamples: tuple[float, ...]
    holes: _Holes | None = None


@dataclass(frozen=True, eq=False)
class _Holes:
    """TIFF tiles that the file does not hold and that would read as black: ``(rows, columns)``, of one side each."""

    absent: np.ndarray
    height: int
    width: int

    def touch(self, x: int, y: int, side: int) -> bool:
        rows = slice(y // self.height, (y + side - 1) // self.height + 1)
        columns = slice(x // self.width, (x + side - 1) // self.width + 1)
        return bool(self.absent[rows, columns].any())


class SlideSource(Source):
    """Tiles at level-0 corners, resized to one side with bicubic interpolation over their whole footprint."""

    kind = "slides"

    def __init__(
        self,
        paths: Sequence[Path],
        geometries: Sequence[_Geometry],
        places: pd.DataFrame,
        tiles: Tiles,
        rules: Decoding,
        info: dict[str, Any],
    ) -> None:
        slides = np.array([path.stem for path in paths], dtype=object)[places["slide"]]
        names = [f"{s}/{x}_{y}" for s, x, y in zip(slides, places["x"], places["y"], strict=True)]
        obs = pd.DataFrame({"slide": slides, "tile": places.groupby("slide").cumcount().to_numpy()})
        obs["x"], obs["y"] = places["x"].to_numpy(), places["y"].to_numpy()
        super().__init__(names, rules, obs, {"slides": len(paths), "tiles": tiles.record(), **info})
        self.paths, self.geometries, self.size = tuple(paths), tuple(geometries), tiles.size
        self.slide = places["slide"].to_numpy()
        self.corners = places[["x", "y"]].to_numpy()
        self._slides = PerProcess(partial(_OpenSlides, self.paths))

    def _cut(self, kept: slice) -> None:
        self.slide, self.corners = self.slide[kept], self.corners[kept]

    def _read(self, i: int) -> Image.Image:
        from PIL import Image

        geometry = self.geometries[self.slide[i]]
        x, y = map(int, self.corners[i])
        own = geometry.downsamples[geometry.level]
        if geometry.holes is not None and geometry.holes.touch(int(x / own), int(y / own), geometry.side):
            raise UnreadableError(
                "the slide does not hold all of the tile: it was cut short, or left blank by the scanner"
            )
        try:
            slide = self._slides().get(int(self.slide[i]))
            image = slide.read_region((x, y), geometry.level, (geometry.side, geometry.side))
        except (OSError, MemoryError):
            raise
        except Exception as error:  # tifffile, zarr and the codecs share no base class
            raise UnreadableError(f"the tile is damaged ({type(error).__name__})") from None
        tile = to_rgb(image, self.rules, own=True)
        if tile.size == (self.size, self.size):
            return tile
        notes = tile.info
        tile = tile.resize((self.size, self.size), Image.Resampling.BICUBIC)
        tile.info = notes
        return tile

    def _identity(self) -> Iterator[str]:
        yield str(self.info["tiles"])
        for path in self.paths:
            stamp = Stamp.of(path)
            yield f"{stamp.size} {stamp.modified}"

    def close(self) -> None:
        """Close the slides of this process."""
        self._slides.close()


class _OpenSlides:
    """The last few slides that were read."""

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self.paths = paths
        self.held: OrderedDict[int, TiffSlide] = OrderedDict()

    def get(self, number: int) -> TiffSlide:
        if number not in self.held:
            if len(self.held) >= OPEN_AT_ONCE:
                self.held.popitem(last=False)[1].close()
            self.held[number] = _slide(self.paths[number], f"slide {number}")
        self.held.move_to_end(number)
        return self.held[number]

    def close(self) -> None:
        while self.held:
            self.held.popitem()[1].close()

    def __del__(self) -> None:
        self.close()


def _slide(path: Path, label: str) -> TiffSlide:
    try:
        from tiffslide import TiffSlide
    except ImportError:
        raise MissingDependencyError("whole slides need tiffslide: pip install 'causalfm[slides]'") from None
    try:
        return TiffSlide(path)
    except OSError:
        raise
    except Exception as error:
        raise DataError(f"{label} cannot be opened ({type(error).__name__}): tiffslide reads no such file.") from None


def open_slides(paths: Sequence[Path], tiles: Tiles, rules: Decoding) -> SlideSource:
    """Open whole slides, sorted by name in a folder, as listed otherwise.

    Parameters
    ----------
    paths
        Files, or folders of ``.svs``, ``.ndpi``, ``.scn``, ``.bif``, ``.tif``, ``.tiff``.
    tiles
        How to cut them.
    rules
        Limits of one tile.

    Raises
    ------
    DataError
        No slides, slides of one name, an unknown or too coarse resolution, tiles outside, no tissue anywhere.
    MissingDependencyError
        tiffslide is not installed.
    """
    files = [file for path in paths for file in (_files(path) if path.is_dir() else [existing(path)])]
    names = [file.stem for file in files]
    if twice := np.flatnonzero(pd.Index(names).duplicated(keep=False)).tolist():
        raise DataError(f"{len(twice)} slides have the name of another ({file_positions(twice)}): rename them.")
    geometries, parts, left_out = [], [], 0
    for number, file in enumerate(files):
        label = f"slide {number} of {len(files)}"
        with _slide(file, label) as slide:
            geometries.append(_geometry(slide, tiles, rules, label))
            if tiles.coords is None:
                part, without = _grid_places(slide, geometries[-1], tiles)
                parts.append(part.assign(slide=number))
                left_out += without
    if tiles.coords is None:
        places = pd.concat(parts, ignore_index=True)
    else:
        places = coordinates(tiles, names, [geometry.factor for geometry in geometries])
        _refuse_places(places, geometries)
    if places.empty:
        raise DataError(
            f"no tile of {len(files)} slides fits inside and holds tissue={tiles.tissue}: lower it, or size=."
        )
    empty = len(files) - places["slide"].nunique()
    counts = {"tiles_without_tissue": left_out, "slides_without_tiles": empty}
    info = {name: count for name, count in counts.items() if count}
    return SlideSource([file.absolute() for file in files], geometries, places, tiles, rules, info)


def _files(folder: Path) -> list[Path]:
    found = [path for path in sorted(folder.rglob("*")) if ending(path.name) in ENDINGS and path.is_file()]
    found = [path for path in found if not is_hidden(str(path.relative_to(folder)))]
    if not found:
        raise DataError(f"the folder {folder.name!r} holds no slides ({', '.join(ENDINGS)}).")
    return found


def _geometry(slide: TiffSlide, tiles: Tiles, rules: Decoding, label: str) -> _Geometry:
    try:
        properties, downsamples = slide.properties, tuple(slide.level_downsamples)
        (width, height), corner = slide.dimensions, slide.read_region((0, 0), 0, (1, 1), as_array=True)
    except (OSError, MemoryError):
        raise
    except Exception as error:
        raise DataError(
            f"{label} is damaged, or of a kind that tiffslide does not read ({type(error).__name__})."
        ) from None
    if corner.dtype != np.uint8 or corner.shape[2:] not in ((3,), (4,)):
        raise DataError(f"{label} holds {corner.dtype} pixels of {corner.shape[2]} channels: RGB of 8 bits is read.")
    factor = tiles.factor(properties, label)
    level = max(i for i, own in enumerate(downsamples) if own <= max(1.0, 1.01 * factor))
    side = max(1, round(tiles.size * factor / downsamples[level]))
    if side * side > rules.max_pixels:
        raise DataError(f"{label}: a tile takes {side} x {side} px of its finest level, more than max_pixels.")
    holes = _holes(slide, level, label)
    return _Geometry(level, side, tiles.size * factor, factor, width, height, downsamples, holes)


def _holes(slide: TiffSlide, level: int, label: str) -> _Holes | None:
    page = slide.ts_tifffile.series[slide.properties["tiffslide.series-index"]].levels[level].keyframe
    counts = np.array(page.databytecounts)
    if counts.all() or not page.is_tiled:
        return None
    rows, columns = -(-page.imagelength // page.tilelength), -(-page.imagewidth // page.tilewidth)
    if counts.size != rows * columns:
        raise DataError(f"{label} lacks tiles and stores its channels apart, which is not read: export it again.")
    return _Holes(counts.reshape(rows, columns) == 0, page.tilelength, page.tilewidth)


def _grid_places(slide: TiffSlide, geometry: _Geometry, tiles: Tiles) -> tuple[pd.DataFrame, int]:
    """Return the corners of the tiles that hold tissue, row by row, and the number that do not."""
    columns, rows = grid(geometry.width, geometry.height, geometry.factor, tiles)
    keep = np.ones((len(rows), len(columns)), dtype=bool)
    if tiles.tissue is not None and keep.size:
        for at, y in enumerate(rows):
            keep[at] = _shares(slide, geometry, columns, int(y)) >= tiles.tissue
    row, column = np.nonzero(keep)
    return pd.DataFrame({"x": columns[column], "y": rows[row]}), int((~keep).sum())


def _shares(slide: TiffSlide, geometry: _Geometry, columns: np.ndarray, y: int) -> np.ndarray:
    """Return the share of tissue of each tile of one row of the grid; one strip of a coarse level is in memory."""
    coarse = [i for i, own in enumerate(geometry.downsamples) if geometry.span / own >= FINEST]
    level = max(coarse, default=0)
    own = geometry.downsamples[level]
    side = max(1, int(geometry.span / own))
    width = int(columns[-1] / own) + side
    strip = slide.read_region((0, y), level, (width, side), as_array=True)
    inside = np.concatenate([[0.0], np.cumsum(is_tissue(strip[..., :3]).mean(axis=0))])
    left = (columns / own).astype(np.int64)
    shares: np.ndarray = (inside[left + side] - inside[left]) / side
    return shares


def _refuse_places(places: pd.DataFrame, geometries: Sequence[_Geometry]) -> None:
    slide = places["slide"].to_numpy()
    facts = np.array([(g.width, g.height, g.span) for g in geometries])[slide]
    x, y = places["x"].to_numpy(), places["y"].to_numpy()
    outside = (x < 0) | (y < 0) | (x + facts[:, 2] > facts[:, 0] + 1) | (y + facts[:, 2] > facts[:, 1] + 1)
    if outside.any():
        where = np.flatnonzero(outside).tolist()
        raise DataError(
            f"{len(where)} of {len(places)} tiles reach over the edge of their slide ({positions(where)}): are the "
            "coordinates level-0 px of the upper left corner? Leave cut tiles out."
        )
    if twice := np.flatnonzero(places.duplicated(keep=False)).tolist():
        raise DataError(f"{len(twice)} tiles have the place of another ({positions(twice)}): drop the copies.")
