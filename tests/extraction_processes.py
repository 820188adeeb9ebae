"""Extractions that are killed or starved, each in a process of its own: one start of Python, then forks.

``python -W ignore extraction_processes.py FOLDER`` prints one JSON object: results by name of the scenario.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import resource
import shutil
import signal
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from extraction_samples import FirstPixels, expected, images, spec
from killing import child, dying

import causalfm as cfm
from causalfm.extraction import load_encoder

LITE0 = "efficientnet-lite0"


def digests(folder: Path) -> dict[str, str]:
    """Return digests of the result, without the journal (it tells of every run) and the lock."""
    files = [p for p in folder.rglob("*") if p.is_file() and p.name not in ("extraction.jsonl", ".lock")]
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def killed_at_every_write(folder: Path, kind: str, damaged: bool = False) -> dict[str, Any]:
    """Kill before the first, second ... call that changes the disk, until one run gets through; resume each.

    With ``damaged`` the run repairs a finished folder of which one shard has a wrong bit.
    """
    pixels = images(10)

    def whole(out: Path) -> None:
        cfm.extract(pixels, spec(FirstPixels()), out=out, shard_rows=4, batch_size=2, format=kind)

    whole(folder / "whole")
    good, kills = digests(folder / "whole"), 0
    for point in itertools.count():
        out = folder / str(point)
        if damaged:
            shutil.copytree(folder / "whole", out)
            target = out / ("embeddings.npy" if kind == "npy" else "part-000001.parquet")
            content = bytearray(target.read_bytes())
            content[128 + 4 * 6 * 5] ^= 1
            target.write_bytes(content)

        def doomed(out=out, point=point) -> None:
            left = iter(range(point))
            for name in ("pwrite", "fsync", "rename", "replace", "ftruncate", "unlink"):
                setattr(os, name, dying(getattr(os, name), left))
            whole(out)

        if child(doomed) == 0:
            break
        kills += 1
        whole(out)
        assert digests(out) == good, f"killed before write {point}"
        np.testing.assert_array_equal(cfm.read(out).X, expected(pixels))
    return {"kills": kills}


def killed_at_random(folder: Path, tiles: Path) -> dict[str, Any]:
    """Kill a run of the real network five times at random moments, then let it end; compare with a whole run."""
    with zipfile.ZipFile(tiles) as archive, zipfile.ZipFile(folder / "tiles.zip", "w") as few:
        for name in sorted(n for n in archive.namelist() if n.endswith(".png"))[:24]:
            few.writestr(name, archive.read(name))
    loaded, draws, ends = load_encoder(LITE0, device="cpu"), random.Random(20261122), []

    def whole(out: Path, told: int | None = None) -> None:
        say = None if told is None else lambda what, done, steps: os.write(told, b"x")
        cfm.extract(folder / "tiles.zip", loaded, out=out, shard_rows=4, batch_size=2, progress=say)

    start = time.perf_counter()
    whole(folder / "whole")
    per_batch = (time.perf_counter() - start) / 12
    done = 0  # folders that were finished between the kills, by a run that was faster than its killer
    while ends.count(-signal.SIGKILL) < 5 and set(ends) <= {-signal.SIGKILL, 0}:
        out = folder / f"killed{done}"
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            whole(out, write_end)
            os._exit(0)
        os.close(write_end)
        for _ in range(draws.randint(1, 4)):  # batches of this run
            os.read(read_end, 1)
        time.sleep(draws.uniform(0, per_batch))
        os.kill(pid, signal.SIGKILL)
        ends.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        os.close(read_end)
        done += ends[-1] == 0
    journal = (folder / "killed0" / "extraction.jsonl").read_text().count('"shard"')
    whole(folder / f"killed{done}")
    good = digests(folder / "whole")
    same = all(digests(folder / f"killed{i}") == good for i in range(done + 1))
    names = cfm.read(folder / f"killed{done}").obs["image"]
    return {
        "ends": ends,
        "same": same,
        "shards_before_the_last_run": journal,
        "rows": len(names),
        "names": names.nunique(),
    }


def starved(folder: Path) -> dict[str, Any]:
    """Give the process 400 MB more than it has, for batches of 64 images that need 768 MB."""
    wide = torch.zeros((48, 3_000_000))

    def network(batch):
        return (batch.flatten(1) @ wide)[:, :6] + batch[:, 0].flatten(1)[:, :6]

    pixels = images(130)
    cfm.extract(pixels[:2], spec(network))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 400 * 2**20, -1))
    cohort = cfm.extract(pixels, spec(network), out=folder / "out")
    np.testing.assert_array_equal(cohort.X, expected(pixels))
    return {"batch_size": json.loads((folder / "out" / "extraction.jsonl").read_text().splitlines()[2])["batch_size"]}


class Made:
    """Images that take no memory."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> np.ndarray:
        return np.full((4, 4, 3), i % 256, dtype=np.uint8)


def grown(folder: Path, n: int) -> dict[str, Any]:
    """Return by how many KiB the memory of this process grows while it embeds n images to 2,048 dimensions."""
    peak = [0]

    def network(batch):
        return batch[:, 0].flatten(1).repeat(1, 128)

    def anonymous() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

    cfm.extract(Made(300), spec(network, dimension=2048))
    start = anonymous()
    watch = lambda what, done, steps: peak.__setitem__(0, max(peak[0], anonymous()))  # noqa: E731
    cohort = cfm.extract(Made(n), spec(network, dimension=2048), out=folder / "out", shard_rows=256, progress=watch)
    assert cohort.X.shape == (n, 2048)
    return {"KiB": max(peak[0], anonymous()) - start}


def shared(folder: Path) -> dict[str, Any]:
    """Start a second process on a folder in use, kill the first, start a third."""
    read_end, write_end = os.pipe()

    def told_and_slow():
        os.write(write_end, b"x")
        time.sleep(60)

    def extract(network) -> None:
        cfm.extract(images(6), spec(network), out=folder / "out", workers=2, batch_size=2)

    pid = os.fork()
    if pid == 0:
        extract(FirstPixels(before=told_and_slow))
        os._exit(0)
    os.read(read_end, 1)
    start = time.perf_counter()
    try:
        extract(FirstPixels())
        refused = ""
    except cfm.CausalFMError as error:
        refused = str(error)
    seconds = time.perf_counter() - start
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    extract(FirstPixels())  # its workers may live for some seconds more
    return {"refused": refused, "seconds": seconds, "rows": len(cfm.read(folder / "out"))}


def scenarios(tiles: str) -> dict[str, Any]:
    """Return the scenarios by name."""
    found: dict[str, Any] = {f"every write, {kind}": (killed_at_every_write, kind) for kind in ("npy", "parquet")}
    found |= {f"repair, {kind}": (killed_at_every_write, kind, True) for kind in ("npy", "parquet")}
    found |= {"starved": (starved,), "1500": (grown, 1500), "6000": (grown, 6000), "shared": (shared,)}
    return found | ({"random": (killed_at_random, Path(tiles))} if tiles else {})


def main(folder: Path, tiles: str) -> None:
    """Run every scenario in a fork and print the results."""
    for name, (call, *arguments) in scenarios(tiles).items():
        inside = folder / name.replace(" ", "_")
        inside.mkdir()
        child(lambda: (inside / "result.json").write_text(json.dumps(call(inside, *arguments))))  # noqa: B023
    results = {name: folder / name.replace(" ", "_") / "result.json" for name in scenarios(tiles)}
    print(json.dumps({name: json.loads(p.read_text()) if p.exists() else None for name, p in results.items()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "")
