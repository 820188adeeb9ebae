"""Write table, page and figure: ``python -m experiments.corrector_scoreboard DATA --out docs [--fast] [--table lung]``.

A table that is finished is kept in the folder of records and not run again with the same settings and engine.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from experiments.corrector_scoreboard.page import page
from experiments.corrector_scoreboard.picture import draw
from experiments.corrector_scoreboard.study import FAST, FULL, TABLES, recorded, together


def main(arguments: list[str] | None = None) -> None:
    """Run what is missing, then write the files."""
    parser = argparse.ArgumentParser(description="Correctors on hospitals of TCGA that they have not seen.")
    parser.add_argument("data", type=Path, help="folder with the TCGA HIPT files")
    parser.add_argument("--out", type=Path, default=Path("corrector-scoreboard"))
    parser.add_argument("--records", type=Path, default=Path("scoreboard-records"))
    parser.add_argument("--table", choices=TABLES, action="append", help="only this one; may be repeated")
    parser.add_argument("--fast", action="store_true", help="a rehearsal: two correctors, two readers, five halvings")
    options = parser.parse_args(arguments)
    scale = FAST if options.fast else FULL
    say = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731
    rows = together([recorded(options.data, name, scale, options.records, say) for name in options.table or TABLES])
    (options.out / "images").mkdir(parents=True, exist_ok=True)
    rows.to_csv(options.out / "scoreboard.csv", index=False, lineterminator="\n")
    (options.out / "scoreboard.md").write_text(page(rows), encoding="utf-8")
    draw(rows, options.out / "images" / "scoreboard.png")


if __name__ == "__main__":
    main()
