"""Tables of the page on policies: its keys, and whether intervals keep what alpha promises, at three levels.

python -m experiments.policy_levels records.jsonl            # simulate, or go on where it was cut
python -m experiments.policy_levels records.jsonl --page docs # write the table and docs/policy_levels.csv
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

import causalfm as cfm
from causalfm.auditing.policy import default_values
from causalfm.auditing.policy_problems import allowed, keys
from causalfm.auditing.policy_table import policy_rows, shown
from causalfm.confidence import percent, using_alpha
from causalfm.datasets.linear_scm import linear_scm, mean_square_distance
from causalfm.estimators import effect
from causalfm.metrics.neighbourhood import robustness_index
from causalfm.metrics.probes import predict, score
from causalfm.neighbours import knn

COHORTS, FIRST_SEED = 400, 910_000
ALPHAS = (0.2, 0.05, 0.01)
K = 5
DESIGN: dict[str, Any] = {"n_groups": 60, "rows_per_group": 3, "d": 8, "n_sites": 3, "site_effect": 0.6}
DESIGN |= {"biology_effect": 1.5, "group_effect": 0.6, "effect_seed": 0}
GRAPH = cfm.CausalGraph.standard(biology="tumour", technical=["site"], group="patient")
NAMES = {
    "effect ratio": "distance between sites / distance between classes",
    "robustness index": f"neighbours share the biology, k = {K}",
    "probe accuracy": "balanced accuracy of a logistic probe for the site",
}


def measure(seed: int) -> dict[str, list[list[float]]]:
    """Return ``[value, low, high]`` at every level for each number, on one cohort."""
    cohort, _ = linear_scm(**DESIGN, random_state=seed)
    groups = cohort.factor("patient", private=True)
    lists = knn(cohort.X, K, exclude=groups.codes, reserve=4 * K)
    prediction = predict(cohort, GRAPH, of="site", probe="logistic", random_state=seed)
    out: dict[str, list[list[float]]] = {name: [] for name in NAMES}
    for alpha in ALPHAS:
        with using_alpha(alpha):
            ratio = effect(cohort, GRAPH, treatment="site", confirm=False).ratio
            index = robustness_index(
                cohort, GRAPH, confounder="site", k=K, neighbours=lists, standardised=False, random_state=seed
            )
            found = ratio, index, score(prediction, seed)
        for name, one in zip(NAMES, found, strict=True):
            out[name].append([one.value, one.low, one.high])
    return out


def simulate(path: Path) -> None:
    """Measure the cohorts that are not in the records yet; a line that was cut off is measured again."""
    done = read(path)
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" * (file.tell() > 0))
        for seed in range(FIRST_SEED, FIRST_SEED + COHORTS):
            if seed not in done:
                file.write(json.dumps({"seed": seed, **measure(seed)}) + "\n")
                file.flush()


def read(path: Path) -> dict[int, dict[str, Any]]:
    """Return the records by seed."""
    out = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        out[int(record.pop("seed"))] = record
    return out


def rows_of(records: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
    """Share of the cohorts whose interval holds the truth, by number and level.

    The truth of the ratio is that of the simulator. Index and accuracy are for new patients of this design: their truth
    is the mean over all cohorts.
    """
    truth = linear_scm(**DESIGN, random_state=FIRST_SEED)[1]
    known = math.sqrt(mean_square_distance(truth.site) / mean_square_distance(truth.biology))
    out = []
    for name in NAMES:
        values = np.array([record[name] for _, record in sorted(records.items())])  # (cohorts, levels, 3)
        true = known if name == "effect ratio" else float(values[:, 0, 0].mean())
        for i, alpha in enumerate(ALPHAS):
            told = ~np.isnan(values[:, i, 1])
            low, high = values[told, i, 1], values[told, i, 2]
            share = float(((low <= true) & (true <= high)).mean())
            n = int(told.sum())
            error = math.sqrt((1.0 - alpha) * alpha / n)
            row = {"number": name, "alpha": alpha, "promised": 1.0 - alpha, "covered": share, "error": error}
            out.append({**row, "answered": n, "cohorts": len(values), "mean width": float((high - low).mean())})
    return out


def write_page(records: dict[int, dict[str, Any]], docs: Path) -> None:
    """Write the table into ``policy.md`` and the numbers into ``policy_levels.csv``."""
    rows = rows_of(records)
    with (docs / "policy_levels.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    lines = [
        f"{len(records)} cohorts of {DESIGN['n_groups']} patients, {DESIGN['rows_per_group']} rows each, at "
        f"{DESIGN['n_sites']} sites (`causalfm.datasets.linear_scm`, seeds fixed beforehand). Share of intervals that "
        "hold the truth, with the standard error that the promised share has in so many cohorts:",
        "",
        f"| number | {' | '.join(f'alpha {alpha:g}: {percent(alpha)}' for alpha in ALPHAS)} |",
        f"|---|{'---|' * len(ALPHAS)}",
    ]
    for name, what in NAMES.items():
        mine = [row for row in rows if row["number"] == name]
        cells = (f"{100 * row['covered']:.1f}% ± {100 * row['error']:.1f}" for row in mine)
        lines.append(f"| {name} ({what}) | {' | '.join(cells)} |")
    _between(docs / "policy.md", "policy levels", lines)


def key_table() -> list[str]:
    """Lay out every key of a policy: default, what may stand there, which way is stricter, what it means."""
    lines = ["| key | default | may be | stricter if | meaning |", "|---|---|---|---|---|"]
    for row in policy_rows(default_values()):
        rule = keys()[row["key"]]
        cells = f"`{row['key']}`", f"`{shown(row['default'])}`", allowed(rule), row["stricter"], row["means"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _between(page: Path, name: str, lines: list[str]) -> None:
    """Write lines between the marks of a name."""
    start, end = (f"<!-- {name}: {word} -->" for word in ("start", "end"))
    before, rest = page.read_text(encoding="utf-8").split(start)
    page.write_text("\n".join([f"{before}{start}", *lines, f"{end}{rest.split(end)[1]}"]), encoding="utf-8")


def main() -> None:
    """Simulate, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("records", type=Path)
    parser.add_argument("--page", type=Path, help="folder of the documentation")
    asked = parser.parse_args()
    if asked.page is None:
        simulate(asked.records)
    else:
        write_page(read(asked.records), asked.page)
        _between(asked.page / "policy.md", "policy keys", key_table())


if __name__ == "__main__":
    main()
