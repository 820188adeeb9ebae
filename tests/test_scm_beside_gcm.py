"""Counterfactual rows of the additive model beside dowhy.gcm, and where theirs is no regression on levels any more."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.benchmarks import cohorts
from experiments.benchmarks.scm import beside_gcm

pytestmark = pytest.mark.filterwarnings("ignore")  # dowhy warns of its own affairs


@pytest.mark.parametrize(("sites", "equal"), [(5, True), (8, False)])
def test_rows_are_moved_as_least_squares_moves_them(sites: int, equal: bool) -> None:
    """They encode causes by the mean of the target where all have more than seven levels together."""
    n, d = 300, 2
    trial = beside_gcm(Path(), n, d, sites)
    cohort = cohorts.cohort(n, d, sites=sites, rows=1)
    X = cohort.X.astype(np.float64)
    levels = [
        pd.get_dummies(cohort.obs[name].astype(str), drop_first=True).to_numpy(float) for name in ("site", "tumour")
    ]
    design = np.column_stack([np.ones(n), *levels])
    moved = design.copy()
    moved[:, 1:sites] = 0.0
    want = X + (moved - design) @ np.linalg.lstsq(design, X, rcond=None)[0]
    np.testing.assert_allclose(trial.ours(), want, atol=1e-10)
    assert trial.peer is not None
    apart = np.abs(trial.peer() - want).max()
    assert apart < 1e-9 if equal else apart > 0.01
