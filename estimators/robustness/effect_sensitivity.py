"""Sensitivity of any effect: the contrast that is largest, on the embedding or on a scalar, with its benchmarks."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.arrows import EMBEDDING, names
from causalfm.confidence import alpha_in_force
from causalfm.dose_units import DoseUnits, dose_units
from causalfm.errors import DataError
from causalfm.estimators.influence.group_influence import GroupInfluence
from causalfm.estimators.outcomes import ReadOutcome, read_outcome
from causalfm.estimators.robustness.benchmarks import Sensitivity, with_benchmarks, worded
from causalfm.estimators.robustness.bias_bounds import Strength
from causalfm.estimators.robustness.observed_strength import declared_columns, observed_strengths
from causalfm.estimators.robustness.scalar_robustness import scalar_sensitivity
from causalfm.estimators.robustness.sensitivity import vector_sensitivity
from causalfm.estimators.treatments import pool_levels
from causalfm.standardisation import Standardised
from causalfm.units import Units, patient_units

if TYPE_CHECKING:
    from causalfm.estimators.effect_result import Effect


def sensitivity_of(
    effect: Effect, *, level: str | None, outcome: str | None, times: Sequence[float], q: float, alpha: float | None
) -> Sensitivity:
    """Examine one contrast of an effect; arguments as in ``Effect.sensitivity``.

    Parameters
    ----------
    effect
        What was estimated.
    level, outcome
        Row examined, of a scalar effect.
    times, q, alpha
        Strengths of the benchmarks; share of the estimate to be explained away; one minus the confidence.

    Returns
    -------
    Sensitivity
        Of the contrast asked for, else of the largest.

    Raises
    ------
    DataError
        Nothing was estimated, or no such row.
    """
    if not effect.levels:
        raise DataError(f"there is no effect to examine: {effect.overlap.sentence}")
    if "sample" in effect._call:
        raise DataError(
            f"estimator={effect.estimator!r} hands over no clustered standard error to compute robustness from: "
            "ask for one of this package's own, such as estimator='partially-linear'."
        )
    if effect.outcome == EMBEDDING:
        if level is not None or outcome is not None or q != 1.0 or alpha is not None:
            raise DataError(
                "level=, outcome=, q= and alpha= are for scalar outcomes: of Z the largest pair is examined."
            )
        between = effect._source is not None and isinstance(effect._source[0], Standardised)
        if effect._source is not None and (between or effect.influence is None):
            return vector_sensitivity(*effect._source, times=times)
        return _vector(effect, times)
    row = _row(effect, level, outcome)
    return _scalar(effect, row, times, q, alpha_in_force() if alpha is None else alpha)


def _row(effect: Effect, level: str | None, outcome: str | None) -> Mapping[str, Any]:
    """Return the row asked for, else the one with the largest t."""
    rows = [r for r in effect.levels if level in (None, r["level"]) and outcome in (None, r["outcome"])]
    if not rows:
        known = sorted({(r["level"], r["outcome"]) for r in effect.levels})
        raise DataError(
            f"there is no contrast of level={level!r} and outcome={outcome!r}: choose from "
            f"{'; '.join(f'{a}, {b}' for a, b in known[:6])}."
        )
    return max(rows, key=lambda r: abs(r["value"]) / r["se"] if r["se"] > 0.0 else 0.0)


def _vector(effect: Effect, times: Sequence[float]) -> Sensitivity:
    """Bound of the norm from what the groups add: ``E[a^2] E|Z - g|^2`` is read off the trace of the covariance."""
    influence = effect.influence
    assert influence is not None
    contrasts = _contrasts(influence)
    norms = {pair: influence.norm(row) for pair, row in contrasts.items()}
    pair, norm = max(norms.items(), key=lambda item: item[1].value)
    inside = _inside(influence, pair)
    named = _named(effect, influence, pair)
    scale = float(np.sqrt(max(norm.noise, 0.0) * inside.sum()))
    if scale == 0.0:
        raise DataError(f"{effect.details.get('unit', 'unit')}s of a level do not differ: there is nothing to bound.")
    ends = [float(np.sqrt(max(x, 0.0))) for x in (norm.value, *norm.interval())]
    units = _units(effect)
    strengths = _strengths(units, influence, pair, inside)
    value = ends[0], ends[1], ends[2]
    found = with_benchmarks(named, EMBEDDING, value, scale, strengths, times, {"unit": units.unit})
    assigned = f"{named[0]} against {named[1]}"
    if effect.overlap.continuous:
        assigned = f"the remaining variance of {effect.treatment}"
    sentence = (
        f"An undeclared cause would have to explain {found.robustness_value:.0%} of both {assigned} "
        f"and the remaining embedding variance to account for the whole distance ({found.robustness_value_low:.0%} for "
        "its lower bound)."
    )
    return worded(found, sentence)


def _scalar(effect: Effect, row: Mapping[str, Any], times: Sequence[float], q: float, alpha: float) -> Sensitivity:
    """Student's t of the patients, with as many degrees of freedom as patients less columns."""
    influence = effect.influence
    assert influence is not None
    pair = tuple(influence.names.index(name) for name in (row["level"], row["reference"]) if name in influence.names)
    inside = _inside(influence, pair)
    units = _units(effect)
    column = list(effect._outcomes).index(row["outcome"])
    strengths = _strengths(units, influence, pair, inside, column)
    terms = declared_columns(units, influence.groups[inside]).values()
    rank = int(np.linalg.matrix_rank(np.hstack([np.ones((int(inside.sum()), 1)), *terms])))
    df = float(inside.sum() - rank - 1)
    deviation = float(units.Z[influence.groups[inside], column].std(ddof=1))
    return scalar_sensitivity(
        row["value"],
        row["se"],
        df,
        pair=(str(row["level"]), str(row["reference"])),
        outcome=row["outcome"],
        interval=(row["low"], row["high"]),
        deviation=deviation,
        baseline=_risk(effect, influence, row, column),
        strengths=strengths,
        times=times,
        q=q,
        alpha=alpha,
        unit=units.unit,
    )


def _risk(effect: Effect, influence: GroupInfluence, row: Mapping[str, Any], column: int) -> float | None:
    """Mean at the reference of an outcome that is 0 or 1 in every row; None if it is no risk."""
    values = _read(effect).cohort.X[:, column]
    if not influence.absolute or row["reference"] not in influence.names or not np.isin(values, (0.0, 1.0)).all():
        return None
    risk = float(influence.theta[influence.names.index(row["reference"]), column])
    return risk if risk > 0.0 else None


def _contrasts(influence: GroupInfluence) -> dict[tuple[int, ...], np.ndarray]:
    L = len(influence.names)
    if L == 1:
        return {(0,): np.ones((1, 1))}
    eye = np.eye(L)
    return {(a, b): (eye[a] - eye[b])[None] for a, b in itertools.combinations(range(L), 2)}


def _inside(influence: GroupInfluence, pair: Sequence[int]) -> np.ndarray:
    """Mask of the groups whose weights make the contrast: all, for a slope or a level against the mean of levels."""
    if len(influence.names) == 1 or len(pair) < 2:
        return np.ones(len(influence), dtype=bool)
    return np.isin(influence.level, pair)


def _named(effect: Effect, influence: GroupInfluence, pair: Sequence[int]) -> tuple[str, str]:
    if len(pair) == 2:
        return influence.names[pair[0]], influence.names[pair[1]]
    return str(effect.levels[0]["level"]), str(effect.levels[0]["reference"])


def _strengths(
    units: Units,
    influence: GroupInfluence,
    pair: Sequence[int],
    inside: np.ndarray,
    column: int | None = None,
) -> dict[str, Strength]:
    """Partial R2 of the declared columns with the pair of levels (or the dose) and the outcome, by least squares."""
    rows = influence.groups[inside]
    treatment = units.dose[rows] if isinstance(units, DoseUnits) else (influence.level[inside] == pair[0]).astype(float)
    outcome = units.Z[rows] if column is None else units.Z[rows][:, column : column + 1]
    return observed_strengths(treatment, outcome, declared_columns(units, rows))


def _units(effect: Effect) -> Units:
    """Lay out the patients of the effect's question again."""
    call, given = effect._call, effect._call["arguments"]
    factors = names(given["treatment"])
    cohort, _ = pool_levels(_read(effect).cohort, call["graph"], factors, given["pool_rare"])
    lay = dose_units if effect.overlap.continuous else patient_units
    return lay(cohort, call["graph"], factors, effect.overlap.given)


def _read(effect: Effect) -> ReadOutcome:
    call, given = effect._call, effect._call["arguments"]
    return read_outcome(call["cohort"], call["graph"], given["outcome"], given["score"])
