"""Read-out within the case mix: what the best of the probes reads where the context gives nothing away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from causalfm.cohort import Cohort
from causalfm.metrics.probes import PROBES, Prediction, predict, unit_influence
from causalfm.metrics.recall import pair_share, recall_effects, usable_cells, within_contexts
from causalfm.neighbours import Neighbours
from causalfm.results import Estimate, Influence

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph


def readout_within(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    of: str | None = None,
    beyond: Sequence[str] | None = None,
    neighbours: Neighbours | None = None,
    random_state: int = 0,
) -> Estimate:
    """Balanced accuracy of the best of the probes within the levels of other columns, on unseen patients.

    A probe that reads the biology by way of the hospital gains nothing within a hospital; and the chance value is exact
    there, 1 / levels.

    Parameters
    ----------
    cohort, graph
        Data and declared graph.
    of
        Column to read; default the first technical factor.
    beyond
        Columns within whose joint levels is judged; default as in :func:`causalfm.metrics.readout`: biology and the
        technical ancestors for a technical factor, the first technical factor for biology.
    neighbours
        A pass of :func:`causalfm.knn` with the patients excluded, to be used again.
    random_state
        Seed of the folds and of the network's first weights.

    Returns
    -------
    Estimate
        The value of the best probe; the interval allows for the choice, ``influence`` takes it as given.
        ``details["probes"]`` has all values. ``nan`` and ``details["reason"]`` where no context holds two levels with
        three patients each.

    Raises
    ------
    DataError
        As :func:`causalfm.metrics.readout`.
    """
    predictions = {
        probe: predict(
            cohort, graph, of=of, probe=probe, beyond=beyond, neighbours=neighbours, random_state=random_state
        )
        for probe in PROBES
    }
    found = {
        probe: within_contexts(p.hits(), p.y, p.context, p.groups, p.weights, len(PROBES))
        for probe, p in predictions.items()
    }
    best = max(found, key=lambda probe: np.nan_to_num(found[probe]["value"], nan=-1.0))
    prediction, within = predictions[best], found[best]
    details = {key: prediction.details[key] for key in ("beyond", "levels", "left_out", "weights")}
    details |= {"probe": best, "probes": {probe: one["value"] for probe, one in found.items()}}
    details["share of units in usable contexts"] = within["share"]
    rows, codes, share, chance = usable_cells(prediction.y, prediction.context, prediction.groups)
    n_groups = len(np.unique(prediction.groups[rows]))
    influence = None
    if rows.any():
        influence = _influence(prediction, rows, codes, share, pair_share(within["value"], chance))
    else:
        details["reason"] = (
            f"cannot tell: no level of {' and '.join(details['beyond'])} holds two levels with three "
            f"{prediction.unit}s each"
        )
    low, high = (float(np.fmax.reduce([one[bound] for one in found.values()])) for bound in ("low_of_best", "high"))
    numbers = within["value"], low, high, within["chance"]
    return Estimate("readout_within", *numbers, int(rows.sum()), n_groups, prediction.unit, details, influence)


def _influence(
    prediction: Prediction, rows: np.ndarray, codes: np.ndarray, share: np.ndarray, pairs: float
) -> Influence:
    """Return what each unit adds; units without a row in a usable context play no part."""
    groups = prediction.groups[rows]
    effects = recall_effects(prediction.hits()[rows], codes, groups, prediction.weights[rows], share)[1]
    effects = np.pad(effects, (0, int(prediction.groups.max()) + 1 - len(effects)))
    held = np.isin(np.arange(len(effects)), groups)
    used = (prediction.units >= 0) & held[prediction.units]
    return unit_influence(effects, np.where(used, prediction.units, -1), 1.0 + pairs)
