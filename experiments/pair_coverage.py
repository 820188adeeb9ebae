"""Coverage of prediction intervals learned from re-scanned tissue, and what the pairs took off the error.

``python -m experiments.pair_coverage --studies 300 --out FOLDER`` prints one line per design; designs done are kept.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from causalfm.cohort import Cohort
from causalfm.graph import CausalGraph
from causalfm.scm import EmbeddingSCM
from experiments.calibration.rescans import rescanned

GRAPH = CausalGraph(
    "site <-> tumour; {tumour, site, scanner} -> Z",
    biology="tumour",
    technical=["site", "scanner"],
    group="patient",
    specimen="tile",
)
FIRST_SEED = 15_000_000  # fixed before the first run
COMMON: dict[str, Any] = {"n_sites": 2, "d": 32, "scanner_effect": 1.0, "site_effect": 0.5, "same_tissue": True}
DESIGNS: dict[str, dict[str, Any]] = {
    "10 pairs of 5 patients": {"n_groups": 5, "rows_per_group": 2},
    "10 pairs of 10 patients": {"n_groups": 10, "rows_per_group": 1},
    "20 pairs of 10 patients": {"n_groups": 10, "rows_per_group": 2},
    "20 pairs of 20 patients": {"n_groups": 20, "rows_per_group": 1},
    "50 pairs of 5 patients": {"n_groups": 5, "rows_per_group": 10},
    "50 pairs of 20 patients": {"n_groups": 20, "rows_per_group": (2, 3)},
    "50 pairs of 20 patients, scanners unlike": {"n_groups": 20, "rows_per_group": (2, 3), "spread_by_scanner": 2.0},
    "20 pairs of 10 patients, 256 dimensions": {"n_groups": 10, "rows_per_group": 2, "d": 256, "decay": 0.5},
}


def study(design: dict[str, Any], seed: int) -> dict[str, float]:
    """Fit on 80 patients of one scanner each and on the pairs; judge on 30 new patients with both scanners."""
    other = {**COMMON, **design, "rows_per_group": 2}
    pairs = named(rescanned(**COMMON | design, random_state=3 * seed)[0], "b")
    cohort = named(rescanned(**other | {"n_groups": 80}, random_state=3 * seed + 1)[0], "u")
    new = named(rescanned(**other | {"n_groups": 30}, random_state=3 * seed + 2)[0], "t")
    cohort = cohort[cohort.factor("patient").codes // 4 % 2 == cohort.factor("scanner").codes]
    scanner = new.factor("scanner").codes
    source, truth = new[scanner == 0], new.X[scanner == 1]
    do = {"scanner": "scanner1"}
    moved, errors = EmbeddingSCM(GRAPH).fit(cohort, pairs).counterfactual(source, do, return_uncertainty=True)
    alone = EmbeddingSCM(GRAPH).fit(cohort).counterfactual(source, do)
    low, high = errors.interval()
    nothing = float(((truth - source.X) ** 2).sum())
    return {
        "coverage": float(((low <= truth) & (truth <= high)).mean()),
        "within_radius": float((np.linalg.norm(truth - moved.X, axis=1) <= errors.radius()).mean()),
        "error": float(((truth - moved.X) ** 2).sum()) / nothing,
        "unpaired_error": float(((truth - alone.X) ** 2).sum()) / nothing,
    }


def named(cohort: Cohort, prefix: str) -> Cohort:
    """Give patients and tiles names of their own, tiles in one order at each scanner."""
    obs = cohort.obs.assign(patient=prefix + cohort.obs["patient"], tile=prefix + cohort.obs["tile"])
    order = np.lexsort((obs["tile"], obs["scanner"]))
    return Cohort(cohort.X[order], obs.iloc[order].reset_index(drop=True), cohort.info)


def main() -> None:
    """Run the designs that are not kept yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path("pair-coverage"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for number, (name, design) in enumerate(DESIGNS.items()):
        path = options.out / f"{number}-{options.studies}.json"
        if not path.exists():
            seeds = range(FIRST_SEED + 10_000 * number, FIRST_SEED + 10_000 * number + options.studies)
            path.write_text(json.dumps([study(design, seed) for seed in seeds]), encoding="utf-8")
        found = json.loads(path.read_text(encoding="utf-8"))
        shown = [f"{key} {np.mean([f[key] for f in found]):.3f}" for key in found[0]]
        error = np.std([f["coverage"] for f in found], ddof=1) / np.sqrt(len(found))
        print(f"{name}: {', '.join(shown)} (standard error of the coverage {error:.4f})", flush=True)


if __name__ == "__main__":
    main()
