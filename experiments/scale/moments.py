"""Ten million rows of streamed moments: the largest cohort on disk several times over, read each time."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from causalfm.lazy_rows import LazyRows
from causalfm.moments import cell_sums
from experiments.scale.cohorts import PATIENTS, D, table_of, write_cohort
from experiments.scale.paper import predicted, seconds_per_gib
from experiments.scale.watching import watched

ROWS = 10_000_000


def child(path: Path, limit: int, out: Path) -> None:
    """Sum the rows by patient in this process."""
    import dask.array as da

    once = da.from_zarr(path)
    times = -(-ROWS // len(once))
    rows = LazyRows(da.concatenate([once] * times), limit)
    codes = np.tile(table_of(len(once))["patient"].cat.codes.to_numpy(np.int64), times)
    clock = time.perf_counter()
    sums = cell_sums(rows, codes, PATIENTS)
    seconds = time.perf_counter() - clock
    assert sums.count.sum() == len(rows)
    body = {"rows": len(rows), "d": rows.shape[1], "gib": rows.nbytes / 2**30, "seconds": seconds}
    out.write_text(json.dumps(body), encoding="utf-8")


def moments(folder: Path, gib: float, limit: int, streaming: dict[str, Any]) -> dict[str, Any]:
    """Measure it, beside what the rates of :mod:`experiments.scale.streaming` let expect."""
    path, out = write_cohort(folder, gib, D), folder / "moments.json"
    took = watched(
        ["experiments.scale", "moments-child", str(path), "--limit", str(limit), "--out", str(out)], folder / "log"
    )
    if took.status:
        raise RuntimeError((folder / "log").read_text()[-2000:])
    found = json.loads(out.read_text(encoding="utf-8"))
    expected = predicted(found["gib"], seconds_per_gib(streaming), "sums by patient")
    return {**found, "peak_gib": took.peak_gib, "predicted": expected}
