"""Folders of slide files read into one cohort, beside the bare HDF5 reads that this cannot do without."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from causalfm.io import read
from experiments.benchmarks.claim import Claim, Trial


def make(folder: Path, slides: int, rows: int, dim: int, layout: str) -> pd.DataFrame:
    """Write the slide files and return their slide table."""
    rng = np.random.default_rng(0)
    block = rng.standard_normal((rows, dim), dtype=np.float32)
    names = [f"slide_{i:05d}" for i in range(slides)]
    for i, name in enumerate(names):
        block[0] = i  # files differ, made at the speed of the disk
        with h5py.File(folder / f"{name}.h5", "w") as file:
            chunks = {"chunks": (1, dim), "maxshape": (None, dim)} if layout == "chunked" else {}
            file.create_dataset("features", data=block, **chunks)
            coords = file.create_dataset("coords", data=rng.integers(0, 10**5, size=(rows, 2)))
            coords.attrs.update({"patch_size": 256, "level0_magnification": 40, "target_magnification": 20})
            file["features"].attrs["encoder"] = "random"
    return pd.DataFrame({"slide": names, "site": [f"site {i % 7}" for i in range(slides)]})


def bare_reads(folder: Path) -> list[np.ndarray]:
    """Read the features of every file into memory, and do nothing with them."""
    out = []
    for path in sorted(folder.glob("*.h5")):
        with h5py.File(path, "r") as file:
            out.append(file["features"][:])
    return out


def prepare(folder: Path, layout: str, slides: int, rows: int, dim: int) -> Trial:
    """Read a folder of slide files into one cohort; the files are in the system's cache."""
    table = make(folder, slides, rows, dim, layout)
    return Trial(lambda: read(folder, table), lambda: bare_reads(folder))


ENTRIES = tuple(
    Claim(
        f"readers.{layout}",
        f"folder of slide files, {words}, read into one cohort",
        partial(prepare, layout=layout),
        {"slides": 60, "rows": 2000, "dim": 1024},
        {"slides": 3, "rows": 20, "dim": 8},
        "the same data sets read with h5py alone",
        no_peer="no library reads a folder of slide files into one table; the limit is what one would write",
        why="Values are checked to be finite, coordinates and attributes are read beside the features, and all rows "
        "are put into one array.",
    )
    for layout, words in (("contiguous", "contiguous"), ("chunked", "a chunk per row as TRIDENT writes them"))
)
