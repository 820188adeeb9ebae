"""Three encoders on the same mitotic figures of three scanners, and one encoder on three TCGA subsets.

``python -m experiments.encoder_comparison DATA --out FOLDER``

Writes the comparison's page and ``subsets.csv``. Numbers of different cohorts may be set beside each other only in
versions that are comparable between designs (2 x 2 tables, distances relative to the biology), each with its chance.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

import causalfm as cfm
from causalfm.auditing.report_files import write_reports
from causalfm.datasets import amibr, tcga_hipt

SCANNERS = cfm.CausalGraph.standard(biology="label", technical=["scanner"], group="patient")
HOSPITALS = cfm.CausalGraph.standard(biology="project_id", technical=["center"], group="case")
IGC = "International Genomics Consortium"
SUBSETS = {
    "four cancers, four hospitals": (
        ("BRCA", "COAD", "LUAD", "STAD"),
        ("Asterand", "Christiana Healthcare", "Indivumed", IGC),
    ),
    "lung, five hospitals": (
        ("LUAD", "LUSC"),
        ("Asterand", "Christiana Healthcare", IGC, "Johns Hopkins", "Roswell Park"),
    ),
    "kidney, four hospitals": (
        ("KIRC", "KIRP"),
        (IGC, "MD Anderson", "Memorial Sloan Kettering Cancer Center", "University of North Carolina"),
    ),
}


def compare_encoders(folder: Path, *, metrics: Sequence[str] | None = None, random_state: int = 0) -> cfm.Comparison:
    """Compare the three encoders of AMi-Br on the MIDOG21 patches, by all measures or those named."""
    cohorts = {name: amibr.load(folder, name) for name in amibr.ENCODERS}
    return cfm.compare(cohorts, SCANNERS, metrics=metrics, random_state=random_state)


def subset_table(folder: Path) -> pd.DataFrame:
    """Return four rows per TCGA subset: the published index, and what can be compared between designs."""
    rows = []
    for name, (cancers, hospitals) in SUBSETS.items():
        cohort = tcga_hipt.load(folder, cancers=cancers, hospitals=hospitals)
        raw = cfm.metrics.robustness_index(cohort, HOSPITALS)
        found = {
            "index as published": raw,
            "index, 2 x 2 reference": raw.details["standardised"],
            "hospital / cancer distance": cfm.effect(cohort, HOSPITALS, treatment="center").ratio,
            "read-out of the hospital within cancers": cfm.metrics.readout_within(cohort, HOSPITALS, of="center"),
        }
        for measure, e in found.items():
            numbers = {"value": e.value, "low": e.low, "high": e.high, "chance": e.chance}
            rows.append({"subset": name, "measure": measure, **numbers, "rows": e.n, "patients": e.n_groups})
    return pd.DataFrame(rows)


def main(arguments: list[str] | None = None) -> None:
    """Run both parts."""
    parser = argparse.ArgumentParser(description="Encoders on scanners, one encoder on three sets of hospitals.")
    parser.add_argument("data", type=Path, help="folder with the AMi-Br and TCGA HIPT files")
    parser.add_argument("--out", type=Path, default=Path("encoder-comparison"))
    options = parser.parse_args(arguments)
    table = subset_table(options.data)
    options.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(options.out / "subsets.csv", index=False)
    print(table.round(3).to_string(index=False))
    result = compare_encoders(options.data)
    print("\n".join(result.headline))
    print(write_reports(result, options.out, "comparison"))


if __name__ == "__main__":
    main()
