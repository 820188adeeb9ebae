"""Cohorts whose effects are known, and the effect of their sites by any estimator."""

import numpy as np
import pandas as pd

from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import linear_scm
from causalfm.estimators import effect
from causalfm.graph import CausalGraph

ESTIMATORS = ("standardisation", "ridge", "aipw", "partially-linear")
PLAIN = CausalGraph.standard(biology="tumour", technical="site", group="patient")
DOUBLE = CausalGraph(
    "w -> site; {w, site, tumour} -> Z", biology="tumour", technical="site", covariates=["w"], group="patient"
)


def site_effect(cohort: Cohort, graph: CausalGraph = PLAIN, **settings):
    return effect(cohort, graph, treatment=settings.pop("treatment", "site"), confirm=False, **settings)


def scm(seed: int = 0, **settings) -> Cohort:
    defaults = {"n_groups": 120, "n_sites": 3, "d": 5, "rows_per_group": 2, "site_effect": 1.0, "biology_effect": 2.0}
    return linear_scm(**{**defaults, "confounding": 0.4, **settings}, random_state=seed)[0]


def interacting(seed: int, n: int = 600) -> tuple[Cohort, float]:
    """Two sites, a confounder that acts on choice and outcome, an effect that depends on it; and the true mean effect.

    The outcome is linear given the confounder at each site, the choice logistic.
    """
    rng = np.random.default_rng(seed)
    w = rng.standard_normal(n)
    t = rng.random(n) < 1.0 / (1.0 + np.exp(-0.8 * w))
    y = 2.0 * w + t * (1.0 + 0.5 * w) + rng.standard_normal(n)
    obs = pd.DataFrame({"patient": np.arange(n).astype(str), "site": np.where(t, "b", "a"), "w": w})
    obs["tumour"] = np.where(np.arange(n) % 2, "x", "y")
    return Cohort(y[:, None], obs), 1.0 + 0.5 * float(w.mean())
