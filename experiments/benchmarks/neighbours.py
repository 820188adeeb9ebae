"""Time and peak memory of the neighbour pass, beside the bare matrix products that it cannot do without.

``python -m experiments.benchmarks.neighbours [--n 20000] [--d 1536] [--k 150] [--fast] [--out FILE]``
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch

from causalfm.neighbours import BLOCK_ENTRIES, COLUMN_BLOCK, knn
from experiments.benchmarks.clock import peak_mib, seconds

ROWS_PER_GROUP = 50


def measure(n: int, d: int, k: int, repeats: int = 3) -> dict[str, Any]:
    """Time the pass and the products in turn, so that a busy machine slows both.

    Parameters
    ----------
    n, d, k
        Rows, dimensions, neighbours.
    repeats
        Runs of each; the median counts.

    Returns
    -------
    dict
        Seconds, their ratio, and MiB: the data, and the peak of the process before and after.
    """
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, d), dtype=np.float32)
    groups = np.arange(n) // ROWS_PER_GROUP
    before = peak_mib()
    products, passes = [], []
    for _ in range(repeats):
        passes.append(seconds(lambda: knn(X, k, exclude=groups)))
        products.append(seconds(lambda: bare_products(torch.from_numpy(X))))
    bare, full = statistics.median(products), statistics.median(passes)
    return {
        "n": n,
        "d": d,
        "k": k,
        "repeats": repeats,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "torch": torch.__version__,
        "product_seconds": bare,
        "pass_seconds": full,
        "ratio": full / bare,
        "data_mib": X.nbytes / 2**20,
        "peak_before_mib": before,
        "peak_mib": peak_mib(),
    }


def bare_products(X: torch.Tensor) -> None:
    """Multiply ``X`` with itself in the blocks that the pass uses, and do nothing with the products."""
    columns = min(len(X), COLUMN_BLOCK)
    step = max(1, min(len(X), BLOCK_ENTRIES // columns))
    buffer = torch.empty(step * columns)
    for i in range(0, len(X), step):
        query = X[i : i + step]
        for j in range(0, len(X), columns):
            block = X[j : j + columns]
            torch.mm(query, block.T, out=buffer[: len(query) * len(block)].view(len(query), len(block)))


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark and print it."""
    parser = argparse.ArgumentParser(description="Neighbour pass beside the bare matrix products.")
    parser.add_argument("--n", type=int, default=20_000)
    parser.add_argument("--d", type=int, default=1536)
    parser.add_argument("--k", type=int, default=150)
    parser.add_argument("--fast", action="store_true", help="n=4000, d=384: seconds")
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    options = parser.parse_args(arguments)
    n, d = (4000, 384) if options.fast else (options.n, options.d)
    result = measure(n, d, options.k)
    print(f"n={n} d={d} k={options.k}, {result['threads']} threads, median of {result['repeats']}")
    print(f"bare products   {result['product_seconds']:8.2f} s")
    print(f"neighbour pass  {result['pass_seconds']:8.2f} s   ratio {result['ratio']:.2f}")
    print(f"peak memory     {result['peak_mib']:8.0f} MiB, {result['peak_before_mib']:.0f} before the first pass")
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
