"""Patches in an array on disk: HDF5 as CLAM writes it, or Zarr; ``(n, h, w, 3)`` uint8."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causalfm.errors import DataError
from causalfm.extraction.sources.archives import PerProcess, Stamp
from causalfm.extraction.sources.decoding import Decoding, to_rgb
from causalfm.extraction.sources.protocol import Source
from causalfm.formats.hdf5 import refuse_broken_heaps, refuse_holes
from causalfm.formats.stores import is_store, missing_chunks
from causalfm.tables import existing, reading

if TYPE_CHECKING:
    from PIL import Image

COORDS = "coords"


class PatchSource(Source):
    """Rows of one array; the rows of the chunk that was read last are kept, because chunks are unpacked as a whole."""

    def __init__(
        self, path: Path, kind: str, key: str, rows: int, step: int, rules: Decoding, obs: pd.DataFrame | None
    ) -> None:
        self.kind = kind
        super().__init__([str(i) for i in range(rows)], rules, obs)
        self.path = path
        self.key = key
        self.step = step
        self._skipped = 0
        self._array = PerProcess(partial(_HANDLES[kind], path, key))
        self._block: tuple[int, np.ndarray] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_block": None}

    def _cut(self, kept: slice) -> None:
        self._skipped += kept.start

    def _read(self, i: int) -> Image.Image:
        from PIL import Image

        number, within = divmod(self._skipped + i, self.step)
        held = self._block
        if held is None or held[0] != number:
            with reading(self.path, "the file of patches"):
                block = np.asarray(self._array().array[number * self.step : (number + 1) * self.step])
            self._block = held = (number, block)
        return to_rgb(Image.fromarray(held[1][within]), self.rules, own=True)

    def _identity(self) -> Iterator[str]:
        yield self.key
        files = [self.path] if self.path.is_file() else sorted(p for p in self.path.rglob("*") if p.is_file())
        for file in files:
            stamp = Stamp.of(file)
            yield f"{stamp.size} {stamp.modified}"

    def close(self) -> None:
        """Close the file in this process."""
        self._array.close()


class _Hdf5:
    def __init__(self, path: Path, key: str) -> None:
        import h5py

        with h5py.File(path, "r") as file:
            chunk = _chunk_bytes(file[key])
        # the cache of HDF5 holds 1 MiB, less than a chunk of many patches
        self.file = h5py.File(path, "r", rdcc_nbytes=max(2**20, chunk))
        self.array = self.file[key]

    def close(self) -> None:
        self.file.close()


class _Zarr:
    def __init__(self, path: Path, key: str) -> None:
        import zarr

        node: Any = zarr.open(path, mode="r")
        self.array = node[key] if key else node

    def close(self) -> None:
        pass


_HANDLES: dict[str, Any] = {"hdf5": _Hdf5, "zarr": _Zarr}


def _chunk_bytes(array: Any) -> int:
    return math.prod(array.chunks or (1,)) * int(array.dtype.itemsize)


def open_hdf5(path: Path, rules: Decoding, key: str | None = None) -> PatchSource:
    """Open patches of an HDF5 file.

    Parameters
    ----------
    path
        With one data set (n, h, w, 3) uint8 (CLAM: ``imgs``) and perhaps ``coords`` (n, 2), which become ``x`` and
        ``y`` of ``obs``, beside ``slide`` (the name of the file) and ``tile``.
    rules
        Limits of one image.
    key
        Name of the data set, where there are several.

    Raises
    ------
    DataError
        No such data set or several; links to other files; values that were never written; a damaged file.
    """
    import h5py

    with reading(existing(path)):
        refuse_broken_heaps(path)
        with h5py.File(path, "r") as file:
            found = {n: file[n] for n in file if isinstance(file.get(n, getlink=True), h5py.HardLink)}
            found = {n: node for n, node in found.items() if isinstance(node, h5py.Dataset)}
            name = _only_patches(found, key, path)
            array = found[name]
            coords = found.get(COORDS)
            if any(node.is_virtual or node.external for node in (array, coords) if node is not None):
                raise DataError(f"{path.name!r}: the patches lie in other files, which are not followed.")
            _refuse_chunks(_chunk_bytes(array), rules, path)
            refuse_holes(array)
            places = None if coords is None else _places(coords, array.shape[0], path)
            step = 1 if array.chunks is None else array.chunks[0]
            rows = array.shape[0]
    return PatchSource(path.absolute(), "hdf5", name, rows, step, rules, _tiles(path, rows, places))


def open_zarr(path: Path, rules: Decoding, key: str | None = None) -> PatchSource:
    """Open patches of a Zarr array, or of an array in a group, as :func:`open_hdf5`."""
    import zarr

    with reading(path):
        if not is_store(path):
            raise ValueError("no store")
        root: Any = zarr.open(path, mode="r")
        found = {"": root} if isinstance(root, zarr.Array) else dict(root.arrays())
        name = _only_patches(found, key, path)
        array = found[name]
        coords = found.get(COORDS)
        if missing := missing_chunks(array):
            raise DataError(f"{path.name!r}: {missing} chunk files of the patches are not there: copy the store again.")
        places = None if coords is None else _places(coords, array.shape[0], path)
        _refuse_chunks(_chunk_bytes(array), rules, path)
        rows, step = array.shape[0], array.chunks[0]
    return PatchSource(path.absolute(), "zarr", name, rows, step, rules, _tiles(path, rows, places))


def _only_patches(arrays: dict[str, Any], key: str | None, path: Path) -> str:
    fits = [n for n, a in arrays.items() if len(a.shape) == 4 and a.shape[3] == 3 and a.dtype == np.uint8]
    if key is not None:
        fits = [n for n in fits if n == key]
    if len(fits) != 1:
        shown = ", ".join(f"{n} {a.shape} {a.dtype}" for n, a in arrays.items()) or "none"
        wanted = f"no data set {key!r}" if key is not None else f"{len(fits) or 'no'} data sets"
        raise DataError(
            f"{path.name!r} has {wanted} of shape (n, h, w, 3) uint8: name one with key=. Data sets: {shown}. Files "
            "with coordinates only are read with their slide: open_images(slide, tiles=Tiles(..., coords=file))."
        )
    if arrays[fits[0]].shape[0] == 0 or 0 in arrays[fits[0]].shape:
        raise DataError(f"{path.name!r} holds patches of shape {arrays[fits[0]].shape}: there are none.")
    return fits[0]


def _refuse_chunks(size: int, rules: Decoding, path: Path) -> None:
    if size > rules.max_bytes:
        raise DataError(
            f"{path.name!r} has chunks of {size} bytes, each unpacked as a whole, more than max_bytes="
            f"{rules.max_bytes}: store it in smaller chunks, or raise max_bytes."
        )


def _places(coords: Any, rows: int, path: Path) -> np.ndarray:
    if coords.shape != (rows, 2) or coords.dtype.kind not in "iuf":
        raise DataError(f"{path.name!r} holds {rows} patches and 'coords' of shape {coords.shape}; it must be (n, 2).")
    if coords.nbytes > 2**31:
        raise DataError(f"{path.name!r}: 'coords' do not fit into memory.")
    if hasattr(coords, "id"):
        refuse_holes(coords)
    return np.asarray(coords[...])


def _tiles(path: Path, rows: int, places: np.ndarray | None) -> pd.DataFrame:
    frame = pd.DataFrame({"slide": pd.Series([path.stem] * rows, dtype=object), "tile": np.arange(rows)})
    if places is not None:
        frame["x"], frame["y"] = places[:, 0], places[:, 1]
    return frame
