"""What a downstream model says of embeddings: one score per class, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import softmax

from causalfm.errors import DataError, positions
from causalfm.validation import row_blocks

PROBED = 4  # rows scored again by themselves
LOOSE = 1e-3  # relative: single precision adds up in another order


@dataclass(frozen=True, eq=False)
class Scorer:
    """A downstream model as scores.

    Attributes
    ----------
    model
        A callable, or an estimator with ``predict_proba`` or ``decision_function``.
    classes
        Names of the columns of scores.
    single
        One score per row, decided at 0.
    columns
        Names of the columns where the model gives a table; scores are taken by name, in this order.
    """

    model: Any
    classes: tuple[str, ...]
    single: bool
    columns: tuple[str, ...] = ()

    def scores(self, X: np.ndarray, positions: np.ndarray | None = None) -> np.ndarray:
        """Score rows ``(n, d)``: ``(n, classes)`` float64, or ``(n, 1)``.

        Parameters
        ----------
        X
            Rows.
        positions
            ``(n,)`` where they are in the cohort: nothing to a model that is the same for all rows.

        Raises
        ------
        DataError
            Scores of another width than before, or not finite.
        """
        out = np.concatenate([_call(self.model, X[rows], self.columns)[0] for rows in row_blocks(X)])
        width = 1 if self.single else len(self.classes)
        if out.shape[1] != width:
            raise DataError(
                f"model gave {out.shape[1]} scores per row and {width} before: it must always give as many."
            )
        return out

    def decide(self, scores: np.ndarray) -> np.ndarray:
        """Class codes ``(n,)``: the largest score, or whether a single score exceeds 0."""
        return np.asarray((scores[:, 0] > 0).astype(np.int64) if self.single else scores.argmax(axis=1))


@dataclass(frozen=True, eq=False)
class HeldOutHeads:
    """Linear heads fitted without some units each: a row is scored by the head that has not seen its unit.

    Attributes
    ----------
    slopes, constants
        ``(folds, d, K)`` and ``(folds, K)`` of the log odds.
    fold
        ``(n,)`` head of each row of the cohort.
    classes
        ``K`` names.
    """

    slopes: np.ndarray
    constants: np.ndarray
    fold: np.ndarray
    classes: tuple[str, ...]

    def probabilities(self, X: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Score rows ``(m, d)`` that stand at ``positions`` of the cohort, as they are or moved: ``(m, K)``."""
        folds, d, n_classes = self.slopes.shape
        every = X.astype(np.float64) @ self.slopes.transpose(1, 0, 2).reshape(d, -1)  # one pass over the rows
        own = self.fold[positions]
        logits = every.reshape(len(X), folds, n_classes)[np.arange(len(X)), own] + self.constants[own]
        return np.asarray(softmax(logits, axis=1))


@dataclass(frozen=True, eq=False)
class HeldOutScorer(Scorer):
    """Heads of which each scores the rows that it has not seen."""

    def scores(self, X: np.ndarray, positions: np.ndarray | None = None) -> np.ndarray:
        """Score rows; their positions say which head may."""
        if positions is None:
            raise DataError("held-out heads score rows of the cohort: say which.")
        return np.asarray(self.model.probabilities(X, positions))


def scorer_of(model: Any, X: np.ndarray, *, decisions: bool) -> Scorer:
    """Check a model on rows.

    Parameters
    ----------
    model
        ``(n, d) -> (n, classes)``: a callable, or a fitted estimator with ``predict_proba`` or ``decision_function``.
    X
        ``(n, d)`` rows to try it on.
    decisions
        Whether a class is decided on: one score per row is then taken from an estimator's ``decision_function`` only.

    Returns
    -------
    Scorer
        The model.

    Raises
    ------
    DataError
        No model, scores of another shape or kind, or scores of a row that depend on the rows beside it.
    """
    if isinstance(model, HeldOutHeads):
        if len(model.fold) != len(X):
            raise DataError(f"held-out heads are those of {len(model.fold)} rows, and the cohort has {len(X)}.")
        return HeldOutScorer(model, model.classes, False)
    first = X[: max(PROBED + 1, 2)]
    scores, columns = _call(model, first)
    names = getattr(model, "classes_", columns or None)
    single = scores.shape[1] == 1
    if decisions and single and not hasattr(model, "decision_function"):
        raise DataError("model gives one score per row: give one column per class, such as [1 - p, p], to decide on.")
    n_classes = 2 if single and decisions else scores.shape[1]
    if decisions and names is not None and len(names) != n_classes:
        raise DataError(
            f"model gives {n_classes} scores for {len(names)} classes, and decides by another rule than the largest: "
            "give one column per class (decision_function_shape='ovr', predict_proba, or a function)."
        )
    classes = tuple(map(str, names)) if names is not None and len(names) == n_classes else ()
    alone = np.concatenate([_call(model, first[i : i + 1], columns)[0] for i in range(min(PROBED, len(first)))])
    if not np.allclose(alone, scores[: len(alone)], rtol=LOOSE, atol=LOOSE * float(np.abs(scores).max())):
        raise DataError(
            "model scores a row differently when it comes alone: rows must not depend on each other. Turn training "
            "mode and dropout off (model.eval()), and leave scaling by batch out."
        )
    return Scorer(model, classes or tuple(f"class {c}" for c in range(n_classes)), single, columns)


def named_columns(table: Any, known: tuple[str, ...]) -> tuple[Any, tuple[str, ...]]:
    """Return what a model gave, in the order of the columns it gave before, and their names; arrays have none.

    Raises
    ------
    DataError
        A table whose columns are not those of before, or where one name comes twice.
    """
    import pandas as pd

    if not isinstance(table, pd.DataFrame) or type(table.columns).__name__ == "RangeIndex":  # 0, 1 ... name nothing
        return table, ()
    columns = tuple(map(str, table.columns))
    if len(set(columns)) < len(columns) or (known and set(columns) != set(known)):
        raise DataError("model returned a table with other columns than before, or with a column twice: name classes.")
    order = known or columns
    return table.iloc[:, [columns.index(name) for name in order]], order


def _call(model: Any, X: np.ndarray, known: tuple[str, ...] = ()) -> tuple[np.ndarray, tuple[str, ...]]:
    """Scores ``(n, c)`` of rows, checked, and the names of their columns if the model gives a table."""
    function = next((getattr(model, m) for m in ("predict_proba", "decision_function") if hasattr(model, m)), model)
    if not callable(function):
        raise DataError(
            f"model is a {type(model).__name__}: pass a function from rows (n, d) to scores (n, classes), or a fitted "
            "estimator with predict_proba or decision_function."
        )
    try:
        table = function(np.asarray(X))
    except DataError as error:  # one of this library's heads, which says what it lacks
        raise DataError(f"model refused {len(X)} rows of {X.shape[1]} dimensions: {error}") from None
    except Exception as error:
        raise DataError(
            f"model failed on {len(X)} rows of {X.shape[1]} dimensions ({type(error).__name__}): check that it takes a "
            "NumPy array (n, d) of this encoder and returns one."
        ) from None
    table, columns = named_columns(table, known)
    out = np.asarray(table)
    if out.dtype.kind != "f":
        raise DataError(f"model returned {out.dtype}, not scores: pass one that gives a number per class, no labels.")
    if out.ndim not in (1, 2) or len(out) != len(X) or out.size == 0:
        raise DataError(f"model returned shape {out.shape} for {len(X)} rows: it must give (rows, classes).")
    bad = np.flatnonzero(~np.isfinite(out.reshape(len(X), -1)).all(axis=1)).tolist()
    if bad:
        raise DataError(f"model gave scores that are not finite ({positions(bad)} of those asked): correct the model.")
    return np.asarray(out.reshape(len(X), -1), dtype=np.float64), columns
