"""``python -m experiments.calibration [--only TEXT] [--share 1.0] [--workers N]``: run, or go on with, the study.

Records go to ``calibration-records/``; ``docs/calibration.csv``, the page and the figure are written from them.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

from experiments.calibration.designs import cells
from experiments.calibration.invariance_methods import peers_installed
from experiments.calibration.page import write_page
from experiments.calibration.study import run
from experiments.calibration.summary import summarise

PEERS = {"peers": peers_installed, "econml": lambda: importlib.util.find_spec("econml") is not None}
RECORDS = Path("calibration-records")
DOCS = Path("docs")


def main(arguments: list[str] | None = None) -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description="Calibration study: runs what is missing, then writes docs/.")
    parser.add_argument("--only", default="", help="cells whose name holds this text")
    parser.add_argument("--share", type=float, default=1.0, help="part of the cohorts, for a rehearsal")
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--records", type=Path, default=RECORDS)
    parser.add_argument("--docs", type=Path, help="folder of the page; default docs/ for the whole study, else none")
    options = parser.parse_args(arguments)
    study = [cell for cell in cells() if cell.measure not in PEERS or PEERS[cell.measure]()]
    if len(study) < len(cells()):
        print(
            "the software to compare with (hyppo, dowhy, causal-learn; econml) is not installed: its cells are left out"
        )
    run(
        [cell for cell in study if options.only in cell.key],
        options.records,
        share=options.share,
        workers=options.workers,
    )
    whole = not options.only and options.share >= 1.0
    docs = options.docs or (DOCS if whole else None)  # a rehearsal must not replace the committed page
    if docs:
        write_page(summarise(cells(), options.records), docs)


if __name__ == "__main__":
    main()
