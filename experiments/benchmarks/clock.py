"""Wall time and peak memory."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable


def seconds(call: Callable[[], object]) -> float:
    """Run ``call`` once and return its wall time."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def peak_mib() -> float:
    """Return the largest resident memory of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
