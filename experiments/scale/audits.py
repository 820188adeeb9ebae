"""The command that a user types, on cohorts of growing size."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from causalfm.auditing.report import write_text
from causalfm.lazy_rows import size_text
from experiments.scale.cohorts import COLUMNS, D, table_path, write_cohort
from experiments.scale.watching import watched

KEPT = "question", "factor", "verdict", "value", "low", "high"  # of a finding


def audit_once(path: Path, limit: int, scheduler: str, out: Path) -> dict[str, Any]:
    """Audit a cohort with ``causalfm audit`` in a process of its own.

    Raises
    ------
    RuntimeError
        A crash; the exit status of a verdict is none.
    """
    out.mkdir(parents=True, exist_ok=True)
    command = ["causalfm.cli", "audit", str(path), "--obs", str(table_path(path)), *COLUMNS, "--out", str(out)]
    took = watched(
        [*command, "--memory-limit", size_text(limit).replace(" ", ""), "--scheduler", scheduler], out / "log"
    )
    if took.status not in (0, 1, 3):
        raise RuntimeError(f"causalfm audit ended with {took.status}: {(out / 'log').read_text()[-2000:]}")
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return {
        "rows": report["data"]["rows"],
        "gib": size / 2**30,
        "limit_gib": limit / 2**30,
        "scheduler": scheduler,
        **took.to_dict(),
        "verdict": report["verdict"],
        "timings": report["provenance"]["timings"],
        "plan": [line for line in (out / "log").read_text(encoding="utf-8").splitlines() if line.startswith("Plan:")],
        "findings": [{name: finding[name] for name in KEPT} for finding in report["findings"]],
    }


def sizes(folder: Path, gibs: Sequence[float], limit: int, d: int = D) -> list[dict[str, Any]]:
    """Audit cohorts of several sizes under one limit; those that were audited before are not audited again."""
    found = []
    for gib in gibs:
        path, out = write_cohort(folder, gib, d), folder / f"audit-{gib:g}-{d}"
        kept = out / f"measured-{limit}.json"
        if not kept.is_file():
            write_text(json.dumps(audit_once(path, limit, "here", out)), kept)
        found.append(json.loads(kept.read_text(encoding="utf-8")))
        print({k: v for k, v in found[-1].items() if k not in ("findings", "timings")}, flush=True)
    return found


def exponent(runs: Sequence[dict[str, Any]], key: str) -> float:
    """Return the slope of the logarithm of what was measured on that of the rows."""
    n, values = (np.log([run[name] for run in runs]) for name in ("rows", key))
    return float(np.polyfit(n, values, 1)[0])
