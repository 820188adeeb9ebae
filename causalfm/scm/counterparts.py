"""Rows that belong together: as seen, as predicted, and as the same tissue truly looked at the other level."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from causalfm.arguments import check_type
from causalfm.cohort import Cohort
from causalfm.errors import DataError, positions
from causalfm.graph_checks import check_inputs, rows_that_vary
from causalfm.strata import confounder_of

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph


@dataclass(frozen=True, eq=False)
class Counterparts:
    """Codes of aligned rows.

    Attributes
    ----------
    factor, targets, target
        The factor that was set, its levels in the true rows, and ``(n,)`` codes.
    classes, biology
        Levels of the biology, and ``(n,)`` codes.
    specimen, group
        ``(n,)`` codes.
    strata
        ``(G,)`` design cell of each independent unit: the classes and levels as seen at which it has rows.
    moved
        ``(n,)`` whether the factor changes; the other rows are no question, their tissue is a candidate all the same.
    unit
        Name of the independent unit.
    others
        Rows in which a model's table differs from the true one in another technical factor, by method and factor.
    """

    factor: str
    targets: tuple[str, ...]
    target: np.ndarray
    classes: tuple[str, ...]
    biology: np.ndarray
    specimen: np.ndarray
    group: np.ndarray
    strata: np.ndarray
    moved: np.ndarray
    unit: str
    others: Mapping[str, Mapping[str, int]]


def counterparts_of(
    predicted: Mapping[str, Cohort], truth: Cohort, source: Cohort, graph: CausalGraph, factor: str | None
) -> Counterparts:
    """Check that rows belong together, by specimen and not by position alone.

    Parameters
    ----------
    predicted
        Counterfactual rows by method.
    truth, source
        The same tissue at the other level, and as it was seen.
    graph
        Roles; ``specimen`` is needed.
    factor
        The factor that was set; None takes the first technical one.

    Raises
    ------
    DataError
        No specimen, rows that do not belong together (saying what differs), several true rows of one specimen at one
        level, or no row whose factor changes.
    """
    for name, cohort in (("truth", truth), ("source", source)):
        _check(cohort, graph, name)
    if graph.specimen is None:
        raise DataError(
            "the graph declares no specimen: name the column that marks the same tissue, "
            "CausalGraph(..., specimen=...), so that rows are matched by it."
        )
    factor = confounder_of(graph, factor)
    same = (graph.specimen, graph.group, graph.biology)
    _refuse_apart(source, truth, same, "source")
    for name, cohort in predicted.items():
        _check(cohort, graph, f"predicted {name!r}")
        _refuse_apart(cohort, truth, (*same, factor), f"predicted {name!r}")
    seen, target = _text(source, factor), truth.factor(factor)
    specimen, group = truth.factor(graph.specimen, private=True), truth.factor(graph.group, private=True)
    rows, count, total = rows_that_vary(truth, graph.group, graph.specimen)
    if count:
        raise DataError(
            f"{count} of {total} levels of {graph.specimen!r} lie in several levels of {graph.group!r} "
            f"({positions(rows)}): a specimen is a piece of one {graph.group}. Correct the table."
        )
    _refuse_two_truths(truth, specimen.codes * target.n_levels + target.codes, graph.specimen, factor)
    moved = seen != _text(truth, factor)
    if not moved.any():
        raise DataError(f"{factor!r} is the same in source and truth in all {len(truth)} rows: nothing was predicted.")
    biology = truth.factor(graph.biology)
    cell = np.unique(np.stack([biology.codes.astype(str), seen], axis=1), axis=0, return_inverse=True)[1].reshape(-1)
    present = np.zeros((group.n_levels, int(cell.max()) + 1), dtype=bool)
    present[group.codes[moved], cell[moved]] = True
    strata = np.unique(present, axis=0, return_inverse=True)[1].reshape(-1)
    strata = np.where(present.any(axis=1), strata, -1)
    technical = [t for t in graph.technical if t != factor]
    others = {
        name: {t: int((_text(cohort, t) != _text(truth, t)).sum()) for t in technical}
        for name, cohort in predicted.items()
    }
    return Counterparts(
        factor, target.levels, target.codes, biology.levels, biology.codes, specimen.codes, group.codes, strata, moved,
        graph.group, others,
    )  # fmt: skip


def _check(cohort: Cohort, graph: CausalGraph, name: str) -> None:
    check_type(cohort, Cohort, name, "pass embeddings and their table together")
    check_inputs(cohort, graph)
    missing = [c for c in graph.columns if c not in cohort.obs]
    if missing:
        raise DataError(
            f"{name} has no column {', '.join(map(repr, missing))}: every cohort carries those of the graph."
        )


def _text(cohort: Cohort, column: str) -> np.ndarray:
    """Return the levels as text, so that a category equals the same word."""
    factor = cohort.factor(column, private=True)
    return np.asarray(np.array(factor.levels, dtype=str)[factor.codes])


def _refuse_apart(cohort: Cohort, truth: Cohort, columns: tuple[str, ...], name: str) -> None:
    if (len(cohort), cohort.d) != (len(truth), truth.d):
        raise DataError(
            f"{name} holds {len(cohort)} rows x {cohort.d} dimensions and truth {len(truth)} x {truth.d}: "
            "row i of each must show the same tissue, in the same encoder."
        )
    for column in columns:
        own, wanted = _text(cohort, column), _text(truth, column)
        where = np.flatnonzero(own != wanted)
        if not len(where):
            continue
        hint = "Correct the tables"
        if column == columns[0]:  # the specimen
            reordered = np.array_equal(np.sort(own), np.sort(wanted))
            absent = int((~np.isin(own, wanted)).sum())
            hint = (
                f"The same specimens stand in another order: sort all cohorts by {column!r}"
                if reordered
                else f"{absent} of its rows show specimens that truth does not hold: select the same ones in both"
            )
        raise DataError(
            f"{name} and truth differ in {column!r} in {len(where)} of {len(own)} rows ({positions(where.tolist())}). "
            f"{hint}."
        )


def _refuse_two_truths(truth: Cohort, key: np.ndarray, specimen: str, factor: str) -> None:
    """Refuse one specimen that looks two ways at one level; the same row may come again, for another source."""
    first, code = np.unique(key, return_index=True, return_inverse=True)[1:]
    again = np.flatnonzero(first[code] != np.arange(len(key)))
    wrong = [int(i) for i in again if not np.array_equal(truth.X[i], truth.X[first[code[i]]])]
    if wrong:
        raise DataError(
            f"truth shows a level of {specimen!r} twice at the same {factor!r}, with other embeddings, in {len(wrong)} "
            f"rows ({positions(wrong)}): which one is meant is open. Keep one of them, or average them."
        )
