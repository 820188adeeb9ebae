"""Images read from each kind of source, beside a bare loop that checks nothing."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from causalfm.extraction.sources import open_images
from experiments.benchmarks.claim import Claim, Trial

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


def prepare(folder: Path, kind: str, images: int, side: int) -> Trial:
    """Read all images of one kind of source, beside the loop that one would write; files are in the system's cache."""
    path = write(folder, jpegs(images, side))[kind]
    source, loop = open_images(path), bare(kind, path)
    for i in (0, images - 1):
        if loop(i).tobytes() != source.read(i).tobytes():
            raise ValueError(f"image {i} is another one")

    def all_of(read: Read) -> None:
        for i in range(images):
            read(i)

    return Trial(partial(all_of, source.read), partial(all_of, loop))


ENTRIES = tuple(
    Claim(
        f"images.{kind}",
        f"JPEG tiles read from {words}",
        partial(prepare, kind=kind),
        {"images": 1000, "side": 224},
        {"images": 20, "side": 32},
        "the same in a bare Pillow loop that checks nothing",
        no_peer="the limit is the peer: what one would write",
        why="Size, mode and integrity are checked tile by tile.",
    )
    for kind, words in (
        ("folder", "a folder"),
        ("zip", "a zip archive"),
        ("tar", "a tar archive"),
        ("hdf5", "an HDF5 file of pixels, 16 in a chunk"),
    )
)
