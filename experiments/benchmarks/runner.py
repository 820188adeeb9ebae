"""Run entries one after the other, each in a child process of its own, and record what came of each at once."""

from __future__ import annotations

import importlib.util
import json
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.benchmarks.claim import Claim, Entry
from experiments.benchmarks.machine import ROOT, moment, thread_environment
from experiments.benchmarks.measuring import measure
from experiments.benchmarks.records import DONE, append, load, of_run

LIMIT_SECONDS = 900.0


def run_all(
    entries: Sequence[Entry],
    path: Path,
    run: str,
    *,
    threads: int,
    fast: bool = False,
    repeats: int | None = None,
    seconds: float = LIMIT_SECONDS,
    say: Callable[[str], None] = print,
) -> dict[str, dict[str, Any]]:
    """Run what is not done yet; one that fails or is killed is recorded as such, and the rest goes on.

    Parameters
    ----------
    entries
        In this order.
    path
        File of records; those of the same run, sizes and rounds are kept, others are run again.
    run
        Name of the run.
    threads, fast, repeats
        As of the command line.
    seconds
        After which an entry is killed.
    say
        Where to report progress.

    Returns
    -------
    dict
        The latest record of each entry, by name.
    """
    for at, entry in enumerate(entries, 1):
        known = of_run(load(path), run).get(entry.name)
        if known and known["status"] == DONE and known["asked"] == _asked(entry, fast, repeats):
            say(f"{at}/{len(entries)} {entry.name}: done before")
            continue
        started, used = time.perf_counter(), _processor_of_children()
        found = _alone(entry, min(entry.threads or threads, threads), fast, repeats, seconds)
        taken, worked = time.perf_counter() - started, _processor_of_children() - used
        asked = _asked(entry, fast, repeats)
        spent = {"seconds": round(taken, 1), "processor_seconds": round(worked, 1)}
        append(path, {"name": entry.name, "run": run, "asked": asked, **moment(), **spent, **found})
        say(f"{at}/{len(entries)} {entry.name}: {found['status']} after {taken:.1f} s ({worked:.1f} of the processors)")
    return {name: record for name, record in of_run(load(path), run).items() if name in {e.name for e in entries}}


def child(entry: Entry, out: Path, *, fast: bool, repeats: int | None) -> None:
    """Measure one entry in this process and write the result."""
    with tempfile.TemporaryDirectory() as folder:
        found = measure(entry, Path(folder), fast=fast, repeats=repeats)
    out.write_text(json.dumps(found), "utf-8")


def _asked(entry: Entry, fast: bool, repeats: int | None) -> dict[str, Any]:
    """Return what tells two measurements of an entry apart, as JSON has it."""
    sizes = dict(entry.fast if fast else entry.sizes)
    values = list((entry.fast_values if fast else entry.values) if hasattr(entry, "values") else ())
    return dict(json.loads(json.dumps({"sizes": sizes, "values": values, "repeats": repeats or entry.repeats})))


def _alone(entry: Entry, threads: int, fast: bool, repeats: int | None, seconds: float) -> dict[str, Any]:
    """Run an entry in a child, so that its memory is its own and its death is not ours."""
    if reason := _lacking(entry):
        return {"status": "not run", "reason": reason}
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "found.json"
        command = [sys.executable, "-m", "experiments.benchmarks", "--child", entry.name, "--child-out", str(out)]
        command += ["--fast"] * fast + (["--repeats", str(repeats)] if repeats else [])
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=thread_environment(threads),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return {"status": "killed", "reason": f"not done after {seconds:g} s"}
        if done.returncode < 0:
            return {"status": "killed", "reason": signal.Signals(-done.returncode).name}
        if done.returncode or not out.exists():
            said = [line for line in done.stderr.strip().splitlines() if line.strip()]
            return {"status": "failed", "reason": said[-1] if said else f"exit status {done.returncode}"}
        return {"status": DONE, "threads": threads, **json.loads(out.read_text("utf-8"))}


def _processor_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _lacking(entry: Entry) -> str:
    """Say why an entry cannot be run here, if it cannot."""
    if not isinstance(entry, Claim) or not entry.needs:
        return ""
    if entry.needs != "cuda":
        return "" if importlib.util.find_spec(entry.needs) else entry.absent
    import torch

    return "" if torch.cuda.is_available() else entry.absent
