"""What the numbers depend on beside the seed: versions, code, day. Nothing names the machine or its user."""

from __future__ import annotations

import functools
import platform
import subprocess
from datetime import UTC, datetime
from typing import Any

from experiments.benchmarks.machine import ROOT, code_digest, version

LIBRARIES = ("causalfm", "numpy", "scipy", "pandas", "scikit-learn", "torch", "matplotlib", "econml", "combatlearn")


@functools.cache
def environment() -> dict[str, Any]:
    """Return commit (``""`` outside a repository), digest of the library's sources, versions and day."""
    return {
        "commit": _git("rev-parse", "HEAD"),
        "changed": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "code": code_digest(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {name: version(name) for name in LIBRARIES},
    }


def _git(*arguments: str) -> str:
    try:
        found = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return found.stdout.strip()
