"""Effects of 34 sites on all dimensions: ours beside EconML's LinearDML and the bare product, each in a process alone.

``python -m experiments.benchmarks.effects [--n 30000] [--d 1536] [--patients 600] [--large] [--fast] [--out FILE]``

``--patients``: how many bring the rows, equally many each. Without it every row is a patient of its own, which is the
most work for us and the only case that EconML's errors are made for.
The time is that of the estimates with their standard errors in all dimensions; the whole of ``effect()``, with
distances, ratio, shares and biology, is timed beside it. ``--large``: 100,000 memory-mapped rows of 2,000 patients,
without the peer.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalfm.cohort import Cohort
from causalfm.estimators import Nuisances, effect
from causalfm.estimators.influence.comparison_groups import compared_groups, design_columns
from causalfm.estimators.influence.crossfitting import deal_folds
from causalfm.estimators.influence.partially_linear import partially_linear
from causalfm.graph import CausalGraph
from causalfm.positivity import complete_table
from causalfm.units import patient_units
from experiments.benchmarks.clock import peak_mib, seconds

SITES = 34
GRAPH = CausalGraph.standard(biology="tumour", technical=["site"], covariates=["age"], group="patient")
FOLDS = 5


def write_data(folder: Path, n: int, d: int, patients: int) -> None:
    """Write embeddings in which site, class and age act, block by block, and the table beside them."""
    rng = np.random.default_rng(0)
    patient = np.arange(n) * patients // n
    tumour = rng.integers(2, size=patients)
    site = rng.integers(SITES, size=patients)
    site = np.where(rng.random(patients) < 0.3, (site // 2) * 2 + tumour, site) % SITES
    age = rng.standard_normal(patients)
    effects = [0.2 * rng.standard_normal((size, d)) for size in (SITES, 2, 1)]
    X = np.lib.format.open_memmap(folder / "X.npy", mode="w+", dtype=np.float32, shape=(n, d))
    for start in range(0, n, 10_000):
        own = patient[start : start + 10_000]
        noise = rng.standard_normal((len(own), d), dtype=np.float32)
        X[start : start + 10_000] = (
            noise + effects[0][site[own]] + effects[1][tumour[own]] + age[own, None] * effects[2]
        )
    X.flush()
    names = {"site": site, "tumour": tumour, "patient": np.arange(patients)}
    obs = pd.DataFrame({name: [f"{name[0]}{code:06d}" for code in codes[patient]] for name, codes in names.items()})
    obs.assign(age=age[patient]).to_pickle(folder / "obs.pkl")


def ours(folder: Path) -> dict[str, Any]:
    """Run the partially linear estimator with its inference."""
    obs = pd.read_pickle(folder / "obs.pkl")
    cohort = Cohort(np.load(folder / "X.npy", mmap_mode="r"), obs)
    contrasts = np.eye(SITES)[1:] - np.eye(SITES)[0]
    found: list[Any] = []

    def estimates() -> None:
        units = patient_units(cohort, GRAPH, ["site"], ["tumour", "age"])
        kept = complete_table(units.counts())
        assert kept is not None
        compared = compared_groups(units, kept)
        fold = deal_folds(compared.level, compared.stratum, FOLDS, 0)
        influence, _ = partially_linear(compared, fold, Nuisances(), overwrite=True)
        found.append(influence.contrast(contrasts))

    def whole() -> None:
        settings: dict[str, Any] = {"estimator": "partially-linear", "folds": FOLDS, "confirm": False}
        found.append(effect(cohort, GRAPH, treatment="site", **settings))

    times = {"estimates": timed(estimates)}
    peak = peak_mib()
    times["whole effect"] = timed(whole)
    np.save(folder / "ours.npy", found[0].estimate)
    share = found[1].share
    out = {"peak_mib": peak, "peak_whole_mib": peak_mib(), "share": [share.value, share.low, share.high]}
    return {**times["estimates"], "whole_effect": times["whole effect"], **out}


def timed(call: Callable[[], object]) -> dict[str, float]:
    """Return wall seconds, and those of the processor: the fairer ones on a machine that others use."""
    start = time.process_time()
    return {"seconds": seconds(call), "cpu_seconds": time.process_time() - start}


def econml(folder: Path) -> dict[str, Any]:
    """Run the peer on the same columns with the same kind of models."""
    warnings.simplefilter("ignore")
    from econml.dml import LinearDML
    from sklearn.linear_model import LogisticRegression, Ridge

    obs = pd.read_pickle(folder / "obs.pkl")
    X = np.load(folder / "X.npy")
    cohort = Cohort(X[:, :1], obs)
    units = patient_units(cohort, GRAPH, ["site"], ["tumour", "age"])
    patient = cohort.factor("patient", private=True).codes
    W, T = design_columns(units.stratum, units.covariates)[patient], units.level.codes[patient]
    model = LinearDML(
        model_y=Ridge(),
        model_t=LogisticRegression(max_iter=2000),
        discrete_treatment=True,
        cv=FOLDS,
        random_state=0,
    )

    def run() -> None:
        model.fit(X, T, X=None, W=W)
        _ = model.const_marginal_ate_inference().stderr_mean  # standard errors, as ours

    times = timed(run)
    np.save(folder / "econml.npy", np.asarray(model.intercept_).T)
    return {**times, "peak_mib": peak_mib()}


def product(folder: Path) -> dict[str, Any]:
    """Multiply the columns ``(34 + 8)`` with the embeddings once: what every linear estimate needs."""
    X = np.load(folder / "X.npy", mmap_mode="r")
    D = np.random.default_rng(0).standard_normal((SITES + 8, len(X)))

    def run() -> None:
        for start in range(0, len(X), 4096):
            D[:, start : start + 4096] @ np.asarray(X[start : start + 4096], dtype=np.float64)

    return min((timed(run) for _ in range(3)), key=lambda times: times["cpu_seconds"])


PARTS = {"ours": ours, "econml": econml, "product": product}


def alone(name: str, folder: Path) -> dict[str, Any]:
    """Run one part in a process of its own, so that its memory is its own."""
    command = [sys.executable, "-m", "experiments.benchmarks.effects", "--part", name, "--folder", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=dict(os.environ))
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure(n: int, d: int, patients: int, *, large: bool) -> dict[str, Any]:
    """Time the parts in turn.

    Parameters
    ----------
    n, d
        Rows and dimensions.
    patients
        How many bring the rows.
    large
        Without the peer.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder, n, d, patients)
        found = {part: alone(part, folder) for part in PARTS if not (large and part == "econml")}
        out: dict[str, Any] = {"n": n, "d": d, "patients": patients, "sites": SITES, "parts": found}
        out["ratio_to_product"] = found["ours"]["cpu_seconds"] / found["product"]["cpu_seconds"]
        if not large:
            for clock in ("seconds", "cpu_seconds"):
                out[f"times_faster_in_{clock}"] = found["econml"][clock] / found["ours"][clock]
            out["memory_share"] = found["ours"]["peak_mib"] / found["econml"]["peak_mib"]
            a, b = np.load(folder / "ours.npy"), np.load(folder / "econml.npy")
            out["correlation_of_estimates"] = float(np.corrcoef(a.ravel(), b.ravel())[0, 1])
    return out


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark and print it."""
    parser = argparse.ArgumentParser(description="Effects of many sites on all dimensions beside EconML.")
    parser.add_argument("--n", type=int, default=30_000)
    parser.add_argument("--d", type=int, default=1536)
    parser.add_argument("--patients", type=int, help="who bring the rows; default one row each")
    parser.add_argument("--large", action="store_true", help="100,000 memory-mapped rows of 2,000 patients")
    parser.add_argument("--fast", action="store_true", help="n=3000, d=64: seconds")
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.part:
        print(json.dumps(PARTS[options.part](options.folder)))
        return
    n, d = (100_000, options.d) if options.large else (3000, 64) if options.fast else (options.n, options.d)
    patients = 2000 if options.large else options.patients or n
    text = json.dumps(measure(n, d, patients, large=options.large), indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
