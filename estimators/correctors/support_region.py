"""Where the rows of a fit lie, told without any patient's number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from causalfm.estimators.correctors.inputs import Batch, Column, Regressors, coded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SLACK = 1e-9  # of a range: rounding
FEWEST = 5  # patients behind a bound that is kept


def region(batch: Batch, regressors: Regressors) -> dict[str, np.ndarray]:
    """Where rows lie: ``cells (C, q)`` of the categorical columns; ranges ``low``, ``high (p + L,)``.

    The ranges are those of the numbers, and of the indices ``slopes (q + p, L)`` that predict the levels best in least
    squares, as the propensities do. No bound is a patient's number: each is rounded outward (:func:`_outward`).
    """
    matrix = regressors.matrix(batch.columns, len(batch))[:, 1:]
    kinds, numbers = _parts(matrix, regressors)
    levels = np.eye(len(batch.levels))[batch.codes]
    slopes = np.linalg.lstsq(matrix - matrix.mean(axis=0), levels - levels.mean(axis=0), rcond=1e-10)[0]
    unit = np.arange(len(batch)) if batch.groups is None else coded(batch.groups, "groups", len(batch), private=True)[0]
    seen = np.concatenate([numbers, matrix @ slopes], axis=1) if numbers.shape[1] else numbers
    low = np.array([_outward(column, unit) for column in seen.T])
    high = np.array([-_outward(-column, unit) for column in seen.T])
    return {"cells": np.unique(kinds, axis=0), "slopes": slopes, "low": low, "high": high}


def _outward(values: np.ndarray, unit: np.ndarray) -> float:
    """Round the least value down to a multiple of a step of 1, 2 or 5 times a power of ten.

    The step is at least as wide as the five patients with the least values lie apart, so that many lie where the value
    may be.
    """
    order = np.argsort(values, kind="stable")
    firsts = np.sort(np.unique(unit[order], return_index=True)[1])[:FEWEST]
    apart = float(values[order[firsts[-1]]] - values[order[0]])
    if apart <= 0.0 and len(firsts) == FEWEST:
        return float(values[order[0]])  # five patients share it
    apart = max(apart, 1e-6 * max(1.0, float(np.abs(values).max())))
    power = 10.0 ** np.floor(np.log10(apart))
    step = next(m * power for m in (1.0, 2.0, 5.0, 10.0) if m * power >= apart * (1.0 - SLACK))
    return float(np.floor(values[order[0]] / step) * step)


def within(columns: Sequence[Column], regressors: Regressors, n: int, parts: Mapping[str, np.ndarray]) -> np.ndarray:
    """Mask ``(n,)`` of the rows inside a region; a level of a column that was never seen is refused."""
    matrix = regressors.matrix(columns, n)[:, 1:]
    kinds, numbers = _parts(matrix, regressors)
    inside = (kinds[:, None] == parts["cells"]).all(axis=2).any(axis=1)
    if numbers.shape[1]:
        seen, low, high = np.concatenate([numbers, matrix @ parts["slopes"]], axis=1), parts["low"], parts["high"]
        slack = SLACK * (1.0 + np.abs(low) + np.abs(high))
        inside &= ((seen >= low - slack) & (seen <= high + slack)).all(axis=1)
    return np.asarray(inside)


def _parts(matrix: np.ndarray, regressors: Regressors) -> tuple[np.ndarray, np.ndarray]:
    """Return indicators of the categorical columns, and numbers."""
    kinds = np.array(["=" in name for name in regressors.names[1:]], dtype=bool)
    return matrix[:, kinds], matrix[:, ~kinds]
