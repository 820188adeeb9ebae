"""Checks: do the roles fit the arrows, and the cohort the graph."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from causalfm.arguments import check_type, did_you_mean
from causalfm.arrows import EMBEDDING, names
from causalfm.column_kinds import refuse_decimal_commas, refuse_float_codes
from causalfm.errors import DataError, GraphError, positions
from causalfm.restarted_ids import refuse_restarted_ids

if TYPE_CHECKING:
    from causalfm.cohort import Cohort, Factor
    from causalfm.graph import CausalGraph

KINDS = ("categorical", "ordinal", "continuous", "multi-label")
MAX_LEVELS = 200  # every pair is compared: 19,900


def graph_error(graph: CausalGraph, message: str) -> GraphError:
    """Return a GraphError that prints the graph under the message."""
    return GraphError(f"{message}\nGraph: {graph}")


def check_roles(graph: CausalGraph) -> None:
    """Refuse a graph whose roles do not fit its arrows.

    Parameters
    ----------
    graph
        The graph, its attributes set.

    Raises
    ------
    GraphError
        See :class:`causalfm.CausalGraph`.
    """
    if EMBEDDING not in graph.nodes:
        raise graph_error(
            graph, f"the graph has no node {EMBEDDING}: the embedding. Add arrows into it, like '{{a, b}} -> Z'."
        )
    for what, value in (("biology", (graph.biology,)), ("technical", graph.technical), ("group", graph.groups)):
        if not value or not all(isinstance(v, str) and v for v in value):
            raise graph_error(graph, f"{what} is missing or no text: name the column (or columns) that play this role.")
    if not isinstance(graph.declared_by, str):
        raise graph_error(graph, "declared_by is no text: write who declared the graph, or leave it out.")
    _validate_roles(graph)
    for node, role in ((EMBEDDING, "the embedding"), *((s, "a selection node") for s in graph.selected)):
        if graph.children(node):
            raise graph_error(
                graph,
                f"{node!r} is {role} and causes {', '.join(graph.children(node))}: nothing measured is caused by it. "
                "An association without direction is written '<->'.",
            )


def _validate_roles(graph: CausalGraph) -> None:
    roles = {"biology": (graph.biology,), "technical": graph.technical, "covariates": graph.covariates}
    roles |= {"selected": graph.selected, "the embedding": (EMBEDDING,)}
    seen: dict[str, str] = {}
    for role, members in roles.items():
        for name in members:
            if name in seen:
                raise graph_error(
                    graph, f"{name!r} is declared as {seen[name]} and again as {role}: a node has one role."
                )
            if name not in graph.nodes:
                raise graph_error(
                    graph, f"{role} names {name!r}, which is not a node: add its arrows, or {name!r} alone."
                )
            seen[name] = role
    units = {"group": graph.groups, "specimen": names(graph.specimen)}
    for role, members in units.items():
        if inside := [name for name in members if name in graph.nodes]:
            raise graph_error(
                graph, f"{', '.join(inside)} is a {role}, a unit and not a cause: leave it out of the arrows."
            )
        if len(set(members)) < len(members):
            raise graph_error(graph, f"{role} names a column twice.")
    if loose := [n for n in graph.nodes if n not in seen]:
        raise graph_error(
            graph,
            f"{', '.join(map(repr, loose))} has no role: list it among the covariates, or, if it is not measured, "
            "write its effects as 'a <-> b'.",
        )
    for name, kind in graph.kinds.items():
        if name not in graph.measured or kind not in KINDS:
            raise graph_error(
                graph, f"kinds[{name!r}] = {kind!r} fits no measured node or kind: choose one of {', '.join(KINDS)}."
            )


def check_cohort(graph: CausalGraph, cohort: Cohort, *, doses: bool = False) -> None:
    """Refuse a cohort that does not fit the graph.

    Parameters
    ----------
    graph
        Declared graph.
    cohort
        Embeddings and table.
    doses
        Whether the caller answers continuous technical factors.

    Raises
    ------
    GraphError
        Columns that the table does not have.
    DataError
        Missing values; biology or a technical factor with one level only or of a kind that this version does not
        answer; units that do not nest; a first technical factor (the site) that varies within a few of the independent
        units. It may vary within most of them, a paired design such as slides scanned again, and within any in which a
        ``specimen`` is seen at several levels; not where the class changes with it, as ids that start again at each
        hospital make it seem. Values of group columns are never named.
    """
    missing = [c for c in graph.columns if c not in cohort.obs.columns]
    if missing:
        have, near = ", ".join(map(str, cohort.obs.columns)), did_you_mean(missing[0], cohort.obs.columns)
        raise graph_error(graph, f"obs has no column {', '.join(map(repr, missing))}. Columns: {have}.{near}")
    cohort.handle_missing(graph.columns, how="error")
    for name in graph.measured:
        _check_numbers(cohort, name)
    for name in (graph.biology, *graph.technical):
        _check_factor(graph, cohort, name, dose=doses and name != graph.biology)
    for name in graph.covariates:
        _check_covariate(graph, cohort, name)
    _check_nesting(graph, cohort)
    site, unit = graph.technical[0], graph.group
    rows, count, total = rows_that_vary(cohort, site, unit)
    if graph.specimen is not None and count:  # the same tissue measured again may be at another level
        unit_of = cohort.factor(unit, private=True).codes
        again = set(unit_of[rows_that_vary(cohort, site, graph.specimen)[0]].tolist())
        rows = [row for row in rows if unit_of[row] not in again]
        count = len(rows)
    if 0 < count <= total / 2 or total == 1:
        raise DataError(
            f"column {site!r} varies within {count} of {total} levels of the independent unit {unit!r} "
            f"({positions(rows)}): each belongs to one level of {site!r}, the first technical factor, unless most were "
            f"measured again at another. Correct the table, make ids unique if they start again at each {site!r}, "
            f"leave these {unit}s out, keep one level of each, declare an independent unit that lies within one level "
            f"of {site!r}, list their hospital as the first factor, or, if the same tissue was measured again, declare "
            "the column that says so as specimen."
        )
    if count and graph.specimen is None:
        refuse_restarted_ids(cohort, graph.biology, site, unit)


def check_inputs(cohort: Cohort, graph: CausalGraph) -> None:
    """Refuse what is no cohort or no graph.

    Parameters
    ----------
    cohort, graph
        First arguments of a public function.

    Raises
    ------
    DataError
        Naming the argument and how to make one.
    """
    from causalfm.cohort import Cohort
    from causalfm.graph import CausalGraph

    check_type(cohort, Cohort, "cohort", "make one with causalfm.read(path) or Cohort(X, obs)")
    check_type(graph, CausalGraph, "graph", "make one with CausalGraph(arrows, biology=..., technical=..., group=...)")


def check_levels(factor: Factor, role: str) -> None:
    """Refuse a factor with one level, or with so many that it is an id and no factor.

    Parameters
    ----------
    factor
        Biology or a technical factor.
    role
        What it is, for the message.

    Raises
    ------
    DataError
        Fewer than two levels, or more than ``MAX_LEVELS``: every pair of levels is compared.
    """
    if factor.n_levels < 2:
        raise DataError(
            f"column {factor.name!r} is {role} and has one level only ({factor.levels[0]!r}) in all {len(factor)} "
            "rows: nothing can be compared. Add rows of another level, or leave it out of the graph."
        )
    if factor.n_levels > MAX_LEVELS:
        raise DataError(
            f"column {factor.name!r} is {role} and has {factor.n_levels} levels in {len(factor)} rows; at most "
            f"{MAX_LEVELS} can be compared pair by pair. If it is an id, declare it as group; else merge rare levels."
        )


def rows_that_vary(cohort: Cohort, column: str, within: str) -> tuple[list[int], int, int]:
    """Find the units in which a column takes more than one value.

    Parameters
    ----------
    cohort
        The cohort.
    column, within
        The column looked at, and the column of units.

    Returns
    -------
    rows : list of int
        First row of each such unit, ascending.
    count : int
        Number of such units.
    total : int
        Number of units.
    """
    units = cohort.factor(within, private=True)
    values, _ = pd.factorize(cohort.column(column), use_na_sentinel=False)
    varies = pd.Series(values).groupby(units.codes).nunique().to_numpy() > 1
    _, first = np.unique(units.codes, return_index=True)
    return sorted(first[varies].tolist()), int(varies.sum()), units.n_levels


def _check_factor(graph: CausalGraph, cohort: Cohort, name: str, *, dose: bool) -> None:
    kind = graph.kind(name, cohort)
    role = "biology" if name == graph.biology else "a technical factor"
    if kind == "continuous" and dose:
        if cohort.column(name).nunique() < 2:
            where = f"in all {len(cohort)} rows"
            raise DataError(f"column {name!r} is {role} and the same {where}: nothing can be compared.")
        refuse_float_codes(graph, cohort, name)
        return
    if kind == "continuous":
        what = "dates" if pd.api.types.is_datetime64_any_dtype(cohort.column(name).dtype) else "numbers"
        declared = "declared" if name in graph.kinds else f"taken as ({cohort.column(name).nunique()} different {what})"
        answering = "only invariance_test, self_check and, beside a factor with levels, audit"
        raise DataError(
            f"column {name!r} is {role} and {declared} continuous, which "
            f"{'nothing' if name == graph.biology else answering} answers in this version: bin it with pandas.cut, "
            "declare it as a covariate, or, if the values are codes, pass "
            f"kinds={{{name!r}: 'categorical'}}."
        )
    if kind == "multi-label":
        raise DataError(
            f"column {name!r} is {role} and multi-label, which this version does not answer: ask one label at a time, "
            "each in a column of its own."
        )
    check_levels(cohort.factor(name), role)


def _check_numbers(cohort: Cohort, name: str) -> None:
    """Refuse complex and infinite numbers, which would pass for levels where there are few of them."""
    column = cohort.column(name)
    if pd.api.types.is_complex_dtype(column.dtype):
        raise DataError(f"column {name!r} holds complex numbers: keep a real part, or convert it with astype(str).")
    if pd.api.types.is_float_dtype(column.dtype):
        cohort.numeric(name)


def _check_covariate(graph: CausalGraph, cohort: Cohort, name: str) -> None:
    kind = graph.kind(name, cohort)
    if kind == "multi-label":
        raise DataError(
            f"covariate {name!r} is multi-label, which this version cannot adjust for: declare one column per label."
        )
    if kind == "continuous":
        cohort.numeric(name)
    else:
        refuse_decimal_commas(graph, name, cohort.factor(name).levels)


def _check_nesting(graph: CausalGraph, cohort: Cohort) -> None:
    chains = [*pairwise(graph.groups)]
    if graph.specimen is not None and graph.specimen not in graph.groups:
        chains.append((graph.specimen, graph.group))
    for fine, coarse in chains:
        rows, count, total = rows_that_vary(cohort, coarse, fine)
        if count:
            raise DataError(
                f"{count} of {total} levels of {fine!r} lie in several levels of {coarse!r} ({positions(rows)}): units "
                f"nest, each {fine!r} in one {coarse!r}. Correct the table; "
                "list group from the finest unit to the coarsest."
            )
