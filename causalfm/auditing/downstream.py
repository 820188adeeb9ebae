"""The downstream model of an audit: given by the user, given as predictions, or a linear head that is fitted here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.arguments import check_choice, check_type
from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.invariance.aligned import aligned_predictions

if TYPE_CHECKING:
    import pandas as pd

LINEAR = "linear"
NOT_TRAINED = "The model was not trained on these patients: its numbers are too good otherwise."
FITTED_HERE = (
    "No model was given: the model is a linear head fitted to this cohort here, and what is said of its accuracy and "
    "its decisions holds for such a head. Every row is decided by a head that has not seen its {}, also where the row "
    "is moved."
)
NO_MODEL = "Decisions at another level were not asked: predictions are given for the rows as they are; pass the model."


@dataclass(frozen=True, eq=False)
class Downstream:
    """A downstream model: its probabilities of the cohort's rows and, if it can be asked again, itself.

    Attributes
    ----------
    predictions
        One column of probabilities per class, under the ids of the cohort's table.
    model
        ``(n, d) -> (n, classes)``, or None where only predictions are at hand.
    whose, who
        What it is in words: at the beginning of a sentence, with how it was trained, and within one.
    refitted
        Whether it was fitted here, without the unit that it is asked about.
    """

    predictions: pd.DataFrame
    model: Any = None
    whose: str = "The model given"
    who: str = "the model"
    refitted: bool = False


def downstream(
    cohort: Cohort, graph: CausalGraph, predictions: Any, model: Any, random_state: int = 0
) -> Downstream | None:
    """Check what was given as a model, and let it score the cohort.

    Parameters
    ----------
    cohort, graph
        Rows and declared graph.
    predictions, model
        As in :func:`causalfm.audit`; ``"linear"`` fits a head here.
    random_state
        Seed of the folds of a head fitted here.

    Returns
    -------
    Downstream or None
        None without predictions and model.

    Raises
    ------
    DataError
        Both are given, or scores are no probabilities of the classes.
    """
    import pandas as pd

    if predictions is not None and model is not None:
        raise DataError("give predictions or a model, not both: they could disagree.")
    if predictions is not None:
        check_type(predictions, pd.DataFrame, "predictions", "one column of probabilities per class")
        aligned_predictions(predictions.loc[predictions.index.isin(cohort.obs.index)], cohort, graph.biology)
        return Downstream(predictions.loc[cohort.obs.index])
    if model is None:
        return None
    if isinstance(model, str):
        return _fitted_here(cohort, graph, model, random_state)
    from causalfm.scm.scores import scorer_of

    scorer, levels = scorer_of(model, cohort.X, decisions=True), cohort.factor(graph.biology).levels
    scores = scorer.scores(cohort.X)
    # a model that numbers its classes counts them as the levels are sorted; other names are names, and must fit
    unnamed = all(name in (str(i), f"class {i}") for i, name in enumerate(scorer.classes))
    named = levels if unnamed and not set(scorer.classes) & set(levels) else scorer.classes
    if scores.shape[1] != len(named):
        raise DataError(f"model gives {scores.shape[1]} scores and {graph.biology} has {len(levels)} classes.")
    table = pd.DataFrame(scores, index=cohort.obs.index, columns=list(named))
    aligned_predictions(table, cohort, graph.biology)
    return Downstream(table, model)


def _fitted_here(cohort: Cohort, graph: CausalGraph, name: str, random_state: int) -> Downstream:
    """Fit linear heads, each without a fold of units, and let them score the rows that they have not seen."""
    import pandas as pd

    from causalfm.shift.heads import held_out_heads

    check_choice(name, "model", (LINEAR,))
    biology, unit = cohort.factor(graph.biology), graph.group
    units = cohort.factor(unit, private=True).codes
    heads = held_out_heads(cohort.X, biology.codes, units, biology.levels, random_state=random_state)
    scores = heads.probabilities(cohort.X, np.arange(len(cohort)))
    table = pd.DataFrame(scores, index=cohort.obs.index, columns=list(biology.levels))
    whose = f"The linear head fitted here (without the {unit} it decides about)"
    return Downstream(table, heads, whose, "the linear head fitted here", refitted=True)


def model_notes(given: Downstream | None, unit: str) -> list[str]:
    """Return what numbers about the model lean on."""
    if given is None:
        return []
    return [FITTED_HERE.format(unit) if given.refitted else NOT_TRAINED, *[NO_MODEL] * (given.model is None)]
