"""Images per second of ``causalfm.extract`` beside a bare torch loop over the same loader and the same network.

``python -m experiments.benchmarks.extraction [--encoder efficientnet-lite0] [--weights random] [--device cuda]
[--precision bf16] [--images 512] [--batch-size 64] [--workers 8] [--repeats 3] [--out FILE]
[--cluster 1,2 --shard-rows 64]``

The bare loop reads with torch's ``DataLoader`` as everyone would: pinned memory on a GPU, the next batch copied while
one is computed, results gathered in a list. ``extract`` does what it always does: checks every number, writes shards
with checksums, flushes them to disk, writes the table, reads the result back. Both run in turn, so that a busy machine
slows both; processor time is shown beside wall time.

``--cluster 1,2`` times ``extract`` on so many local Dask workers too, in the same turns. The workers are there and have
loaded the encoder before the clock starts; wall time of tasks, staging and the order of shards is in. Their processor
time is not (it is this process's own). Give every process the same threads: ``OMP_NUM_THREADS=1``.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from causalfm.clusters import client_of
from causalfm.extraction import Encoder, extract, load_encoder, open_images

if TYPE_CHECKING:
    from distributed import Client


def make_tiles(path: Path, n: int, size: int) -> Path:
    """Write a zip of JPEG tiles: smooth colours with noise, about as hard to decode as tissue."""
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(n):
            coarse = Image.fromarray(rng.integers(90, 230, (16, 16, 3), dtype=np.uint8))
            tile = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC)).astype(np.int16)
            tile += rng.integers(-20, 20, tile.shape, dtype=np.int16)
            content = io.BytesIO()
            Image.fromarray(tile.clip(0, 255).astype(np.uint8)).save(content, "JPEG", quality=90)
            archive.writestr(f"{i:06d}.jpg", content.getvalue())
    return path


class Items(torch.utils.data.Dataset[Any]):
    """One prepared image per index, as a torch user writes it."""

    def __init__(self, path: Path, encoder: Encoder) -> None:
        self.source = open_images(path)
        self.transform = encoder.transform

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, i: int) -> np.ndarray:
        return self.transform(self.source.read(i))


def bare_loop(path: Path, encoder: Encoder, batch_size: int, workers: int) -> np.ndarray:
    """Embed with nothing around the network."""
    gpu = encoder.device.type == "cuda"
    loader: Any = torch.utils.data.DataLoader(
        Items(path, encoder),
        batch_size,
        num_workers=workers,
        pin_memory=gpu,
        multiprocessing_context="spawn" if workers and gpu else None,  # as extract starts them
    )
    out = []
    with torch.inference_mode():
        for pixels in loader:
            out.append(encoder.embed(pixels.to(encoder.device, non_blocking=True)))
    return torch.cat(out).cpu().numpy()


def timed(call: Any) -> tuple[float, float, Any]:
    """Return wall seconds, processor seconds of this process, and what the call gave."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = call()
    return time.perf_counter() - wall, time.process_time() - cpu, found


def measure(calls: dict[str, Callable[[int], np.ndarray]], repeats: int) -> dict[str, Any]:
    """Time calls in turn, after one run of each that does not count; ``"bare"`` and ``"extract"`` are among them.

    Returns
    -------
    dict
        Median seconds, images per second, the median ratio of pairs, and the largest difference of an embedding.
    """
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    ratios, apart = [], 0.0
    for repeat in range(repeats + 1):
        seconds, X = {}, {}
        for name in calls if repeat % 2 else reversed(calls):
            wall, cpu, X[name] = timed(lambda: calls[name](repeat))  # noqa: B023
            seconds[name] = (wall, cpu)
        apart = max(apart, *(float(np.abs(X["bare"] - found).max()) for found in X.values()))
        if repeat:
            for name, both in seconds.items():
                runs[name].append(both)
            ratios.append(tuple(seconds["extract"][i] / seconds["bare"][i] for i in (0, 1)))
    n = len(X["bare"])
    median = {name: [statistics.median(r[i] for r in found) for i in (0, 1)] for name, found in runs.items()}
    return {
        "seconds": {name: wall for name, (wall, _) in median.items()},
        "images_per_second": {name: n / wall for name, (wall, _) in median.items()},
        "cpu_seconds": {name: cpu for name, (_, cpu) in median.items()},
        "ratio_wall": statistics.median(r[0] for r in ratios),
        "ratio_cpu": statistics.median(r[1] for r in ratios),
        "largest_difference": apart,
    }


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark and print it."""
    parser = argparse.ArgumentParser(description="causalfm.extract beside a bare torch loop.")
    parser.add_argument("--encoder", default="efficientnet-lite0")
    parser.add_argument("--weights", help="random, or a file; default: the real ones")
    parser.add_argument("--device")
    parser.add_argument("--precision")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--size", type=int, default=256, help="side of a tile, px")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cluster", default="", help="numbers of local Dask workers, separated by commas")
    parser.add_argument("--shard-rows", type=int, help="images of a task; default: that of extract")
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    options = parser.parse_args(arguments)
    chosen = {name: getattr(options, name) for name in ("weights", "device", "precision", "compile")}
    encoder = load_encoder(options.encoder, **chosen)
    with tempfile.TemporaryDirectory() as name, ExitStack() as opened:
        folder = Path(name)
        path = make_tiles(folder / "tiles.zip", options.images, options.size)
        how: dict[str, Any] = {"batch_size": options.batch_size, "shard_rows": options.shard_rows}

        def here(repeat: int) -> np.ndarray:
            return extract(path, encoder, workers=options.workers, out=folder / f"here{repeat}", **how).X

        def there(client: Client, repeat: int) -> np.ndarray:
            out = folder / f"{len(client.nthreads())} workers {repeat}"
            return extract(path, options.encoder, scheduler=client, out=out, **how, **chosen).X

        calls = {"bare": lambda repeat: bare_loop(path, encoder, options.batch_size, options.workers), "extract": here}
        for count in map(int, filter(None, options.cluster.split(","))):
            client = opened.enter_context(client_of(f"local:{count}"))
            calls[f"dask {count}"] = partial(there, client)
        result = measure(calls, options.repeats)
    gpu = encoder.device.type == "cuda"
    result |= {
        "encoder": encoder.name,
        "precision": encoder.precision,
        "images": options.images,
        "batch_size": options.batch_size,
        "workers": options.workers,
        "shard_rows": options.shard_rows,
        "device": torch.cuda.get_device_name(encoder.device) if gpu else platform.machine(),
        "torch": torch.__version__,
    }
    print(
        f"{encoder.name}, {encoder.precision}, {result['device']}, {options.images} images, {options.workers} workers"
    )
    for which, rate in result["images_per_second"].items():
        print(f"{which:8} {rate:8.1f} images/s   {result['cpu_seconds'][which]:7.2f} s of processor time")
    print(f"extract / bare: {result['ratio_wall']:.3f} of wall time, {result['ratio_cpu']:.3f} of processor time")
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
