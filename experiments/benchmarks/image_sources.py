"""Time to read images from each kind of source, beside a bare loop that checks nothing.

``python -m experiments.benchmarks.image_sources [--images 5000] [--side 224] [--out FILE]``

The bare loop is what one would write: Pillow on the paths, ``zipfile``, ``tarfile`` or ``h5py`` on the archive, then
``convert("RGB")``. Both read the same images in turn, 100 at a time, and the CPU time of the process counts: another
program on the machine slows both alike, and neither is charged for it. Files are in the page cache.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import statistics
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import PIL
from PIL import Image

from causalfm.extraction.sources import open_images

BLOCK = 100
Read = Callable[[int], Image.Image]


def jpegs(n: int, side: int) -> list[bytes]:
    """Return JPEG images of about the size that tissue has: coarse structure under fine noise."""
    rng = np.random.default_rng(0)
    out = []
    for _ in range(n):
        coarse = Image.fromarray(rng.integers(60, 240, (side // 8, side // 8, 3), dtype=np.uint8))
        pixels = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), dtype=np.int16)
        pixels = np.clip(pixels + rng.integers(-8, 9, pixels.shape), 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
        out.append(buffer.getvalue())
    return out


def write(folder: Path, contents: list[bytes]) -> dict[str, Path]:
    """Write the images as every kind of source; in HDF5 they lie decoded, 16 to a chunk."""
    names = [f"{i:06d}.jpg" for i in range(len(contents))]
    paths = {"folder": folder / "images", "zip": folder / "a.zip", "tar": folder / "a.tar", "hdf5": folder / "a.h5"}
    paths["folder"].mkdir()
    with zipfile.ZipFile(paths["zip"], "w") as archive, tarfile.open(paths["tar"], "w") as tar:
        for name, content in zip(names, contents, strict=True):
            (paths["folder"] / name).write_bytes(content)
            archive.writestr(name, content)
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    decoded = np.stack([np.asarray(Image.open(io.BytesIO(content))) for content in contents])
    with h5py.File(paths["hdf5"], "w") as file:
        file.create_dataset("imgs", data=decoded, chunks=(16, *decoded.shape[1:]), compression="lzf")
    return paths


def bare(kind: str, path: Path) -> Read:
    """Return the loop's body without causalfm."""
    if kind == "folder":
        files = sorted(path.iterdir())
        return lambda i: Image.open(files[i]).convert("RGB")
    if kind == "zip":
        archive = zipfile.ZipFile(path)
        members = archive.namelist()
        return lambda i: Image.open(io.BytesIO(archive.read(members[i]))).convert("RGB")
    if kind == "tar":
        tar = tarfile.open(path)  # noqa: SIM115 (the loop keeps it open)
        entries = tar.getmembers()
        return lambda i: Image.open(tar.extractfile(entries[i])).convert("RGB")  # type: ignore[arg-type]
    stack = h5py.File(path, "r", rdcc_nbytes=2**24)["imgs"]
    return lambda i: Image.fromarray(stack[i])


def measure(paths: dict[str, Path], n: int) -> list[dict[str, Any]]:
    """Return microseconds of CPU per image, ours and bare, and the ratio: medians over paired blocks."""
    rows = []
    for kind, path in paths.items():
        source = open_images(path)
        reads: dict[str, Read] = {"bare": bare(kind, path), "causalfm": source.read}
        assert all(reads["bare"](i).tobytes() == source.read(i).tobytes() for i in (0, n - 1))
        taken: dict[str, list[float]] = {name: [] for name in reads}
        for at, start in enumerate(range(0, n, BLOCK)):
            for name in sorted(reads, reverse=bool(at % 2)):
                begin = time.process_time()
                for i in range(start, min(start + BLOCK, n)):
                    reads[name](i)
                taken[name].append((time.process_time() - begin) / min(BLOCK, n - start) * 1e6)
        ratios = [a / b for a, b in zip(taken["causalfm"], taken["bare"], strict=True)]
        medians = {f"{name}_us": statistics.median(values) for name, values in taken.items()}
        rows.append({"kind": kind, **medians, "ratio": statistics.median(ratios)})
        source.close()
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark and print it."""
    parser = argparse.ArgumentParser(description="Images read through causalfm, beside bare loops.")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        contents = jpegs(options.images, options.side)
        kib = sum(map(len, contents)) / len(contents) / 2**10
        rows = measure(write(Path(name), contents), options.images)
    print(
        f"{options.images} JPEG of {options.side} px, {kib:.0f} KiB each; Pillow {PIL.__version__}; CPU time per image"
    )
    for row in rows:
        times = f"bare {row['bare_us']:5.0f} µs   causalfm {row['causalfm_us']:5.0f} µs"
        print(f"{row['kind']:8} {times}   ratio {row['ratio']:.2f}")
    if options.out:
        facts = {
            "images": options.images,
            "side": options.side,
            "kib": kib,
            "machine": platform.machine(),
            "rows": rows,
        }
        options.out.write_text(json.dumps({**facts, "rows": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
