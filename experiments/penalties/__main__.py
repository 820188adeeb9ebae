"""Penalties for a head on frozen embeddings where the hospital is a shortcut: which help, and where ERM wins.

``python -m experiments.penalties DATA [--fast] [--out FOLDER] [--state FOLDER]``

Every cell (design and penalty) is kept in ``--state`` when it is done: a run that was stopped goes on. Writes
``penalties.csv``, ``penalties.md``, ``images/penalties.svg`` below ``--out``, and the short table in ``training.md``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from experiments.penalties.cells import METHODS, Plan, cell, smaller, summary
from experiments.penalties.designs import DESIGNS, TCGA
from experiments.penalties.page import MARKS, draw, short, text


def main(arguments: list[str] | None = None) -> None:
    """Run the study, or what is left of it."""
    parser = argparse.ArgumentParser(description="Penalties where the hospital is a shortcut.")
    parser.add_argument("data", type=Path, help="folder with the TCGA HIPT files")
    parser.add_argument("--fast", action="store_true", help="few repeats: does it run?")
    parser.add_argument("--out", type=Path, default=Path("penalties-study"))
    parser.add_argument("--state", type=Path, default=Path("penalties-state"))
    options = parser.parse_args(arguments)
    plan = smaller(Plan()) if options.fast else Plan()
    rows = []
    for design in (*DESIGNS, TCGA):
        erm = cell(design, "erm", options.data, options.state, plan)
        for method in METHODS:
            own = cell(design, method, options.data, options.state, plan)
            rows += summary(design, method, own, erm, options.data)
    table = pd.DataFrame(rows).round(4)
    options.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(options.out / "penalties.csv", index=False)
    (options.out / "penalties.md").write_text(text(table, plan), "utf-8")
    guide = options.out / "training.md"
    if guide.exists():
        before, _, rest = guide.read_text("utf-8").partition(MARKS[0])
        after = rest.partition(MARKS[1])[2]
        guide.write_text(f"{before}{MARKS[0]}\n\n{short(table)}\n\n{MARKS[1]}{after}", "utf-8")
    draw(table, options.out / "images" / "penalties.svg")


if __name__ == "__main__":
    main()
