"""A command beside a watch: its time, what its processors worked, and the memory that it and its children held."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PACE = 0.1  # seconds between two looks


@dataclass(frozen=True)
class Watched:
    """What a command took.

    Attributes
    ----------
    status
        Exit status.
    seconds, processor_seconds
        By the clock; of all processors, children included.
    peak_gib
        Largest memory (resident set) of the process that was started, as the system counted it.
    all_gib
        Largest sum over that process and those that it started, seen every tenth of a second.
    """

    status: int
    seconds: float
    processor_seconds: float
    peak_gib: float
    all_gib: float

    def to_dict(self) -> dict[str, Any]:
        """Return the fields."""
        return asdict(self)


def watched(arguments: Sequence[str], log: Path) -> Watched:
    """Run ``python -m arguments`` and watch it.

    Parameters
    ----------
    arguments
        A module and its arguments.
    log
        Where what it prints goes.

    Notes
    -----
    The system counts for a command what its parent held when it started it, if that was more: watch from a small one.
    """
    with log.open("w", encoding="utf-8") as out:
        start = time.perf_counter()
        child = subprocess.Popen([sys.executable, "-m", *arguments], stdout=out, stderr=subprocess.STDOUT)
        most, stop = [0], threading.Event()
        looking = threading.Thread(target=_look, args=(child.pid, most, stop))
        looking.start()
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
        stop.set()
        looking.join()
    worked = used.ru_utime + used.ru_stime  # of children too: they were waited for
    return Watched(
        child.returncode, seconds, worked, used.ru_maxrss / 2**20, max(most[0] / 2**30, used.ru_maxrss / 2**20)
    )


def _look(pid: int, most: list[int], stop: threading.Event) -> None:
    import psutil

    while not stop.wait(PACE):
        try:
            process = psutil.Process(pid)
            family = [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        total = 0
        for member in family:
            try:
                total += member.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        most[0] = max(most[0], total)
