"""Time and peak memory of the causal model of embeddings: fitting it, moving every row to one site, auditing with it.

``python -m experiments.benchmarks.scm [--fast] [--only NAME ...] [--mapped] [--limit-gib 4] [--device D] [--out F]``

The bare product is the least that a fit needs: regressors times embeddings, in float64. ``flips`` and ``gap_paths``
fit the model 20 times again, on ``--audit-rows`` rows; the single fit on these rows is printed beside them.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from causalfm.cohort import Cohort
from causalfm.graph import CausalGraph
from causalfm.scm import EmbeddingSCM, flips, gap_paths
from causalfm.scm.flow_training import BATCH, STEPS
from causalfm.validation import row_blocks

ROWS_PER_PATIENT, AUDIT_ROWS_PER_PATIENT = 50, 10
MECHANISMS = (
    "additive",
    "location-scale",
    "optimal-transport",
    "interaction",
    "interaction-location-scale",
    "random-effects",
    "flow",
)
AUDITS = ("gap_paths", "gap_paths of a score", "flips")


def design(n: int, n_sites: int, rows_per_patient: int = ROWS_PER_PATIENT) -> tuple[pd.DataFrame, CausalGraph]:
    """Lay out patients: two classes, sites, three scanners, ages."""
    rng = np.random.default_rng(0)
    patient = np.arange(n) // rows_per_patient
    G = int(patient[-1]) + 1
    site, tumour, scanner = np.arange(G) % n_sites, np.arange(G) // n_sites % 2, rng.integers(0, 3, G)
    columns = {"patient": patient, "site": site[patient], "tumour": tumour[patient], "scanner": scanner[patient]}
    obs = pd.DataFrame({name: np.char.add(name[0], codes.astype(str)) for name, codes in columns.items()})
    obs["age"] = rng.normal(60.0, 10.0, G)[patient]
    graph = CausalGraph.standard(biology="tumour", technical=["site", "scanner"], covariates="age", group="patient")
    return obs.astype(dict.fromkeys(columns, object)), graph


def embeddings(obs: pd.DataFrame, d: int, path: Path | None = None) -> np.ndarray:
    """Draw rows that depend on the site and on the patient, in memory or in a file that is mapped."""
    rng = np.random.default_rng(1)
    factors = [(*pd.factorize(obs[name]), size) for name, size in (("site", 0.5), ("tumour", 0.5), ("patient", 0.7))]
    parts = [(codes, size * rng.standard_normal((len(levels), d), dtype=np.float32)) for codes, levels, size in factors]
    shape = len(obs), d
    X = np.empty(shape, np.float32) if path is None else np.lib.format.open_memmap(path, "w+", np.float32, shape)
    for rows in row_blocks(X):  # the peak of the process is to be that of the model
        block = rng.standard_normal(X[rows].shape, dtype=np.float32)
        for codes, effects in parts:
            block += effects[codes[rows]]
        X[rows] = block
    if path is None:
        return X
    del X
    return np.asanyarray(np.load(path, mmap_mode="r"))


def measure_mechanism(name: str, cohort: Cohort, graph: CausalGraph, device: str | None) -> dict[str, Any]:
    """Time a mechanism on one cohort; peaks are those of the whole process so far, in MiB."""
    row: dict[str, Any] = {}
    if name == "flow":
        importlib.import_module("torch")  # seconds, which are not those of the fit
        row = {"device": device or "cpu", "steps": STEPS, "rows_per_step": BATCH}
    scm = EmbeddingSCM(graph, name, device=device if name == "flow" else None)
    row |= {"fit_seconds": seconds(lambda: scm.fit(cohort)), "fit_peak_mib": peak_mib()}
    level = cohort.obs["site"].iloc[0]
    row["counterfactual_seconds"] = seconds(lambda: scm.counterfactual(cohort, do={"site": level}))
    return row | {"peak_mib": peak_mib()}


def measure_audit(name: str, cohort: Cohort, graph: CausalGraph) -> dict[str, Any]:
    """Time an audit of the additive model, and the single fit that it repeats for each of 20 folds."""
    scm, direction = EmbeddingSCM(graph), np.random.default_rng(2).standard_normal(cohort.d).astype(np.float32)
    row: dict[str, Any] = {"rows": len(cohort), "one_fit_seconds": seconds(lambda: scm.fit(cohort))}

    def score(X: np.ndarray) -> np.ndarray:
        margin = X @ direction
        return np.stack([-margin, margin], axis=1)

    def ask() -> object:
        if name == "flips":
            return flips(scm, cohort, score)
        return gap_paths(scm, cohort, ("s0", "s1"), model=score if name.endswith("score") else None)

    return row | {"seconds": seconds(ask), "peak_mib": peak_mib()}


def bare_product(cohort: Cohort) -> None:
    """Multiply one-hot sites with the rows."""
    site = cohort.factor("site")
    for rows, block in cohort.blocks():
        np.eye(site.n_levels)[site.codes[rows]].T @ block.astype(np.float64)


def seconds(call: Callable[[], object]) -> tuple[float, float]:
    """Run ``call`` once and return its wall time and its processor time: on a busy machine they tell apart."""
    wall, processor = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - processor


def peak_mib() -> float:
    """Return the largest resident memory of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def lines(result: dict[str, Any], name: str) -> str:
    """Say what was measured, seconds as wall (processor)."""
    row = result[name]
    shown = [f"{key[:-8]} {v[0]:.2f} ({v[1]:.2f})" for key, v in row.items() if key.endswith("_seconds")]
    if "seconds" in row:
        shown.append(f"all {row['seconds'][0]:.2f} ({row['seconds'][1]:.2f}) on {row['rows']} rows")
    if "steps" in row:
        shown.append(f"{row['steps']} steps of {row['rows_per_step']} rows on {row['device']}")
    return f"{name:28s} {', '.join(shown)}, peak {row['peak_mib'] - result['peak_before_mib']:.0f} MiB above the start"


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure what was asked for; what is done is printed and written at once."""
    n, d, n_sites, audit_rows = options.n, options.d, options.sites, options.audit_rows
    if options.fast:
        n, d, n_sites, audit_rows = 8000, 256, 8, 1000
    obs, graph = design(n, n_sites)
    cohort = Cohort(embeddings(obs, d, folder / "X.npy" if options.mapped else None), obs)
    result: dict[str, Any] = {
        "n": n,
        "d": d,
        "sites": n_sites,
        "machine": platform.machine(),
        "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
        "mapped": options.mapped,
        "limit_gib": options.limit_gib,
        "device": options.device or "cpu",
        "data_mib": cohort.X.nbytes / 2**20,
        "peak_before_mib": peak_mib(),
        "bare_product_seconds": seconds(lambda: bare_product(cohort)),
    }
    wall, cpu = result["bare_product_seconds"]
    print(f"n={n} d={d} sites={n_sites}, {result['data_mib']:.0f} MiB, {result['threads']} threads; wall (processor)")
    print(f"bare product {wall:.2f} ({cpu:.2f}), peak before {result['peak_before_mib']:.0f} MiB", flush=True)
    few, few_graph = design(audit_rows, min(n_sites, options.audit_sites), AUDIT_ROWS_PER_PATIENT)
    for name in options.only or (*MECHANISMS, *AUDITS):
        if name in MECHANISMS:
            result[name] = measure_mechanism(name, cohort, graph, options.device)
        else:
            result[name] = measure_audit(name, Cohort(embeddings(few, d), few), few_graph)
        print(lines(result, name), flush=True)
        if options.out:
            options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description="Fit, counterfactual and audits beside the bare product.")
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--d", type=int, default=1536)
    parser.add_argument("--sites", type=int, default=34)
    parser.add_argument("--fast", action="store_true", help="n=8000, d=256, 8 sites, audits on 1000 rows: seconds")
    parser.add_argument("--only", nargs="+", choices=[*MECHANISMS, *AUDITS], help="these alone")
    parser.add_argument("--audit-rows", type=int, default=10_000, help="rows of flips and gap_paths")
    parser.add_argument("--audit-sites", type=int, default=34, help="sites of flips and gap_paths, at most --sites")
    parser.add_argument("--mapped", action="store_true", help="read the embeddings from a memory-mapped file")
    parser.add_argument("--limit-gib", type=float, help="limit of address space (RLIMIT_AS)")
    parser.add_argument("--device", help="of the training of the flow, such as cuda")
    parser.add_argument("--out", type=Path, help="write the numbers as JSON, after each step")
    options = parser.parse_args(arguments)
    if options.limit_gib:
        limit = int(options.limit_gib * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with TemporaryDirectory() as folder:
        run(options, Path(folder))


if __name__ == "__main__":
    main()
