"""Wall time, processor time and memory of one call."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Spent(NamedTuple):
    """What a call cost: seconds by the clock, of the processor, and of user mode; MiB above the start; its result."""

    wall: float
    processor: float
    user: float
    mib: float
    result: Any


def spend(call: Callable[[], Any]) -> Spent:
    """Run ``call`` once, the garbage of what was before collected."""
    before = _fresh_peak()
    clocks = time.perf_counter, time.process_time, lambda: os.times().user
    start = [clock() for clock in clocks]
    result = call()
    wall, processor, user = (clock() - then for clock, then in zip(clocks, start, strict=True))
    return Spent(wall, processor, user, _peak() - before, result)


def peak_mib() -> float:
    """Return the largest resident memory of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _fresh_peak() -> float:
    """Return the MiB held now, mapped files aside, and let the peak start anew (Linux; elsewhere it goes on)."""
    gc.collect()
    if not STATUS.exists():
        return peak_mib()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # what was freed goes back, so that it counts again where it is used again
        trim(0)
    CLEAR.write_text("5", "utf-8")
    return _status("VmHWM:") - _status("RssFile:")


def _peak() -> float:
    return _status("VmHWM:") - _status("RssFile:") if STATUS.exists() else peak_mib()


def _status(field: str) -> float:
    lines = STATUS.read_text("utf-8").splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(field)) / 1024.0
