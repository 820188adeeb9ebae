"""The effect of a technical factor on the embedding, measured against biology."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from causalfm.arrows import EMBEDDING, names
from causalfm.cohort import Cohort
from causalfm.errors import DataError, GraphError
from causalfm.estimators.sensitivity import Sensitivity, vector_sensitivity
from causalfm.factor_contrasts import Contrasts
from causalfm.graph import CausalGraph
from causalfm.graph_checks import check_inputs
from causalfm.norms import SquaredNorm
from causalfm.paired_units import PairedUnits, contrast_units, paired_units
from causalfm.positivity import MIN_GROUPS, Overlap, comparable_set
from causalfm.results import Estimate, Result
from causalfm.units import Units, patient_units


@dataclass(frozen=True)
class Effect(Result):
    """Causal contrasts of a factor on ``Z``, under the declared graph.

    Attributes
    ----------
    treatment, reference, outcome, estimator
        What was estimated; ``reference`` is the level the rows compare with.
    levels
        One row per compared level other than the reference: signed squared distance with interval, and the distance.
    joint
        Mean squared distance over all pairs of compared levels, signed and debiased.
    biology
        The same for the classes of biology on the same patients; None if it cannot be estimated.
    ratio
        Ratio of the two *distances* (roots of the joint values) with Fieller's interval; ``nan`` if biology is not told
        from zero.
    overlap
        What could be compared and what was left out.
    details
        Conditioning set, DoWhy's opinion on it, weights, reasons.
    """

    treatment: str
    reference: str
    outcome: str
    estimator: str
    levels: tuple[Mapping[str, Any], ...]
    joint: Estimate
    biology: Estimate | None
    ratio: Estimate
    overlap: Overlap
    details: Mapping[str, Any] = field(default_factory=dict)
    _source: tuple[Contrasts, Units | PairedUnits] | None = field(default=None, repr=False, compare=False)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per compared level other than the reference."""
        return [dict(row) for row in self.levels]

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the patients behind it."""
        return {k: v for k, v in super().to_dict().items() if k != "_source"}

    def sensitivity(self) -> Sensitivity:
        """Say how strong an undeclared common cause would have to be to explain the largest contrast.

        Raises
        ------
        DataError
            Nothing was estimated.
        """
        if self._source is None:
            raise DataError(f"there is no effect to examine: {self.overlap.sentence}")
        return vector_sensitivity(*self._source)


def effect(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    treatment: str | Sequence[str],
    outcome: str = EMBEDDING,
    reference: str | None = None,
    estimator: Literal["standardisation"] = "standardisation",
    minimum: int = MIN_GROUPS,
    confirm: bool = True,
) -> Effect:
    """Estimate the total effect of a factor on the mean embedding by standardisation over the graph's set.

    Parameters
    ----------
    cohort
        Embeddings ``(n, d)`` and table.
    graph
        Declared graph; its back-door set is used.
    treatment
        Categorical factor; several are crossed.
    outcome
        ``"Z"``.
    reference
        Level the others are compared with; default the first compared level.
    estimator
        ``"standardisation"``: saturated in the categorical columns of the set, additive splines in the continuous ones.
        Where most patients were seen at several levels: contrasts within patients.
    minimum
        Least patients per cell.
    confirm
        Ask DoWhy whether the set is valid.

    Returns
    -------
    Effect
        Squared distances in squared embedding units.

    Raises
    ------
    GraphError, NotIdentifiedError
        No valid set under the graph, or DoWhy disagrees with ours.
    DataError
        Unknown outcome, estimator or reference; a factor that varies within a few patients only.

    Notes
    -----
    Assumptions: the graph; patients are independent; continuous covariates act additively and smoothly; intervals are
    for these levels and new patients. Selection that cannot be recovered from gives an Effect without numbers.
    """
    if outcome != EMBEDDING:
        raise DataError(f"outcome={outcome!r} is not available: choose outcome='Z'.")
    if estimator != "standardisation":
        raise DataError(f"estimator={estimator!r} is not available: choose estimator='standardisation'.")
    check_inputs(cohort, graph)
    graph.check(cohort)
    factors = names(treatment)
    question = graph.adjustment_set(factors)
    found = comparable_set(cohort, graph, factors, question.valid, minimum)
    details: dict[str, Any] = {
        "given": list(found.given),
        "question": question.sentence,
        "interval_for": "these levels, new units",
    }
    if confirm:
        details["dowhy_confirms"] = graph.confirm(factors, found.given)
        if not details["dowhy_confirms"]:
            raise GraphError(f"DoWhy does not confirm {list(found.given)} as a back-door set.\nGraph: {graph}")
    if not found.comparable or not question.recoverable:
        details["reason"] = found.sentence if not found.comparable else question.sentence
        return _without_numbers(found, estimator, len(cohort), graph.group, details)
    reference = reference or found.levels[0]
    if reference not in found.levels:
        raise DataError(
            f"reference={reference!r} is not a compared level of {found.factor}: {', '.join(found.levels)}."
        )
    units: Units | PairedUnits
    if found.paired:
        units = paired_units(cohort, graph, factors, found.given, minimum)
    else:
        units = patient_units(cohort, graph, factors, found.given)
    contrasts = contrast_units(units, graph.biology, minimum)
    details["no_biology"] = contrasts.no_biology
    return _with_numbers(units, contrasts, found, reference, estimator, details)


def _without_numbers(found: Overlap, estimator: str, n: int, unit: str, details: Mapping[str, Any]) -> Effect:
    return Effect(
        treatment=found.factor,
        reference="",
        outcome=EMBEDDING,
        estimator=estimator,
        levels=(),
        joint=_nothing("mean_squared_distance", n, unit),
        biology=None,
        ratio=_nothing("distance_ratio", n, unit),
        overlap=found,
        details=details,
    )


def _with_numbers(
    units: Units | PairedUnits,
    contrasts: Contrasts,
    found: Overlap,
    reference: str,
    estimator: str,
    details: Mapping[str, Any],
) -> Effect:
    n, n_groups = int(units.size[contrasts.groups].sum()), len(contrasts.groups)
    biology = None
    if contrasts.biology is not None:
        biology = _estimate("biology_mean_squared_distance", contrasts.biology, n, n_groups, units.unit)
    value, low, high = np.sqrt(np.maximum(contrasts.ratio(), 0.0)).tolist()
    return Effect(
        treatment=found.factor,
        reference=reference,
        outcome=EMBEDDING,
        estimator=estimator,
        levels=tuple(_level_rows(contrasts, units, reference)),
        joint=_estimate("mean_squared_distance", contrasts.joint, n, n_groups, units.unit),
        biology=biology,
        ratio=Estimate("distance_ratio", value, low, high, 0.0, n, n_groups, units.unit, {"target": found.target}),
        overlap=found,
        details=details,
        _source=(contrasts, units),
    )


def _level_rows(contrasts: Contrasts, units: Units | PairedUnits, reference: str) -> list[dict[str, Any]]:
    rows = []
    for (a, b), norm in contrasts.pairs.items():
        pair = [units.level.levels[a], units.level.levels[b]]
        if reference not in pair:
            continue
        low, high = norm.interval()
        rows.append(
            {
                "level": pair[1 - pair.index(reference)],
                "reference": reference,
                "outcome": EMBEDDING,
                "value": norm.value,
                "low": low,
                "high": high,
                **_distance(norm, low, high),
                "n_groups": contrasts.in_pair[a, b],
                "unit": units.unit,
            }
        )
    return rows


def largest_pair(effect_: Effect) -> tuple[str, str, float]:
    """Return the two levels furthest apart and their distance.

    Raises
    ------
    DataError
        Nothing was estimated.
    """
    if effect_._source is None:
        raise DataError(f"there is no effect to examine: {effect_.overlap.sentence}")
    contrasts, units = effect_._source
    (a, b), norm = max(contrasts.pairs.items(), key=lambda item: item[1].value)
    return units.level.levels[a], units.level.levels[b], _distance(norm, 0.0, 0.0)["distance"]


def _distance(norm: SquaredNorm, low: float, high: float) -> dict[str, float]:
    distance = float(np.sign(norm.value) * np.sqrt(abs(norm.value)))
    return {"distance": distance, "distance_low": float(np.sqrt(low)), "distance_high": float(np.sqrt(high))}


def _estimate(name: str, norm: SquaredNorm, n: int, n_groups: int, unit: str) -> Estimate:
    low, high = norm.interval()
    details = {**_distance(norm, low, high), "weights": f"rows equal within a {unit}, {unit}s equal"}
    return Estimate(name, norm.value, low, high, 0.0, n, n_groups, unit, details)


def _nothing(name: str, n: int, unit: str) -> Estimate:
    return Estimate(name, float("nan"), float("nan"), float("nan"), 0.0, n, 0, unit)
