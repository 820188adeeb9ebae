"""What runs on workers, in one process and with several: the same bits, and how much sooner."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

import causalfm as cfm
from causalfm.cohort import Cohort
from causalfm.estimators import ComBat, LinearEraser
from causalfm.lazy_rows import size_text
from causalfm.moments import cell_sums
from causalfm.neighbours import knn
from causalfm.row_tasks import cluster
from causalfm.schedulers import beside_table, limit_of_rows, scheduled
from experiments.scale.cohorts import table_path, write_cohort
from experiments.scale.streaming import QUERIES
from experiments.scale.watching import watched


def parts_of(cohort: Cohort) -> dict[str, Callable[[], list[np.ndarray]]]:
    """Return what runs on workers, by name, as arrays that are compared."""
    X, patients = cohort.X, cohort.factor("patient", private=True)
    rows = np.asarray(X[:512])

    def corrected(corrector: Any) -> list[np.ndarray]:
        corrector.fit(X.array, cohort.obs["site"], biology=cohort.obs["tumour"])
        given = {"factor": cohort.obs["site"][: len(rows)]} if corrector._needs_factor() else {}
        return [corrector.transform(rows, **given)]

    def listed() -> list[np.ndarray]:
        found = knn(X, 100, exclude=patients.codes, queries=QUERIES)
        return [found.indices, found.similarity]

    return {
        "check for finite values": lambda: [np.asarray(len(cohort.replace(info={})))],
        "sums by patient": lambda: [cell_sums(X, patients.codes, patients.n_levels).total],
        "ComBat": lambda: corrected(ComBat()),
        "LEACE": lambda: corrected(LinearEraser()),
        f"{QUERIES:,} queries among all rows": listed,
    }


def child(path: Path, limit: int, out: Path, scheduler: str) -> None:
    """Time every part in this process, and say which bits came out; libraries are loaded before."""
    rows = limit_of_rows(scheduler, size_text(limit))
    with scheduled(scheduler):
        _load()
        if client := cluster():
            client.run(_load)
        cohort = beside_table(cfm.read(path, obs=table_path(path), lazy=True, memory_limit=rows), scheduler)
        spent, digests = {}, {}
        for name, ask in parts_of(cohort).items():
            cohort.X.memo.clear()
            clock = time.perf_counter()
            answer = ask()
            spent[name] = time.perf_counter() - clock
            digests[name] = hashlib.sha256(
                b"".join(np.ascontiguousarray(part).tobytes() for part in answer)
            ).hexdigest()
    body = {"rows": len(cohort), "gib": cohort.X.nbytes / 2**30, "seconds": spent, "digests": digests}
    out.write_text(json.dumps(body), encoding="utf-8")


def _load() -> None:
    import torch  # noqa: F401


def workers(folder: Path, gib: float, limit: int, counts: Sequence[int]) -> list[dict[str, Any]]:
    """Run the parts in one process and with several; the first run tells which bits are right.

    What several could gain at best is measured too: as many processes do all the work, each by itself.
    """
    path = write_cohort(folder, gib)
    here = _run(folder, path, limit, "here")
    found = [{**here, "best": 1.0}]
    for count in counts:
        with ThreadPoolExecutor(count) as pool:
            apart = list(pool.map(lambda number: _run(folder, path, limit, "here", f"-{number}"), range(count)))
        best = count * _together(here) / max(map(_together, apart))
        found.append({**_run(folder, path, limit, f"local:{count}"), "best": best})
    right = here["digests"]
    return [{"same": run.pop("digests") == right, **run, "limit_gib": limit / 2**30} for run in found]


def _run(folder: Path, path: Path, limit: int, scheduler: str, name: str = "") -> dict[str, Any]:
    """Run the parts in a process of their own, and watch its memory."""
    out = folder / f"workers-{scheduler.replace(':', '-')}{name}.json"
    asked = ["experiments.scale", "workers-child", str(path), "--limit", str(limit), "--out", str(out)]
    took = watched([*asked, "--scheduler", scheduler], out.with_suffix(".log"))
    if took.status:
        raise RuntimeError(out.with_suffix(".log").read_text()[-2000:])
    run = json.loads(out.read_text(encoding="utf-8")) | {"scheduler": scheduler, "all_gib": took.all_gib}
    print(run, flush=True)
    return run


def _together(run: dict[str, Any]) -> float:
    return float(sum(run["seconds"].values()))
