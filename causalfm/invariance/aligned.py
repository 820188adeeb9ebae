"""Predictions and labels brought into one order, or refused."""

from __future__ import annotations

import numpy as np
import pandas as pd

from causalfm.arguments import check_type
from causalfm.cohort import Cohort
from causalfm.errors import DataError, positions

ROUNDING = 1e-3


def aligned_predictions(
    predictions: pd.DataFrame, cohort: Cohort, label: str, levels: tuple[str, ...] | None = None
) -> np.ndarray:
    """Return class probabilities in the order of the cohort's rows and of the label's levels.

    Parameters
    ----------
    predictions
        One column of probabilities per class, named as the class; rows under the ids of the cohort's table, in any
        order, and none beside them.
    cohort
        The rows predicted.
    label
        Column with the classes.
    levels
        The classes, where the column does not hold them all, or is not complete; default: those of the column.

    Returns
    -------
    numpy.ndarray
        ``(n, classes)`` float64.

    Raises
    ------
    DataError
        Other classes, ids that are repeated or missing (positions, never ids), or values that are no probabilities.
    """
    way_out = "pd.DataFrame(probabilities, index=cohort.obs.index, columns=classes)"
    check_type(predictions, pd.DataFrame, "predictions", f"make one with {way_out}")
    levels = cohort.factor(label).levels if levels is None else levels
    columns = [str(name) for name in predictions.columns]
    missing, more = [c for c in levels if c not in columns], [c for c in columns if c not in levels]
    if missing or more or len(set(columns)) < len(columns):
        parts = [f"lacks the classes {', '.join(missing)}"] * bool(missing)
        parts += [f"has columns that are no class: {', '.join(more)}"] * bool(more)
        raise DataError(
            f"predictions {' and '.join(parts) or 'has a column twice'}: it needs one column of probabilities for each "
            f"level of {label!r} ({', '.join(levels)})."
        )
    if predictions.index.nlevels != cohort.obs.index.nlevels:
        raise DataError(f"predictions has an index of other levels than the cohort's table: make it with {way_out}.")
    _check_rows(predictions.index, cohort.obs.index)
    try:
        table = predictions.loc[cohort.obs.index].to_numpy(dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError("predictions holds text or missing values: every entry is a probability.") from None
    table = table[:, [columns.index(c) for c in levels]]
    finite = np.isfinite(table).all(axis=1)
    off = ~finite | (table < 0.0).any(axis=1)
    off[finite] |= np.abs(table[finite].sum(axis=1) - 1.0) >= ROUNDING
    if off.any():
        raise DataError(
            f"predictions are negative, missing or do not add up to one in {off.sum()} of {len(off)} rows of the "
            f"cohort ({positions(np.flatnonzero(off).tolist())}): pass the probabilities of all classes, not scores."
        )
    return np.asarray(table)


def _check_rows(index: pd.Index, wanted: pd.Index) -> None:
    twice, absent = index.duplicated(keep=False), ~wanted.isin(index)
    extra = ~index.isin(wanted)
    for mask, what, whose, way_out in (
        (twice, "have an id that occurs twice", "predictions", "average or drop the copies"),
        (absent, "have no prediction under their id", "the cohort", "predict them, or leave them out of the cohort"),
        (extra, "have an id that is not in the cohort", "predictions", "pass predictions.loc[cohort.obs.index]"),
    ):
        if mask.any():
            where = positions(np.flatnonzero(mask).tolist())
            raise DataError(f"{mask.sum()} of {len(mask)} rows of {whose} {what} ({where}): {way_out}.")
