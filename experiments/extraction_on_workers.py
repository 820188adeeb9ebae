"""Images per second of ``causalfm.extract`` on local Dask workers, beside one process and a bare torch loop.

``OMP_NUM_THREADS=1 python -m experiments.extraction_on_workers [--workers 1,2] [--images 512] [--shard-rows 32]
[--batch-size 16] [--encoder efficientnet-lite0] [--repeats 3] [--out FILE]``

All run in turn, so that a busy machine slows all. Workers are there and have loaded the encoder before the clock
starts; tasks, waiting shards and their order are in. The first turn does not count. Give every process one thread, else
one process uses what the others use together. Shards are flushed to the disk of ``TMPDIR``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.clusters import client_of
from causalfm.extraction import extract, load_encoder
from experiments.benchmarks.extraction import bare_loop, make_tiles

if TYPE_CHECKING:
    from distributed import Client


def measure(calls: dict[str, Callable[[int], np.ndarray]], repeats: int) -> dict[str, dict[str, float]]:
    """Time calls in turn; returns median seconds, images per second, and the largest difference from the first's."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    apart = dict.fromkeys(calls, 0.0)
    for repeat in range(repeats + 1):
        found: dict[str, np.ndarray] = {}
        for name, call in calls.items():
            start = time.perf_counter()
            found[name] = call(repeat)
            if repeat:
                seconds[name].append(time.perf_counter() - start)
        first = next(iter(found.values()))
        apart = {name: max(apart[name], float(np.abs(X - first).max())) for name, X in found.items()}
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    return {
        name: {"seconds": median, "images_per_second": len(first) / median, "largest_difference": apart[name]}
        for name, median in medians.items()
    }


def main(arguments: list[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", default="1,2", help="numbers of workers, separated by commas")
    parser.add_argument("--encoder", default="efficientnet-lite0")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--shard-rows", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    options = parser.parse_args(arguments)
    how: dict[str, Any] = {"batch_size": options.batch_size, "shard_rows": options.shard_rows}
    with tempfile.TemporaryDirectory() as name, ExitStack() as opened:
        folder = Path(name)
        path = make_tiles(folder / "tiles.zip", options.images, 256)
        encoder = load_encoder(options.encoder, device="cpu")

        def alone(repeat: int) -> np.ndarray:
            return np.asarray(extract(path, encoder, out=folder / f"alone {repeat}", **how).X)

        def there(client: Client, count: int, repeat: int) -> np.ndarray:
            out = folder / f"{count} workers {repeat}"
            return np.asarray(extract(path, options.encoder, scheduler=client, device="cpu", out=out, **how).X)

        calls = {"bare loop": lambda repeat: bare_loop(path, encoder, options.batch_size, 0), "one process": alone}
        for count in map(int, options.workers.split(",")):
            client = opened.enter_context(client_of(f"local:{count}"))
            calls[f"{count} workers"] = partial(there, client, count)
        result = measure(calls, options.repeats)
    for name, row in result.items():
        print(
            f"{name:12} {row['images_per_second']:8.1f} images/s   largest difference {row['largest_difference']:.1e}"
        )
    if options.out:
        options.out.write_text(json.dumps({**vars(options), "out": None, "result": result}, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
