"""The effect of a factor on the embedding, or on what is read off it, measured against biology."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from causalfm.arrows import EMBEDDING
from causalfm.cohort import Cohort
from causalfm.dose_units import STEP
from causalfm.errors import DataError
from causalfm.estimators.effect_questions import Posed, pose
from causalfm.estimators.effect_result import Effect, largest_pair
from causalfm.estimators.effect_rows import (
    norm_estimate,
    norm_row,
    nothing,
    pair_rows,
    scalar_rows,
    share_estimates,
)
from causalfm.estimators.estimating import SATURATED, Estimated, Settings, check_settings, estimate
from causalfm.estimators.influence.crossfitting import N_FOLDS, Folds
from causalfm.estimators.influence.nuisances import Nuisances
from causalfm.estimators.outcomes import Outcome, Score
from causalfm.estimators.peers.peer_effects import is_peer, peer_effect
from causalfm.estimators.peers.scalar_errors import Clusters
from causalfm.estimators.treatments import Coding, coding_contrasts, rows_of
from causalfm.estimators.variance_shares import joint_norm
from causalfm.gram_norms import GramNorm, gram_covariance
from causalfm.graph import CausalGraph
from causalfm.norm_contrasts import fieller_of
from causalfm.positivity import MIN_GROUPS
from causalfm.results import Estimate

__all__ = ["Effect", "effect", "largest_pair"]


def effect(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    treatment: str | Sequence[str],
    outcome: Outcome = EMBEDDING,
    score: Score = "score",
    reference: str | None = None,
    coding: Coding = "reference",
    effect: Literal["total", "direct"] = "total",
    estimator: str = SATURATED,
    folds: Folds = N_FOLDS,
    nuisances: Nuisances | None = None,
    pool_rare: int | None = None,
    trim: float | None = None,
    minimum: int = MIN_GROUPS,
    confirm: bool = True,
    heterogeneity: Sequence[str] = (),
    clusters: Clusters = None,
    n_bootstrap: int = 100,
    random_state: int = 0,
) -> Effect:
    """Estimate the causal effect of a factor on the embedding or on an outcome read off it.

    Parameters
    ----------
    cohort
        Embeddings ``(n, d)`` and table.
    graph
        Declared graph; its back-door set is used.
    treatment
        Categorical factor (several are crossed) or continuous column.
    outcome
        ``"Z"``: all dimensions. A numeric or two-valued column computed from the embedding, a model
        ``(n, d) -> (n, classes)``, or predictions ``(n, classes)``, as a Series or DataFrame under the index of
        ``obs``. They inherit the parents of Z, and must vary between the groups of a cell.
    score
        Of a model or predictions: the ``"score"``, or ``"correctness"`` or ``"loss"`` against the biology column.
    reference
        Level the others are compared with; default the first compared level that was not pooled.
    coding
        ``"reference"``, or ``"effect"``: every level against the mean of the levels.
    effect
        ``"total"``, or ``"direct"``: not through the factor's technical descendants, which are conditioned on.
    estimator
        ``"standardisation"``: saturated in the categorical columns of the set, additive splines in the continuous ones.
        Where most patients were seen at several levels: contrasts within patients. ``"ridge"``: one linear outcome
        model per level. ``"aipw"``: those models and propensities, doubly robust, cross-fitted. ``"partially-linear"``:
        residuals on residuals (double machine learning), cross-fitted. One scalar outcome also by other packages:
        ``"econml.LinearDML"``, ``"econml.SparseLinearDML"``, ``"econml.CausalForestDML"``, ``"econml.LinearDRLearner"``
        and DoWhy's ``"backdoor.*"``, ``"iv.*"``, ``"frontdoor.*"``; their errors are not clustered unless asked.
    folds
        Number of folds or fold of each row ``(n,)``; whole groups, dealt evenly over levels and strata.
    nuisances
        Models in place of the built-in ones, for the cross-fitted estimators.
    pool_rare
        Join the levels with fewer groups than this; None: none is joined.
    trim
        AIPW: raise propensities below this to it; None: none is touched.
    minimum
        Least patients per cell.
    confirm
        Ask DoWhy whether the set is valid.
    heterogeneity
        EconML: columns of the conditioning set by which the effect may differ.
    clusters, n_bootstrap
        Other packages: ``"aggregate"`` gives them one averaged row per group, ``"bootstrap"`` resamples whole groups so
        many times; None leaves their errors as they are.
    random_state
        Seed of the folds.

    Returns
    -------
    Effect
        For Z squared distances in squared embedding units, else differences in units of the outcome; shares of
        variance; per slope of one standard deviation where the treatment is continuous.

    Raises
    ------
    GraphError, NotIdentifiedError
        No valid set under the graph, or DoWhy disagrees with ours.
    DataError
        An unknown outcome, estimator, coding or reference; a level too rare for the folds; a factor that varies within
        a few patients only.

    Notes
    -----
    Assumptions: the graph; patients are independent; continuous covariates act additively and smoothly; intervals are
    for these levels and new patients. Patients count equally, rows equally within a patient; every estimator works on
    patients' means, so that standard errors are clustered whatever the rows have in common. Levels and strata without
    enough patients are left out and named (``overlap``). Selection that cannot be recovered from gives an Effect
    without numbers.
    """
    given = {name: value for name, value in locals().items() if name not in ("cohort", "graph")}
    if is_peer(estimator):
        return peer_effect(cohort, graph, given)
    if heterogeneity or clusters is not None:
        raise DataError(
            f"estimator={estimator!r} is clustered by the graph's group already, and knows no heterogeneity=: leave "
            "both out."
        )
    settings = Settings(estimator, folds, nuisances or Nuisances(), trim, minimum, random_state)
    check_settings(settings)
    posed = pose(cohort, graph, treatment, outcome, score, effect, pool_rare, minimum, confirm, random_state)
    call = {"cohort": cohort, "graph": graph, "arguments": given}
    if posed.reason:
        return _without_numbers(posed, estimator, posed.reason, call)
    if posed.found.continuous and (coding == "effect" or reference is not None):
        raise DataError(
            f"{posed.found.factor} is continuous, so that its slope is compared with no level: leave coding= and "
            "reference= out, or bin it with pandas.cut."
        )
    levels = STEP if posed.found.continuous else posed.found.levels
    named, C = coding_contrasts(levels, coding, reference, posed.found.factor)
    found = estimate(posed, settings)
    posed.details.update(found.details)
    posed.details["no_biology"] = found.no_biology
    if thin := {k: v for k, v in found.details.get("effective_groups", {}).items() if v < minimum}:
        told = ", ".join(f"{level} {value:.1f}" for level, value in thin.items())
        return _without_numbers(posed, estimator, f"weights leave fewer than {minimum} effective groups: {told}.", call)
    answered = _between_patients if found.contrasts is None else _by_contrasts
    return dataclasses.replace(answered(posed, found, named, C, estimator), _call=call)


def _without_numbers(posed: Posed, estimator: str, reason: str, call: dict[str, Any]) -> Effect:
    n, unit = len(posed.cohort), posed.graph.group
    return Effect(
        treatment=posed.found.factor,
        reference="",
        outcome=posed.outcome.name,
        estimator=estimator,
        levels=(),
        joint=nothing("mean_squared_distance", n, unit),
        biology=None,
        ratio=nothing("distance_ratio", n, unit),
        overlap=posed.found,
        details={**posed.details, "reason": reason},
        _call=call,
    )


def _by_contrasts(posed: Posed, found: Estimated, reference: str, C: np.ndarray, estimator: str) -> Effect:
    """Standardisation: squared distances with the covariances of the cells, or within patients."""
    contrasts, units = found.contrasts, found.units
    assert contrasts is not None
    n, n_groups, unit = int(units.size[contrasts.groups].sum()), len(contrasts.groups), units.unit
    rows = pair_rows(contrasts, units, reference) if posed.outcome.is_vector and reference in posed.found.levels else []
    rows = rows or _rows(posed, found, reference, C)
    biology = None
    if contrasts.biology is not None:
        biology = norm_estimate("biology_mean_squared_distance", contrasts.biology, n, n_groups, unit)
    value, low, high = np.sqrt(np.maximum(contrasts.ratio(), 0.0)).tolist()
    ratio = Estimate("distance_ratio", value, low, high, 0.0, n, n_groups, unit, {"target": posed.found.target})
    joint = norm_estimate("mean_squared_distance", contrasts.joint, n, n_groups, unit)
    effect_ = _effect(posed, found, reference, C, estimator, rows, joint, biology, ratio)
    return dataclasses.replace(effect_, _source=(contrasts, units))


def _between_patients(posed: Posed, found: Estimated, reference: str, C: np.ndarray, estimator: str) -> Effect:
    """Any estimator that hands over group influences."""
    influence, units = found.influence, found.units
    assert influence is not None
    n, n_groups, unit = int(units.size[influence.groups].sum()), len(influence), units.unit
    joint, biology, ratio = joint_norm(influence), None, (float("nan"),) * 3
    if found.biology is not None:
        biology = norm_estimate("biology_mean_squared_distance", found.biology.joint, n, n_groups, unit)
        ratio = _distance_ratio(joint, found.biology.joint)
    return _effect(
        posed,
        found,
        reference,
        C,
        estimator,
        _rows(posed, found, reference, C),
        norm_estimate("mean_squared_distance", joint, n, n_groups, unit),
        biology,
        Estimate("distance_ratio", *ratio, 0.0, n, n_groups, unit, {"target": posed.found.target}),
    )


def _distance_ratio(a: GramNorm, b: GramNorm) -> tuple[float, float, float]:
    value, low, high = np.sqrt(np.maximum(fieller_of(a, b, gram_covariance(a, b)), 0.0)).tolist()
    return value, low, high


def _rows(posed: Posed, found: Estimated, reference: str, C: np.ndarray) -> list[dict[str, Any]]:
    influence, unit = found.influence, found.units.unit
    if influence is None:
        raise DataError(
            f"{posed.found.factor} is compared within {unit}s, where outcome='Z' with coding='reference' is answered: "
            "for one outcome, make it the only dimension with cohort.replace(X=...)."
        )
    levels = list(influence.names) if len(influence.names) == 1 else rows_of(influence.names, reference)
    weights = np.ones((1, 1)) if len(influence.names) == 1 else C
    if not posed.outcome.is_vector:
        return scalar_rows(influence, weights, levels, reference, posed.outcome.names, unit)
    return [
        norm_row(level, reference, influence.norm(row), len(influence), unit)
        for level, row in zip(levels, weights, strict=True)
    ]


def _effect(
    posed: Posed,
    found: Estimated,
    reference: str,
    C: np.ndarray,
    estimator: str,
    rows: list[dict[str, Any]],
    joint: Estimate,
    biology: Estimate | None,
    ratio: Estimate,
) -> Effect:
    share, biology_share, variance_ratio = share_estimates(found, joint.n, joint.unit)
    one = found.influence is not None and len(found.influence.names) == 1
    return Effect(
        treatment=posed.found.factor,
        reference=reference,
        outcome=posed.outcome.name,
        estimator=estimator,
        levels=tuple(rows),
        joint=joint,
        biology=biology,
        ratio=ratio,
        overlap=posed.found,
        details=posed.details,
        share=share,
        biology_share=biology_share,
        variance_ratio=None if share is None else variance_ratio,
        influence=found.influence,
        _shares=found.shares,
        _outcomes=posed.outcome.names,
        _contrasts=np.ones((1, 1)) if one else C,
        _source=None,
    )
