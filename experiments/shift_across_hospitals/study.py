"""Train on the other hospitals, deploy at one, predict its accuracy without labels, then look at them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from causalfm.cohort import Cohort
from causalfm.datasets import tcga_hipt
from causalfm.graph import CausalGraph
from causalfm.shift import LabelFree, as_domains, label_free_performance, measured_performance

GRAPH = CausalGraph.standard(biology="project_id", technical=["center"], group="case")
TASKS: dict[str, tuple[str, ...]] = {
    "lung": ("LUAD", "LUSC"),
    "kidney": ("KIRC", "KIRP"),
    "four cancers": ("BRCA", "COAD", "LUAD", "STAD"),
}
PATIENTS = 20  # a hospital needs to be deployed at
MARGIN = 0.05
SETTINGS = f"3; margin {MARGIN}; patients {PATIENTS}"  # raise the number when the engine changes
CHOSEN = "chosen"  # whichever estimate is trusted most


def study(data: Path, tasks: Sequence[str], records: Path, say: Callable[[str], None]) -> pd.DataFrame:
    """Return one row per task, hospital and estimator, and one for the estimate chosen.

    Parameters
    ----------
    data
        Folder with the TCGA HIPT files.
    tasks
        Keys of ``TASKS``.
    records
        Folder of finished hospitals, one ``.jsonl`` per task: a run that was cut goes on.
    say
        Where progress is told.

    Returns
    -------
    pandas.DataFrame
        Sums over patients only.
    """
    records.mkdir(parents=True, exist_ok=True)
    rows = []
    for task in tasks:
        path = records / f"{task.replace(' ', '-')}.jsonl"
        done = _done(path)
        cohort = cohort_of(data, TASKS[task])
        for hospital in _hospitals(cohort):
            if hospital not in done:
                found = deployed_at(cohort, hospital)
                with path.open("a", encoding="utf-8") as file:
                    file.write("\n" * (file.tell() > 0))  # after a line that was cut off
                    file.write(json.dumps({"settings": SETTINGS, "hospital": hospital, "rows": found}))
                done[hospital] = found
                say(f"{task}: {hospital}")
            rows += [{"task": task, "hospital": hospital, **row} for row in done[hospital]]
    return pd.DataFrame(rows)


def _done(path: Path) -> dict[str, list[dict[str, Any]]]:
    out = {}
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue  # empty, or cut off when the process was killed
        if line["settings"] == SETTINGS:
            out[line["hospital"]] = line["rows"]
    return out


def cohort_of(data: Path, cancers: Sequence[str]) -> Cohort:
    """Read the slides of a task whose hospital is known."""
    cohort = tcga_hipt.load(data, cancers=list(cancers))
    return cohort[cohort.obs["center"].notna().to_numpy()]


def _hospitals(cohort: Cohort) -> list[str]:
    patients = cohort.obs.groupby("center")["case"].nunique()
    return sorted(patients.index[patients >= PATIENTS])


def deployed_at(cohort: Cohort, hospital: str) -> list[dict[str, Any]]:
    """Return predictions and truth for one hospital, whose patients the reference does not have anywhere."""
    here = (cohort.obs["center"] == hospital).to_numpy()
    patients = cohort.obs["case"].isin(cohort.obs["case"][here]).to_numpy()
    domains = as_domains(cohort[~patients], cohort[here], GRAPH)
    free = label_free_performance(domains, margin=MARGIN)
    real = measured_performance(domains, margin=MARGIN)
    truth = {
        "patients": real.n_groups,
        "accuracy": real.accuracy.value,
        "reference": real.reference.value,
        "reference_site_out": real.reference_site_out.value,
        "drop": real.drop.value,
        "drop_low": real.drop.low,
        "drop_high": real.drop.high,
        "measured_verdict": real.verdict,
        "back_test_sites": len(free.back_tests[0].sites),
    }
    rows = [_row(free, e.name) | truth for e in free.estimates]
    best = _row(free, free.trusted or free.estimates[-1].name)
    best |= {"estimator": CHOSEN, "trusted": free.trusted is not None, "verdict": free.verdict}
    return [*rows, best | truth]


def _row(free: LabelFree, name: str) -> dict[str, Any]:
    estimate = next(e for e in free.estimates if e.name == name)
    test = next(t for t in free.back_tests if t.estimator == name)
    return {
        "estimator": name,
        "estimate": estimate.value,
        "own_low": estimate.own_low,
        "own_high": estimate.own_high,
        "predicted": estimate.predicted,
        "low": estimate.low,
        "high": estimate.high,
        "trusted": estimate.trusted,
        "verdict": estimate.verdict,
        "assumption_holds": test.assumption_holds,
        "back_test_rmse": test.rmse,
        "effective_patients": estimate.effective_patients,
    }
