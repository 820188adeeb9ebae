"""Write table, page and figure: ``python -m experiments.shift_across_hospitals DATA --out docs [--task lung]``.

A hospital that is finished is kept in the folder of records and not run again with the same settings.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from experiments.shift_across_hospitals.page import page
from experiments.shift_across_hospitals.picture import draw
from experiments.shift_across_hospitals.study import TASKS, study


def main(arguments: list[str] | None = None) -> None:
    """Run what is missing, then write the files."""
    parser = argparse.ArgumentParser(description="Predicted against real drop at hospitals of TCGA.")
    parser.add_argument("data", type=Path, help="folder with the TCGA HIPT files")
    parser.add_argument("--out", type=Path, default=Path("shift-across-hospitals"))
    parser.add_argument("--records", type=Path, default=Path("shift-records"))
    parser.add_argument("--task", choices=TASKS, action="append", help="only this one; may be repeated")
    options = parser.parse_args(arguments)
    say = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731
    rows = study(options.data, options.task or list(TASKS), options.records, say)
    (options.out / "images").mkdir(parents=True, exist_ok=True)
    rows.to_csv(options.out / "shift_across_hospitals.csv", index=False, lineterminator="\n", float_format="%.6g")
    (options.out / "shift_across_hospitals.md").write_text(page(rows), encoding="utf-8")
    draw(rows, options.out / "images" / "shift_across_hospitals.png")


if __name__ == "__main__":
    main()
