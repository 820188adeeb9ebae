"""Throughput of stain transfer on a CPU, beside torchstain and torch-staintools, one tile's own stain to one donor.

``python -m experiments.benchmarks.stain [--tiles 256] [--side 224] [--repeats 5] [--out FILE]``

All estimate the stain of every tile after Macenko and move it to one donor's; causalfm reads it from every second
pixel each way by default, and from every pixel in a row of its own. A peer that is not installed is left out:
``pip install torchstain==1.4.1``; torch-staintools 1.0.5 is the last under MIT (1.0.7 allows academic use only) and
pins numpy 1, so ``pip install --no-deps --target FOLDER torch-staintools==1.0.5 kornia kornia_rs`` and put FOLDER on
PYTHONPATH. Rounds take the programs in turn; CPU seconds count, one thread.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from causalfm.augment import StainLibrary, StainSwap
from causalfm.datasets import histology

Swap = Callable[[torch.Tensor], object]


def peers(target: torch.Tensor) -> dict[str, Swap]:
    """Return what is installed, fitted to the donor tile ``(1, 3, H, W)`` uint8."""
    found: dict[str, Swap] = {}
    if importlib.util.find_spec("torchstain"):
        import torchstain

        macenko = torchstain.normalizers.MacenkoNormalizer(backend="torch")
        macenko.fit(target[0].float())
        found["torchstain"] = lambda tiles: [macenko.normalize(tile.float(), stains=False) for tile in tiles]
    if importlib.util.find_spec("torch_staintools"):
        from torch_staintools.normalizer.factory import NormalizerBuilder

        for solver in ("fista", "ls"):
            one = NormalizerBuilder.build("macenko", concentration_solver=solver)
            one.fit(target.float() / 255)
            found[f"torch-staintools {solver}"] = _staintools(one)
    return found


def _staintools(normaliser: torch.nn.Module) -> Swap:
    def call(tiles: torch.Tensor) -> object:
        return [normaliser(block.float() / 255) for block in tiles.split(32)]

    return call


def measure(n_tiles: int, side: int, repeats: int) -> dict[str, float]:
    """Return the median CPU seconds of every program for all tiles."""
    obs = histology.cohort_table(max(n_tiles // 8, 8), 1, 0.0, 0)
    some = torch.from_numpy(histology.render_cohort(obs, random_state=0, size=side, n_jobs=1)).permute(0, 3, 1, 2)
    tiles = some.repeat(n_tiles // len(some) + 1, 1, 1, 1)[:n_tiles].contiguous()
    library = StainLibrary.fit(tiles[:1], ["donor"])
    swap, exact = StainSwap(library), StainSwap(library, stride=1)
    calls: dict[str, Swap] = {
        "causalfm": lambda x: swap(x, donor="donor"),
        "causalfm, every pixel": lambda x: exact(x, donor="donor"),
        "causalfm, source known": lambda x: swap(x, "donor", "donor"),
        **peers(tiles[:1]),
    }
    for call in calls.values():
        call(tiles[:2])
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats):
        for name in sorted(calls, reverse=bool(turn % 2)):
            begin = time.process_time()
            calls[name](tiles)
            taken[name].append(time.process_time() - begin)
    return {name: statistics.median(values) for name, values in taken.items()}


def main(arguments: list[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description="Throughput of stain transfer.")
    parser.add_argument("--tiles", type=int, default=256)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with torch.no_grad():
        taken = measure(options.tiles, options.side, options.repeats)
    for name, seconds in taken.items():
        per_tile = seconds / options.tiles
        print(f"{name:24} {per_tile * 1e3:7.2f} ms per tile   {seconds / taken['causalfm']:6.2f} x causalfm")
    if options.out:
        facts = {"tiles": options.tiles, "side": options.side, "repeats": options.repeats, "seconds": taken}
        options.out.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
