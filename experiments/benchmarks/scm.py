"""Time and peak memory of fitting the causal model of embeddings and of moving every row to one site.

``python -m experiments.benchmarks.scm [--n 100000] [--d 1536] [--sites 34] [--fast] [--mapped] [--out FILE]``

The bare product is the least that a fit needs: regressors times embeddings, in float64.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from causalfm.cohort import Cohort
from causalfm.graph import CausalGraph
from causalfm.scm import EmbeddingSCM
from causalfm.validation import row_blocks

ROWS_PER_PATIENT = 50
MECHANISMS = ("additive", "location-scale", "optimal-transport", "interaction")


def design(n: int, n_sites: int) -> tuple[pd.DataFrame, CausalGraph]:
    """Lay out patients of 50 rows: two classes, sites, three scanners, ages."""
    rng = np.random.default_rng(0)
    patient = np.arange(n) // ROWS_PER_PATIENT
    G = int(patient[-1]) + 1
    site, tumour, scanner = np.arange(G) % n_sites, np.arange(G) // n_sites % 2, rng.integers(0, 3, G)
    columns = {"patient": patient, "site": site[patient], "tumour": tumour[patient], "scanner": scanner[patient]}
    obs = pd.DataFrame({name: np.char.add(name[0], codes.astype(str)) for name, codes in columns.items()})
    obs["age"] = rng.normal(60.0, 10.0, G)[patient]
    graph = CausalGraph.standard(biology="tumour", technical=["site", "scanner"], covariates="age", group="patient")
    return obs.astype(dict.fromkeys(columns, object)), graph


def embeddings(obs: pd.DataFrame, d: int) -> np.ndarray:
    """Draw rows that depend on the site and on the patient."""
    rng = np.random.default_rng(1)
    factors = [(*pd.factorize(obs[name]), size) for name, size in (("site", 0.5), ("tumour", 0.5), ("patient", 0.7))]
    parts = [(codes, size * rng.standard_normal((len(levels), d), dtype=np.float32)) for codes, levels, size in factors]
    X = np.empty((len(obs), d), dtype=np.float32)
    for rows in row_blocks(X):  # the peak of the process is to be that of the model
        X[rows] = rng.standard_normal(X[rows].shape, dtype=np.float32)
        for codes, effects in parts:
            X[rows] += effects[codes[rows]]
    return X


def measure(X: np.ndarray, obs: pd.DataFrame, graph: CausalGraph) -> dict[str, Any]:
    """Time every mechanism on one cohort; peaks are those of the whole process so far, in MiB."""
    cohort = Cohort(X, obs)
    result: dict[str, Any] = {
        "n": len(cohort),
        "d": cohort.d,
        "machine": platform.machine(),
        "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
        "data_mib": X.nbytes / 2**20,
        "peak_before_mib": peak_mib(),
        "bare_product_seconds": seconds(lambda: bare_product(cohort)),
    }
    for mechanism in MECHANISMS:
        scm = EmbeddingSCM(graph, mechanism)
        row = {"fit_seconds": seconds(lambda scm=scm: scm.fit(cohort)), "fit_peak_mib": peak_mib()}
        move = partial(scm.counterfactual, cohort, do={"site": obs["site"].iloc[0]})
        result[mechanism] = row | {"counterfactual_seconds": seconds(move), "peak_mib": peak_mib()}
    return result


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


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark and print it."""
    parser = argparse.ArgumentParser(description="Fit and counterfactual beside the bare product.")
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--d", type=int, default=1536)
    parser.add_argument("--sites", type=int, default=34)
    parser.add_argument("--fast", action="store_true", help="n=8000, d=256, 8 sites: seconds")
    parser.add_argument("--mapped", action="store_true", help="read the embeddings from a memory-mapped file")
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    options = parser.parse_args(arguments)
    n, d, n_sites = (8000, 256, 8) if options.fast else (options.n, options.d, options.sites)
    obs, graph = design(n, n_sites)
    with TemporaryDirectory() as folder:
        X = embeddings(obs, d)
        if options.mapped:
            np.save(Path(folder) / "X.npy", X)
            X = np.load(Path(folder) / "X.npy", mmap_mode="r")
        result = measure(X, obs, graph)
    print(f"n={n} d={d} sites={n_sites}, data {result['data_mib']:.0f} MiB")
    print("seconds: wall (processor)")
    wall, cpu = result["bare_product_seconds"]
    print(f"bare product {wall:.2f} ({cpu:.2f}), peak before {result['peak_before_mib']:.0f} MiB")
    for name in MECHANISMS:
        row = result[name]
        times = [f"{row[key][0]:6.2f} ({row[key][1]:.2f})" for key in ("fit_seconds", "counterfactual_seconds")]
        peaks = f"peak {row['fit_peak_mib']:.0f} then {row['peak_mib']:.0f} MiB"
        print(f"{name:18s} fit {times[0]}  counterfactual {times[1]}  {peaks}")
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
