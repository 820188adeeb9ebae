"""Effects of many sites on all dimensions: a patient per row beside EconML, and many rows per patient from a file."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from causalfm.cohort import Cohort
from causalfm.estimators import Nuisances, effect
from causalfm.estimators.influence.comparison_groups import compared_groups, design_columns
from causalfm.estimators.influence.crossfitting import deal_folds
from causalfm.estimators.influence.partially_linear import partially_linear
from causalfm.positivity import complete_table
from causalfm.units import patient_units
from experiments.benchmarks import cohorts, limits
from experiments.benchmarks.claim import Claim, Trial

GRAPH = cohorts.GRAPH
FOLDS = 5


def estimates(cohort: Cohort) -> Any:
    """Run the partially linear estimator of every site against the first, with standard errors."""
    units = patient_units(cohort, GRAPH, ["site"], ["tumour", "age"])
    kept = complete_table(units.counts())
    assert kept is not None
    compared = compared_groups(units, kept)
    fold = deal_folds(compared.level, compared.stratum, FOLDS, 0)
    influence, _ = partially_linear(compared, fold, Nuisances(), overwrite=True)
    sites = len(influence.names)
    return influence.contrast(np.eye(sites)[1:] - np.eye(sites)[0])


def beside_econml(folder: Path, n: int, d: int, sites: int) -> Trial:
    """Estimate from a row per patient, the only case that EconML's errors are made for."""
    warnings.simplefilter("ignore")
    from econml.dml import LinearDML
    from sklearn.linear_model import LogisticRegression, Ridge

    cohort = cohorts.cohort(n, d, sites=sites, rows=1)
    units = patient_units(cohort, GRAPH, ["site"], ["tumour", "age"])
    order = cohort.factor("patient", private=True).codes
    W, T = design_columns(units.stratum, units.covariates)[order], units.level.codes[order]

    def peer() -> Any:
        nuisances = {"model_y": Ridge(), "model_t": LogisticRegression(max_iter=2000)}
        model = LinearDML(**nuisances, discrete_treatment=True, cv=FOLDS, random_state=0)
        model.fit(cohort.X, T, X=None, W=W)
        return model.intercept_, model.const_marginal_ate_inference().stderr_mean  # standard errors, as ours

    return Trial(
        lambda: estimates(cohort),
        partial(limits.normal_equations, cohort.X, sites + 8),
        peer,
        answer=lambda found: found.estimate,
        peer_answer=lambda found: np.asarray(found[0]).T,
        apart=lambda a, b: 1.0 - float(np.corrcoef(a.ravel(), b.ravel())[0, 1]),
    )


def of_patients(folder: Path, whole: bool, n: int, d: int, sites: int, rows: int) -> Trial:
    """Estimate from a mapped file of patients with many rows each; ``whole`` asks everything of ``effect()``."""
    cohort = cohorts.cohort(n, d, folder / "X.npy", sites=sites, rows=rows)
    settings: dict[str, Any] = {"estimator": "partially-linear", "folds": FOLDS, "confirm": False}
    return Trial(
        lambda: effect(cohort, GRAPH, treatment="site", **settings) if whole else estimates(cohort),
        partial(limits.normal_equations, cohort.X, sites + 8),
    )


LIMIT = "the columns of sites, classes and age multiplied with the rows once, float64"
MANY = {"n": 100_000, "d": 1536, "sites": 34, "rows": 50}
FEW = {"n": 1200, "d": 16, "sites": 3, "rows": 10}
NO_CLUSTERS = "EconML's errors count rows, not patients"
ENTRIES = (
    Claim(
        "effects.rows",
        "effects of 34 sites with standard errors, a patient per row, partially linear, five folds",
        beside_econml,
        {"n": 20_000, "d": 1536, "sites": 34},
        {"n": 600, "d": 16, "sites": 3},
        LIMIT,
        peer="econml",
        differs="one less the correlation of all estimates (folds differ)",
        why="Much of the time goes to five multinomial regressions of the site on class and age, which EconML fits "
        "too; then every contrast gets an error in every dimension.",
        tolerance=0.02,
        peer_repeats=1,
        repeats=3,
    ),
    Claim(
        "effects.patients",
        "the same from a mapped file with 50 rows per patient",
        partial(of_patients, whole=False),
        MANY,
        FEW,
        LIMIT,
        no_peer=NO_CLUSTERS,
        why="Rows are read once for sums per patient in float64. The rest does not depend on rows: five multinomial "
        "regressions of the site and the errors of every contrast in every dimension.",
        repeats=3,
    ),
    Claim(
        "effects.whole",
        "`effect()` on these: distances, ratio, shares and biology with intervals",
        partial(of_patients, whole=True),
        MANY,
        FEW,
        LIMIT,
        no_peer=NO_CLUSTERS,
        why="What is asked of distances and shares is quadratic in the estimates: each needs the estimates without "
        "each patient, for all pairs of sites.",
        repeats=3,
    ),
)
