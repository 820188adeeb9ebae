"""What is compared on which hospitals, and the record of a table that is finished."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from causalfm import estimators
from causalfm.cohort import Cohort
from causalfm.datasets import tcga_hipt
from causalfm.estimators import scoring
from experiments.corrector_scoreboard.beside import from_fit, unseen_by_logistic
from experiments.encoder_comparison import HOSPITALS, SUBSETS

TABLES = {
    "lung": "lung, five hospitals",
    "kidney": "kidney, four hospitals",
    "four": "four cancers, four hospitals",
}
DIGITS = 5  # of the table; the page and the figure are made from it


@dataclass(frozen=True)
class Scale:
    """How much is run.

    Attributes
    ----------
    names, slow
        Correctors with intervals and without: those of ``slow`` take long to fit, and intervals take hundreds of fits.
    readers, slow_readers
        What reads the site, with intervals and without.
    halvings
        Halvings of the patients for the intervals.
    """

    names: tuple[str, ...]
    slow: tuple[str, ...]
    readers: tuple[str, ...]
    slow_readers: tuple[str, ...]
    halvings: int


def correctors() -> dict[str, Any]:
    """Return what is compared: every kind; those that need to know the hospital adapt to a new one."""
    return {
        "MeanAligner, adapt": estimators.MeanAligner(unseen="adapt"),
        "ComBat, adapt": estimators.ComBat(unseen="adapt"),
        "ComBat, shrink": estimators.ComBat(unseen="shrink"),
        "TransportAligner, adapt": estimators.TransportAligner(unseen="adapt"),
        "SCMCorrector, adapt": estimators.SCMCorrector(HOSPITALS, assume="additive", unseen="adapt"),
        "LinearEraser": estimators.LinearEraser(),
        "NullspaceProjector": estimators.NullspaceProjector(),
        "NuisanceSubspace": estimators.NuisanceSubspace(),
        "CausalComBat, adapt": estimators.CausalComBat(unseen="adapt", on_violation="trim"),
        "LinearEraser, quadratic, adapt": estimators.LinearEraser(form="quadratic", unseen="adapt"),
    }


SLOW = ("CausalComBat, adapt", "LinearEraser, quadratic, adapt")
FULL = Scale(tuple(name for name in correctors() if name not in SLOW), SLOW, ("linear", "knn"), ("forest",), 10)
FAST = Scale(("ComBat, adapt", "LinearEraser"), (), ("linear", "knn"), (), 5)


def recorded(data: Path, table: str, scale: Scale, records: Path, say: Callable[[str], None]) -> pd.DataFrame:
    """Return one row per corrector and measure of a table, from its record if that has the same settings.

    Parameters
    ----------
    data
        Folder with the TCGA HIPT files.
    table
        One of ``TABLES``.
    scale
        How much to run.
    records
        Folder of records; written through a temporary file.
    say
        Called with progress in words.
    """
    cancers, hospitals = SUBSETS[TABLES[table]]
    cohort = tcga_hipt.load(data, cancers=cancers, hospitals=hospitals)
    made = {name: one for name, one in correctors().items() if name in (*scale.names, *scale.slow)}
    asked = {
        "correctors": {name: repr(one) for name, one in made.items()},
        "scale": json.loads(json.dumps(dataclasses.asdict(scale))),
        "slides": len(cohort),
        "engine": _engine(),
    }
    path = records / f"{table}{'' if scale == FULL else '-fast'}.json"
    if path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["asked"] == asked:
            say(f"{table}: taken from {path.name}")
            return pd.DataFrame(kept["rows"])
        say(f"{table}: {path.name} has other settings or another engine; run anew")
    rows = _scored(cohort, made, scale, lambda what, done, steps: say(f"{table} {done}/{steps} {what}"))
    records.mkdir(parents=True, exist_ok=True)
    kept = {"asked": asked, "rows": json.loads(rows.assign(table=TABLES[table]).to_json(orient="records"))}
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(kept, indent=1), encoding="utf-8")
    unfinished.replace(path)
    return pd.DataFrame(kept["rows"])


def _scored(cohort: Cohort, made: dict[str, Any], scale: Scale, progress: Callable[..., None]) -> pd.DataFrame:
    """Score with intervals what is quick, without what is slow; one row per corrector and measure."""
    sure = {name: made[name] for name in scale.names}
    slow = {name: made[name] for name in scale.slow}
    run = partial(estimators.scoreboard, cohort, HOSPITALS, progress=progress)
    board = run(sure, readers=scale.readers, halvings=scale.halvings, leak=True)
    frames = [board.to_frame()]
    if slow:
        frames.append(run(slow, readers=scale.readers, halvings=0, leak=True).to_frame())
    if scale.slow_readers:
        frames.append(run(made, readers=scale.slow_readers, parts=("site", "told_sites"), halvings=0).to_frame())
    frames.append(from_fit(cohort, made, (*scale.readers, *scale.slow_readers)))
    frames.append(unseen_by_logistic(cohort, made))
    rows = pd.concat(frames, ignore_index=True).drop_duplicates(["corrector", "name"], ignore_index=True)
    sizes = {"slides": board.n, "patients": board.n_groups, "halvings": scale.halvings}
    return rows.assign(recommended=board.recommended or "", sentence=board.sentence, **sizes)


def together(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """Return the tables one below the other, rounded as they are published, sizes first."""
    first = ["table", "slides", "patients", "halvings", "corrector", "name"]
    rows = pd.concat(parts, ignore_index=True)
    last = ["recommended", "sentence"]
    numbers = [name for name in rows if name not in (*first, "better", "reason", *last)]
    rows[numbers] = rows[numbers].astype(float).round(DIGITS)
    return rows[[*first, *(name for name in rows if name not in (*first, *last)), *last]]


def _engine() -> str:
    """Return a digest of the engine's source: a record of another engine is not reused."""
    assert scoring.__file__ is not None
    found = hashlib.sha256()
    for path in sorted(Path(scoring.__file__).parent.glob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]
