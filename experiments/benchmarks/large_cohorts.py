"""Cohorts larger than memory: write one of any size, audit it under a limit, measure memory and time against its size.

    python -m experiments.benchmarks.large_cohorts write FOLDER --gib 20
    python -m experiments.benchmarks.large_cohorts measure FOLDER --gib 1.25 2.5 5 10 20 --memory-limit 4GiB
    python -m experiments.benchmarks.large_cohorts compare FOLDER --gib 1
    python -m experiments.benchmarks.large_cohorts cluster FOLDER --gib 5 --workers 1 2

Rows come from a linear model with hospitals, scanners, two classes and patients, whose numbers and rows per patient grow
with the square root of the size. Chunks are written one after the other: a writer that was killed goes on.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import pandas as pd

D, CHUNK_ROWS, SEED = 1024, 8192, 20260101
SITES, SCANNERS = 8, 3
PATIENTS = 2000  # of every size: what grows is the rows of each, as with whole slides


def table_of(n: int) -> pd.DataFrame:
    """Lay out the rows patient by patient: hospital, scanner, class and patient."""
    rng = np.random.default_rng([SEED, 0])
    site = rng.integers(SITES, size=PATIENTS)
    scanner = (site + rng.choice(SCANNERS, PATIENTS, p=[0.6, 0.3, 0.1])) % SCANNERS
    tumour = (rng.random(PATIENTS) < 0.35 + 0.3 * site / (SITES - 1)).astype(int)
    patient = np.arange(n) * PATIENTS // n
    return pd.DataFrame(
        {
            "site": pd.Categorical.from_codes(site[patient], [f"S{i}" for i in range(SITES)]),
            "scanner": pd.Categorical.from_codes(scanner[patient], [f"C{i}" for i in range(SCANNERS)]),
            "tumour": pd.Categorical.from_codes(tumour[patient], ["no", "yes"]),
            "patient": pd.Categorical.from_codes(patient, [f"P{i:05d}" for i in range(PATIENTS)]),
        }
    )


def effects() -> dict[str, np.ndarray]:
    """Mean vectors of the levels and of the patients."""
    rng = np.random.default_rng([SEED, 1])
    size = {"site": (SITES, 0.6), "scanner": (SCANNERS, 0.4), "tumour": (2, 1.2), "patient": (PATIENTS, 1.0)}
    return {name: rng.normal(scale=s / math.sqrt(D), size=(k, D)).astype(np.float32) for name, (k, s) in size.items()}


def write_cohort(folder: Path, gib: float) -> Path:
    """Write ``gib`` GiB of float32 rows as Zarr and their table as parquet; go on where an earlier run stopped."""
    import zarr

    n = round(gib * 2**30 / (4 * D) / CHUNK_ROWS) * CHUNK_ROWS
    path = folder / f"cohort-{gib:g}.zarr"
    table = table_of(n)
    folder.mkdir(parents=True, exist_ok=True)
    table.to_parquet(path.with_suffix(".parquet"), index=False)
    if (path / "zarr.json").is_file():
        store = zarr.open_array(path, mode="r+")
    else:
        store = zarr.create_array(path, shape=(n, D), chunks=(CHUNK_ROWS, D), dtype="float32", compressors=None)
    mean, codes = effects(), {name: table[name].cat.codes.to_numpy() for name in table}
    for chunk in range(n // CHUNK_ROWS):
        if (path / "c" / str(chunk) / "0").is_file():
            continue
        rows = slice(chunk * CHUNK_ROWS, (chunk + 1) * CHUNK_ROWS)
        noise = np.random.default_rng([SEED, 2, chunk]).standard_normal((CHUNK_ROWS, D), dtype=np.float32)
        noise *= np.float32(1.5 / math.sqrt(D))
        for name, code in codes.items():
            noise += mean[name][code[rows]]
        store[rows] = noise + np.float32(0.05)
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("what")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gib", type=float, nargs="+")
    a = parser.parse_args()
    for g in a.gib:
        print(write_cohort(a.folder, g))
