"""Where the probabilities come from that a monitor watches: columns of the table, or a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalfm.cohort import Cohort
from causalfm.errors import DataError, positions
from causalfm.scm.scores import Scorer, scorer_of
from causalfm.shift.class_scores import SUMS, in_class_order
from causalfm.shift.watching.monitor_views import EmbeddingView

SAME = 1e-3


@dataclass(frozen=True, eq=False)
class Source:
    """Probabilities of rows.

    Attributes
    ----------
    classes
        Levels of the biology; columns of probabilities.
    columns
        Column of the table that holds each class's probability; None where a model gives them.
    scorer
        The model; None where columns give them.
    """

    classes: tuple[str, ...]
    columns: tuple[str, ...] | None
    scorer: Scorer | None = None

    def of(self, cohort: Cohort, name: str) -> np.ndarray:
        """Return ``(n, classes)`` probabilities, checked; ``name`` is what the rows are called in a message."""
        if self.scorer is not None:
            return in_class_order(self.scorer.scores(cohort.X), self.scorer, self.classes, name)
        assert self.columns is not None
        table = np.stack([cohort.numeric(column) for column in self.columns], axis=1)
        off = np.flatnonzero((table < 0.0).any(axis=1) | (np.abs(table.sum(axis=1) - 1.0) >= SUMS)).tolist()
        if off:
            raise DataError(
                f"columns {', '.join(map(repr, self.columns))} are no probabilities in {len(off)} rows of the {name} "
                f"({positions(off)}): each row's must be 0 or more and add up to one."
            )
        return table


def source_of(
    model: Any, scores: Mapping[str, str] | None, classes: tuple[str, ...] | None, X: np.ndarray
) -> Source | None:
    """Return where probabilities come from, or None if nothing is given.

    Raises
    ------
    DataError
        Model and columns; no labels in the reference; other classes than the reference's.
    """
    if model is None and scores is None:
        return None
    if model is not None and scores is not None:
        raise DataError("give a model or score columns, not both: they could disagree.")
    if classes is None:
        raise DataError(
            "scores are watched by class, and the reference's labels are absent or incomplete: complete them, or leave "
            "model and scores out."
        )
    if scores is None:
        return Source(classes, None, scorer_of(model, X, decisions=True))
    if not isinstance(scores, Mapping) or set(scores) != set(classes):
        raise DataError(f"scores must name one column for each class: {{class: column}} for {', '.join(classes)}.")
    return Source(classes, tuple(scores[name] for name in classes))


def probes(view: EmbeddingView) -> np.ndarray:
    """Rows that are no patient's: the centre, and two standard deviations along each direction."""
    steps = (2.0 * view.spread * view.directions).T
    return np.concatenate([view.centre[None], view.centre + steps, view.centre - steps])


def source_again(
    model: Any,
    classes: tuple[str, ...] | None,
    columns: tuple[str, ...] | None,
    answers: np.ndarray | None,
    view: EmbeddingView,
    dtype: str,
) -> Source | None:
    """Return where the probabilities of a saved monitor come from.

    Parameters
    ----------
    model
        As given at loading.
    classes, columns, answers, view, dtype
        As saved: ``answers (k, classes)`` is what the model said of the probes at the fit.

    Raises
    ------
    DataError
        A model that is missing, not needed, or answers otherwise.
    """
    if answers is None:
        if model is not None:
            raise DataError("this monitor was fitted without a model: leave model out.")
        return None if classes is None else Source(classes, columns)
    if model is None:
        raise DataError("this monitor was fitted with a model, which is not saved: pass it again with model=.")
    assert classes is not None
    rows = probes(view).astype(dtype)
    source = Source(classes, None, scorer_of(model, rows, decisions=True))
    assert source.scorer is not None
    said = in_class_order(source.scorer.scores(rows), source.scorer, classes, "probes")
    if not np.allclose(said, answers, rtol=SAME, atol=SAME):
        raise DataError(
            f"model answers otherwise than the one this monitor was fitted with (by up to "
            f"{np.abs(said - answers).max():.2g} in probability): pass that model, or fit a monitor for the new one."
        )
    return source
