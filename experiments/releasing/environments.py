"""Fresh environments, made with uv."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from experiments.releasing.steps import ROOT, TOOLS, run

CONSTRAINTS = ROOT / "constraints.txt"


@cache
def interpreter(version: str) -> Path:
    """Return a Python of this version, from the path or of pyenv.

    Raises
    ------
    LookupError
        None is installed; none is fetched, because that needs more than a package registry.
    """
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for found in (shutil.which(f"python{version}"), *sorted(pyenv.glob(f"{version}.*/bin/python"), reverse=True)):
        if found is None:
            continue
        with contextlib.suppress(RuntimeError, OSError):  # a shim of pyenv can lead nowhere
            run([found, "-c", "import venv"])
            return Path(found)
    raise LookupError(f"no Python {version} on this machine")


def environment(folder: Path, version: str, arguments: Sequence[str | Path]) -> Path:
    """Make an empty environment, install into it what ``uv pip install`` is told to, and return its Python."""
    run([TOOLS / "uv", "venv", "--python", interpreter(version), folder])
    python = folder / "bin" / "python"
    run([TOOLS / "uv", "pip", "install", "--python", python, *index(), *arguments])
    return python


def pins(*names: str) -> list[str]:
    """Return lines of ``constraints.txt``: all, or those of some packages."""
    lines = [line for line in CONSTRAINTS.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    return [line for line in lines if not names or line.split("==")[0] in names]


def constrained(folder: Path, lines: Sequence[str]) -> list[str | Path]:
    """Return arguments that hold an installation to these versions."""
    (file := folder.with_name(f"{folder.name}.txt")).write_text("\n".join(lines))
    return ["--constraint", file]


def index() -> list[str]:
    """Return how to reach the registry that pip is set to: uv does not read pip's settings."""
    found = run([TOOLS / "python", "-m", "pip", "config", "list"])
    named = dict(line.split("=", 1) for line in found.splitlines() if "=" in line)
    url = named.get("global.index-url", "").strip("'")
    return ["--default-index", url] if url and "UV_DEFAULT_INDEX" not in os.environ else []
