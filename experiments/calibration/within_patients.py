"""Paired designs, equivalence at the margin and continuous factors: one cohort in, p-values and intervals out."""

from __future__ import annotations

from typing import Any

import numpy as np

from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import LinearTruth, mean_square_distance
from causalfm.factor_contrasts import Contrasts
from causalfm.graph import CausalGraph
from causalfm.invariance import equivalence_test, invariance_test
from causalfm.invariance.methods import DOSE_METHODS, PAIRED_METHODS
from causalfm.paired_units import contrast_units, paired_units
from causalfm.standardisation import contrast_levels
from causalfm.units import patient_units

SCANNED = CausalGraph.standard(biology="tumour", technical=["site", "scanner"], group="patient")
SPECIMENS = CausalGraph.standard(biology="tumour", technical=["site", "scanner"], group="patient", specimen="tile")
SITES = CausalGraph.standard(biology="tumour", technical=["site"], group="patient")
AGES = CausalGraph.standard(biology="tumour", technical=["age"], covariates=["site"], group="patient")
PERMUTATIONS = 199

Values = dict[str, Any]


def paired_values(cohort: Cohort, truth: LinearTruth, seed: int, first: bool, design: dict[str, Any]) -> Values:
    """p-values of the paired methods where there is no effect, and the intervals of distances between scanners."""
    graph = SPECIMENS if design.get("same_tissue") else SCANNED
    found = contrast_units(paired_units(cohort, graph, ["scanner"], ["site", "tumour"]), "tumour")
    a, b = next(iter(found.pairs))
    out: Values = {
        "joint": _row(found.joint, mean_square_distance(truth.scanner[list(found.levels)])),
        "one pair": _row(found.pairs[a, b], ((truth.scanner[a] - truth.scanner[b]) ** 2).sum()),
    }
    if not design.get("scanner_effect"):
        options: dict[str, Any] = {"of": "scanner", "n_permutations": PERMUTATIONS, "random_state": seed}
        out |= {m: invariance_test(cohort, graph, method=m, **options).p_value for m in PAIRED_METHODS}
    return out


def equivalence_values(cohort: Cohort, truth: LinearTruth, seed: int, first: bool, design: dict[str, Any]) -> Values:
    """p-value of the test of equivalence where the farthest two levels lie exactly the margin apart."""
    factor = "scanner" if "scanner_effect" in design else "site"
    graph, effects = (SCANNED, truth.scanner) if factor == "scanner" else (SITES, truth.site)
    found: Contrasts = (
        contrast_units(paired_units(cohort, graph, ["scanner"], ["site", "tumour"]), "tumour")
        if factor == "scanner"
        else contrast_levels(patient_units(cohort, graph, ["site"], ["tumour"]), "tumour")
    )
    farthest = max(((effects[a] - effects[b]) ** 2).sum() for a, b in found.pairs)
    margin = float(np.sqrt(farthest / mean_square_distance(truth.biology)))
    return {"equivalence": equivalence_test(cohort, graph, of=factor, margin=margin).p_value}


def dose_p_values(cohort: Cohort, truth: LinearTruth, seed: int, first: bool, design: dict[str, Any]) -> Values:
    """p-values of the methods for a continuous factor, the age, on which nothing depends but through the site."""
    options: dict[str, Any] = {"of": "age", "n_permutations": PERMUTATIONS, "random_state": seed}
    return {m: invariance_test(cohort, AGES, method=m, **options).p_value for m in DOSE_METHODS}


def _row(norm: Any, truth: float) -> list[float]:
    low, high = norm.interval()
    return [float(norm.value), float(low), float(high), float(truth)]
