"""Encoders of the same patients: three that differ in their sites, and copies that differ by noise only."""

import numpy as np
import pytest

import causalfm as cfm
from causalfm.datasets.linear_scm import linear_scm
from causalfm.results import Estimate, Influence

GRAPH = cfm.CausalGraph.standard(biology="tumour", technical=["site"], group="patient")
INDEX = ["robustness_index"]


def copies(seed: int, n: int, encoders: int = 2, noise: float = 1.0) -> dict[str, cfm.Cohort]:
    """Encoders that differ by noise only: every difference between them is 0 in expectation."""
    cohort, _ = linear_scm(
        n_groups=n, n_sites=2, rows_per_group=4, d=16, biology_effect=0.8, site_effect=0.8, random_state=seed
    )
    rng = np.random.default_rng([seed, 7])
    return {
        f"copy {i}": cohort.replace(X=cohort.X + noise / 4 * rng.standard_normal(cohort.X.shape))
        for i in range(encoders)
    }


@pytest.fixture(scope="module")
def encoders() -> dict[str, cfm.Cohort]:
    cohort, _ = linear_scm(n_groups=40, n_sites=2, n_scanners=2, rows_per_group=4, site_effect=1.5, random_state=0)
    site, X = cohort.factor("site").codes, cohort.X.astype(np.float32)
    means = np.stack([X[site == s].mean(axis=0) for s in range(2)])
    wide = np.hstack([X, np.zeros_like(X)])
    return {"plain": cohort, "centred": cohort.replace(X=X - means[site]), "plain, wider": cohort.replace(X=wide)}


def mean_influence(scores: np.ndarray) -> Influence:
    return Influence((scores - scores.mean()) / len(scores), np.zeros(len(scores), dtype=int))


def estimate(value: float, effects: np.ndarray | None, n: int = 40, **details) -> Estimate:
    influence = None if effects is None else Influence(effects, np.zeros(len(effects), dtype=int))
    return Estimate("x", value, value - 0.1, value + 0.1, 0.5, n, 20, "patient", details, influence)
