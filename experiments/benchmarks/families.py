"""The metric families with intervals from one neighbour pass, beside the bare products and croma without intervals.

``python -m experiments.benchmarks.families [--n 20000] [--d 1536] [--strength 0.3] [--queries] [--fast] [--out FILE]``

``--queries`` times 2,000 sampled queries against 200,000 memory-mapped rows instead. ``--strength`` is the size of
class, site and patient beside noise of 1 per dimension. At 0.3 neighbour lists hold one class and site only: the
hardest case for a search by type, but a median that no patient can change has no interval. At 0.1 they are mixed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from causalfm import metrics
from causalfm.cohort import Cohort
from causalfm.graph import CausalGraph
from causalfm.neighbours import Neighbours, knn
from causalfm.results import Estimate
from experiments.benchmarks.clock import peak_mib, seconds
from experiments.benchmarks.neighbours import bare_products

ROWS_PER_GROUP = 50
K, RESERVE = (
    90,
    ROWS_PER_GROUP,
)  # the longest list that is asked for, and what the absence of one group can take from it
CLASSES, SITES = 4, 5
STRENGTH = 0.3
GRAPH = CausalGraph.standard(biology="tumour", technical=["site"], group="patient")


def table_of(n: int, rng: np.random.Generator) -> pd.DataFrame:
    """Draw classes and sites of patients that bring 50 rows each."""
    patient = np.arange(n) // ROWS_PER_GROUP
    n_patients = int(patient.max()) + 1
    tumour, site = rng.integers(CLASSES, size=n_patients), rng.integers(SITES, size=n_patients)
    names = {"tumour": tumour[patient], "site": site[patient], "patient": patient}
    return pd.DataFrame({name: np.char.add(name[0], codes.astype(str)) for name, codes in names.items()})


def fill(
    X: np.ndarray, obs: pd.DataFrame, rng: np.random.Generator, strength: float = STRENGTH, step: int = 10_000
) -> None:
    """Write embeddings in which class, site and patient are there, block by block."""
    parts = [(obs[name].astype("category").cat.codes.to_numpy(), strength) for name in ("tumour", "site", "patient")]
    centres = [size * rng.standard_normal((int(codes.max()) + 1, X.shape[1])) for codes, size in parts]
    for start in range(0, len(X), step):
        rows = slice(start, start + step)
        block = rng.standard_normal((len(parts[0][0][rows]), X.shape[1]), dtype=np.float32)
        for (codes, _), centre in zip(parts, centres, strict=True):
            block += centre[codes[rows]].astype(np.float32)
        X[rows] = block


def search(cohort: Cohort) -> Neighbours:
    """Run the one pass that serves all families."""
    return knn(cohort.X, K, exclude=cohort.factor("patient", private=True).codes, reserve=RESERVE)


def families(cohort: Cohort, lists: Neighbours) -> dict[str, Callable[[], Estimate]]:
    """Return what measures the six families with intervals."""
    given: dict[str, Any] = {"neighbours": lists, "standardised": False}
    return {
        "robustness index": partial(metrics.robustness_index, cohort, GRAPH, k=61, **given),
        "MaRI": partial(metrics.mari, cohort, GRAPH, k=61, **given),
        "CRoMa": partial(metrics.croma, cohort, GRAPH, **given),
        "iLISI": partial(metrics.ilisi, cohort, GRAPH, k=90, **given),
        "cLISI": partial(metrics.clisi, cohort, GRAPH, k=90, **given),
        "kBET": partial(metrics.kbet, cohort, GRAPH, k=50, **given),
        "graph connectivity": partial(metrics.graph_connectivity, cohort, GRAPH, k=15, neighbours=lists),
    }


def side_by_side(asked: dict[str, Callable[[], Estimate]]) -> None:
    """Measure all, as many at once as there are threads, each with one; the costliest, CRoMa, first."""
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for done in [pool.submit(asked[name]) for name in sorted(asked, key=lambda name: name != "CRoMa")]:
            done.result()
    torch.set_num_threads(threads)


def croma_seconds(cohort: Cohort) -> dict[str, float]:
    """Time the peer's three metrics, which have no intervals."""
    from croma import RI, CRoMa, MaRI

    manifest = pd.DataFrame(
        {
            "sample_id": np.arange(len(cohort)).astype(str),
            "image_path": "",
            "label": cohort.obs["tumour"].to_numpy(),
            "group_id": cohort.obs["patient"].to_numpy(),
            "site": cohort.obs["site"].to_numpy(),
        }
    )
    tau = MaRI.recommend_tau(cohort.X, manifest, confounder_column="site", k=61)
    return {
        "RI": seconds(lambda: RI.compute(cohort.X, manifest, confounder_column="site", k_candidates=[61])),
        "MaRI": seconds(lambda: MaRI.compute(cohort.X, manifest, confounder_column="site", k_candidates=[61], tau=tau)),
        "CRoMa": seconds(lambda: CRoMa.compute(cohort.X, manifest, confounder_column="site")),
    }


def measure(n: int, d: int, repeats: int, strength: float = STRENGTH) -> dict[str, Any]:
    """Time everything in turn; the medians count.

    Parameters
    ----------
    n, d
        Rows and dimensions.
    repeats
        Runs of the products and of ours; the peer runs once.
    strength
        Of class, site and patient.

    Returns
    -------
    dict
        Seconds, ratios to the products and to the peer, values with intervals, peak memory in MiB.
    """
    rng = np.random.default_rng(0)
    obs = table_of(n, rng)
    X = np.empty((n, d), dtype=np.float32)
    fill(X, obs, rng, strength)
    cohort, before = Cohort(X, obs), peak_mib()
    spent: dict[str, list[float]] = {}
    found: list[Neighbours] = []

    def clock(name: str, call: Callable[[], object]) -> None:
        spent.setdefault(name, []).append(seconds(call))

    for _ in range(repeats):
        clock("bare products", lambda: bare_products(torch.from_numpy(X)))
        clock("neighbour pass", lambda: found.append(search(cohort)))
        asked = families(cohort, found[-1])
        clock("all metrics side by side", partial(side_by_side, asked))
        for name, ask in asked.items():
            clock(f"{name} alone", ask)
    estimates = {name: [getattr(ask(), at) for at in ("value", "low", "high", "chance")] for name, ask in asked.items()}
    peak = peak_mib()
    ours = {name: statistics.median(times) for name, times in spent.items()}
    peer, bare = croma_seconds(cohort), ours.pop("bare products")
    total = ours["neighbour pass"] + ours["all metrics side by side"]
    three = ours["neighbour pass"] + sum(ours[f"{name} alone"] for name in ("robustness index", "MaRI", "CRoMa"))
    return {
        "n": n,
        "d": d,
        "strength": strength,
        "repeats": repeats,
        "threads": torch.get_num_threads(),
        "product_seconds": bare,
        "seconds": ours,
        "estimates": estimates,
        "total_seconds": total,
        "ratio_to_products": total / bare,
        "ratio_one_after_the_other": (sum(ours.values()) - ours["all metrics side by side"]) / bare,
        "peer_seconds": peer,
        "peer_over_all_of_ours": sum(peer.values()) / total,
        "peer_over_the_same_three": sum(peer.values()) / three,
        "data_mib": X.nbytes / 2**20,
        "peak_before_mib": before,
        "peak_mib": peak,
    }


def sampled(n: int, d: int, queries: int) -> dict[str, Any]:
    """Time the robustness index of a random sample of queries against memory-mapped rows."""
    rng = np.random.default_rng(0)
    obs = table_of(n, rng)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "X.npy"
        fill(np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, d)), obs, rng)
        cohort = Cohort(np.load(path, mmap_mode="r"), obs)
        before, found = peak_mib(), []

        def ask() -> None:
            codes = cohort.factor("patient", private=True).codes
            lists = knn(cohort.X, K, exclude=codes, reserve=RESERVE, queries=queries)
            found.append(metrics.robustness_index(cohort, GRAPH, k=61, neighbours=lists, standardised=False))

        spent = seconds(ask)
    value, low, high = (getattr(found[0], name) for name in ("value", "low", "high"))
    return {
        "n": n,
        "d": d,
        "queries": queries,
        "seconds": spent,
        "value": value,
        "low": low,
        "high": high,
        "peak_before_mib": before,
        "peak_mib": peak_mib(),
    }


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark and print it."""
    parser = argparse.ArgumentParser(description="Metric families beside bare matrix products and croma.")
    parser.add_argument("--n", type=int, default=20_000)
    parser.add_argument("--d", type=int, default=1536)
    parser.add_argument("--strength", type=float, default=STRENGTH, help="of class, site and patient")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--queries", action="store_true", help="2,000 queries of 200,000 memory-mapped rows")
    parser.add_argument("--fast", action="store_true", help="n=2000, d=64: seconds")
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    options = parser.parse_args(arguments)
    if options.queries:
        n, d, m = (5000, 64, 200) if options.fast else (200_000, options.d, 2000)
        result = sampled(n, d, m)
    else:
        n, d = (2000, 64) if options.fast else (options.n, options.d)
        result = measure(n, d, 1 if options.fast else options.repeats, options.strength)
    text = json.dumps(result, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
