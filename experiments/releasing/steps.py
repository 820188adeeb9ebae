"""Steps of a release check: what was done, with which interpreter, what came of it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".venv" / "tools" / "bin"
DONE, FAILED, NOT_HERE = "done", "FAILED", "not checked here"


@dataclass(frozen=True)
class Step:
    """One line of the record."""

    what: str
    python: str
    outcome: str
    detail: str
    seconds: int


def run(command: Sequence[str | Path], *, cwd: Path = ROOT, code: int = 0, timeout: int = 3600) -> str:
    """Run a command, with no Python setting of this process, and return what it printed.

    Raises
    ------
    RuntimeError
        It ended with another exit code: its last lines.
    """
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV", "CONDA"))}
    done = subprocess.run(
        [str(c) for c in command], cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=timeout
    )
    if done.returncode != code:
        raise RuntimeError(f"{done.stdout[-3000:]}{done.stderr[-3000:]}exit code {done.returncode}, not {code}")
    return done.stdout + done.stderr


def step(what: str, python: str, act: Callable[[], str]) -> Step:
    """Do one step; what it returns, or the last line of its failure, is the detail."""
    start = time.monotonic()
    try:
        outcome, detail = DONE, act()
    except LookupError as error:
        outcome, detail = NOT_HERE, str(error.args[0])
    except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
        print(error)
        outcome, detail = FAILED, str(error).strip().splitlines()[-1][:200]
    found = Step(what, python, outcome, detail, round(time.monotonic() - start))
    print(f"{found.outcome:>17}  {found.what} [{found.python}] {found.detail} ({found.seconds} s)", flush=True)
    return found
