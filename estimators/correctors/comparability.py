"""Levels that cannot be told from biology or covariates: refused with the cross table, or trimmed."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causalfm.arrows import quote
from causalfm.cohort import Cohort
from causalfm.errors import DataError, NotIdentifiedError
from causalfm.estimators.correctors.inputs import Column
from causalfm.graph import CausalGraph
from causalfm.trimming import CommonSupport, common_support

if TYPE_CHECKING:
    from collections.abc import Sequence

SHOWN = 8  # levels in a message
TAKEN = ("Z", "group")  # nodes of the graph below


def refuse_undetermined(counts: np.ndarray, levels: Sequence[str], classes: Sequence[str], unit: str) -> None:
    """Refuse, with the table, levels whose effect the design does not tell from biology or covariates.

    Parameters
    ----------
    counts
        ``(L, B)`` rows or groups per level and class of biology; no classes: covariates alone are to blame.
    levels, classes, unit
        Names, and what is counted.

    Raises
    ------
    NotIdentifiedError
        Always.
    """
    lines = [
        f"{level}: " + (", ".join(f"{b} {c:g}" for b, c in zip(classes[:SHOWN], row, strict=False)) or f"{row.sum():g}")
        for level, row in zip(levels[:SHOWN], np.round(counts, 1), strict=False)
    ]
    more = " ..." if len(levels) > SHOWN or len(classes) > SHOWN else ""
    cause = "biology (or the covariates)" if len(classes) else "the covariates"
    raise NotIdentifiedError(
        f"levels of the factor cannot be told from {cause} on these rows, so that removing one removes the other. "
        f"{unit.capitalize()} by level: {'; '.join(lines)}{more}. Add rows that hold the missing combinations, merge "
        "levels, or keep the comparable part with on_violation='trim'."
    )


def comparable_rows(
    factor: tuple[np.ndarray, tuple[str, ...]], columns: Sequence[Column], groups: Any
) -> CommonSupport:
    """Find the rows whose levels can be compared given biology and covariates.

    Parameters
    ----------
    factor
        Codes ``(n,)`` and levels.
    columns
        Biology and covariates, at least one.
    groups
        ``(n,)`` independent units; None: every row is one.

    Returns
    -------
    CommonSupport
        See :func:`causalfm.common_support`.

    Raises
    ------
    DataError
        Nothing left to compare; a factor that varies within groups; a name that no graph can hold.
    """
    codes, levels = factor
    columns = [dataclasses.replace(column, name=_node(column.name, columns)) for column in columns]
    obs = pd.DataFrame({"factor": pd.Categorical.from_codes(codes, pd.Index(levels))})
    for column in columns:
        coded = None if column.levels is None else pd.Categorical.from_codes(column.values, pd.Index(column.levels))
        obs[column.name] = column.values if coded is None else coded
    obs["group"] = np.arange(len(codes)) if groups is None else np.asarray(groups)
    given = [column.name for column in columns]
    arrows = [f"factor <-> {quote(name)}; {quote(name)} -> Z" for name in given]
    if "biology" not in given:  # a graph has biology: one that neither differs between levels nor is given
        obs["biology"] = np.where(np.arange(len(codes)) % 2, "a", "b")
    graph = CausalGraph(
        "; ".join([*arrows, "{factor, biology} -> Z"]),
        biology="biology",
        technical=["factor"],
        group="group",
        covariates=[name for name in given if name != "biology"],
        kinds={column.name: "continuous" if column.levels is None else "categorical" for column in columns},
    )
    cohort = Cohort(np.zeros((len(codes), 1), dtype=np.float32), obs)
    support = common_support(cohort, graph, of="factor", given=given)
    if not support.comparable:
        raise DataError(f"nothing is left to compare: {support.sentence}")
    return support


def _node(name: str, columns: Sequence[Column]) -> str:
    """Return a name for a covariate that no other node has."""
    taken = {*TAKEN, *(column.name for column in columns if column.name != name)}
    while name in taken:
        name = f"covariate {name}"
    return name
