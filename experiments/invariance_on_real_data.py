"""Invariance on real embeddings, with what the design could have seen: hospitals of TCGA, scanners of AMi-Br.

``python -m experiments.invariance_on_real_data DATA [--out docs] [--only TEXT]``

Writes ``invariance_answers.csv``: hospital given cancer type, scanner given label, with the test's size and the
smallest visible distance on the very design; ``invariance_placebos.csv``: random halves of the patients of each
hospital (or scanner) and class, of which a test on the right unit rejects 5 %, beside the same test with slides or
patches as units; and, from these two, ``invariance_on_real_data.md``. With ``--only`` the rows of these designs are
replaced in tables that are there.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pandas as pd

import causalfm as cfm
from causalfm.datasets import amibr, tcga_hipt
from causalfm.invariance import placebo
from experiments.encoder_comparison import HOSPITALS, SCANNERS, SUBSETS

METHODS = ("mean", "mmd")
SPLITS, ROW_SPLITS = 200, 40


def designs(folder: Path) -> Iterator[tuple[str, Callable[[], cfm.Cohort], cfm.CausalGraph]]:
    """Yield name, cohort (when called) and graph of each design."""
    for name, (cancers, hospitals) in SUBSETS.items():
        load = partial(tcga_hipt.load, folder, cancers=cancers, hospitals=hospitals)
        yield f"TCGA: {name}", load, HOSPITALS
    for encoder in amibr.ENCODERS:
        yield f"AMi-Br: {encoder}", partial(amibr.load, folder, encoder), SCANNERS


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
        "size": check.size,
        "size_low": check.size_low,
        "size_high": check.size_high,
        "visible": check.detectable,
        "visible_low": check.detectable_low,
        "visible_high": check.detectable_high,
        "null_cohorts": check.n_nulls,
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
        yield {"design": name, "unit": unit, "splits": n, **shares, "verdict": found.verdict}


def page(answers: pd.DataFrame, placebos: pd.DataFrame) -> str:
    """Return the page: every number from the tables."""
    out = [
        "# Invariance on real embeddings",
        "",
        "Written by `python -m experiments.invariance_on_real_data DATA` from its tables "
        "([answers](invariance_answers.csv), [placebos](invariance_placebos.csv)). Hospital given cancer type "
        "(TCGA, HIPT) and scanner given label (AMi-Br, three encoders).",
        "",
        "*Distance*: between hospitals or scanners, in units of that between classes (`mmd`: of features). *Size "
        "at 5 %* and *visible*, the distance that would be seen with 80 % power, from null cohorts on the very design; "
        "*visible* is empty where the classes' distance is not told from zero. [How to read](invariance.md).",
        "",
        "| design | question | method | patients | p | distance | size at 5 % | visible | null cohorts |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in answers.itertuples(index=False):
        visible = "" if math.isnan(row.visible) else _interval(row.visible, row.visible_low, row.visible_high)
        distance = "" if math.isnan(row.low) else _interval(row.distance, row.low, row.high)
        size = f"{row.size:.1%} [{row.size_low:.1%}, {row.size_high:.1%}]"
        cells = (row.design, row.question, row.method, row.patients, f"{row.p:.3g}", distance, size, visible)
        out.append(f"| {' | '.join(map(str, cells))} | {row.null_cohorts} |")
    out += [
        "",
        "## Placebo of the grouping",
        "",
        "Patients of every hospital (or scanner) and class split at random into halves: the share of splits rejected "
        "at 5 %, with patients as units and with rows as units.",
        "",
        "| design | unit of the test | splits | rejected | reading |",
        "|---|---|---|---|---|",
    ]
    for row in placebos.itertuples(index=False):
        share = f"{row.share:.1%} [{row.low:.1%}, {row.high:.1%}]"
        out.append(f"| {row.design} | {row.unit} | {row.splits} | {share} | {row.verdict} |")
    return "\n".join(out) + "\n"


def _interval(value: float, low: float, high: float) -> str:
    return f"{value:.2g} [{low:.2g}, {high:.2g}]" if value < 1.0 else f"{value:.3g} [{low:.3g}, {high:.3g}]"


def merged(path: Path, new: pd.DataFrame, order: list[str]) -> pd.DataFrame:
    """Put the rows of newly run designs in place of those of a table that is there."""
    if path.is_file():
        old = pd.read_csv(path)
        new = pd.concat([old[~old["design"].isin(new["design"])], new], ignore_index=True)
    return new.sort_values("design", key=lambda c: c.map(order.index), kind="stable", ignore_index=True).round(4)


def main(arguments: list[str] | None = None) -> None:
    """Run both tables and write the page."""
    parser = argparse.ArgumentParser(description="Hospital given cancer, scanner given label, random halves.")
    parser.add_argument("data", type=Path, help="folder with the AMi-Br and TCGA HIPT files")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--only", default="", help="designs whose name holds this text")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    paths = [options.out / f"invariance_{name}.csv" for name in ("answers", "placebos")]
    order = [name for name, *_ in designs(options.data)]
    for name, load, graph in designs(options.data):
        if options.only not in name:
            continue
        cohort = load()
        new = [answer(name, cohort, graph, method) for method in METHODS], split(name, cohort, graph)
        for path, rows in zip(paths, new, strict=True):  # at once: what has been run is kept
            merged(path, pd.DataFrame(rows), order).to_csv(path, index=False)
        print(name, flush=True)
    (options.out / "invariance_on_real_data.md").write_text(page(*map(pd.read_csv, paths)), encoding="utf-8")


if __name__ == "__main__":
    main()
