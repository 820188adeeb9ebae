"""What correctors leave of a site that they have never seen, by policy: ``docs/corrector_new_sites.csv``.

A corrector is fitted on eight sites; a ninth brings some patients, of both classes or of one.
``python -m experiments.corrector_new_sites``
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from causalfm.estimators import ComBat, MeanAligner
from experiments.corrector_biology import COHORTS, new_site_left, write_rows

METHODS: dict[str, Callable[..., Any]] = {
    "MeanAligner": MeanAligner,
    "MeanAligner, empirical Bayes": lambda **given: MeanAligner(shrinkage="empirical-bayes", **given),
    "ComBat": ComBat,
}
PATIENTS = {"20 patients": (20, False), "6 patients": (6, False), "6 patients of one class": (6, True)}


def rows(cohorts: int = COHORTS) -> list[dict[str, Any]]:
    """One row per method, policy and number of patients: mean and standard error over cohorts."""
    out = []
    for method, make in METHODS.items():
        for policy in ("adapt", "shrink"):
            for name, (patients, one_class) in PATIENTS.items():
                made = partial(make, unseen=policy)
                left = [new_site_left(made, patients, seed, one_class=one_class) for seed in range(cohorts)]
                error = float(np.std(left, ddof=1) / np.sqrt(cohorts))
                row = {
                    "method": method,
                    "unseen": policy,
                    "new site": name,
                    "effect_left": round(float(np.mean(left)), 3),
                }
                out.append({**row, "effect_left_se": round(error, 3), "cohorts": cohorts})
    return out


def main() -> None:
    """Write the table."""
    write_rows(rows(), Path(__file__).parents[1] / "docs" / "corrector_new_sites.csv")


if __name__ == "__main__":
    main()
