"""What a head is given: rows checked, standardised in blocks, labels and environments coded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from causalfm.errors import DataError, positions

BLOCK = 4096  # rows in full precision at a time: of 100,000 x 1536 float32 a whole float64 copy is 1.2 GB
CONSTANT = 1e-7  # of a column's mean: smaller spreads are the rounding of float32

KINDS = ((str, str), ((bool, np.bool_), bool), ((int, np.integer), np.int64), ((float, int, np.floating), float))


def matrix(X: Any) -> np.ndarray:
    """Return finite numbers ``(n, d)`` in their own precision.

    Raises
    ------
    DataError
        Another shape or type, rows that are not finite (positions).
    """
    if isinstance(X, torch.Tensor):
        X = X.detach().cpu()
        X = X.float() if X.dtype == torch.bfloat16 else X  # numpy has no such type
    try:
        values = np.asarray(X)
    except ValueError:
        raise DataError("X has rows of several lengths: pass numbers (n, d).") from None
    if values.ndim != 2 or values.dtype.kind not in "fiu" or not values.size:
        raise DataError(f"X has shape {values.shape} and type {values.dtype}: pass numbers (n, d).")
    fine = np.concatenate([np.isfinite(values[at : at + BLOCK]).all(axis=1) for at in range(0, len(values), BLOCK)])
    if not fine.all():
        raise DataError(f"X is not finite in {int((~fine).sum())} rows ({positions(np.flatnonzero(~fine).tolist())}).")
    return values


def blocks(values: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Go over rows in float64."""
    for at in range(0, len(values), BLOCK):
        rows = slice(at, at + BLOCK)
        yield rows, values[rows].astype(np.float64)


def standardised(values: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return float32 rows of mean 0 and variance 1, the means and the deviations ``(d,)``.

    A column that spreads less than float32 can hold beside its mean is constant: its deviation is infinite, so that it
    tells nothing. Other columns have no say in that: one of large numbers does not silence the rest.

    Raises
    ------
    DataError
        Columns so large that their variance overflows.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        middle = sum((weight[rows] @ block for rows, block in blocks(values)), np.zeros(values.shape[1]))
        variance = sum((weight[rows] @ (block - middle) ** 2 for rows, block in blocks(values)), np.zeros(len(middle)))
    if not (fine := np.isfinite(variance)).all():
        where = positions(np.flatnonzero(~fine).tolist()).replace("row", "column")
        raise DataError(f"X has {int((~fine).sum())} columns too large to be squared ({where}): divide them.")
    scale = np.sqrt(variance)
    least = CONSTANT if values.dtype.kind != "f" else max(CONSTANT, float(np.finfo(values.dtype).eps))
    scale[scale <= least * np.abs(middle)] = np.inf
    z = np.empty(values.shape, dtype=np.float32)
    for rows, block in blocks(values):
        z[rows] = (block - middle) / scale
    return z, middle, scale


def fingerprint(values: np.ndarray, label: np.ndarray) -> str:
    """Return a digest of rows and codes."""
    digest = hashlib.sha256()
    for _, block in blocks(values):
        digest.update(block.tobytes())
    digest.update(label.astype(np.int64).tobytes())
    return digest.hexdigest()


def coded(values: Any, name: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the sorted levels and the code of each row ``(n,)``.

    Raises
    ------
    DataError
        Another length, values missing (positions), levels of several types or of one that a file cannot hold.
    """
    array = np.asarray(values.detach().cpu() if isinstance(values, torch.Tensor) else values)
    if array.shape != (n,):
        raise DataError(f"{name} has shape {array.shape}: pass one value per row of X, ({n},).")
    if array.dtype == object:
        array = _plain(array, name)
    missing = array != array  # NaN
    if missing.any():
        raise _gone(name, missing)
    if array.dtype.kind not in "biufU":  # what the file of a head can hold
        raise DataError(f"{name} has type {array.dtype}: pass texts, numbers or truth values.")
    levels, codes = np.unique(array, return_inverse=True)
    return levels, codes


def _plain(array: np.ndarray, name: str) -> np.ndarray:
    """Return objects in their common type: 1 stays a number, so that predictions compare with what was given."""
    missing = np.array([v is None or not isinstance(same := v == v, (bool, np.bool_)) or not same for v in array])
    if missing.any():
        raise _gone(name, missing)
    for kind, wanted in KINDS:
        if all(isinstance(v, kind) for v in array):
            return array.astype(wanted)
    kinds = ", ".join(sorted({type(v).__name__ for v in array}))
    raise DataError(f"{name} holds {kinds}: pass texts, numbers or truth values, all of one type.")


def _gone(name: str, missing: np.ndarray) -> DataError:
    where = positions(np.flatnonzero(missing).tolist())
    return DataError(f"{name} is missing in {int(missing.sum())} rows ({where}): fill in or leave them out.")
