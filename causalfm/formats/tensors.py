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
    """Read ``.pt`` (a tensor, or a list of them) or ``.npz`` (``features``).

    Parameters
    ----------
    path
        The file.
    label
        What to call it: its name is the name of a slide or image.

    Returns
    -------
    np.ndarray
        ``(n, d)``; one vector gives one row. A large tensor stays a memory map.

    Raises
    ------
    DataError
        Damaged (its checksums are tested), older than PyTorch 1.6, bfloat16, other objects than tensors.
    """
    with reading(existing(path, label), label):
        array = archive_member(path, "features", label) if path.suffix == ".npz" else _torch(path, label)
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2:
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
    value: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=path.stat().st_size >= MAP_FROM)
    if isinstance(value, list) and value and all(isinstance(item, torch.Tensor) for item in value):
        value = torch.cat([item[None] if item.ndim == 1 else item for item in value])
    if not isinstance(value, torch.Tensor):
        raise DataError(f"{label} holds a {type(value).__name__}, not a tensor or a list of tensors of one shape.")
    if value.dtype == torch.bfloat16:
        raise DataError(f"{label} holds bfloat16, which NumPy does not know: save it as float32 (tensor.float()).")
    array: np.ndarray = value.detach().numpy()
    return array
