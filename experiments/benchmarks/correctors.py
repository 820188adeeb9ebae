"""Time and memory of the correctors beside their peers, and in one pass over a memory map.

``python -m experiments.benchmarks.correctors`` times fits at 5,000 x 768 beside neuroCombat, combatlearn and
concept-erasure in one process; ``--mapped ROWS`` fits from a float32 file of ROWS x 1,536, with the time that reading
and adding the same file up takes, and the peak of memory that is not the file.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalfm.estimators import ComBat, LinearEraser

LEVELS, CLASSES, REPEATS = 8, 3, 3


def timed(call: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Least processor time of several, in seconds: other work on the machine does not count."""
    best = np.inf
    for _ in range(repeats):
        start = time.process_time()
        call()
        best = min(best, time.process_time() - start)
    return float(best)


def beside_peers(n: int = 5_000, d: int = 768) -> dict[str, float]:
    """Processor seconds to fit and apply, per method."""
    import torch
    from combatlearn.core import ComBatModel
    from concept_erasure import LeaceEraser
    from neuroCombat import neuroCombat

    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, d)).astype(np.float32)
    site, tumour = rng.integers(LEVELS, size=n).astype(str), rng.integers(CLASSES, size=n).astype(str)
    table = pd.DataFrame({"site": site, "tumour": tumour})
    x, z = torch.from_numpy(X), torch.from_numpy(np.eye(LEVELS, dtype=np.float32)[site.astype(int)])

    def neuro() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            neuroCombat(X.T.copy(), table, "site", ["tumour"])

    def learn() -> None:
        peer = ComBatModel(method="fortin").fit(X, batch=site, discrete_covariates=table[["tumour"]])
        peer.transform(X, batch=site, discrete_covariates=table[["tumour"]])

    def leace() -> None:
        LeaceEraser.fit(x, z)(x)

    return {
        "ComBat": timed(lambda: ComBat().fit(X, site, biology=tumour).transform(X, factor=site)),
        "neuroCombat": timed(neuro),
        "combatlearn": timed(learn),
        "LinearEraser": timed(lambda: LinearEraser().fit(X, site).transform(X)),
        "concept-erasure": timed(leace),
    }


def mapped(n: int, folder: Path, d: int = 1_536) -> dict[str, dict[str, float]]:
    """Processor seconds and MiB of memory beside the file, per method."""
    rng = np.random.default_rng(0)
    path = folder / "rows.npy"
    X = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, d))
    for start in range(0, n, 10_000):
        X[start : start + 10_000] = rng.standard_normal((min(10_000, n - start), d), dtype=np.float32) + 1.0
    X.flush()
    del X
    site, tumour = rng.integers(LEVELS, size=n).astype(str), rng.integers(CLASSES, size=n).astype(str)
    X = np.load(path, mmap_mode="r")
    calls = {
        "read and add up": lambda: [X[i : i + 1_000].sum(axis=0) for i in range(0, n, 1_000)],
        "ComBat": lambda: ComBat().fit(X, site, biology=tumour),
        "LinearEraser": lambda: LinearEraser().fit(X, site, biology=tumour),
    }
    out = {}
    for name, call in calls.items():
        before = _anonymous()
        seconds = timed(call, 1)
        out[name] = {"seconds": seconds, "GB/s": n * d * 4 / seconds / 1e9, "MiB": _peak() - before}
    return out


def _status(field: str) -> float:
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(field)) / 1024.0


def _anonymous() -> float:
    """MiB of memory now, the mapped file aside; the peak starts anew."""
    Path("/proc/self/clear_refs").write_text("5", "utf-8")
    return _status("RssAnon:")


def _peak() -> float:
    """Peak of resident memory in MiB, the pages of the file that are resident now aside."""
    return _status("VmHWM:") - _status("RssFile:")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mapped", type=int, default=0, metavar="ROWS")
    rows = parser.parse_args().mapped
    if rows:
        with tempfile.TemporaryDirectory() as folder:
            for name, found in mapped(rows, Path(folder)).items():
                print(f"{name:16s}", "  ".join(f"{key} {value:.2f}" for key, value in found.items()))
    else:
        for name, seconds in beside_peers().items():
            print(f"{name:16s} {seconds:.3f} s")


if __name__ == "__main__":
    main()
