"""Tiles of rendered tissue per second, and the processor time of one tile, which a busy machine disturbs less.

``python -m experiments.benchmarks.histology [--tiles 96] [--size 224] [--repeats 5] [--fast] [--out FILE]``
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from causalfm.datasets import histology


def measure(tiles: int, size: int, repeats: int) -> dict[str, Any]:
    """Render the same tiles with one thread and with two, in turn, over all patterns, stains and scanners.

    Parameters
    ----------
    tiles
        Tiles of each run, rounded up to whole cohorts of 16.
    size
        Side of a tile, px.
    repeats
        Runs of each; medians count.

    Returns
    -------
    dict
        Tiles per second of wall time and processor seconds per tile, by number of threads.
    """
    obs = histology.cohort_table(16, -(-tiles // 16), 0.6, 0, tissues=histology.TISSUES)
    obs["scanner"] = np.resize(list(histology.SCANNERS), len(obs))
    histology.render_cohort(obs.iloc[:16], random_state=0, size=size)  # fills the caches of operators
    wall: dict[int, list[float]] = {1: [], 2: []}
    cpu: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(repeats):
        for jobs in wall:
            started, used = time.perf_counter(), time.process_time()
            histology.render_cohort(obs, random_state=0, size=size, n_jobs=jobs)
            wall[jobs].append(time.perf_counter() - started)
            cpu[jobs].append(time.process_time() - used)
    return {
        "tiles": len(obs),
        "size": size,
        "repeats": repeats,
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "tiles_per_second": {jobs: len(obs) / statistics.median(v) for jobs, v in wall.items()},
        "cpu_seconds_per_tile": {jobs: statistics.median(v) / len(obs) for jobs, v in cpu.items()},
        "best_cpu_seconds_per_tile": {jobs: min(v) / len(obs) for jobs, v in cpu.items()},
    }


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark and print it."""
    parser = argparse.ArgumentParser(description="Speed of the tissue renderer.")
    parser.add_argument("--tiles", type=int, default=96)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--fast", action="store_true", help="16 tiles of 128 px, once")
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    o = parser.parse_args(arguments)
    result = measure(16, 128, 1) if o.fast else measure(o.tiles, o.size, o.repeats)
    print(
        f"{result['tiles']} tiles of {result['size']} px, median of {result['repeats']}, {result['cores']} cores, "
        f"load {result['load']:.1f}"
    )
    for jobs, rate in result["tiles_per_second"].items():
        seconds, best = result["cpu_seconds_per_tile"][jobs], result["best_cpu_seconds_per_tile"][jobs]
        print(f"{jobs} thread(s): {rate:6.1f} tiles/s   {1e3 * seconds:5.1f} CPU ms per tile (best {1e3 * best:.1f})")
    if o.out:
        o.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
