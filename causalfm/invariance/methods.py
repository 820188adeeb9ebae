"""The table of methods: each turns a question into a statistic, a p-value and the units of the effect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from causalfm.cohort import Cohort
from causalfm.dose_units import DoseUnits, dose_units
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.invariance.doses import Pairs, dose_gcm_test, kernel_pairs, pair_test, slope_pairs
from causalfm.invariance.generalised_covariance import gcm_test
from causalfm.invariance.kernels import KernelFeatures, kernel_features, kernel_units
from causalfm.invariance.level_kernels import level_similarity
from causalfm.invariance.mean import informative, mean_null
from causalfm.invariance.paired_test import sign_flip_test
from causalfm.invariance.two_sample_classifier import classifier_test
from causalfm.paired_units import PairedUnits, paired_units
from causalfm.positivity import MIN_GROUPS, complete_table
from causalfm.resampling import permutation_p_value
from causalfm.strata import stratify
from causalfm.units import Units, patient_units


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked of which rows.

    Attributes
    ----------
    cohort, graph
        Data and declared graph.
    of
        Tested factor; several are crossed.
    given
        Conditioning columns.
    n_permutations
        Permutations (or multiplier draws, or sign flips) of the independent units.
    random_state
        Seed of everything random.
    minimum
        Least patients per cell, or per pair of levels in a paired design.
    """

    cohort: Cohort
    graph: CausalGraph
    of: tuple[str, ...]
    given: tuple[str, ...]
    n_permutations: int
    random_state: int
    minimum: int = MIN_GROUPS


@dataclass(frozen=True, eq=False)
class Tested:
    """Outcome of one method.

    Attributes
    ----------
    statistic, p_value
        Observed statistic and its p-value.
    units
        The independent units in the space in which the method compares them: embeddings, or features of a kernel. The
        size of the effect and the margin's distance between classes are measured there.
    subject
        What was compared, for the sentence: ``"mean embedding"``.
    details
        Settings, and how many units the test could use.
    draws
        What the p-value counts: ``"permutations"``, ``"sign flips"``.
    similarity
        Of the levels, where the test is of means with one: see :func:`causalfm.invariance.mean.mean_test`.
    pairs
        Design of a test of a continuous factor that adds up over pairs of patients.
    null, used
        ``(B,)`` draws of the statistic and mask ``(G,)`` of the patients drawn: draws of tests of other factors that
        use the same patients in the same strata move them alike. None where draws are not kept.
    """

    statistic: float
    p_value: float
    units: Units | PairedUnits
    subject: str
    details: Mapping[str, Any] = field(default_factory=dict)
    draws: str = "permutations"
    similarity: np.ndarray | None = None
    pairs: Pairs | None = None
    null: np.ndarray | None = None
    used: np.ndarray | None = None


Method = Callable[[Question], Tested]


def mean_method(question: Question) -> Tested:
    """Compare the mean embeddings of patients."""
    units = patient_units(question.cohort, question.graph, question.of, question.given)
    statistic, null = mean_null(units, n_permutations=question.n_permutations, random_state=question.random_state)
    used = informative(units)
    p_value = permutation_p_value(statistic, null)
    details = {"tested_groups": int(used.sum())}
    return Tested(statistic, p_value, units, "mean embedding", details, null=null, used=used)


def kernel_method(question: Question, *, kernel: str, between_levels: bool) -> Tested:
    """Compare distributions of embeddings by the mean kernel features of patients.

    ``between_levels`` weighs levels by a kernel between them, as HSIC and distance covariance do; else all alike.
    """
    cohort, graph, of = question.cohort, question.graph, question.of
    units, features = kernel_units(cohort, graph, of, question.given, kernel, random_state=question.random_state)
    if complete_table(units.counts(), question.minimum) is None:
        raise DataError(
            f"no two levels of {units.level.name} have {question.minimum} {units.unit}s each that hold the same "
            f"classes of {graph.biology}, so that distributions within classes cannot be compared: choose "
            "method='mean', which compares class by class."
        )
    ordinal = len(of) == 1 and graph.kind(of[0], cohort) == "ordinal"
    similarity = level_similarity(units.level.n_levels, kernel, ordinal=ordinal) if between_levels else None
    statistic, null = mean_null(
        units,
        similarity=similarity,
        n_permutations=question.n_permutations,
        random_state=question.random_state,
    )
    used = informative(units)
    details = {"tested_groups": int(used.sum()), **_settings(features)}
    p_value, subject = permutation_p_value(statistic, null), "distribution of embeddings"
    return Tested(statistic, p_value, units, subject, details, similarity=similarity, null=null, used=used)


def paired_method(question: Question, *, kernel: str | None = None) -> Tested:
    """Compare each patient's levels with each other: mean embeddings, or distributions by mean kernel features."""
    cohort, graph, of, given = question.cohort, question.graph, question.of, question.given
    details: dict[str, Any] = {}
    if kernel is None:
        units = paired_units(cohort, graph, of, given, question.minimum)
    else:
        constant = [c for c in given if not graph.varies_within_group(cohort, c)]
        features = kernel_features(
            cohort, stratify(cohort, graph, (), constant), kernel, random_state=question.random_state
        )
        units = paired_units(cohort, graph, of, given, question.minimum, features=features).mapped(features.root)
        details = _settings(features)
    statistic, p_value, flips = sign_flip_test(
        units.within, n_flips=question.n_permutations, random_state=question.random_state
    )
    details |= {"tested_groups": len(units.within), "n_permutations": flips}
    subject = "distribution of embeddings" if kernel else "mean embedding"
    return Tested(statistic, p_value, units, subject, details, "sign flips")


def gcm_method(question: Question) -> Tested:
    """Look for the level and the dimension of the patients' mean embeddings that go together most."""
    units = patient_units(question.cohort, question.graph, question.of, question.given)
    found = gcm_test(units, n_draws=question.n_permutations, random_state=question.random_state)
    used = informative(units)
    largest = {"level": units.level.levels[found.column], "dimension": found.dimension, "value": found.value}
    details = {"tested_groups": int(used.sum()), "largest": largest}
    return Tested(
        found.statistic, found.p_value, units, "mean embedding", details, "sign flips", null=found.null, used=used
    )


def c2st_method(question: Question) -> Tested:
    """Classify patients left out by the level they were seen at."""
    units = patient_units(question.cohort, question.graph, question.of, question.given)
    found = classifier_test(units, n_draws=question.n_permutations, random_state=question.random_state)
    used = informative(units)
    details = {
        "tested_groups": int(used.sum()),
        "auc_chance": found.auc_chance,
        "balanced_accuracy": found.accuracy,
        "balanced_accuracy_chance": found.chance,
    }
    return Tested(
        found.statistic, found.p_value, units, "mean embedding", details, "sign flips", null=found.null, used=used
    )


def slope_method(question: Question) -> Tested:
    """Look for a linear effect of a continuous factor on the patients' mean embeddings."""
    units = dose_units(question.cohort, question.graph, question.of, question.given, question.minimum)
    return _of_pairs(question, units, slope_pairs(units), "mean embedding", _doses(units))


def dose_gcm_method(question: Question) -> Tested:
    """Look for the dimension of the patients' mean embeddings that goes along with a continuous factor most."""
    units = dose_units(question.cohort, question.graph, question.of, question.given, question.minimum)
    found = dose_gcm_test(units, n_draws=question.n_permutations, random_state=question.random_state)
    details = {**_doses(units), "largest": {"dimension": found.dimension, "value": found.value}}
    return Tested(
        found.statistic,
        found.p_value,
        units,
        "mean embedding",
        details,
        "sign flips",
        null=found.null,
        used=units.inside,
    )


def dose_kernel_method(question: Question, *, kernel: str) -> Tested:
    """Look for any dependence of the distribution of embeddings on a continuous factor."""
    cohort, graph, of, given = question.cohort, question.graph, question.of, question.given
    features_of, features = kernel_units(cohort, graph, (), given, kernel, random_state=question.random_state)
    units = dose_units(cohort, graph, of, given, question.minimum, units=features_of)
    details = {**_doses(units), **_settings(features)}
    return _of_pairs(question, units, kernel_pairs(units, kernel), "distribution of embeddings", details)


def _of_pairs(question: Question, units: DoseUnits, pairs: Pairs, subject: str, details: dict[str, Any]) -> Tested:
    found = pair_test(pairs, units, n_permutations=question.n_permutations, random_state=question.random_state)
    p_value, used = found.p_value, units.inside
    return Tested(found.statistic, p_value, units, subject, details, pairs=pairs, null=found.null, used=used)


def _settings(features: KernelFeatures) -> dict[str, Any]:
    return {"median_distance": features.scale, "landmarks": len(features.landmarks), "exact": features.exact}


def _doses(units: DoseUnits) -> dict[str, Any]:
    return {"tested_groups": int(units.inside.sum()), "standard_deviation": units.spread}


METHODS: dict[str, Method] = {
    "mean": mean_method,
    "mmd": partial(kernel_method, kernel="gaussian", between_levels=False),
    "energy": partial(kernel_method, kernel="distance", between_levels=False),
    "hsic": partial(kernel_method, kernel="gaussian", between_levels=True),
    "dcorr": partial(kernel_method, kernel="distance", between_levels=True),
    "gcm": gcm_method,
    "c2st": c2st_method,
}
DOSE_METHODS: dict[str, Method] = {  # for a continuous factor
    "mean": slope_method,
    "hsic": partial(dose_kernel_method, kernel="gaussian"),
    "dcorr": partial(dose_kernel_method, kernel="distance"),
    "gcm": dose_gcm_method,
}
PAIRED_METHODS: dict[str, Method] = {  # where most patients were seen at several levels
    "mean": paired_method,
    "mmd": partial(paired_method, kernel="gaussian"),
    "energy": partial(paired_method, kernel="distance"),
}
