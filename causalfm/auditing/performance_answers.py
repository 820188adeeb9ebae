"""Who predicts the biology of a cohort's rows: the audit's own probe, a head fitted here, or the model given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from causalfm.cohort import Cohort
from causalfm.graph import CausalGraph
from causalfm.metrics.probes import Prediction
from causalfm.shift.costs.labelled_rows import Labelled
from causalfm.shift.costs.level_performance import labelled

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Answers:
    """Predictions of the biology for rows of a cohort.

    Attributes
    ----------
    rows
        Rows with hits.
    positions
        ``(m,)`` where they are in the cohort.
    classes, missing
        Classes that were predicted; those with too few units to be.
    whose
        What predicts, in words that begin a sentence.
    """

    rows: Labelled
    positions: np.ndarray
    classes: tuple[str, ...]
    missing: tuple[str, ...]
    whose: str

    @property
    def n_units(self) -> int:
        """Independent units that were predicted."""
        return len(np.unique(self.rows.rows.units))

    @property
    def accuracy(self) -> tuple[float, float, float]:
        """Accuracy over all units, with interval."""
        found = self.rows.rate()
        return found.value, *found.interval()


def answers_of_probe(cohort: Cohort, graph: CausalGraph, prediction: Prediction) -> Answers:
    """Take what the audit's own probe said of units that it had not seen."""
    classes, positions = tuple(prediction.details["levels"]), prediction.rows
    sites = _sites(cohort, graph)[positions]
    rows = labelled(prediction.probabilities, prediction.y, prediction.groups, sites, 1.0 / len(classes))
    missing = tuple(name for name in cohort.factor(graph.biology).levels if name not in classes)
    whose = f"The audit's logistic probe (trained without the {graph.group} it is asked about)"
    return Answers(rows, positions, classes, missing, whose)


def answers_of_model(
    cohort: Cohort, graph: CausalGraph, predictions: pd.DataFrame, whose: str, *, refitted: bool
) -> Answers:
    """Take a model's probabilities of all rows; ``refitted``: of models that were fitted without the row's unit."""
    biology = cohort.factor(graph.biology)
    scores = predictions[list(biology.levels)].to_numpy(dtype=np.float64)
    units = cohort.factor(graph.group, private=True).codes
    chance = 1.0 / biology.n_levels if refitted else None
    rows = labelled(scores, biology.codes, units, _sites(cohort, graph), chance)
    return Answers(rows, np.arange(len(cohort)), biology.levels, (), whose)


def _sites(cohort: Cohort, graph: CausalGraph) -> np.ndarray:
    """Codes of the first technical factor that has levels."""
    site = next((name for name in graph.technical if graph.kind(name, cohort) != "continuous"), None)
    return np.zeros(len(cohort), dtype=np.int64) if site is None else cohort.factor(site).codes
