"""Invariance tests: distance correlation beside hyppo's, and the tests of a large cohort beside bare matrix products.

``python -m experiments.benchmarks.invariance [--case dcorr --case cohort] [--method mmd] [--fast] [--out FILE]``
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_info

from causalfm.cohort import Cohort
from causalfm.graph import CausalGraph
from causalfm.invariance import invariance_test
from causalfm.invariance.dependence import dependence_test
from causalfm.invariance.kernels import LANDMARKS
from experiments.benchmarks.clock import peak_mib, seconds

GRAPH = CausalGraph.standard(biology="tumour", technical=["site"], group="patient")
CATEGORIES = 4
BLOCK = 10_000


def medians(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Time the calls in turn, so that a busy machine slows all of them; the median counts."""
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            spent[name].append(seconds(call))
    return {f"{name}_seconds": statistics.median(values) for name, values in spent.items()}


def machine() -> dict[str, Any]:
    """Return what the numbers depend on."""
    threads = max((pool["num_threads"] for pool in threadpool_info()), default=1)
    return {"machine": platform.machine(), "numpy": np.__version__, "threads": threads}


def dcorr_case(n: int, d: int, n_permutations: int, repeats: int) -> dict[str, Any]:
    """Distance correlation of embeddings with a category, with permutations: ours, hyppo's, and the product.

    Parameters
    ----------
    n, d
        Rows and dimensions.
    n_permutations
        Permutations of the rows.
    repeats
        Runs of each.

    Returns
    -------
    dict
        Seconds, ratios, and the two statistics.
    """
    from hyppo.independence import Dcorr

    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((n, d)), np.eye(CATEGORIES)[rng.integers(CATEGORIES, size=n)]
    A, permuted = rng.standard_normal((n, n)), rng.random((n, (CATEGORIES - 1) * n_permutations))

    def peer(rows: int = n, reps: int = n_permutations) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # fewer than 1,000 permutations
            return float(Dcorr().test(x[:rows], y[:rows], reps=reps, auto=False, random_state=0)[0])

    def ours() -> float:
        return dependence_test(x, y, n_permutations=n_permutations)[0]

    peer(50, 2)  # hyppo compiles itself on first use; that is not counted
    spent = medians({"ours": ours, "hyppo": peer, "product": lambda: A @ permuted}, repeats)
    return {
        "case": "dcorr",
        "n": n,
        "d": d,
        "n_permutations": n_permutations,
        "repeats": repeats,
        **machine(),
        **spent,
        "hyppo_over_ours": spent["hyppo_seconds"] / spent["ours_seconds"],
        "ours_over_product": spent["ours_seconds"] / spent["product_seconds"],
        "statistics_differ_by": abs(ours() - peer(reps=2)),
    }


def cohort_case(
    method: str, n: int, d: int, n_sites: int, n_patients: int, n_permutations: int, repeats: int
) -> dict[str, Any]:
    """Time one method of ``invariance_test`` on a large cohort, with effect and verdict, and its peak memory.

    Parameters
    ----------
    method
        As in :func:`invariance_test`.
    n, d
        Rows and dimensions, float32.
    n_sites, n_patients
        Levels of the factor, and patients who share the rows equally.
    n_permutations
        Permutations of patients.
    repeats
        Runs of the test and of the product of all rows with as many vectors as there are landmarks.

    Returns
    -------
    dict
        Seconds, their ratio, and MiB: the data, and the peak of the process before and after.
    """
    cohort = large_cohort(n, d, n_sites, n_patients)
    vectors = np.random.default_rng(1).standard_normal((d, min(LANDMARKS, n)), dtype=np.float32)

    def product() -> None:
        for start in range(0, n, BLOCK):
            cohort.X[start : start + BLOCK] @ vectors

    def test() -> object:
        return invariance_test(cohort, GRAPH, of="site", method=method, n_permutations=n_permutations)

    before = peak_mib()
    spent = medians({"test": test, "product": product}, repeats)
    return {
        "case": "cohort",
        "method": method,
        "n": n,
        "d": d,
        "sites": n_sites,
        "patients": n_patients,
        "n_permutations": n_permutations,
        "repeats": repeats,
        **machine(),
        **spent,
        "ratio": spent["test_seconds"] / spent["product_seconds"],
        "data_mib": cohort.X.nbytes / 2**20,
        "peak_before_mib": before,
        "peak_mib": peak_mib(),
    }


def large_cohort(n: int, d: int, n_sites: int, n_patients: int) -> Cohort:
    """Draw patients who differ, at sites that do not."""
    rng = np.random.default_rng(0)
    patient = np.arange(n) * n_patients // n
    X = rng.standard_normal((n, d), dtype=np.float32)
    own = rng.standard_normal((n_patients, d), dtype=np.float32)
    for start in range(0, n, BLOCK):
        X[start : start + BLOCK] += own[patient[start : start + BLOCK]]
    codes = {"patient": patient, "site": patient % n_sites, "tumour": patient // n_sites % 2}
    obs = {name: np.char.add(name[0], values.astype(str)) for name, values in codes.items()}
    return Cohort(X, pd.DataFrame(obs))


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark and print it."""
    parser = argparse.ArgumentParser(description="Invariance tests beside hyppo and bare matrix products.")
    parser.add_argument("--case", choices=("dcorr", "cohort"), action="append", help="default: both")
    parser.add_argument("--method", action="append", help="of the large cohort; default: mean, mmd and gcm")
    parser.add_argument("--fast", action="store_true", help="a tenth of the rows: seconds")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    options = parser.parse_args(arguments)
    part = 10 if options.fast else 1
    results = []
    for case in options.case or ("dcorr", "cohort"):
        if case == "dcorr":
            found = dcorr_case(2000 // part, 1536, 200, options.repeats)
            results.append(found)
            print(f"Dcorr, {found['n']} x {found['d']}, {found['n_permutations']} permutations")
            print(f"bare product {found['product_seconds']:9.2f} s")
            print(f"causalfm     {found['ours_seconds']:9.2f} s")
            print(
                f"hyppo        {found['hyppo_seconds']:9.2f} s   {found['hyppo_over_ours']:.0f} times ours", flush=True
            )
            continue
        for method in options.method or ("mean", "mmd", "gcm"):
            # a process of its own: its peak memory holds nothing of the cases before
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                sizes = (method, 100_000 // part, 1536, 34, 1000, 499, options.repeats)
                found = pool.submit(cohort_case, *sizes).result()
            results.append(found)
            print(f"{method}, {found['n']} x {found['d']}, {found['sites']} sites, {found['patients']} patients")
            print(f"bare product {found['product_seconds']:9.2f} s")
            words = f"{found['ratio']:.1f} times the product, peak {found['peak_mib'] / 1024:.2f} GiB"
            print(
                f"causalfm     {found['test_seconds']:9.2f} s   {words}, data {found['data_mib'] / 1024:.2f} GiB",
                flush=True,
            )
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
