"""The least that tasks cannot do without: matrix products, passes over memory, reads of a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.claim import Gauge

BLOCK = 4096
TILE = 2000
READ_BYTES = 2**24


def every_pair_once(X: np.ndarray) -> None:
    """Multiply every row with every other once, in tiles that stay in the cache: half of ``X X'``."""
    import torch

    rows = torch.from_numpy(X)
    out = torch.empty(TILE * TILE)
    for i in range(0, len(X), TILE):
        for j in range(i, len(X), TILE):
            a, b = rows[i : i + TILE], rows[j : j + TILE]
            torch.mm(a, b.T, out=out[: len(a) * len(b)].view(len(a), len(b)))


def rows_with(X: np.ndarray, other: np.ndarray) -> None:
    """Multiply all rows with the columns of ``other (d, m)``, block by block, in float32."""
    other = other.astype(np.float32)
    for start in range(0, len(X), BLOCK):
        X[start : start + BLOCK] @ other


def normal_equations(X: np.ndarray, width: int) -> None:
    """Multiply ``width`` float64 regressors with the rows, as least squares must."""
    regressors = np.random.default_rng(0).standard_normal((width, BLOCK))
    for start in range(0, len(X), BLOCK):
        block = np.asarray(X[start : start + BLOCK], dtype=np.float64)
        regressors[:, : len(block)] @ block


def covariance(X: np.ndarray) -> None:
    """Multiply the rows with themselves over rows, ``X'X`` in float64."""
    for start in range(0, len(X), BLOCK):
        block = np.asarray(X[start : start + BLOCK], dtype=np.float64)
        block.T @ block


def read(X: np.ndarray) -> None:
    """Read all rows from memory, and add them up."""
    for start in range(0, len(X), 1000):
        X[start : start + 1000].sum(axis=0)


def copy(X: np.ndarray) -> np.ndarray:
    """Read all rows and write them elsewhere."""
    return np.array(X)


def read_file(path: Path) -> None:
    """Read a file from beginning to end."""
    buffer = bytearray(READ_BYTES)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def forget(path: Path) -> None:
    """Have the system drop a file from its cache, so that the next read is one of the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


def _products(folder: Path, n: int, dtype: str) -> tuple[Callable[[], Any], float]:
    A = np.random.default_rng(0).standard_normal((n, n)).astype(dtype)
    return lambda: A @ A, 2 * n**3 / 1e9


def _copies(folder: Path, mib: int) -> tuple[Callable[[], Any], float]:
    source = np.ones(mib * 2**17)
    target = np.empty_like(source)
    return lambda: np.copyto(target, source), 2 * source.nbytes / 1e9


def _reads(folder: Path, mib: int) -> tuple[Callable[[], Any], float]:
    path = folder / "file"
    path.write_bytes(np.random.default_rng(0).bytes(2**20) * mib)

    def cold() -> None:
        forget(path)
        read_file(path)

    return cold, mib * 2**20 / 1e9


ENTRIES = (
    *(
        Gauge(
            f"machine.{dtype}",
            f"matrix product, {dtype}",
            _products,
            {"n": 3000, "dtype": dtype},
            {"n": 200, "dtype": dtype},
            "GFLOP/s",
        )
        for dtype in ("float32", "float64")
    ),
    Gauge("machine.memory", "copy in memory, bytes read and written", _copies, {"mib": 512}, {"mib": 8}, "GB/s"),
    Gauge("machine.disk", "read of a file that no cache holds", _reads, {"mib": 1024}, {"mib": 4}, "GB/s"),
)
