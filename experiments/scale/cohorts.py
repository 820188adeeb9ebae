"""Cohorts of any size on disk: hospitals, scanners, two classes and patients in a linear model.

A larger cohort has more rows of each patient, as whole slides have. Chunks are written one after the other: a writer
that was killed goes on.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd

D, SEED = 1536, 20260101
CHUNK_ROWS, CHUNK_BYTES = 8192, 2**25  # of a chunk, at least
SITES, SCANNERS, PATIENTS = 8, 3, 2000
COLUMNS = "--biology", "tumour", "--technical", "site,scanner", "--group", "patient"


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


def effects(d: int) -> dict[str, np.ndarray]:
    """Mean vectors ``(levels, d)`` of the levels and of the patients."""
    rng = np.random.default_rng([SEED, 1])
    size = {"site": (SITES, 0.6), "scanner": (SCANNERS, 0.4), "tumour": (2, 1.2), "patient": (PATIENTS, 1.0)}
    return {name: rng.normal(scale=s / math.sqrt(d), size=(k, d)).astype(np.float32) for name, (k, s) in size.items()}


def write_cohort(folder: Path, gib: float, d: int = D) -> Path:
    """Write ``gib`` GiB of float32 rows as Zarr and their table as parquet; go on where an earlier run stopped."""
    import zarr

    step = max(CHUNK_ROWS, CHUNK_BYTES // (4 * d))
    n = max(1, round(gib * 2**30 / (4 * d) / step)) * step
    path = folder / f"cohort-{gib:g}-{d}.zarr"
    table = table_of(n)
    folder.mkdir(parents=True, exist_ok=True)
    table.to_parquet(table_path(path), index=False)
    if (path / "zarr.json").is_file():
        store = zarr.open_array(path, mode="r+")
    else:
        store = zarr.create_array(path, shape=(n, d), chunks=(step, d), dtype="float32", compressors=None)
    mean, codes = effects(d), {name: table[name].cat.codes.to_numpy() for name in table}
    for chunk in range(n // step):
        if (path / "c" / str(chunk) / "0").is_file():
            continue
        rows = slice(chunk * step, (chunk + 1) * step)
        noise = np.random.default_rng([SEED, 2, chunk]).standard_normal((step, d), dtype=np.float32)
        noise *= np.float32(1.5 / math.sqrt(d))
        for name, code in codes.items():
            noise += mean[name][code[rows]]
        store[rows] = noise + np.float32(0.05)
    return path


def table_path(path: Path) -> Path:
    """Return where the table of a cohort lies."""
    return path.with_suffix(".parquet")
