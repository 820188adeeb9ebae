"""Outcomes: the embedding, a column, or what a model makes of the embedding, as a matrix aligned with the rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from causalfm.arguments import did_you_mean
from causalfm.arrows import EMBEDDING
from causalfm.cohort import Cohort
from causalfm.errors import DataError, positions
from causalfm.graph import CausalGraph
from causalfm.invariance.aligned import aligned_predictions
from causalfm.scm.scores import named_columns

Score = Literal["score", "correctness", "loss"]
SCORES = ("score", "correctness", "loss")
SMALLEST = 1e-12  # probability whose logarithm a loss may hold

Outcome = str | Callable[[np.ndarray], np.ndarray] | np.ndarray | pd.Series | pd.DataFrame


@dataclass(frozen=True, eq=False)
class ReadOutcome:
    """An outcome on the rows of a cohort.

    Attributes
    ----------
    name
        ``"Z"``, the column's name, or what is looked at.
    names
        One name per column of ``cohort.X``; empty for Z, whose dimensions have none.
    cohort
        The cohort with the outcome in place of the embedding.
    """

    name: str
    names: tuple[str, ...]
    cohort: Cohort

    @property
    def is_vector(self) -> bool:
        """Whether the outcome is the embedding itself."""
        return not self.names


def read_outcome(cohort: Cohort, graph: CausalGraph, outcome: Outcome, score: Score = "score") -> ReadOutcome:
    """Lay out an outcome as a matrix aligned with the rows.

    Parameters
    ----------
    cohort, graph
        Data and declared graph.
    outcome
        ``"Z"``; a numeric or two-valued column of ``obs``; a callable ``(n, d) -> (n, classes)``; predictions
        ``(n,)`` or ``(n, classes)``; a Series or DataFrame under the index of ``obs``. Classes are the sorted levels of
        biology, or the columns of a table.
    score
        What to look at: the ``"score"`` itself, the ``"correctness"`` of its decision or its ``"loss"`` (logarithmic)
        against the biology column.

    Returns
    -------
    ReadOutcome
        Matrix, names of its columns.

    Raises
    ------
    DataError
        A column that is unknown, a node of the graph, a unit, or text of many values; predictions of another shape,
        not finite, or not one column per class where they are to be judged.
    """
    if score not in SCORES:
        raise DataError(f"score={score!r} is not available: choose one of {', '.join(map(repr, SCORES))}.")
    if isinstance(outcome, str):
        if score != "score":
            raise DataError(f"score={score!r} judges predictions: give a model or predictions as outcome=.")
        return ReadOutcome(EMBEDDING, (), cohort) if outcome == EMBEDDING else _column(cohort, graph, outcome)
    values, names = _predictions(cohort, graph, outcome, score)
    if score == "score":
        return ReadOutcome(score, names, cohort.replace(X=values))
    label = cohort.factor(graph.biology)
    _check_classes(values, label.n_levels, graph.biology)
    rows = np.arange(len(values))
    if score == "correctness":
        judged = (values.argmax(axis=1) == label.codes).astype(np.float64)
    else:
        judged = -np.log(np.maximum(values[rows, label.codes], SMALLEST))
    return ReadOutcome(score, (score,), cohort.replace(X=judged[:, None]))


def _column(cohort: Cohort, graph: CausalGraph, name: str) -> ReadOutcome:
    private = [c for c in (*graph.groups, graph.specimen) if c]
    if name in graph.nodes or name in private:
        raise DataError(
            f"outcome={name!r} is a node of the graph or a unit: it does not come from the embedding. Choose "
            "outcome='Z' or a column computed from it, such as a score."
        )
    if name not in cohort.obs.columns:
        known = [str(c) for c in cohort.obs.columns if c not in private]
        raise DataError(
            f"outcome={name!r} is not available: choose outcome='Z', a column, a model or predictions. Columns: "
            f"{', '.join(known)}.{did_you_mean(name, known)}"
        )
    column = cohort.column(name)
    if column.isna().any():
        cohort.factor(name, private=True)  # refuses missing values by position
    if pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_bool_dtype(column.dtype):
        values = cohort.numeric(name) if not pd.api.types.is_bool_dtype(column.dtype) else column.to_numpy(np.float64)
        return ReadOutcome(name, (name,), cohort.replace(X=np.asarray(values, dtype=np.float64)[:, None]))
    factor = cohort.factor(name)
    if factor.n_levels != 2:
        raise DataError(
            f"outcome={name!r} holds {factor.n_levels} categories: give a numeric or two-valued column, or one "
            "indicator per category as predictions."
        )
    values = factor.codes.astype(np.float64)[:, None]
    return ReadOutcome(name, (f"{name}={factor.levels[1]}",), cohort.replace(X=values))


def _predictions(cohort: Cohort, graph: CausalGraph, outcome: Any, score: str) -> tuple[np.ndarray, tuple[str, ...]]:
    if isinstance(outcome, pd.DataFrame) and score != "score":
        outcome = aligned_predictions(outcome, cohort, graph.biology)
    if isinstance(outcome, pd.Series | pd.DataFrame) and not outcome.index.equals(cohort.obs.index):
        raise DataError("the predictions have another index than obs: align them with predictions.loc[obs.index].")
    names: tuple[str, ...] = tuple(map(str, outcome.columns)) if isinstance(outcome, pd.DataFrame) else ()
    if callable(outcome):
        answers = []
        for _, block in cohort.blocks():
            table, names = named_columns(outcome(block), names)  # a table is read by its names, not by its order
            answers.append(_answer(table, block))
        values = np.concatenate(answers)
        if names and score != "score":
            values = aligned_predictions(pd.DataFrame(values, cohort.obs.index, list(names)), cohort, graph.biology)
    else:
        values = _numbers(outcome, "outcome of type")
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or len(values) != len(cohort):
        raise DataError(f"the outcome has shape {values.shape} and the cohort {len(cohort)} rows: give one row each.")
    if bad := np.flatnonzero(~np.isfinite(values).all(axis=1)).tolist():
        raise DataError(f"the outcome is not finite in {positions(bad)}: correct the predictions.")
    levels = cohort.factor(graph.biology).levels
    numbered = tuple(f"score {j}" for j in range(values.shape[1])) if values.shape[1] > 1 else ("score",)
    return values, names or (levels if values.shape[1] == len(levels) else numbered)


def _answer(answer: Any, block: np.ndarray) -> np.ndarray:
    values = _numbers(answer, "a model that returns")
    if values.ndim not in (1, 2) or len(values) != len(block):
        raise DataError(
            f"the model returns shape {values.shape} for {len(block)} rows: it must return one row of numbers per row."
        )
    return values[:, None] if values.ndim == 1 else values


def _numbers(values: Any, what: str) -> np.ndarray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(
            f"{what} {type(values).__name__}, not all of it numbers: give 'Z', a column, a model or numeric "
            "predictions."
        ) from None


def _check_classes(values: np.ndarray, n_classes: int, biology: str) -> None:
    if values.shape[1] != n_classes:
        raise DataError(
            f"predictions have {values.shape[1]} columns and {biology} {n_classes} classes: correctness and loss need "
            "one probability per class, in the order of the sorted classes."
        )
    if values.min() < 0.0 or np.abs(values.sum(axis=1) - 1.0).max() > 1e-3:
        raise DataError("predictions are no probabilities: each row must be non-negative and sum to 1.")
