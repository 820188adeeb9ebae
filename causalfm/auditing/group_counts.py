"""Independent units and rows at every level of the columns that the graph names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from causalfm.cohort import Cohort

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph


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
    units = pd.Series(cohort.factor(graph.group, private=True).codes)
    out = {}
    for name in (graph.biology, *graph.technical, *graph.covariates):
        if name not in cohort.obs.columns:
            continue
        column = cohort.column(name).reset_index(drop=True)
        known = column.notna()
        if graph.kind(name, cohort) == "continuous":
            named = pd.Series(_spread(column[known]), index=column.index)
        else:
            named = column.astype(str)
        found = pd.DataFrame({"level": named.where(known, "not known"), "unit": units}).groupby("level", sort=True)
        out[name] = [
            {"level": str(level), "units": int(rows.nunique()), "rows": len(rows)} for level, rows in found["unit"]
        ]
    return out


def _spread(values: pd.Series) -> str:
    """Describe numbers without naming any patient's value: no smallest, no largest."""
    if pd.api.types.is_datetime64_any_dtype(values.dtype) or values.empty:
        return "dates" if len(values) else "no values"
    return f"numbers: mean {values.mean():.3g}, standard deviation {values.std():.2g}"
