"""Refuse a comparison of what cannot be compared: a difference is paired only if row i is the same image everywhere."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from causalfm.arguments import check_type
from causalfm.cohort import Cohort
from causalfm.errors import DataError, positions
from causalfm.graph import CausalGraph


def check_encoders(cohorts: Mapping[str, Cohort], graph: CausalGraph) -> None:
    """Refuse what is not at least two cohorts under names, with a graph."""
    way_out = "give a dictionary of cohorts, {'uni': cohort_a, 'virchow2': cohort_b}"
    if not isinstance(cohorts, Mapping):
        raise DataError(f"cohorts must be a dictionary, not {type(cohorts).__name__}: {way_out}.")
    for name, cohort in cohorts.items():
        if not isinstance(name, str) or not name.strip():
            raise DataError(f"{name!r} is no name of an encoder: {way_out}.")
        check_type(cohort, Cohort, f"cohorts[{name!r}]", "read one with causalfm.read(path)")
    if len(cohorts) < 2:
        raise DataError(f"{len(cohorts)} encoder: there is nothing to compare; {way_out}.")
    check_type(graph, CausalGraph, "graph", "declare one with causalfm.CausalGraph.standard(...)")


def check_same_rows(cohorts: Mapping[str, Cohort], graph: CausalGraph) -> None:
    """Refuse cohorts whose rows, or tables in the columns of the graph, differ.

    Parameters
    ----------
    cohorts
        By encoder.
    graph
        Its columns are compared; others may differ.

    Raises
    ------
    DataError
        Unequal numbers of rows; a column that differs, with the positions; ids of the rows that differ. Values are
        never named.
    """
    (first, base), *others = cohorts.items()
    for name, cohort in others:
        pair = f"encoders {first!r} and {name!r}"
        if len(cohort) != len(base):
            raise DataError(
                f"{pair} have {len(base)} and {len(cohort)} rows: a comparison needs the same rows in the same order. "
                "Keep the rows that both have."
            )
        _check_ids(base.obs.index, cohort.obs.index, pair)
        for column in graph.columns:
            differ = np.flatnonzero(~_equal(base.column(column), cohort.column(column))).tolist()
            if differ:
                raise DataError(
                    f"{pair} differ in column {column!r} ({positions(differ)}): a comparison needs the same rows in "
                    "the same order. Bring both into one order, or use one table for both."
                )


def with_one_table(cohorts: Mapping[str, Cohort], graph: CausalGraph) -> dict[str, Cohort]:
    """Give all cohorts the first one's columns of the graph, which are equal in value.

    Levels of another type or category order would be coded in another order: units would be paired with others.
    """
    base = next(iter(cohorts.values()))
    columns = {name: base.column(name).array for name in graph.columns}
    return {name: cohort.replace(obs=cohort.obs.assign(**columns)) for name, cohort in cohorts.items()}


def _check_ids(a: pd.Index, b: pd.Index, pair: str) -> None:
    """Refuse ids in another order, or other ids; numbered rows have none."""
    if isinstance(a, pd.RangeIndex) or isinstance(b, pd.RangeIndex):
        return
    ids, other = (np.asarray(index.map(str), dtype=object) for index in (a, b))
    differ = np.flatnonzero(ids != other).tolist()
    if differ:
        order = "in another order" if sorted(ids) == sorted(other) else "not the same"
        raise DataError(
            f"{pair} have row ids that are {order} ({positions(differ)}): bring both into one order. If the rows are "
            "in one order already, leave the ids out: cohort.replace(obs=cohort.obs.reset_index(drop=True))."
        )


def _equal(a: pd.Series, b: pd.Series) -> np.ndarray:
    """Compare two columns row by row: as numbers if both hold numbers, else as text; missing equals missing."""
    empty = a.isna().to_numpy() & b.isna().to_numpy()
    numbers = pd.api.types.is_numeric_dtype(a) and pd.api.types.is_numeric_dtype(b)
    whole = pd.api.types.is_integer_dtype(a) and pd.api.types.is_integer_dtype(b)
    if numbers and not whole:  # numbers of patients beyond 2^53 would be equal as floats
        same = a.to_numpy(dtype=np.float64, na_value=np.nan) == b.to_numpy(dtype=np.float64, na_value=np.nan)
    else:
        same = np.asarray(a.astype(object).map(str), dtype=object) == np.asarray(
            b.astype(object).map(str), dtype=object
        )
    return np.asarray(same | empty, dtype=bool)
