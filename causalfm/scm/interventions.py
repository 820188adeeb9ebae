"""What an intervention changes in the table: causes are set, their effects follow the graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np
import pandas as pd

from causalfm.arguments import did_you_mean
from causalfm.arrows import EMBEDDING
from causalfm.cohort import Cohort
from causalfm.errors import DataError, NotIdentifiedError, positions
from causalfm.graph_checks import graph_error
from causalfm.scm.exogenous import luck_of
from causalfm.scm.nodes import NodeModel
from causalfm.separation import latent_dag, without

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph

NOISE = "noise:{}"  # column of obs with the exogenous noise of a node


def refuse_confounded(graph: CausalGraph, node: str) -> None:
    """Refuse a node whose dependence on its parents is not causal alone.

    Raises
    ------
    NotIdentifiedError
        An open path between the node and its parents besides the arrows, or selection that depends on it.
    """
    full, parents = latent_dag(graph), set(graph.parents(node))
    cut = without(full, [(p, node) for p in parents])
    selected = set(graph.selected)
    if parents and not nx.is_d_separator(cut, {node}, parents, selected):
        raise NotIdentifiedError(
            f"what {node} owes to {', '.join(sorted(parents))} cannot be told from an unmeasured common cause, or from "
            "the selection of rows: no counterfactual of it is identified. Measure what lies behind it and declare it "
            f"as a covariate, or remove an arrow you do not hold true.\nGraph: {graph}"
        )
    if selected and not nx.is_d_separator(full, {node}, selected, parents):
        raise NotIdentifiedError(
            f"rows were selected by {', '.join(sorted(selected))}, which depends on {node} even given its parents: "
            f"its mechanism cannot be told from these rows. Remove an arrow you do not hold true.\nGraph: {graph}"
        )


def changed_nodes(graph: CausalGraph, do: Mapping[str, Any]) -> list[str]:
    """Nodes that follow the intervention, causes first; those set and ``Z`` are left out.

    Raises
    ------
    GraphError
        A node that is not measured.
    DataError
        No node, or several values for one.
    """
    if not isinstance(do, Mapping) or not do:
        given = repr(do) if isinstance(do, (str, Mapping, type(None))) else f"a {type(do).__name__}"
        raise DataError(f"do={given}: name at least one node and its value, such as do={{'site': 'A'}}.")
    for name, value in do.items():
        if name not in graph.measured:
            near, known = did_you_mean(name, graph.measured), ", ".join(graph.measured)
            raise graph_error(graph, f"do names {name!r}, no measured node: choose among {known}.{near}")
        if not pd.api.types.is_scalar(value):  # its values may be ids: not shown
            raise DataError(
                f"do={{{name!r}: ...}} gives a {type(value).__name__}: give one value, which all rows take. Where rows "
                "are to take different ones, ask for each part of the cohort, cohort[mask]."
            )
    cut = nx.DiGraph([(a, b) for a, b in graph.edges if b not in do])
    cut.add_nodes_from(graph.nodes)
    below = set().union(*(nx.descendants(cut, name) for name in do)) - set(do) - {EMBEDDING}
    order = [n for n in nx.topological_sort(nx.DiGraph(graph.edges)) if n in below]
    return [n for n in order if n in graph.measured]


def intervene(
    cohort: Cohort,
    graph: CausalGraph,
    do: Mapping[str, Any],
    models: Mapping[str, NodeModel],
    known: Callable[[str], tuple[str, ...] | None],
    random_state: int,
) -> pd.DataFrame:
    """Return the table after the intervention, with the noise of each node that could follow.

    Parameters
    ----------
    cohort
        Rows as they were seen.
    graph
        Declared graph.
    do
        Node to value.
    models
        Nodes with causes.
    known
        Levels of a categorical node; None for a number.
    random_state
        Seed of the noise's place within its interval.

    Returns
    -------
    pandas.DataFrame
        A new table; the columns ``noise:<node>`` hold abducted noise. A node that is set loses its noise: a later
        intervention on its causes leaves it where it was set.
    """
    follow = changed_nodes(graph, do)
    for node in follow:
        refuse_confounded(graph, node)
    groups = cohort.factor(graph.group, private=True) if follow else None
    noise = {} if groups is None else {n: abducted(cohort, models[n], luck_of(n, groups, random_state)) for n in follow}
    obs = cohort.obs.copy()
    for name, value in do.items():
        obs[name] = set_value(obs[name], value, known(name), name)
        if NOISE.format(name) in obs or name in models:
            obs[NOISE.format(name)] = np.nan
    for node in follow:
        model, drawn = models[node], noise[node]
        values, before = model.seen(cohort).copy(), model.causes(cohort)
        after = model.causes(Cohort._of_finite(cohort.X, obs, {}))
        free = ~np.isnan(drawn) & (before != after).any(axis=1)
        values[free] = model.follow(drawn[free], before[free], after[free])
        obs[node] = pd.Series(values, obs.index) if model.levels is None else levels_as(obs[node], model.levels, values)
        obs[NOISE.format(node)] = drawn
    return obs


def abducted(cohort: Cohort, model: NodeModel, luck: np.ndarray) -> np.ndarray:
    """Noise ``(n,)`` of a node: stored by an earlier intervention, or found from what was seen; nan where it was set.

    Raises
    ------
    DataError
        Stored noise that does not explain the value beside it.
    """
    seen, causes = model.seen(cohort), model.causes(cohort)
    column = NOISE.format(model.node)
    if column not in cohort.obs:
        return model.abduct(seen, causes, luck)
    noise = np.array(pd.to_numeric(cohort.obs[column], errors="coerce"), dtype=np.float64)
    stored = cohort.obs[column].notna().to_numpy()
    wrong = stored & np.isnan(noise)
    told = np.flatnonzero(stored & ~wrong)
    wrong[told] = ~model.explains(noise[told], causes[told], seen[told])
    if wrong.any():
        raise DataError(
            f"column {column!r} does not lead to the {model.node} beside it in {wrong.sum()} rows "
            f"({positions(np.flatnonzero(wrong).tolist())}): it was written by another model, or the table was edited. "
            "Drop the column to draw the noise again."
        )
    return noise


def set_value(column: pd.Series, value: Any, levels: tuple[str, ...] | None, name: str) -> pd.Series:
    """Return the column with one value in all rows.

    Raises
    ------
    DataError
        A level that the model never saw; no number where the node is one.
    """
    if levels is None:
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = np.nan
        if not np.isfinite(number):
            raise DataError(f"do={{{name!r}: {value!r}}}: {name!r} is a number: give a finite one.")
        return pd.Series(number, index=column.index)
    return levels_as(column, levels, np.full(len(column), level_code(value, levels, name)))


def level_code(value: Any, levels: tuple[str, ...], name: str) -> int:
    """Return the position of a level that is set.

    Raises
    ------
    DataError
        A level that the model never saw.
    """
    if str(value) not in levels:
        shown = ", ".join(levels[:8]) + (f" and {len(levels) - 8} more" if len(levels) > 8 else "")
        raise DataError(
            f"do={{{name!r}: {value!r}}}: the model never saw this level, and nothing tells its effect. Choose one of "
            f"{shown}, or fit on a cohort that holds it.{did_you_mean(value, levels)}"
        )
    return levels.index(str(value))


def levels_as(column: pd.Series, levels: tuple[str, ...], codes: np.ndarray) -> pd.Series:
    """Spell level codes as a column does: its own values where they read the same, else text."""
    own = {str(v): v for v in column.cat.categories} if isinstance(column.dtype, pd.CategoricalDtype) else {}
    own = own or {str(v): v for v in column.unique()}
    values = [own.get(level, _like(column, level)) for level in levels]
    if isinstance(column.dtype, pd.CategoricalDtype):
        more = [v for v in values if v not in column.cat.categories]
        dtype = column.cat.add_categories(more).dtype if more else column.dtype
        own_values = np.empty(len(values), dtype=object)
        own_values[:] = values
        return pd.Series(own_values[codes], index=column.index).astype(dtype)
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return pd.Series(out[codes], index=column.index, dtype=column.dtype)


def _like(column: pd.Series, level: str) -> Any:
    """Read a level that the column does not hold in the column's own type."""
    if pd.api.types.is_bool_dtype(column.dtype):
        return level == "True"
    return column.dtype.type(level) if pd.api.types.is_numeric_dtype(column.dtype) else level
