"""One cohort in, numbers out: p-values of tests, and (value, low, high, truth) of intervals.

A truth of ``nan`` stands for the mean of the values over all cohorts of the cell: the expected value for new patients
of the same design (the index and the read-outs have no other).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import stats

from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import LinearTruth, linear_scm, mean_square_distance
from causalfm.graph import CausalGraph
from causalfm.invariance.mean import mean_test
from causalfm.metrics import robustness_index
from causalfm.metrics.design import design_of
from causalfm.metrics.probes import PROBES, readout
from causalfm.metrics.typed import OS, SO, neighbour_kinds
from causalfm.neighbours import knn
from causalfm.standardisation import Contrasts, contrast_levels
from causalfm.units import patient_units
from experiments.calibration.attributions import attribution_values, swapped_domains
from experiments.calibration.effect_estimators import econml_intervals, effect_estimates
from experiments.calibration.families import contrast_p_values, mixing_intervals, neighbourhood_intervals
from experiments.calibration.invariance_methods import p_values_of_methods, p_values_of_peers
from experiments.calibration.rescans import rescanned
from experiments.calibration.scoreboards import scoreboard_intervals
from experiments.calibration.shift_costs import cost_intervals, planted_domains
from experiments.calibration.within_patients import dose_p_values, equivalence_values, paired_values

GRAPH = CausalGraph.standard(biology="tumour", technical=["site"], covariates=["age"], group="patient")
NO_AGE = CausalGraph.standard(biology="tumour", technical=["site"], group="patient")
K = 9
COSTLY = 200  # cohorts for which the verdict's bounds and the intervals with rows as units are computed too

Values = dict[str, Any]


def mean_test_p_values(cohort: Cohort, truth: LinearTruth, seed: int, first: bool, design: dict[str, Any]) -> Values:
    """p-values of the test as it is, without studentisation, and with rows as units."""
    units = patient_units(cohort, GRAPH, ["site"], _given(design))
    rows = patient_units(rows_as_units(cohort), GRAPH, ["site"], _given(design))
    return {
        "patients": mean_test(units, n_permutations=199, random_state=seed)[1],
        "unstudentised": mean_test(units, n_permutations=199, random_state=seed, studentise=False)[1],
        "rows as units": mean_test(rows, n_permutations=99, random_state=seed)[1],
    }


def effect_intervals(cohort: Cohort, truth: LinearTruth, seed: int, first: bool, design: dict[str, Any]) -> Values:
    """Intervals of the effect, and the bounds a verdict uses where the margin is exactly the truth."""
    found = contrast_levels(patient_units(cohort, GRAPH, ["site"], _given(design)), "tumour")
    site, biology = mean_square_distance(truth.site[list(found.levels)]), mean_square_distance(truth.biology)
    a, b = next(iter(found.pairs))
    nothing = (float("nan"),) * 2
    out: Values = {
        "joint": _row(found.joint.value, found.joint.interval(), site),
        "one pair": _row(
            found.pairs[a, b].value, found.pairs[a, b].interval(), ((truth.site[a] - truth.site[b]) ** 2).sum()
        ),
        "biology": _row(found.biology.value, found.biology.interval(), biology)
        if found.biology
        else _row(np.nan, nothing, biology),
        "ratio": _row(found.ratio()[0], found.ratio()[1:], site / biology),
    }
    if first and site > 0.0:
        out["margin"] = _margin_bounds(found, truth, biology)
    if first:
        rows = contrast_levels(patient_units(rows_as_units(cohort), GRAPH, ["site"], _given(design)), "tumour")
        out["joint, rows as units"] = _row(rows.joint.value, rows.joint.interval(), site)
    return out


def index_intervals(cohort: Cohort, truth: LinearTruth, seed: int, first: bool, design: dict[str, Any]) -> Values:
    """Intervals of the robustness index, its reference version, and the index with rows as units."""
    estimate = robustness_index(cohort, NO_AGE, k=K, random_state=seed)
    reference = estimate.details["standardised"]
    return {
        "index": _row(estimate.value, (estimate.low, estimate.high)),
        "2 x 2 reference": _row(reference.value, (reference.low, reference.high)),
        "index, rows as units": _row(estimate.value, _index_by_rows(cohort)),
    }


def readout_intervals(
    cohort: Cohort, truth: LinearTruth, seed: int, first: bool, design: dict[str, Any], of: str
) -> Values:
    """Intervals of the balanced accuracy of every probe, over the cohort and within the case mix."""
    out: Values = {}
    for probe in PROBES:
        found = readout(cohort, NO_AGE, of=of, probe=probe, random_state=seed)
        within = found.details["within"]
        out[probe] = _row(found.value, (found.low, found.high))
        out[f"{probe}, within"] = _row(within["value"], (within["low"], within["high"]))
        out[f"{probe}, rows as units"] = _row(found.value, _wilson(found.value, found.n))
    return out


MEASURES: dict[str, Callable[..., Values]] = {
    "mean_test": mean_test_p_values,
    "effect": effect_intervals,
    "effects": effect_estimates,
    "econml": econml_intervals,
    "index": index_intervals,
    "readout": readout_intervals,
    "neighbourhood": neighbourhood_intervals,
    "mixing": mixing_intervals,
    "contrast": contrast_p_values,
    "methods": p_values_of_methods,
    "peers": p_values_of_peers,
    "paired": paired_values,
    "equivalence": equivalence_values,
    "dose": dose_p_values,
    "scoreboard": scoreboard_intervals,
    "shift_cost": cost_intervals,
    "attribution": attribution_values,
}


def measure(name: str, design: dict[str, Any], options: dict[str, Any], seed: int, first: bool) -> Values:
    """Draw the cohort of one seed and measure it.

    Parameters
    ----------
    name, design, options
        As in a cell of the study.
    seed
        Seed of the cohort and of the measure.
    first
        Whether this is one of the first cohorts, for which the costly comparisons are made too.

    Returns
    -------
    dict
        A p-value, or ``[value, low, high, truth]``, by name.
    """
    if name == "levels":
        from experiments.calibration.levels import level_values

        return level_values(design, seed)
    if name == "shift":
        from experiments.calibration.shifts import shift_values

        return shift_values(design, seed)
    draw: Callable[..., Any] = rescanned if "n_scanners" in design else linear_scm
    draw = planted_domains if "planted" in design else draw
    draw = swapped_domains if "shift" in design else draw
    cohort, truth = draw(**design, random_state=seed)
    return MEASURES[name](cohort, truth, seed, first, design, **options)


def rows_as_units(cohort: Cohort) -> Cohort:
    """Pretend that every row is a patient of its own."""
    return cohort.replace(obs=cohort.obs.assign(patient=np.arange(len(cohort)).astype(str)))


def _given(design: dict[str, Any]) -> list[str]:
    return ["tumour", "age"] if "age_effect" in design else ["tumour"]


def _row(value: float, interval: tuple[float, ...], truth: float = float("nan")) -> list[float]:
    return [float(value), float(interval[0]), float(interval[1]), float(truth)]


def _margin_bounds(found: Contrasts, truth: LinearTruth, biology: float) -> list[float]:
    """Bounds of ``largest |pair|^2 - margin^2 |biology|^2`` at the margin for which the truth is exactly zero."""
    largest = max(((truth.site[a] - truth.site[b]) ** 2).sum() for a, b in found.pairs)
    return _row(0.0, found.margin_bounds(float(np.sqrt(largest / biology))), 0.0)


def _index_by_rows(cohort: Cohort) -> tuple[float, float]:
    """Delta-method interval of the index if its queries were independent."""
    design = design_of(cohort, NO_AGE)
    kinds = neighbour_kinds(knn(cohort.X, K, exclude=design.groups), design.biology, design.confounder)
    so, os = (kinds == SO).sum(axis=1), (kinds == OS).sum(axis=1)
    value = so.sum() / (so.sum() + os.sum())
    influence = (so - value * (so + os)) / (so.sum() + os.sum())
    half = 1.96 * float(np.sqrt((influence**2).sum()))
    return value - half, value + half


def _wilson(value: float, n: int) -> tuple[float, float]:
    found = stats.binomtest(round(value * n), n).proportion_ci(method="wilson")
    return float(found.low), float(found.high)
