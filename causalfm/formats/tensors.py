"""One file of PyTorch tensors, or one array of slide2vec, as a matrix."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from causalfm.errors import DataError
from causalfm.formats.arrays import archive_member
from causalfm.tables import existing, reading

MAP_FROM = 2**20  # bytes; below, a memory map costs more than the read, and a process may hold some 65,000 maps


def read_tensor(path: Path, label: str) -> np.ndarray:
    """Read ``.pt`` (a tensor, a list of them, or an array of NumPy) or ``.npz`` (``features``).

    Parameters
    ----------
    path
        The file.
    label
        What to call it: its name is the name of a slide or image.

    Returns
    -------
    np.ndarray
        ``(n, d)``, or ``(d,)`` as it is there. A large tensor stays a memory map.

    Raises
    ------
    DataError
        Damaged (its checksums are tested), older than PyTorch 1.6, bfloat16, other objects than tensors.
    """
    with reading(existing(path, label), label):
        array = archive_member(path, "features", label) if path.suffix == ".npz" else _torch(path, label)
    if array.ndim not in (1, 2):
        raise DataError(
            f"{label} holds an array of shape {array.shape}: pool it to one vector per row (n, d) first; regions and "
            "dense grids are not read."
        )
    return array


def _torch(path: Path, label: str) -> np.ndarray:
    import torch

    with zipfile.ZipFile(path) as archive:
        if archive.testzip() is not None:  # torch.load does not look at the checksums
            raise zipfile.BadZipFile
    large = path.stat().st_size >= MAP_FROM
    with torch.serialization.safe_globals(_arrays()):
        value: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=large)
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, list) and value and all(isinstance(item, torch.Tensor) for item in value):
        value = torch.cat([item[None] if item.ndim == 1 else item for item in value])
    if not isinstance(value, torch.Tensor):
        raise DataError(
            f"{label} holds a {type(value).__name__}, not a tensor, an array or a list of tensors of one shape."
        )
    if value.dtype == torch.bfloat16:
        raise DataError(f"{label} holds bfloat16, which NumPy does not know: save it as float32 (tensor.float()).")
    array: np.ndarray = value.detach().numpy()
    return array


def _arrays() -> list[Any]:
    """Return what an array of floats is made of, for ``weights_only``: TRIDENT's ``.pt`` are arrays, not tensors.

    NumPy 1 and 2 write the function that makes arrays under different names. Arrays of Python objects stay refused.
    """
    make: Any = np.ndarray(0).__reduce__()[0]
    named = [(make, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")]
    empty = [(bytes, f"{module}.bytes") for module in ("builtins", "__builtin__")]  # of an array without rows
    return [*named, *empty, np.ndarray, np.dtype, *(type(np.dtype(kind)) for kind in ("f2", "f4", "f8"))]
