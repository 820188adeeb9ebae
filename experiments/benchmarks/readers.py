"""Time to read a folder of slide files, beside the bare HDF5 reads that it cannot do without.

``python -m experiments.benchmarks.readers [--slides 1000] [--rows 2000] [--dim 1024] [--out FILE]``

The files lie in a temporary folder (``--folder`` names its parent) and in the page cache after the first pass, which
does not count: the comparison is of the work beside the disk. A layout is ``contiguous``, or ``chunked`` as TRIDENT
writes it: one chunk per row, uncompressed.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from causalfm.io import read

LAYOUTS = ("contiguous", "chunked")


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


def seconds(call: Callable[[], object]) -> float:
    """Run ``call`` once and return its wall time; what it returns is freed outside the clock."""
    start = time.perf_counter()
    result = call()
    taken = time.perf_counter() - start
    del result
    return taken


def measure(slides: int, rows: int, dim: int, layout: str, repeats: int, parent: Path | None = None) -> dict[str, Any]:
    """Time both in turn, so that a busy machine slows both.

    Parameters
    ----------
    slides, rows, dim
        Files, tiles in each, dimensions (float32).
    layout
        ``"contiguous"`` or ``"chunked"``.
    repeats
        Runs of each after one that does not count; the median counts.
    parent
        Where the temporary folder is made.

    Returns
    -------
    dict
        Seconds of both and their ratio.
    """
    with tempfile.TemporaryDirectory(dir=parent) as name:
        folder = Path(name)
        table = make(folder, slides, rows, dim, layout)
        bare_reads(folder)
        ours, bare = [], []
        for _ in range(repeats):
            ours.append(seconds(lambda: read(folder, table)))
            bare.append(seconds(lambda: bare_reads(folder)))
    return {
        "slides": slides,
        "rows": rows,
        "dim": dim,
        "layout": layout,
        "gib": slides * rows * dim * 4 / 2**30,
        "repeats": repeats,
        "machine": platform.machine(),
        "h5py": h5py.__version__,
        "bare_seconds": statistics.median(bare),
        "read_seconds": statistics.median(ours),
        "ratio": statistics.median(ours) / statistics.median(bare),
    }


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark and print it."""
    parser = argparse.ArgumentParser(description="Slide files read into one cohort, beside bare HDF5 reads.")
    parser.add_argument("--slides", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--layout", choices=LAYOUTS, action="append", help="default: both")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="parent of the temporary folder")
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    options = parser.parse_args(arguments)
    results = []
    for layout in options.layout or LAYOUTS:
        result = measure(options.slides, options.rows, options.dim, layout, options.repeats, options.folder)
        results.append(result)
        print(f"{layout}: {options.slides} slides of {options.rows} x {options.dim}, {result['gib']:.1f} GiB")
        print(f"bare reads   {result['bare_seconds']:8.2f} s")
        print(f"causalfm     {result['read_seconds']:8.2f} s   ratio {result['ratio']:.2f}", flush=True)
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
