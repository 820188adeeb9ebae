"""What an HDF5 file must satisfy before the library may read it.

HDF5 gives zeros for what was never written: an extraction that was killed, or a damaged index, would read as embeddings
of nothing. And it does not come back from a text heap whose sizes are damaged (seen with HDF5 2.0.0): one flipped bit
would hang the process. Its payload has no checksum unless the writer asked for one (fletcher32).
"""

from __future__ import annotations

import math
import mmap
import struct
from pathlib import Path
from typing import Any

import numpy as np

from causalfm.formats.lazy_arrays import DatasetRows, lazy_array

HEAP = b"GCOL\x01\0\0\0"  # a collection of the global heap, where HDF5 keeps text: attributes and columns
HEAP_HEADER = 16


def refuse_broken_heaps(path: Path, dataset: Any = None) -> None:
    """Raise a ValueError unless the sizes inside each text heap add up; call it before any text is read.

    Parameters
    ----------
    path
        The file.
    dataset
        A large h5py data set of it; where it lies in one piece it is passed over.

    Raises
    ------
    ValueError
        A size that does not fit: call it under :func:`causalfm.tables.reading`.

    References
    ----------
    HDF5 File Format Specification 3.0, III.E, "Disk Format: Level 1E - Global Heap".
    """
    offset = dataset.id.get_offset() if dataset is not None else None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        end = len(content)
        gap = (offset, offset + dataset.nbytes) if offset is not None else (end, end)
        for start, stop in ((0, gap[0]), (gap[1], end)):
            at = content.find(HEAP, start, stop)
            while at >= 0:
                at = content.find(HEAP, _heap_end(content, at), stop)


def _heap_end(content: mmap.mmap, start: int) -> int:
    """Return where a collection ends, its objects checked."""
    size = int.from_bytes(content[start + len(HEAP) : start + HEAP_HEADER], "little")
    end = start + size
    if size < HEAP_HEADER or end > len(content):
        raise ValueError("size of a text heap")
    at = start + HEAP_HEADER
    while end - at >= HEAP_HEADER:
        index, _, _, length = struct.unpack_from("<HHIQ", content, at)
        if index == 0:  # the free rest, counted with its header
            if length != end - at:
                raise ValueError("free space of a text heap")
            return end
        at += HEAP_HEADER + int(length + 7) // 8 * 8
        if at > end:
            raise ValueError("size in a text heap")
    return end


def refuse_holes(dataset: Any) -> None:
    """Raise a ValueError unless every value of an h5py data set was written.

    Raises
    ------
    ValueError
        Fewer bytes or chunks than the shape needs: call it under :func:`causalfm.tables.reading`.
    """
    if dataset.chunks is None:
        complete = dataset.is_virtual or dataset.external or dataset.id.get_storage_size() == dataset.nbytes
    else:
        needed = math.prod(math.ceil(n / c) for n, c in zip(dataset.shape, dataset.chunks, strict=True))
        complete = dataset.id.get_num_chunks() == needed
    if not complete:
        raise ValueError("parts of the data set were never written")


def mapped(dataset: Any, path: Path, *, lazy: bool = False) -> Any:
    """Return a data set as a memory map where it lies in one piece; else read it, or give a Dask array if ``lazy``."""
    refuse_holes(dataset)
    offset = dataset.id.get_offset()
    plain = dataset.chunks is None and not dataset.is_virtual and not dataset.external and offset is not None
    if plain and dataset.dtype.kind == "f" and dataset.size:
        return np.memmap(path, dtype=dataset.dtype, mode="r", offset=offset, shape=dataset.shape)
    if lazy and dataset.chunks is not None:
        rows = DatasetRows(str(path), dataset.name, np.dtype(dataset.dtype), dataset.shape)
        return lazy_array(rows, dataset.chunks[0])
    return np.asarray(dataset[()])
