"""What is compared on which hospitals, and the record of a table that is finished."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalfm import estimators
from causalfm.cohort import Cohort
from causalfm.datasets import tcga_hipt
from causalfm.estimators import scoring
from causalfm.estimators.scoring.correcting import Attempt, corrected
from causalfm.estimators.scoring.readers import read_out
from causalfm.estimators.scoring.trial import chance_of, trial_of, within_accuracy
from experiments.encoder_comparison import HOSPITALS, SUBSETS

TABLES = {
    "lung": "lung, five hospitals",
    "kidney": "kidney, four hospitals",
    "four": "four cancers, four hospitals",
}
DIGITS = 5  # of the table; the page and the figure are made from it


@dataclass(frozen=True)
class Scale:
    """How much is run: names of the correctors (None: all), readers of the site, halvings."""

    names: tuple[str, ...] | None
    readers: tuple[str, ...]
    halvings: int


FULL = Scale(None, ("linear", "knn", "forest"), 10)
FAST = Scale(("ComBat, adapt", "LinearEraser"), ("linear", "knn"), 5)


def correctors() -> dict[str, Any]:
    """Return what is compared: every kind; those that need to know the hospital adapt to a new one."""
    return {
        "MeanAligner, adapt": estimators.MeanAligner(unseen="adapt"),
        "ComBat, adapt": estimators.ComBat(unseen="adapt"),
        "ComBat, shrink": estimators.ComBat(unseen="shrink"),
        "CausalComBat, adapt": estimators.CausalComBat(unseen="adapt", on_violation="trim"),
        "TransportAligner, adapt": estimators.TransportAligner(unseen="adapt"),
        "SCMCorrector, adapt": estimators.SCMCorrector(HOSPITALS, assume="additive", unseen="adapt"),
        "LinearEraser": estimators.LinearEraser(),
        "LinearEraser, quadratic, adapt": estimators.LinearEraser(form="quadratic", unseen="adapt"),
        "NullspaceProjector": estimators.NullspaceProjector(),
        "NuisanceSubspace": estimators.NuisanceSubspace(),
    }


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
    made = {name: one for name, one in correctors().items() if scale.names is None or name in scale.names}
    asked = {
        "correctors": {name: repr(one) for name, one in made.items()},
        "readers": list(scale.readers),
        "halvings": scale.halvings,
        "slides": len(cohort),
        "engine": _engine(),
    }
    path = records / f"{table}{'' if scale is FULL else '-fast'}.json"
    if path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["asked"] == asked:
            say(f"{table}: taken from {path.name}")
            return pd.DataFrame(kept["rows"])
        say(f"{table}: {path.name} has other settings or another engine; run anew")
    board = estimators.scoreboard(
        cohort,
        HOSPITALS,
        made,
        readers=scale.readers,
        halvings=scale.halvings,
        leak=True,
        progress=lambda what, done, steps: say(f"{table} {done}/{steps} {what}"),
    )
    rows = pd.concat([board.to_frame(), from_fit(cohort, made, scale.readers)], ignore_index=True)
    sizes = {"table": TABLES[table], "slides": board.n, "patients": board.n_groups, "halvings": scale.halvings}
    rows = rows.assign(recommended=board.recommended or "", sentence=board.sentence, **sizes)
    records.mkdir(parents=True, exist_ok=True)
    kept = {"asked": asked, "rows": json.loads(rows.to_json(orient="records", double_precision=15))}
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(kept, indent=1), encoding="utf-8")
    partial.replace(path)
    return pd.DataFrame(kept["rows"])


def from_fit(cohort: Cohort, made: dict[str, Any], readers: tuple[str, ...]) -> pd.DataFrame:
    """Return with what accuracy the site is read from new patients by readers trained on rows of the corrector's fit.

    The false all-clear: there the corrector has made site means equal, and a linear probe learns less than there is to
    learn. The same halves as ``site_*``, whose readers are trained on rows new to the corrector.
    """
    trial, rows = trial_of(cohort, HOSPITALS, None, None, 0), []
    for name, one in made.items():
        attempt = Attempt(one, readers, False, 0)
        hits = {reader: np.zeros(len(trial)) for reader in readers}
        for half in (0, 1):
            new = trial.half == half
            X = corrected(trial, attempt, ~new, [~new, new])
            for reader, hit in hits.items():
                about = trial.site.y, trial.site.context, trial.groups, ~new, new
                hit[new] = read_out(reader, X, *about, 0) == trial.site.y[new]
        for reader, hit in hits.items():
            value = within_accuracy(hit, trial.site, trial.groups)
            rows.append({"corrector": name, "name": f"from_fit_{reader}", "value": value, "better": "lower"})
    return pd.DataFrame(rows).assign(chance=chance_of(trial.site.judged), reason="")


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
