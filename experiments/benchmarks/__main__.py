"""``python -m experiments.benchmarks [--only NAME ...] [--fast]``: measure what is not measured yet, write the page.

Results go to ``benchmark-records/records.jsonl``, a line each; a run that was cut goes on where it was. A run of the
whole book ends with ``docs/benchmarks.json`` and, written from it, ``docs/benchmarks.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from experiments.benchmarks.book import chosen, entries, entry_of
from experiments.benchmarks.claim import Claim
from experiments.benchmarks.machine import facts, run_id
from experiments.benchmarks.runner import LIMIT_SECONDS, child, run_all

RECORDS = Path("benchmark-records/records.jsonl")
DOCS = Path("docs")


def main(arguments: list[str] | None = None) -> None:
    """Run the book, or parts of it."""
    parser = argparse.ArgumentParser(description="Every claim of speed beside its peer and its limit.")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="names, or what they begin with")
    parser.add_argument("--list", action="store_true", help="say what there is")
    parser.add_argument("--fast", action="store_true", help="tiny sizes: does everything run?")
    parser.add_argument("--repeats", type=int, help="rounds of each; default: as the book has them")
    parser.add_argument("--threads", type=int, default=_cores(), help="of every library; default: the cores")
    parser.add_argument("--timeout", type=float, default=LIMIT_SECONDS, help="seconds after which one is killed")
    parser.add_argument("--records", type=Path, default=RECORDS)
    parser.add_argument("--docs", type=Path, help="folder of the page; default docs/ for the whole book, else none")
    parser.add_argument("--page", action="store_true", help="write the page anew from its facts; measure nothing")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--child-out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        child(entry_of(options.child), options.child_out, fast=options.fast, repeats=options.repeats)
        return
    if options.page:
        folder = options.docs or DOCS
        _write(json.loads((folder / "benchmarks.json").read_text("utf-8")), folder)
        return
    try:
        asked = chosen(options.only)
    except ValueError as problem:
        parser.error(str(problem))
    if options.list:
        print("\n".join(f"{entry.name:28s} {entry.what}" for entry in asked))
        return
    about = facts(options.threads, {entry.peer for entry in entries() if isinstance(entry, Claim) and entry.peer})
    found = run_all(
        asked,
        options.records,
        run_id(about, fast=options.fast),
        threads=options.threads,
        fast=options.fast,
        repeats=options.repeats,
        seconds=options.timeout,
    )
    whole = len(asked) == len(entries()) and not options.fast
    docs = options.docs or (DOCS if whole else None)  # a rehearsal must not replace the committed page
    if docs:
        _write({"about": about, "records": [found[entry.name] for entry in asked if entry.name in found]}, docs)


def _write(facts: dict[str, Any], docs: Path) -> None:
    from experiments.benchmarks.page import write_page  # which loads the whole book

    write_page(facts, docs)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that a child is ended with us
    main()
