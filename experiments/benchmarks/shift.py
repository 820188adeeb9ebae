"""The audit of a deployment at a large cohort: time and memory by question, beside one product X'X of the same rows.

``python -m experiments.benchmarks.shift [--n 100000] [--d 1536] [--unlabelled] [--fast] [--out FILE]``
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalfm.auditing import audit
from causalfm.cohort import Cohort
from causalfm.graph import CausalGraph
from experiments.benchmarks.clock import peak_mib, seconds
from experiments.benchmarks.invariance import machine

GRAPH = CausalGraph.standard(biology="tumour", technical=["site", "scanner"], covariates=["age"], group="patient")
SITES, ROWS = 34, 50  # hospitals of the reference; rows of a patient


def cohorts(n: int, d: int, seed: int = 0) -> tuple[Cohort, Cohort]:
    """Draw a reference of 34 hospitals and another hospital, a tenth of the rows, with a shift of its own."""
    rng = np.random.default_rng(seed)
    patients = n // ROWS
    new = np.arange(patients) >= patients - patients // 10
    site = np.where(new, SITES, np.arange(patients) % SITES)
    tumour = rng.integers(2, size=patients)
    obs = pd.DataFrame(
        {
            "patient": np.arange(patients),
            "site": [f"hospital {i:02d}" for i in site],
            "scanner": np.array(["A", "B"])[rng.integers(2, size=patients)],
            "tumour": np.array(["no", "yes"])[tumour],
            "age": rng.normal(60, 10, patients).round(),
        }
    )
    effects = rng.standard_normal((SITES + 1, d)).astype(np.float32) * np.float32(0.3)
    mean = effects[site] + np.outer(tumour, rng.standard_normal(d) * 0.1).astype(np.float32)
    mean += rng.standard_normal((patients, d), dtype=np.float32) * np.float32(0.5)
    which = np.repeat(np.arange(patients), ROWS)
    X = mean[which]
    for start in range(0, len(X), 10_000):
        X[start : start + 10_000] += rng.standard_normal((len(X[start : start + 10_000]), d), dtype=np.float32)
    table = obs.iloc[which].reset_index(drop=True)
    there = new[which]
    return Cohort(X[~there], table[~there]), Cohort(X[there], table[there])


def measure(n: int, d: int, *, labelled: bool) -> dict[str, Any]:
    """Time the audit.

    Parameters
    ----------
    n, d
        Rows of both cohorts, and dimensions.
    labelled
        Whether the biology of the deployment is known.
    """
    reference, deployment = cohorts(n, d)
    if not labelled:
        deployment = deployment.replace(obs=deployment.obs.drop(columns="tumour"))
    before = peak_mib()

    def say(what: str, done: int, steps: int) -> None:
        print(f"{done}/{steps} {what}", file=sys.stderr, flush=True)

    clock, processor = time.perf_counter(), time.process_time()
    found = audit(reference, GRAPH, deployment=deployment, progress=say)
    spent, cpu = time.perf_counter() - clock, time.process_time() - processor
    X = reference.X
    product = seconds(lambda: [X[i : i + 10_000].T @ X[i : i + 10_000] for i in range(0, len(X), 10_000)])
    return {
        "n": n,
        "d": d,
        "sites": SITES,
        "labelled": labelled,
        "seconds": round(spent, 1),
        "cpu_seconds": round(cpu, 1),
        "peak_mib": round(peak_mib()),
        "peak_before_mib": round(before),
        "product_seconds": round(product, 3),
        "ratio_to_product": round(spent / product, 1),
        "steps": found.provenance["timings"],
        "verdict": found.verdict,
        **machine(),
    }


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark and print it."""
    parser = argparse.ArgumentParser(description="The audit of a deployment at a large cohort.")
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--d", type=int, default=1536)
    parser.add_argument("--unlabelled", action="store_true")
    parser.add_argument("--fast", action="store_true", help="n=20000, d=64: seconds")
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    options = parser.parse_args(arguments)
    n, d = (20_000, 64) if options.fast else (options.n, options.d)
    text = json.dumps(measure(n, d, labelled=not options.unlabelled), indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
