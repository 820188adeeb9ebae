"""Invariance on real embeddings, with what the design could have seen: hospitals of TCGA, scanners of AMi-Br.

``python -m experiments.invariance_on_real_data DATA --out FOLDER``

Prints and writes ``invariance.csv``: hospital given cancer type, scanner given label, with the test's size and the
smallest visible distance on the very design; and ``placebos.csv``: random halves of the patients of each hospital (or
scanner) and class, of which a test on the right unit rejects 5 %, beside the same test with slides or patches as units.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

import causalfm as cfm
from causalfm.datasets import amibr, tcga_hipt
from causalfm.invariance import placebo
from experiments.encoder_comparison import HOSPITALS, SCANNERS, SUBSETS

METHODS = ("mean", "mmd")
SPLITS, ROW_SPLITS = 200, 40


def designs(folder: Path) -> Iterator[tuple[str, cfm.Cohort, cfm.CausalGraph]]:
    """Yield name, cohort and graph of each design."""
    for name, (cancers, hospitals) in SUBSETS.items():
        yield f"TCGA: {name}", tcga_hipt.load(folder, cancers=cancers, hospitals=hospitals), HOSPITALS
    for encoder in amibr.ENCODERS:
        yield f"AMi-Br: {encoder}", amibr.load(folder, encoder), SCANNERS


def answer(name: str, cohort: cfm.Cohort, graph: cfm.CausalGraph, method: str) -> dict[str, object]:
    """Return one row: p-value, distance in units of the classes', size and smallest visible distance."""
    of = graph.technical[0]
    found = cfm.invariance_test(cohort, graph, of=of, method=method)
    check = cfm.self_check(cohort, graph, of=of, method=method)
    ratio, low, high = found.details["ratio_to_biology"]
    return {
        "design": name,
        "question": f"{of} given {', '.join(found.given)}",
        "method": method,
        "patients": found.n_groups,
        "p": found.p_value,
        "distance": ratio,
        "low": low,
        "high": high,
        "size at 5%": check.size,
        "size low": check.size_low,
        "size high": check.size_high,
        "visible": check.detectable,
        "visible low": check.detectable_low,
        "visible high": check.detectable_high,
        "null cohorts": check.n_nulls,
    }


def split(name: str, cohort: cfm.Cohort, graph: cfm.CausalGraph) -> Iterator[dict[str, object]]:
    """Yield the placebo with patients as units and, where patients have several rows, with rows as units."""
    rows = cohort.replace(obs=cohort.obs.assign(row=[str(i) for i in range(len(cohort))]))
    single = cohort.factor(graph.group, private=True).counts().max() == 1
    by_row = cfm.CausalGraph.standard(biology=graph.biology, technical=graph.technical, group="row")
    for unit, other in [(graph.group, graph)] + [("row", by_row)] * (not single):
        n = ROW_SPLITS if unit == "row" else SPLITS
        clusters = graph.group if unit == "row" else None
        found = placebo(rows, other, clusters=clusters, n_splits=n, n_permutations=39)
        shares = {key: found.details[key] for key in ("share", "low", "high")}
        yield {"design": name, "unit of the test": unit, "splits": n, **shares, "verdict": found.verdict}


def main(arguments: list[str] | None = None) -> None:
    """Run both tables."""
    parser = argparse.ArgumentParser(description="Hospital given cancer, scanner given label, random halves.")
    parser.add_argument("data", type=Path, help="folder with the AMi-Br and TCGA HIPT files")
    parser.add_argument("--out", type=Path, default=Path("invariance-on-real-data"))
    options = parser.parse_args(arguments)
    answers, splits = [], []
    for name, cohort, graph in designs(options.data):
        answers += [answer(name, cohort, graph, method) for method in METHODS]
        splits += split(name, cohort, graph)
        print(name, flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    for file, rows in {"invariance.csv": answers, "placebos.csv": splits}.items():
        table = pd.DataFrame(rows)
        table.to_csv(options.out / file, index=False)
        print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
