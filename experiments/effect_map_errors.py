"""How often a map of effects names a cell where all cells are alike: ``docs/effect_map_errors.csv``.

``python -m experiments.effect_map_errors [--cohorts 1000]``
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import linear_scm
from causalfm.estimators import effect_map
from causalfm.graph import CausalGraph
from experiments.corrector_biology import write_rows

GRAPH = CausalGraph.standard(biology="tumour", technical=["site", "scanner"], group="patient")
BY = ("tumour", "site")
DESIGNS: dict[str, dict[str, Any]] = {
    "72 patients": {},
    "288 patients": {"n": 288},
    "variances differ between sites": {"variance_by_site": 2.0},
    "each of 60 patients on both scanners": {"n": 60, "paired": True},
    "40 patients with rows in several cells": {
        "n": 40,
        "n_sites": 2,
        "biology_within_group": True,
        "rows_per_group": 6,
    },
}


def scanned(
    seed: int = 0, *, n: int = 72, d: int = 6, hit: float = 0.0, paired: bool = False, **settings: Any
) -> tuple[Cohort, float]:
    """Draw a cohort with a scanner effect of size 1 in every cell, in class 1 one that is longer by ``hit``.

    Parameters
    ----------
    seed
        Of the patients and of the effects.
    n, d
        Patients, dimensions.
    hit
        Share by which the effect in class 1 is longer.
    paired
        Every second row of a patient comes from the other scanner.
    settings
        More arguments of :func:`causalfm.datasets.linear_scm.linear_scm`.

    Returns
    -------
    cohort, size
        The cohort, and the squared length of the effect.
    """
    arguments = {"n_sites": 3, "n_scanners": 2, "scanner_effect": 1.0, "confounding": 0.3, "rows_per_group": 2}
    cohort, truth = linear_scm(n_groups=n, d=d, random_state=seed, **{**arguments, **settings})  # type: ignore[arg-type]
    X, obs = np.array(cohort.X), cohort.obs
    scanner = (obs["scanner"] == "scanner1").to_numpy().astype(int)
    if paired:
        now = np.arange(len(X)) % 2
        X, obs = X + truth.scanner[now] - truth.scanner[scanner], obs.assign(scanner=[f"scanner{i}" for i in now])
        scanner = now
    step = truth.scanner[1] - truth.scanner[0]
    X += hit * np.outer(scanner * (obs["tumour"] == "class1"), step)
    return Cohort(X, obs), float((step**2).sum())


def rows(cohorts: int) -> list[dict[str, Any]]:
    """One row per design: the share of homogeneous cohorts in which a cell is said to differ."""
    out = []
    for name, design in DESIGNS.items():
        named = 0
        for seed in range(cohorts):
            found = effect_map(scanned(seed, **design)[0], GRAPH, treatment="scanner", by=BY).to_frame()
            named += bool(found.loc[found["told"], "differs"].any())
        out.append({"design": name, "named": round(named / cohorts, 4), "cohorts": cohorts})
    return out


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cohorts", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "effect_map_errors.csv")
    given = parser.parse_args()
    write_rows(rows(given.cohorts), given.out)


if __name__ == "__main__":
    main()
