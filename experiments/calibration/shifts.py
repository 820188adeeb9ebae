"""``python -m experiments.calibration.shifts [--share 1.0] [--workers N]``: what changed, on planted shifts.

Does the shift audit alarm on nothing as often as it says, does it see what was planted, and do prevalences estimated
without labels hold the truth where it lets them be read? Records go to ``calibration-records/``, the table to
``docs/shift-calibration.csv``. Hospitals are drawn anew in every cohort: a new one differs from the others as they do.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalfm.confidence import CHECK_ALPHA
from causalfm.datasets.planted_shifts import planted_shift
from causalfm.shift import as_domains, case_mix, support
from causalfm.shift.changes.drift_distances import class_distance, site_distances
from causalfm.shift.changes.drift_patients import by_site, patient_table
from experiments.calibration.designs import Cell
from experiments.calibration.study import load, run

COHORTS = 100  # half a second each
BASE: dict[str, Any] = {"n_sites": 8, "n_groups": 240, "new_groups": 60, "rows_per_group": (1, 4)}
ALIKE = {"site_spread": 0.0}
DESIGNS: dict[str, dict[str, Any]] = {
    "nothing": {"kind": "nothing"},
    "nothing, 6 hospitals": {"kind": "nothing", "n_sites": 6, "n_groups": 180},
    "nothing, hospitals alike": {"kind": "nothing", **ALIKE},
    "nothing, hospitals far apart": {"kind": "nothing", "site_spread": 0.8},
    "nothing, case mix differs between hospitals": {"kind": "nothing", "case_mix_spread": 0.5},
    "case mix": {"kind": "case_mix"},
    "case mix, hospitals alike": {"kind": "case_mix", **ALIKE},
    "scanner": {"kind": "scanner"},
    "scanner, hospitals alike": {"kind": "scanner", **ALIKE},
    "scanner, twice": {"kind": "scanner", "size": 2.0},
    "covariate": {"kind": "covariate"},
    "mixture": {"kind": "mixture"},
    "fading": {"kind": "fading"},
    "concept": {"kind": "concept"},
    "new support": {"kind": "new_support"},
}
RECORDS, TABLE = Path("calibration-records"), Path("docs/shift-calibration.csv")
P_VALUES = ("drift, joint", "drift, given biology and age", "drift, within classes", "support", "fit", "fit, sites")


def shift_cells() -> list[Cell]:
    """Return the cells of the study."""
    return [Cell("shift", name, {**BASE, **design}, COHORTS) for name, design in DESIGNS.items()]


def shift_values(design: dict[str, Any], seed: int) -> dict[str, Any]:
    """Draw reference and deployment of one seed, and measure what changed: p-values and prevalences.

    Prevalences are ``[share, low, high, truth]`` of the last class; ``read`` is 1 where the audit lets them be read.
    """
    reference, deployment, graph, truth = planted_shift(**design, effect_seed=seed, random_state=seed)
    domains = as_domains(reference, deployment, graph, random_state=seed)
    table = patient_table(domains)
    everyone, given = np.ones(len(table.new), dtype=bool), ("tumour", "age")

    def further(rows: np.ndarray, given: tuple[str, ...]) -> float:
        return site_distances(*by_site(table.part(rows), graph, "site", given)).p_value

    classes = [(table.cohort.obs["tumour"] == name).to_numpy() for name in domains.classes]
    hidden = deployment.replace(obs=deployment.obs.drop(columns="tumour"))
    mix = case_mix(as_domains(reference, hidden, graph, random_state=seed))
    true = float(truth.prevalence[1, -1])
    out: dict[str, Any] = {
        "drift, joint": further(everyone, ()),
        "drift, given biology and age": further(everyone, given),
        "drift, within classes": min(1.0, len(classes) * min(further(rows, ("age",)) for rows in classes)),
        "support": support(domains).p_new_site,
        "fit": mix.fit.p_value,
        "fit, sites": mix.fit.p_new_site,
        "read": float(mix.readable),
    }
    for name, found in (("black box", mix.bbse[-1]), ("expectation maximisation", mix.em[-1])):
        out[name] = [found.value, found.low, found.high, true]
    norm = class_distance(by_site(table.part(~table.new), graph, "site", given)[0], "tumour")
    if norm is not None:
        out["distance between classes"] = [norm.value, *norm.interval(), design.get("biology_effect", 0.8) ** 2]
    return out


def table_of(records: Path) -> pd.DataFrame:
    """One row per design and quantity: shares of alarms, coverage over all cohorts and over those read."""
    rows = []
    for cell in shift_cells():
        found = list(load(cell, records).values())
        if not found:
            continue
        base = {"design": cell.name, "cohorts": len(found)}
        for name in P_VALUES:
            p = np.array([one[name] for one in found], dtype=float)
            p = p[~np.isnan(p)]
            share = float((p <= CHECK_ALPHA).mean()) if len(p) else np.nan
            rows.append({**base, "quantity": name, "kind": "alarms", "answered": len(p), "share": share})
        read = np.array([one["read"] for one in found]) > 0
        rows.append(
            {**base, "quantity": "case mix", "kind": "read", "answered": len(read), "share": float(read.mean())}
        )
        for name in ("black box", "expectation maximisation", "distance between classes"):
            values = np.array([one[name] for one in found if name in one], dtype=float)
            inside = (values[:, 1] <= values[:, 3]) & (values[:, 3] <= values[:, 2])
            means = {"mean": float(values[:, 0].mean()), "truth": float(values[:, 3].mean())}
            rows.append({**base, "quantity": name, "kind": "coverage", "answered": len(inside),
                         "share": float(inside.mean()), **means})  # fmt: skip
            if name != "distance between classes" and read.any():
                rows.append({**base, "quantity": f"{name}, where read", "kind": "coverage", "answered": int(read.sum()),
                             "share": float(inside[read].mean()), **means})  # fmt: skip
    out = pd.DataFrame(rows)
    out["mc_error"] = np.sqrt(out["share"] * (1.0 - out["share"]) / out["answered"])
    return out


def main(arguments: list[str] | None = None) -> None:
    """Run the study, or go on with it."""
    parser = argparse.ArgumentParser(description="Calibration of the shift audit: runs what is missing.")
    parser.add_argument("--share", type=float, default=1.0, help="part of the cohorts, for a rehearsal")
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--records", type=Path, default=RECORDS)
    parser.add_argument("--table", type=Path, default=None, help="default: docs/ for the whole study, else none")
    options = parser.parse_args(arguments)
    run(shift_cells(), options.records, share=options.share, workers=options.workers)
    table = options.table or (TABLE if options.share >= 1.0 else None)
    if table:
        table_of(options.records).round(4).to_csv(table, index=False)


if __name__ == "__main__":
    main()
