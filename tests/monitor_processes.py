"""Monitors whose process is killed while it writes: one start of Python, then forks.

``python -W ignore monitor_processes.py FOLDER`` prints one JSON object: results by name of the scenario.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from killing import child, dying
from safetensors import safe_open

from causalfm import Cohort
from causalfm.datasets.planted_shifts import planted_shift
from causalfm.shift import Monitor

KEY = b"a key of thirty-two bytes, no less"
WRITES = ("open", "fsync", "rename", "replace", "ftruncate", "unlink")


def hospital(n_batches: int) -> tuple[Monitor, list[Cohort]]:
    """Return a monitor and batches of ten patients, of whom the later ones have changed."""
    _, _, graph, truth = planted_shift("nothing", 0.0, n_groups=12, new_groups=1)
    monitor = Monitor.fit(truth.draw("deployment", 60, 2, 1), graph, key=KEY, given="age")
    stream = truth.draw("deployment", 10 * n_batches, 2, 2)
    late = np.arange(len(stream)) >= len(stream) // 2
    stream = stream.replace(
        X=stream.X + 3.0 * late[:, None], obs=stream.obs.assign(patient="s" + stream.obs["patient"])
    )
    return monitor, [stream[20 * k : 20 * k + 20] for k in range(n_batches)]


def follow(path: Path, batches: list[Cohort], told: int | None = None) -> None:
    """Give a monitor on disk all batches from the first: whoever starts again does not know where it stopped."""
    monitor = Monitor.load(path, key=KEY)
    for k, batch in enumerate(batches):
        status = monitor.update(batch, name=f"day {k}")
        if told is not None and not status.repeated:
            os.write(told, b"x")


def digest(path: Path) -> str:
    """Return the file's digest of header and arrays; its bytes may differ, since safetensors orders metadata freely."""
    with safe_open(path, framework="numpy") as file:
        return str(file.metadata()["sha256"])


def left_over(path: Path) -> list[str]:
    """Return what lies beside the file and its lock."""
    return sorted(p.name for p in path.parent.iterdir() if p.name not in (path.name, f".{path.name}.lock"))


def killed_at_every_write(folder: Path) -> dict[str, Any]:
    """Kill before the first, second ... call that changes the disk, until one run gets through; go on after each."""
    monitor, batches = hospital(2)
    (folder / "whole").mkdir()
    monitor.save(folder / "whole" / "m.safetensors")
    start = (folder / "whole" / "m.safetensors").read_bytes()
    follow(folder / "whole" / "m.safetensors", batches)
    good, kills = digest(folder / "whole" / "m.safetensors"), 0
    for point in itertools.count():
        path = folder / str(point) / "m.safetensors"
        path.parent.mkdir()
        path.write_bytes(start)

        def doomed(path=path, point=point) -> None:
            left = iter(range(point))
            for name in WRITES:
                setattr(os, name, dying(getattr(os, name), left))
            follow(path, batches)

        if child(doomed) == 0:
            break
        kills += 1
        Monitor.load(path, key=KEY)  # whole, at every moment
        follow(path, batches)
        assert digest(path) == good, f"killed before write {point}"
        assert left_over(path) == [], f"killed before write {point}"
    return {"kills": kills, "alarm": Monitor.load(path, key=KEY).status().verdict}


def killed_at_random(folder: Path) -> dict[str, Any]:
    """Kill a run again and again at random moments, start it anew each time; what it had reported is never lost."""
    monitor, batches = hospital(30)
    for name in ("whole", "killed"):
        (folder / name).mkdir()
        monitor._path = None
        monitor.save(folder / name / "m.safetensors")
    begun = time.perf_counter()
    follow(folder / "whole" / "m.safetensors", batches)
    per_batch = (time.perf_counter() - begun) / len(batches)
    path, draws, kills, lost, reported = folder / "killed" / "m.safetensors", random.Random(20261123), 0, 0, 0
    for _ in range(20):
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            follow(path, batches, write_end)
            os._exit(0)
        os.close(write_end)
        for _ in range(draws.randint(0, 2)):  # batches of this run
            reported += len(os.read(read_end, 1))
        time.sleep(draws.uniform(0, per_batch))
        os.kill(pid, signal.SIGKILL)
        kills += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        while told := os.read(read_end, 4096):
            reported += len(told)
        os.close(read_end)
        lost += Monitor.load(path, key=KEY).status().batch < reported
        reported = Monitor.load(path, key=KEY).status().batch
    follow(path, batches)
    same = digest(path) == digest(folder / "whole" / "m.safetensors")
    return {"kills": kills, "lost": lost, "same": same, "left over": left_over(path), "before the end": reported}


def main(folder: Path) -> None:
    """Run both scenarios and print the results."""
    results = {}
    for call in (killed_at_every_write, killed_at_random):
        (folder / call.__name__).mkdir()
        results[call.__name__] = call(folder / call.__name__)
    print(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
