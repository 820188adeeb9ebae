"""Rows, factor, biology and correctors that several tests of the correctors share."""

from __future__ import annotations

import numpy as np
import pytest

from causalfm.datasets.linear_scm import linear_scm
from causalfm.estimators import (
    CausalComBat,
    ComBat,
    GradientReversalAdapter,
    LinearEraser,
    MeanAligner,
    NuisanceSubspace,
    NullspaceProjector,
    SCMCorrector,
    TransportAligner,
)
from causalfm.graph import CausalGraph

GRAPH = CausalGraph.standard(biology="tumour", technical=["site"], covariates="age", group="patient")

SITE_WISE = {
    "mean": lambda **k: MeanAligner(**k),
    "mean, shrunken": lambda **k: MeanAligner(shrinkage="empirical-bayes", **k),
    "combat": lambda **k: ComBat(**k),
    "combat, prior over levels": lambda **k: ComBat(prior="levels", **k),
    "combat, mean only": lambda **k: ComBat(mean_only=True, **k),
    "covbat": lambda **k: ComBat(covbat=0.9, **k),
    "oracle": lambda **k: LinearEraser(form="oracle", **k),
    "quadratic": lambda **k: LinearEraser(form="quadratic", **k),
    "transport": lambda **k: TransportAligner(**k),
    "coral": lambda **k: TransportAligner(map="coral", **k),
    "causal": lambda **k: CausalComBat(**k),
    "causal, matched": lambda **k: CausalComBat(estimator="matched", caliper=0.5, **k),
    "causal, aipw": lambda **k: CausalComBat(estimator="aipw", **k),
}
TRAINED = {
    "reversal": lambda **k: GradientReversalAdapter(strength=1.0, steps=25, **k),
    "reversal, mlp": lambda **k: GradientReversalAdapter(form="mlp", strength=1.0, steps=25, width=8, **k),
}
LABEL_FREE = {
    "leace": lambda **k: LinearEraser(**k),
    "inlp": lambda **k: NullspaceProjector(**k),
    "nuisance": lambda **k: NuisanceSubspace(**k),
    **TRAINED,
}
ALL = {**SITE_WISE, **LABEL_FREE}
STREAMS = {name: make for name, make in ALL.items() if make().streams}


def with_ages(name: str, **settings: object):
    """Return a corrector that leaves out rows whose ages it cannot compare, where it asks."""
    return ALL[name](**({"on_violation": "trim"} if name.startswith("causal") else {}), **settings)


def scm(**settings):
    return SCMCorrector(GRAPH, **settings)


def sample(n_groups: int = 90, confounding: float = 0.5, random_state: int = 0, **settings: object):
    """Return rows and table: three sites, two classes, four rows per patient, shuffled."""
    cohort, truth = linear_scm(
        n_groups=n_groups,
        **{"rows_per_group": 4, "n_sites": 3, "site_effect": 1.0, "d": 12, **settings},
        confounding=confounding,
        random_state=random_state,
    )
    order = np.random.default_rng(random_state).permutation(len(cohort))
    return cohort.X[order], cohort.obs.iloc[order].reset_index(drop=True), truth


def varied():
    """Return rows and table of sites that differ in their variances too."""
    return sample(variance_by_site=0.4)[:2]


@pytest.fixture(scope="module")
def rows():
    return varied()


def given(obs):
    """Return what a fit may be given beside the factor."""
    return {"biology": obs["tumour"], "covariates": obs[["age"]], "groups": obs["patient"]}


def applied(corrector, X, factor):
    """Transform with the factor where the corrector takes it."""
    if hasattr(corrector, "unseen"):
        return corrector.transform(X, factor=factor)
    return corrector.transform(X)


def gaps(X, factor, given):
    """Distances of the factor's levels from one another within classes, after an additive fit: ``(L - 1, d)``."""
    factor, given = np.asarray(factor), np.asarray(given)
    levels, classes = np.unique(factor), np.unique(given)
    design = np.column_stack(
        [np.ones(len(X)), *(factor == v for v in levels[1:]), *(given == v for v in classes[1:])]
    ).astype(float)
    return np.linalg.lstsq(design, X, rcond=None)[0][1 : len(levels)]


def rows_of(X):
    shape = X.shape if hasattr(X, "shape") else np.asarray(X).shape
    return shape[0] if shape else 0


class LevelGiven:
    """Rows stand at the first level where no level is passed, so that every check can run."""

    def transform(self, X, factor=None):
        if factor is None and hasattr(self, "levels_"):
            factor = [self.levels_[0]] * rows_of(X)
        return super().transform(X, factor=factor)

    def fit_transform(self, X, y=None, **params):
        return self.fit(X, y, **params).transform(X)
