"""The files of a figure: ``result.json``, ``table.csv``, ``table.tex`` and the picture in three formats."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from causalfm.auditing.report import write_text
from causalfm.tables import atomic
from experiments.figures.paper import PaperFigure, Result, Unavailable
from experiments.figures.style import paper_style

# Dates would make two runs differ.
METADATA: dict[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None, "ModDate": None},
    "svg": {"Date": None},
    "png": {},
}


@dataclass(frozen=True)
class Run:
    """The numbers of a figure, and how they came about: sizes, seed, versions and day."""

    fast: bool
    seed: int
    environment: dict[str, Any]
    numbers: Result


def earlier(figure: PaperFigure, folder: Path) -> Run:
    """Read the last run of a figure.

    Raises
    ------
    Unavailable
        There was none.
    """
    path = folder / figure.name / "result.json"
    if not path.is_file():
        raise Unavailable("no numbers of an earlier run in the folder of --out")
    about = json.loads(path.read_text(encoding="utf-8"))
    return Run(**{field.name: about[field.name] for field in fields(Run)})


def write(figure: PaperFigure, run: Run, folder: Path) -> None:
    """Write all files of a figure, each in one step.

    Parameters
    ----------
    figure, run
        Which, and its numbers.
    folder
        Receives a folder of the figure's name.
    """
    result = run.numbers
    target = folder / figure.name
    target.mkdir(parents=True, exist_ok=True)
    about = {
        "figure": figure.name,
        "title": figure.title,
        "claim": figure.claim(result),
        "holds": figure.holds(result),
        "checks": [vars(check) for check in figure.checks(result)],
        "data": figure.data,
        **vars(run),
    }
    table = figure.table(result)
    write_text(json.dumps(about, indent=1, ensure_ascii=False, allow_nan=False) + "\n", target / "result.json")
    write_text(table.to_csv(index=False, float_format="%.6g", lineterminator="\n"), target / "table.csv")
    write_text(latex(table), target / "table.tex")
    with paper_style():
        drawn = figure.draw(result)
        for kind, metadata in METADATA.items():
            with atomic(target / f"figure.{kind}") as part:
                drawn.savefig(part, format=kind, metadata=metadata)


def latex(table: pd.DataFrame) -> str:
    """Set a table with booktabs' rules; every character that LaTeX reads as a command is escaped."""
    numbers = set(table.select_dtypes("number").columns)
    return table.to_latex(
        index=False,
        escape=True,
        na_rep="--",
        float_format="{:.3f}".format,
        column_format="".join("r" if name in numbers else "l" for name in table),
    )
