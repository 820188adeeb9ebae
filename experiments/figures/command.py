"""Make figures from the command line: compute, try the claim, write, say what came of it."""

from __future__ import annotations

import argparse
import difflib
import importlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from experiments.figures.environment import environment
from experiments.figures.files import Run, earlier, write
from experiments.figures.paper import PaperFigure, Unavailable, plain

NAMES = (  # modules of this folder, in the order of the paper
    "chance_levels",
    "false_positives",
    "counterfactual_fidelity",
    "estimator_bias_coverage",
    "corrector_front",
    "shortcut",
    "shortcut_at_real_hospitals",
    "hospital_against_cancer",
    "shift_across_hospitals",
    "encoder_comparison",
)
OUT = Path("figures")
FAILED, SKIPPED = 1, 77  # exit codes: a claim does not hold; data or software are missing


def make(figure: PaperFigure, folder: Path, *, fast: bool = False, seed: int | None = None) -> bool:
    """Compute a figure, write its files, and say whether its claim holds.

    Raises
    ------
    Unavailable
        Data or software that it needs are missing; nothing is written.
    """
    begun = time.perf_counter()
    used = figure.seed if seed is None else seed
    found = Run(fast, used, environment(), plain(figure.compute(fast, used), figure.name))
    return _written(figure, found, folder, f"{time.perf_counter() - begun:.0f} s")


def redraw(figure: PaperFigure, folder: Path) -> bool:
    """Write claim, checks, table and picture anew from the numbers of an earlier run, and say whether the claim holds.

    Seed, environment and day stay those of the run.

    Raises
    ------
    Unavailable
        There was none; nothing is written.
    """
    return _written(figure, earlier(figure, folder), folder, "drawn anew")


def _written(figure: PaperFigure, found: Run, folder: Path, how: str) -> bool:
    write(figure, found, folder)
    result = found.numbers
    print(f"{figure.name} ({how}): {figure.claim(result)}")
    for check in figure.checks(result):
        print(f"  {'holds' if check.holds else 'DOES NOT HOLD'}: {check.name} ({check.detail})", flush=True)
    return figure.holds(result)


def main(figures: Sequence[PaperFigure], arguments: list[str] | None = None) -> int:
    """Make the figures given, by the options of the command line.

    Returns
    -------
    int
        0; 1 where a claim does not hold; 77 where every figure was skipped.
    """
    parser = argparse.ArgumentParser(description="Figures of the paper: numbers, table, picture and claim of each.")
    parser.add_argument("--fast", action="store_true", help="small sizes, seconds each; claims are tried all the same")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the files (default: figures/)")
    parser.add_argument("--seed", type=int, help="default: the figure's own, fixed before its first run")
    parser.add_argument("--redraw", action="store_true", help="compute nothing: from the numbers that lie in --out")
    if len(figures) != 1:
        parser.add_argument("--only", action="append", default=[], metavar="NAME", help="may be given several times")
    options = parser.parse_args(arguments)
    if options.redraw and (options.fast or options.seed is not None):
        parser.error("--redraw computes nothing: --fast and --seed are those of the run that it draws")
    if len(figures) != 1:
        try:
            figures = chosen(figures, options.only)
        except ValueError as error:
            parser.error(str(error))
    held, skipped = True, 0
    for figure in figures:
        try:
            if options.redraw:
                held &= redraw(figure, options.out)
            else:
                held &= make(figure, options.out, fast=options.fast, seed=options.seed)
        except Unavailable as reason:
            skipped += 1
            print(f"{figure.name}: skipped, nothing written: {reason}", flush=True)
    return FAILED if not held else SKIPPED if skipped == len(figures) else 0


def load(name: str) -> PaperFigure:
    """Import the script of a figure."""
    return PaperFigure.of(importlib.import_module(f"experiments.figures.{name}"))


def run(script: str) -> NoReturn:
    """Make the figure of a script, and leave with the exit code.

    Parameters
    ----------
    script
        Its ``__file__``.
    """
    raise SystemExit(main([load(Path(script).stem)]))


def chosen(figures: Sequence[PaperFigure], names: Sequence[str]) -> list[PaperFigure]:
    """Return the figures of these names, or all if there are none.

    Raises
    ------
    ValueError
        A name that no figure has.
    """
    known = {figure.name: figure for figure in figures}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"no figure is named {name!r}{hint}. There are: {', '.join(known)}")
    return [known[name] for name in known if not names or name in names]
