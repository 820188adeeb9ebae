"""Calibration of the biology probe within each level of a technical factor."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from causalfm.metrics.calibration import SMALLEST, calibration_by_level, slope_of
from causalfm.metrics.probes import Prediction, Probe, predict
from causalfm.metrics.recall import cell_balance
from causalfm.results import Estimate

if TYPE_CHECKING:
    from causalfm.cohort import Cohort
    from causalfm.graph import CausalGraph


def probe_calibration(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    by: str | None = None,
    probe: Probe = "logistic",
    minimum: int = 10,
    random_state: int = 0,
) -> tuple[Estimate, ...]:
    """Calibration of the biology probe in every level of a technical factor, for patients it has not seen.

    The probe is trained over all levels with biology made independent of the factor by weights, so its probabilities
    are those of a cohort in which every class is equally frequent everywhere, and they are judged with the same
    weights. In such a cohort a factor that leaves the embedding of a class alone leaves the probabilities calibrated
    in every level, whatever the case mix; one that moves it does not. (Judged at the frequencies found, a hospital with
    more tumours would look miscalibrated for its case mix alone.)

    Parameters
    ----------
    cohort, graph
        Data and declared graph.
    by
        Factor whose levels are judged; default the first technical factor.
    probe
        As in :func:`causalfm.metrics.probes.readout`.
    minimum
        Fewest patients of a class in a level for the class to be judged there; at least 2.
    random_state
        Seed of the folds and sign flips.

    Returns
    -------
    tuple of Estimate
        As :func:`calibration_by_level`. One temperature, fitted over all levels, is applied first (it is in
        ``details``): how timid or bold the penalty makes the probe is no matter of the factor.

    Raises
    ------
    DataError
        No read-out is possible, or ``minimum`` is under 2.

    Notes
    -----
    Holds for new patients of the levels seen in training, not for a new hospital.
    """
    by = graph.technical[0] if by is None else by
    found = predict(cohort, graph, of=graph.biology, probe=probe, beyond=(by,), random_state=random_state)
    return prediction_calibration(found, cohort.factor(by).levels, minimum=minimum, random_state=random_state)


def prediction_calibration(
    prediction: Prediction, names: Sequence[str], *, minimum: int = 10, random_state: int = 0
) -> tuple[Estimate, ...]:
    """Judge a prediction as :func:`probe_calibration` does; ``names`` are the levels that its contexts stand for."""
    p = prediction
    logs = np.log(np.maximum(p.probabilities, SMALLEST))
    cell = p.context * logs.shape[1] + p.y
    pairs = np.unique(np.stack([cell, p.groups]), axis=1)[0]
    judged = np.flatnonzero(np.bincount(pairs, minlength=int(cell.max()) + 1)[cell] >= minimum)
    weights = cell_balance(p.y[judged], p.context[judged], p.weights[judged])
    slope = slope_of(logs[judged], p.y[judged], weights) if len(judged) else 1.0
    found = calibration_by_level(
        _soft(slope * logs),
        p.y,
        p.context,
        p.groups,
        names=names,
        classes=p.details["levels"],
        unit=p.unit,
        minimum=minimum,
        random_state=random_state,
    )
    how = {"probe": p.details["probe"], "temperature": 1.0 / slope}
    return tuple(dataclasses.replace(estimate, details={**estimate.details, **how}) for estimate in found)


def _soft(logs: np.ndarray) -> np.ndarray:
    """Turn log weights into probabilities."""
    shares = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))
