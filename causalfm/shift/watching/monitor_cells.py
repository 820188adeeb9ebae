"""Columns whose change is benign: patients are ranked among patients with the same values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from causalfm.errors import DataError

if TYPE_CHECKING:
    from causalfm.cohort import Cohort
    from causalfm.graph import CausalGraph

OUTSIDE = -1
LEAST = 20  # calibration patients a cell should have
MOST_BANDS = 5
BEYOND = 0.1  # of the range, on both sides: further away the reference says nothing


@dataclass(frozen=True, eq=False)
class Cells:
    """How patients fall into cells.

    Attributes
    ----------
    categorical, continuous
        Columns.
    levels
        Levels of the categorical columns that the reference's shape patients have.
    edges
        For each continuous column the least value, the inner edges of bands, and the largest value.
    """

    categorical: tuple[str, ...]
    levels: tuple[tuple[str, ...], ...]
    continuous: tuple[str, ...]
    edges: tuple[tuple[float, ...], ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column needed."""
        return (*self.categorical, *self.continuous)

    @property
    def n_cells(self) -> int:
        """Cells there are."""
        sizes = [len(levels) for levels in self.levels] + [len(edges) - 1 for edges in self.edges]
        return int(np.prod(sizes, dtype=np.int64)) if sizes else 1

    def of(self, cohort: Cohort, units: np.ndarray, n_units: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the cell ``(m,)`` of each patient, -1 outside, and its continuous values ``(m, q)``.

        A patient is outside with a level that the reference lacks, with several levels of one column, or with a mean
        beyond the reference's range by more than a tenth of it.
        """
        codes = []
        for name, levels in zip(self.categorical, self.levels, strict=True):
            factor = cohort.factor(name)
            code = np.array([levels.index(level) if level in levels else OUTSIDE for level in factor.levels])
            rows = code[factor.codes]
            low, high = np.full(n_units, len(levels)), np.full(n_units, OUTSIDE)
            np.minimum.at(low, units, rows)
            np.maximum.at(high, units, rows)
            codes.append(np.where(low == high, low, OUTSIDE))
        count = np.bincount(units, minlength=n_units)
        means = [np.bincount(units, cohort.numeric(name), n_units) / count for name in self.continuous]
        numbers = np.stack(means, axis=1) if means else np.zeros((n_units, 0))
        return self.place(codes, numbers), numbers

    def place(self, codes: Sequence[np.ndarray], numbers: np.ndarray) -> np.ndarray:
        """Return the cell ``(m,)`` of patients with level codes, one ``(m,)`` per column, and numbers ``(m, q)``."""
        cell, outside = np.zeros(len(numbers), dtype=np.int64), np.zeros(len(numbers), dtype=bool)
        for code, levels in zip(codes, self.levels, strict=True):
            outside |= code == OUTSIDE
            cell = cell * len(levels) + np.maximum(code, 0)
        for values, edges in zip(numbers.T, self.edges, strict=True):
            slack = BEYOND * (edges[-1] - edges[0])
            outside |= (values < edges[0] - slack) | (values > edges[-1] + slack)
            cell = cell * (len(edges) - 1) + np.searchsorted(np.array(edges[1:-1]), values, side="right")
        return np.where(outside, OUTSIDE, cell)

    def basis(self, numbers: np.ndarray) -> np.ndarray:
        """Return ``(m, b)``: 1, each number and its hinges at the inner edges; straight lines go on at the ends."""
        out = [np.ones(len(numbers))]
        for values, edges in zip(numbers.T, self.edges, strict=True):
            unit = edges[-1] - edges[0]
            out.append((values - edges[0]) / unit)
            out += [np.maximum(values - edge, 0.0) / unit for edge in edges[1:-1]]
        return np.stack(out, axis=1)


def fit_cells(
    cohort: Cohort, graph: CausalGraph, given: tuple[str, ...], shape: np.ndarray, units: np.ndarray
) -> Cells:
    """Cut the columns into cells with enough patients.

    Parameters
    ----------
    cohort, graph
        The reference; kinds of the columns are the graph's.
    given
        Columns whose change is benign.
    shape
        ``(n_units,)`` bool: patients that fix the cells; they are not ranked later.
    units
        ``(n,)`` patient of each row.

    Raises
    ------
    DataError
        A column that is the unit or a specimen, multi-label, without spread, or so many levels that cells are empty.
    """
    kinds = {name: graph.kind(name, cohort) for name in given}
    if odd := [name for name in given if name in (*graph.groups, graph.specimen) or kinds[name] == "multi-label"]:
        raise DataError(f"given={odd[0]!r} names units or has several labels in a field: nobody shares its values.")
    rows = shape[units]
    categorical = tuple(name for name in given if kinds[name] != "continuous")
    continuous = tuple(name for name in given if kinds[name] == "continuous")
    for name in categorical:
        cohort.factor(name)
    levels = tuple(tuple(cohort[rows].factor(name).levels) for name in categorical)
    combinations = int(np.prod([len(found) for found in levels], dtype=np.int64)) if levels else 1
    patients = int(shape.sum())
    if combinations * LEAST > patients:
        raise DataError(
            f"given={list(categorical)} has {combinations} combinations of levels for {patients} patients: each needs "
            f"{LEAST} or more. Merge rare levels, or give fewer columns."
        )
    room = patients // (LEAST * combinations)
    bands = int(np.clip(room ** (1 / max(1, len(continuous))), 1, MOST_BANDS))
    edges = []
    for name in continuous:
        values = pd.Series(cohort.numeric(name)).groupby(units).mean().to_numpy()[shape]
        if np.ptp(values) == 0:
            raise DataError(f"given={name!r} is the same in all reference patients: nothing can be compared by it.")
        edges.append(band_edges(values, bands))
    return Cells(categorical, levels, continuous, tuple(edges))


def band_edges(values: np.ndarray, bands: int) -> tuple[float, ...]:
    """Return the least value, quantiles between bands, and the largest value; equal ones once."""
    return tuple(float(cut) for cut in np.unique(np.quantile(values, np.linspace(0, 1, bands + 1))))
