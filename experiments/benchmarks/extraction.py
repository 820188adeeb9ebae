"""Embeddings by ``causalfm.extract`` beside a bare torch loop over the same reading, and beside the network alone.

The bare loop reads with torch's ``DataLoader`` as everyone would: pinned memory on a GPU, the next batch copied while
one is computed, results gathered in a list. ``extract`` does what it always does: checks every number, writes shards
with checksums, flushes them to disk, writes the table, reads the result back.
"""

from __future__ import annotations

import io
import itertools
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from causalfm.extraction import Encoder, extract, load_encoder, open_images
from experiments.benchmarks.claim import Claim, Trial


def make_tiles(path: Path, n: int, size: int) -> Path:
    """Write a zip of JPEG tiles: smooth colours with noise, about as hard to decode as tissue."""
    from PIL import Image

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


class Items:
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
    import torch

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


def prepare(
    folder: Path, device: str, encoder: str, precision: str | None, images: int, side: int, batch: int, workers: int
) -> Trial:
    """Embed a zip of tiles with random weights."""
    import torch

    network = load_encoder(encoder, weights="random", device=device, precision=precision)
    path, runs = make_tiles(folder / "tiles.zip", images, side), itertools.count()
    items = Items(path, network)
    pixels = torch.stack([torch.as_tensor(items[i]) for i in range(images)]).to(network.device)

    def alone() -> None:
        with torch.inference_mode():
            for block in pixels.split(batch):
                network.embed(block).cpu()

    return Trial(
        lambda: extract(path, network, batch_size=batch, workers=workers, out=folder / f"out{next(runs)}").X,
        alone,
        lambda: bare_loop(path, network, batch, workers),
    )


ENTRIES = tuple(
    Claim(
        f"extraction.{name}",
        f"tiles of a zip embedded by {encoder}{words}",
        partial(prepare, device=device, encoder=encoder, precision=precision, workers=workers),
        {"images": images, "side": 256, "batch": 64},
        {"images": 4, "side": 64, "batch": 2},
        "the network on pixels that are in its memory",
        peer="torch",
        differs="largest difference of a number of an embedding",
        tolerance=tolerance,
        repeats=3,
        needs=needs,
        absent="this machine has no CUDA device",
        why="Decoding and resizing of the tiles comes before the network. `extract` also checks every number, writes "
        "shards with checksums, flushes them to the disk and reads the result back, which the bare loop does not.",
    )
    for name, encoder, device, precision, workers, images, tolerance, needs, words in (
        ("processor", "efficientnet-lite0", "cpu", None, 0, 192, 1e-5, "", ""),
        ("gpu", "dinov2-l", "cuda", "bf16", 8, 2048, 1e-2, "cuda", ", bfloat16, on a GPU with eight workers"),
    )
)
