"""What the numbers depend on: machine, versions, code."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LIBRARIES = ("causalfm", "numpy", "scipy", "pandas", "scikit-learn", "torch", "h5py", "pillow")
THREAD_SETTINGS = ("OMP", "OPENBLAS", "MKL", "NUMBA", "VECLIB_MAXIMUM")


def facts(threads: int, peers: Iterable[str]) -> dict[str, Any]:
    """Describe the machine and the installed versions; nothing names the machine or its user.

    Parameters
    ----------
    threads
        Of every library.
    peers
        Distributions that claims are compared with.
    """
    return {
        "processor": _line("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "architecture": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": threads,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in LIBRARIES},
        "peers": {name: version(name) for name in sorted(peers)},
        "code": code_digest(),
    }


def moment() -> dict[str, Any]:
    """Return when this is, and how busy the machine."""
    return {"date": datetime.now(UTC).strftime("%Y-%m-%d"), "load": round(os.getloadavg()[0], 1)}


def version(name: str) -> str:
    """Return the installed version of a distribution, ``""`` where it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def run_id(about: dict[str, Any], *, fast: bool) -> str:
    """Name a run: records of another machine, other versions, other code or other sizes are never mixed with it."""
    return hashlib.sha256(json.dumps([about, fast], sort_keys=True).encode()).hexdigest()[:16]


def code_digest() -> str:
    """Hash the sources of causalfm, so that records of other code are known as such."""
    digest = hashlib.sha256()
    for folder in ("causalfm", "estimators", "datasets"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def thread_environment(threads: int) -> dict[str, str]:
    """Return the environment of a child whose libraries use ``threads`` each."""
    return {**os.environ, **{f"{name}_NUM_THREADS": str(threads) for name in THREAD_SETTINGS}}


def _line(path: str, field: str) -> str:
    lines = Path(path).read_text("utf-8").splitlines() if Path(path).exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(field)), "")
