"""Cohorts larger than memory, measured: ``python -m experiments.scale WHAT FOLDER [--gib ...] [--limit ...]``.

    write      write cohorts of these sizes
    sizes      audit them with the command line under one limit: memory and time against the number of rows
    workers    what runs on workers, in this process and with 1, 2 and 4 others: the same bits? how much sooner?
    equality   the same questions in memory and outside it
    moments    ten million rows: sums by patient, beside what the rates let expect
    draws      by simulation, what drawing rows adds to an interval
    streaming  what streams over all rows, part by part: exponents

Each writes its part of ``--out`` (docs/scale.json); ``page`` writes docs/scale_measured.md from it. Embeddings take the
disk space named by ``--gib``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from causalfm.auditing.report import write_text
from experiments.benchmarks.machine import facts
from experiments.scale import audits, draws, equality, moments, streaming, workers
from experiments.scale.cohorts import D, write_cohort


def main() -> None:
    """Run one of the commands above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=(*MEASURES, "write", "page", "child", "moments-child", "workers-child"))
    parser.add_argument("folder", type=Path, nargs="?", default=Path("scale-cohorts"))
    parser.add_argument("--gib", type=float, nargs="+", default=[1.0])
    parser.add_argument("--dimensions", type=int, default=D)
    parser.add_argument("--limit", type=int, default=4 * 2**30, help="bytes: of the command; of embeddings elsewhere")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--scheduler", default="here", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path("docs/scale.json"))
    given = parser.parse_args()
    if given.what == "child":
        streaming.child(given.folder, given.limit, given.out)
    elif given.what == "moments-child":
        moments.child(given.folder, given.limit, given.out)
    elif given.what == "workers-child":
        workers.child(given.folder, given.limit, given.out, given.scheduler)
    elif given.what == "write":
        for gib in given.gib:
            print(write_cohort(given.folder, gib, given.dimensions))
    elif given.what == "page":
        from experiments.scale.page import page

        write_text(page(json.loads(given.out.read_text("utf-8"))), given.out.with_name("scale_measured.md"))
    else:
        keep(given.out, given.what, MEASURES[given.what](given))


def keep(path: Path, name: str, found: Any) -> None:
    """Write one part of the file, and on which machine it was found."""
    body = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    body[name] = {"about": facts(1, set()), "found": found}
    write_text(json.dumps(body, indent=1) + "\n", path)


MEASURES = {
    "sizes": lambda given: audits.sizes(given.folder, given.gib, given.limit, given.dimensions),
    "moments": lambda given: moments.moments(
        given.folder, given.gib[0], given.limit, json.loads(given.out.read_text("utf-8"))["streaming"]["found"]
    ),
    "draws": lambda _: draws.draws(),
    "workers": lambda given: workers.workers(given.folder, given.gib[0], given.limit, given.workers),
    "equality": lambda given: equality.equality(given.folder, given.gib[0], given.limit),
    "streaming": lambda given: streaming.streaming(given.folder, given.gib, given.limit, given.dimensions),
}

if __name__ == "__main__":
    main()
