"""Calibration of the biology probe within each level of a technical factor."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import softmax

from causalfm.arguments import check_type, check_whole
from causalfm.graph_checks import check_inputs
from causalfm.metrics.calibration import SMALLEST, calibration_by_level, calibration_slope
from causalfm.metrics.probes import Prediction, Probe, predict
from causalfm.metrics.recall import cell_balance
from causalfm.positivity import CompleteTable, complete_table
from causalfm.results import Estimate
from causalfm.strata import confounder_of, groups_per_level

if TYPE_CHECKING:
    from causalfm.cohort import Cohort
    from causalfm.graph import CausalGraph

UNREAD = 0.05  # factor on the log probabilities below which they say next to nothing: a temperature over 20


def probe_calibration(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    by: str | None = None,
    probe: Probe = "logistic",
    minimum: int = 10,
    prediction: Prediction | None = None,
    random_state: int = 0,
) -> tuple[Estimate, ...]:
    """Calibration of the biology probe in every level of a technical factor, for patients it has not seen.

    The probe is trained over all levels with biology made independent of the factor by weights, so its probabilities
    are those of a cohort in which every class is equally frequent everywhere, and they are judged with the same
    weights. In such a cohort a factor that leaves the embedding of a class alone leaves the probabilities calibrated
    in every level, whatever the case mix; one that moves it along the probe's own direction does not. (Judged at the
    frequencies found, a hospital with more tumours would look miscalibrated for its case mix alone.)

    No weights make biology independent of the factor where a level lacks a class: the probe would read the level for
    the class, and the other levels would look off. Training and judgement therefore keep to the largest set of levels
    and classes in which every level holds every class; the others are named.

    Parameters
    ----------
    cohort, graph
        Data and declared graph.
    by
        Factor whose levels are judged; default the first technical factor.
    probe
        As in :func:`causalfm.metrics.probes.readout`.
    minimum
        Fewest patients of a class in a level for both to be kept; at least 2.
    prediction
        What :func:`causalfm.metrics.probes.predict` gave for biology beyond ``by``: used again if everything is kept.
    random_state
        Seed of the folds and sign flips.

    Returns
    -------
    tuple of Estimate
        As :func:`calibration_by_level`. One temperature, fitted over all levels, is applied first (it is in
        ``details``): how timid or bold the penalty makes the probe is no matter of the factor. ``nan`` with
        ``details["reason"]`` for levels left out, and for all levels if the probe does not read the biology: a
        temperature over 20 makes any probabilities equal, and equal ones are calibrated.

    Raises
    ------
    DataError
        No read-out is possible, ``minimum`` is under 2, or ``by`` has another role.

    Notes
    -----
    Holds for new patients of the levels seen in training, not for a new hospital.
    """
    check_whole(minimum, "minimum", 2, why="an interval needs two units")
    check_inputs(cohort, graph)
    by = confounder_of(graph, by, "by")
    if prediction is not None:
        check_type(prediction, Prediction, "prediction", "make one with causalfm.metrics.probes.predict")
    settings: dict[str, Any] = {"of": graph.biology, "probe": probe, "beyond": (by,), "random_state": random_state}
    p = predict(cohort, graph, **settings) if prediction is None else prediction
    classes, levels = cohort.factor(graph.biology), cohort.factor(by)
    counts = _units_per_cell(cohort, graph, by)
    kept = complete_table(counts, minimum)
    judged: dict[str, Estimate] = {}
    if kept is not None:
        if len(kept.strata) < levels.n_levels or [classes.levels[i] for i in kept.levels] != p.details["levels"]:
            inside = np.isin(levels.codes, kept.strata) & np.isin(classes.codes, kept.levels)
            cohort = cohort[np.flatnonzero(inside)]
            p = predict(cohort, graph, **settings)
        judged = _judged(p, graph.biology, cohort.factor(by).levels, minimum, random_state)
    short = _short(counts, kept, minimum)
    out = []
    for i, level in enumerate(levels.levels):
        left_out = [f"{classes.levels[j]}: {counts[i, j]} {graph.group}" for j in np.flatnonzero(short[i])]
        reason = f"left out, of training too: too few {graph.group}s of a class ({'; '.join(left_out)})"
        estimate = judged.get(level) or _not_told(level, graph.group, reason)
        out.append(dataclasses.replace(estimate, details={**estimate.details, "left_out": left_out}))
    return tuple(out)


def _units_per_cell(cohort: Cohort, graph: CausalGraph, by: str) -> np.ndarray:
    """Count the units that hold each class in each level, ``(levels, classes)``."""
    classes, levels = cohort.factor(graph.biology), cohort.factor(by)
    shape = (levels.n_levels, classes.n_levels)
    units = cohort.factor(graph.group, private=True).codes
    return groups_per_level(levels.codes * shape[1] + classes.codes, units, shape[0] * shape[1]).reshape(shape)


def _short(counts: np.ndarray, kept: CompleteTable | None, minimum: int) -> np.ndarray:
    """Mark the classes that are missing in each level: all that are not kept, or that kept it from being kept."""
    short = counts < minimum
    if kept is not None:
        outside = ~np.isin(np.arange(counts.shape[1]), kept.levels)
        short[list(kept.strata)] = outside
    return short


def _judged(p: Prediction, biology: str, names: Sequence[str], minimum: int, random_state: int) -> dict[str, Estimate]:
    """Judge a prediction in the levels that its contexts stand for, each by its name."""
    logs = np.log(np.maximum(p.probabilities, SMALLEST))
    weights = cell_balance(p.y, p.context, p.weights)
    slope = calibration_slope(logs, p.y, weights)
    how = {"probe": p.details["probe"], "temperature": 1.0 / slope}
    if slope < UNREAD:
        reason = f"the {p.details['probe']} probe does not read {biology}"
        return {name: _not_told(name, p.unit, reason, **how) for name in names}
    found = calibration_by_level(
        softmax(slope * logs, axis=1),
        p.y,
        p.context,
        p.groups,
        names=names,
        classes=p.details["levels"],
        unit=p.unit,
        minimum=minimum,
        random_state=random_state,
    )
    return {name: dataclasses.replace(e, details={**e.details, **how}) for name, e in zip(names, found, strict=True)}


def _not_told(level: str, unit: str, reason: str, **how: Any) -> Estimate:
    nan = float("nan")
    details = {"level": level, "reason": reason, **how}
    return Estimate("calibration_in_the_large", nan, nan, nan, 0.0, 0, 0, unit, details)
