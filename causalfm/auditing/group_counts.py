"""Independent units and rows at every level of the columns that the graph names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causalfm.cohort import Cohort, Factor
from causalfm.strata import groups_per_level

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph

UNKNOWN = "not known"
LISTS = {  # where an audit's data hold such counts, and whose they are
    "group_counts": "",
    "reference_group_counts": "Reference: ",
    "deployment_group_counts": "Deployment: ",
}


def group_counts(cohort: Cohort, graph: CausalGraph) -> dict[str, list[dict[str, Any]]]:
    """Count units and rows per level; a column of numbers is described by its mean and spread instead.

    Parameters
    ----------
    cohort, graph
        Data and declared graph. A column that the table does not have (the biology of a deployment) is left out.

    Returns
    -------
    dict
        One list of records ``level``, ``units``, ``rows`` per column; rows without a value stand under "not known". A
        unit that was seen at several levels counts at each.
    """
    units = cohort.factor(graph.group, private=True)
    out = {}
    for name in (graph.biology, *graph.technical, *graph.covariates):
        if name not in cohort.obs.columns:
            continue
        column = cohort.column(name)
        if graph.kind(name, cohort) == "continuous":
            codes, levels = column.isna().to_numpy().astype(np.int64), [_spread(column.dropna()), UNKNOWN]
        else:
            codes, known = pd.factorize(column)
            codes, levels = np.where(codes < 0, len(known), codes), [*map(str, known), UNKNOWN]
        out[name] = _counted(codes, levels, units)
    return out


def _counted(codes: np.ndarray, levels: list[str], units: Factor) -> list[dict[str, Any]]:
    """Count units and rows of the levels that occur, by name; those that read the same are one."""
    names, merged = np.unique(np.array(levels, dtype=object), return_inverse=True)
    codes = merged[codes]
    rows = np.bincount(codes, minlength=len(names))
    held = groups_per_level(codes, units.codes, len(names))
    return [{"level": str(names[i]), "units": int(held[i]), "rows": int(rows[i])} for i in np.flatnonzero(rows)]


def _spread(values: pd.Series) -> str:
    """Describe numbers without naming any patient's value: no smallest, no largest."""
    if pd.api.types.is_datetime64_any_dtype(values.dtype) or values.empty:
        return "dates" if len(values) else "no values"
    return f"numbers: mean {values.mean():.3g}, standard deviation {values.std():.2g}"
