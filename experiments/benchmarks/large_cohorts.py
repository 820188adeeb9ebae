"""Cohorts larger than memory: write one of any size, audit it under a limit, measure memory and time against its size.

    python -m experiments.benchmarks.large_cohorts write FOLDER --gib 20
    python -m experiments.benchmarks.large_cohorts measure FOLDER --gib 1.25 2.5 5 10 20 --out scale.json [--passes]
    python -m experiments.benchmarks.large_cohorts compare FOLDER --gib 1

Rows come from a linear model with hospitals, scanners, two classes and patients; a larger cohort has more rows of each
patient. Chunks are written one after the other: a writer that was killed goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

D, CHUNK_BYTES, SEED = 1024, 2**25, 20260101
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


def effects(d: int) -> dict[str, np.ndarray]:
    """Mean vectors ``(levels, d)`` of the levels and of the patients."""
    rng = np.random.default_rng([SEED, 1])
    size = {"site": (SITES, 0.6), "scanner": (SCANNERS, 0.4), "tumour": (2, 1.2), "patient": (PATIENTS, 1.0)}
    return {name: rng.normal(scale=s / math.sqrt(d), size=(k, d)).astype(np.float32) for name, (k, s) in size.items()}


def write_cohort(folder: Path, gib: float, d: int = D) -> Path:
    """Write ``gib`` GiB of float32 rows as Zarr and their table as parquet; go on where an earlier run stopped."""
    import zarr

    step = CHUNK_BYTES // (4 * d)
    n = round(gib * 2**30 / (4 * d) / step) * step
    path = folder / f"cohort-{gib:g}-{d}.zarr"
    table = table_of(n)
    folder.mkdir(parents=True, exist_ok=True)
    table.to_parquet(path.with_suffix(".parquet"), index=False)
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


def audit_child(path: Path, limit: int, out: Path, passes_only: bool) -> None:
    """Audit one cohort in this process, or only what streams over all rows, and write times, memory and findings."""
    import causalfm as cfm

    graph = cfm.CausalGraph.standard(biology="tumour", technical=["site", "scanner"], group="patient")
    before, clock, processor = _peak(), time.perf_counter(), time.process_time()
    cohort = cfm.read(path, obs=path.with_suffix(".parquet"), lazy=True, memory_limit=limit)
    steps = {"read and check": time.process_time() - processor}
    if passes_only:
        asked: dict[str, Any] = {
            "fingerprint": lambda: cohort.fingerprint(graph.columns),
            "effect": lambda: cfm.effect(cohort, graph, treatment="site").joint.value,
            "model": lambda: cfm.EmbeddingSCM(graph).fit(cohort).fitted.n_groups,
        }
        answers = {}
        for name, ask in asked.items():
            start = time.process_time()
            answers[name] = ask()
            steps[name] = time.process_time() - start
        found: Any = answers
    else:
        result = cfm.audit(cohort, graph)
        steps |= result.provenance["timings"]
        found = [{"question": f.question, "factor": f.factor, "value": f.value, "low": f.low, "high": f.high}
                 for f in result.findings]  # fmt: skip
    body = {
        "rows": len(cohort),
        "gib": cohort.X.nbytes / 2**30,
        "limit_gib": limit / 2**30,
        "seconds": time.perf_counter() - clock,
        "processor_seconds": time.process_time() - processor,
        "peak_gib": _peak(),
        "before_gib": before,
        "steps": steps,
        "found": found,
    }
    out.write_text(json.dumps(body, indent=1, default=float), encoding="utf-8")


def _peak() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure(folder: Path, sizes: list[float], limit: int, out: Path, passes_only: bool) -> None:
    """Audit every size in a process of its own; write peak memory, processor time and its exponent in the rows."""
    runs = []
    for gib in sizes:
        path, answer = write_cohort(folder, gib), folder / f"answer-{gib:g}.json"
        command = [
            sys.executable,
            "-m",
            "experiments.benchmarks.large_cohorts",
            "child",
            str(path),
            "--out",
            str(answer),
        ]
        command += ["--limit", str(limit), *["--passes"] * passes_only]
        subprocess.run(command, check=True)
        runs.append(json.loads(answer.read_text(encoding="utf-8")))
        print({k: v for k, v in runs[-1].items() if k != "found"}, flush=True)
    body: dict[str, Any] = {"runs": runs}
    if len(runs) > 1:
        n, seconds = (np.log([run[key] for run in runs]) for key in ("rows", "processor_seconds"))
        body["exponent"] = float(np.polyfit(n, seconds, 1)[0])
    out.write_text(json.dumps(body, indent=1), encoding="utf-8")


def compare(folder: Path, gib: float, limit: int) -> None:
    """Answer what streams over all rows in memory and outside it, and print the largest relative difference."""
    import causalfm as cfm

    path = write_cohort(folder, gib)
    graph = cfm.CausalGraph.standard(biology="tumour", technical=["site", "scanner"], group="patient")
    here = cfm.read(path, obs=path.with_suffix(".parquet"))
    there = cfm.read(path, obs=path.with_suffix(".parquet"), lazy=True, memory_limit=limit)
    for factor in graph.technical:
        a, b = (cfm.effect(c, graph, treatment=factor).to_frame() for c in (here, there))
        x, y = (f.select_dtypes("number").to_numpy() for f in (a, b))
        print(factor, "largest relative difference", float(np.nanmax(np.abs(x - y) / np.maximum(np.abs(x), 1e-12))))
    print("fingerprints equal:", here.fingerprint(graph.columns) == there.fingerprint(graph.columns))


def main() -> None:
    """Run one of the commands above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("write", "measure", "compare", "child"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gib", type=float, nargs="+", default=[1.0])
    parser.add_argument("--limit", type=int, default=4 * 2**30, help="bytes of embeddings held at once")
    parser.add_argument("--out", type=Path, default=Path("scale.json"))
    parser.add_argument("--passes", action="store_true", help="only what streams over all rows")
    given = parser.parse_args()
    if given.what == "write":
        for gib in given.gib:
            print(write_cohort(given.folder, gib))
    elif given.what == "measure":
        measure(given.folder, given.gib, given.limit, given.out, given.passes)
    elif given.what == "compare":
        compare(given.folder, given.gib[0], given.limit)
    else:
        audit_child(given.folder, given.limit, given.out, given.passes)


if __name__ == "__main__":
    main()
