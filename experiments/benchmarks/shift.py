"""The audit of a deployment at a large cohort."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from causalfm.auditing import audit
from causalfm.cohort import Cohort
from experiments.benchmarks import cohorts, limits
from experiments.benchmarks.claim import Claim, Trial


def prepare(folder: Path, n: int, d: int, sites: int, rows: int) -> Trial:
    """Audit another hospital, a tenth of the rows, with a shift of its own."""
    obs = cohorts.table(n, sites=sites, rows=rows)
    new = np.arange(n) // rows >= (n - n // 10) // rows
    obs.loc[new, "site"] = "elsewhere"
    X = cohorts.embeddings(obs, d)
    reference, deployment = (Cohort(X[at], obs[at].reset_index(drop=True)) for at in (~new, new))

    def products() -> None:
        for start in range(0, len(reference), limits.BLOCK):
            block = reference.X[start : start + limits.BLOCK]
            block.T @ block

    return Trial(lambda: audit(reference, cohorts.SCANNED, deployment=deployment), products)


ENTRIES = (
    Claim(
        "shift.audit",
        "audit of a deployment, all questions with labels",
        prepare,
        {"n": 16_000, "d": 1536, "sites": 34, "rows": 20},
        {"n": 2000, "d": 16, "sites": 4, "rows": 10},
        "the rows multiplied with themselves once, float32",
        no_peer="no library asks these questions",
        why="An audit asks many questions, several of them with permutations, cross-fitted models and intervals by "
        "patient; the limit is one product.",
        repeats=3,
    ),
)
