"""What a figure of the paper is: numbers first; the table, the picture, the claim and its checks follow from them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pandas as pd

from causalfm.datasets import tcga_hipt
from causalfm.errors import DataError

Result = dict[str, Any]
Data = Literal["simulated", "rendered", "real"]
DOCS = Path(__file__).parents[2] / "docs"
SLIDES = (tcga_hipt.METADATA, tcga_hipt.EMBEDDINGS)


class Unavailable(Exception):
    """Data or software that a figure needs are not here: it is skipped, and nothing else is drawn in its place."""


@dataclass(frozen=True)
class Check:
    """One part of a claim, derived again from the numbers.

    Attributes
    ----------
    name
        What must be so.
    holds
        Whether it is.
    detail
        The numbers that say so.
    """

    name: str
    holds: bool
    detail: str

    def __post_init__(self) -> None:
        """Take numpy's truth values too, which JSON does not hold."""
        object.__setattr__(self, "holds", bool(self.holds))

    @classmethod
    def each(cls, name: str, held: Sequence[bool], more: str = "") -> Check:
        """Return the check that something is so every time, with the number of times that it was."""
        return cls(name, all(held), f"{sum(map(bool, held))} of {len(held)}{more}")


@dataclass(frozen=True)
class PaperFigure:
    """One claim: what its script holds under the names in capitals (``TITLE``) and as functions (``compute``).

    Attributes
    ----------
    name
        Of the script and of the folder of its files.
    title
        A few words.
    data
        What it rests on. Pictures of real data stay out of the documentation.
    compute
        ``(fast, seed)`` to numbers: JSON values only, None where there is none. Holds ``sizes`` (how much was drawn)
        and ``source`` (where the numbers come from). Raises :class:`Unavailable` where data are missing.
    table
        Numbers to the table that is published; rows of aggregates, never of patients.
    draw
        Numbers to a ``matplotlib`` figure; called within the style of the paper.
    claim
        Numbers to the sentence.
    checks
        Numbers to what the sentence rests on, each tried again.
    seed
        Where none is given; fixed before the first run.
    """

    name: str
    title: str
    data: Data
    compute: Callable[[bool, int], Result]
    table: Callable[[Result], pd.DataFrame]
    draw: Callable[[Result], Any]
    claim: Callable[[Result], str]
    checks: Callable[[Result], Sequence[Check]]
    seed: int = 0

    @classmethod
    def of(cls, script: ModuleType) -> PaperFigure:
        """Return the figure that a script holds."""
        name, seed = script.__name__.rpartition(".")[2], getattr(script, "SEED", 0)
        functions = script.compute, script.table, script.draw, script.claim, script.checks
        return cls(name, script.TITLE, script.DATA, *functions, seed=seed)

    def holds(self, result: Result) -> bool:
        """Say whether every part of the claim holds."""
        return all(check.holds for check in self.checks(result))


def plain(result: Result, name: str) -> Result:
    """Return the numbers as a reader of the file will see them.

    Parameters
    ----------
    result
        What ``compute`` returned.
    name
        Of the figure.

    Raises
    ------
    DataError
        A value that JSON does not hold (NaN, an array), or ``sizes`` or ``source`` missing.
    """
    try:
        found: Result = json.loads(json.dumps(result, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise DataError(
            f"figure {name!r}: {error}; give Python numbers, text, lists and dicts, and None for none"
        ) from None
    missing = [key for key in ("sizes", "source") if key not in found]
    if missing:
        raise DataError(f"figure {name!r}: the result lacks {' and '.join(missing)}")
    return found


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a table as JSON rows, None where a cell is empty."""
    found: list[dict[str, Any]] = json.loads(frame.to_json(orient="records", double_precision=15))
    return found


def data_folder(*files: str) -> Path:
    """Return the folder of real data that ``CAUSALFM_DATA`` names.

    Parameters
    ----------
    *files
        That must lie in it; none: the slides of TCGA.

    Raises
    ------
    Unavailable
        It is not named, not there, or a file is missing.
    """
    named = os.environ.get("CAUSALFM_DATA", "")
    folder = Path(named)
    if not named or not folder.is_dir():
        raise Unavailable("real data not found: set CAUSALFM_DATA to the folder that holds them")
    missing = [name for name in files or SLIDES if not (folder / name).exists()]
    if missing:
        raise Unavailable(f"real data not found: {', '.join(missing)} is not in the folder that CAUSALFM_DATA names")
    return folder


def committed(name: str) -> pd.DataFrame:
    """Read a table of aggregates that a long study left in the documentation, for instance ``calibration.csv``."""
    return pd.read_csv(DOCS / name)
