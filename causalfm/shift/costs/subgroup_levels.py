"""Levels of a column in one or several cohorts: names as they are, numbers in bands."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.graph import CausalGraph

BANDS = 3  # of a numeric column without edges
FEW = 6  # distinct numbers that are levels, not a scale
MOST = 50


def levels_of(
    tables: Sequence[Cohort], graph: CausalGraph, column: str, edges: Sequence[float] | None
) -> tuple[tuple[str, ...], list[np.ndarray], list[float]]:
    """Return the levels, the codes of every cohort's rows (-1: missing) and the edges of bands, made from the first."""
    series = [table.column(column) for table in tables]
    if column in graph.groups:
        raise DataError(f"{column!r} tells units apart: a subgroup needs several {graph.group}s.")
    numeric = all(pd.api.types.is_numeric_dtype(s) and not pd.api.types.is_bool_dtype(s) for s in series)
    if edges is None and numeric and series[0].nunique() > FEW:
        thirds = np.linspace(0.0, 1.0, BANDS + 1)[1:-1]
        first = series[0].groupby(tables[0].factor(graph.group, private=True).codes).mean().dropna()
        edges = sorted({float(f"{cut:.3g}") for cut in np.quantile(first, thirds)})
    if edges is None:
        return *_named(series, column, tables), []
    cuts = [float(cut) for cut in edges]
    if not numeric or not cuts or sorted(set(cuts)) != cuts or not np.isfinite(cuts).all():
        raise DataError(f"edges of {column!r} must be finite numbers that rise, for a numeric column.")
    names = (f"under {cuts[0]:g}", *(f"{a:g} to under {b:g}" for a, b in pairwise(cuts)))
    values = [s.to_numpy(dtype=np.float64, na_value=np.nan) for s in series]
    codes = [np.where(np.isnan(v), -1, np.searchsorted(cuts, v, side="right")) for v in values]
    return (*names, f"{cuts[-1]:g} and over"), codes, cuts


def _named(series: list[pd.Series], column: str, tables: Sequence[Cohort]) -> tuple[tuple[str, ...], list[np.ndarray]]:
    there = [s.notna().to_numpy() for s in series]
    factors = [table[mask].factor(column) if mask.any() else None for table, mask in zip(tables, there, strict=True)]
    levels = tuple(sorted({level for factor in factors if factor is not None for level in factor.levels}))
    if len(levels) > MOST:
        raise DataError(
            f"{column!r} has {len(levels)} levels: give edges, or join levels; at most {MOST} are compared."
        )
    codes = [np.full(len(mask), -1, dtype=np.int64) for mask in there]
    for code, factor, mask in zip(codes, factors, there, strict=True):
        if factor is not None:
            code[mask] = np.array([levels.index(level) for level in factor.levels])[factor.codes]
    return levels, codes
