"""What streams over all rows, timed part by part in a process of its own: time should grow as the rows do."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import causalfm as cfm
from causalfm.cohort import Cohort
from causalfm.estimators import ComBat, LinearEraser
from causalfm.moments import cell_sums
from causalfm.neighbours import knn
from experiments.scale.cohorts import D, table_path, write_cohort
from experiments.scale.watching import watched

GRAPH = cfm.CausalGraph.standard(biology="tumour", technical=["site", "scanner"], group="patient")
QUERIES = 1024


def parts_of(cohort: Cohort) -> dict[str, Callable[[], Any]]:
    """Return what streams, by name; the first only reads."""
    X, patients = cohort.X, cohort.factor("patient", private=True)
    site, tumour = cohort.obs["site"], cohort.obs["tumour"]

    def read() -> float:
        return float(sum(X[start : start + 8192][0, 0] for start in range(0, len(X), 8192)))

    def fit(corrector: Any) -> Any:
        return corrector.fit(X.array, site, biology=tumour)

    return {
        "read": read,
        "check for finite values": lambda: cohort.replace(info={}),
        "fingerprint": lambda: cohort.fingerprint(GRAPH.columns),
        "sums by patient": lambda: cell_sums(X, patients.codes, patients.n_levels),
        "effect of the site": lambda: cfm.effect(cohort, GRAPH, treatment="site"),
        "moments for ComBat": lambda: fit(ComBat()),
        "moments for LEACE": lambda: fit(LinearEraser()),
        "model of the embedding": lambda: cfm.EmbeddingSCM(GRAPH).fit(cohort),
        f"{QUERIES:,} queries among all rows": lambda: knn(X, 100, exclude=patients.codes, queries=QUERIES),
    }


def child(path: Path, limit: int, out: Path) -> None:
    """Time every part on one cohort in this process."""
    cohort = cfm.read(path, obs=table_path(path), lazy=True, memory_limit=limit)
    spent = {}
    for name, ask in parts_of(cohort).items():
        cohort.X.memo.clear()
        wall, processor = time.perf_counter(), time.process_time()
        ask()
        spent[name] = {"seconds": time.perf_counter() - wall, "processor_seconds": time.process_time() - processor}
    body = {"rows": len(cohort), "d": cohort.d, "gib": cohort.X.nbytes / 2**30, "parts": spent}
    out.write_text(json.dumps(body), encoding="utf-8")


def streaming(folder: Path, gibs: Sequence[float], limit: int, d: int = D) -> dict[str, Any]:
    """Time every part at several sizes; the exponents are of processor time and of time."""
    runs = []
    for gib in gibs:
        path, out = write_cohort(folder, gib, d), folder / f"streaming-{gib:g}.json"
        took = watched(
            ["experiments.scale", "child", str(path), "--limit", str(limit), "--out", str(out)], folder / "log"
        )
        if took.status:
            raise RuntimeError((folder / "log").read_text()[-2000:])
        runs.append({**json.loads(out.read_text(encoding="utf-8")), "peak_gib": took.peak_gib})
        print(runs[-1], flush=True)
    rows = np.log([run["rows"] for run in runs])
    found = {}
    for name in runs[0]["parts"]:
        found[name] = {
            key: float(np.polyfit(rows, np.log([run["parts"][name][key] for run in runs]), 1)[0])
            for key in ("seconds", "processor_seconds")
        }
    return {"runs": runs, "exponents": found, "limit_gib": limit / 2**30}
