"""Which biology is hit where: the effect of a factor in every cell of other columns, shrunk and tested together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from causalfm.arguments import check_whole, columns_of
from causalfm.arrows import names
from causalfm.cohort import Cohort, Factor
from causalfm.confidence import alpha_in_force, percent
from causalfm.errors import CausalFMError, DataError, GraphError
from causalfm.estimators.maps.cell_effects import CellEffect, cell_effect, comparable_counts, stack
from causalfm.estimators.maps.shrinkage import LEAST, shrink
from causalfm.graph import CausalGraph
from causalfm.graph_checks import check_inputs
from causalfm.invariance.several import holm
from causalfm.pairing import pair_rows
from causalfm.positivity import MIN_GROUPS, complete_table
from causalfm.results import Result
from causalfm.strata import groups_per_level, joint_factor
from causalfm.trimming import refuse_numbers

NOTHING = float("nan")
SHOWN = 8  # levels in words


@dataclass(frozen=True)
class EffectMap(Result):
    """The effect of a factor in every cell of other columns.

    Attributes
    ----------
    treatment, by
        The factor, and the columns that make the cells.
    levels
        Compared levels, the same in every cell; the sentence names those left out.
    cells
        One row per combination of the columns, see :meth:`rows`.
    mean, between
        Mean squared distance over the cells, and standard deviation of the true ones between them (``nan`` below four
        cells).
    sentence
        In words.
    details
        Conditioning set, unit, how multiplicity is controlled.
    """

    treatment: str
    by: tuple[str, ...]
    levels: tuple[str, ...]
    cells: tuple[Mapping[str, Any], ...]
    mean: float
    between: float
    sentence: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per cell.

        Returns
        -------
        list of dict
            The cell's levels; ``told``; ``value``, ``low``, ``high``: signed mean squared distance between the factor's
            levels in this cell, with its own interval; ``shrunk``, ``shrunk_low``, ``shrunk_high``; ``own_weight``: the
            share of the cell's own estimate in it; ``distance``: root of the shrunk value; ``differs``: whether the
            effect, as a vector, is told from the mean of the other cells', with ``p_value`` adjusted for all cells;
            ``n_groups``; ``reason`` where nothing is told.
        """
        return [dict(cell) for cell in self.cells]


def effect_map(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    treatment: str,
    by: str | Sequence[str],
    minimum: int = MIN_GROUPS,
) -> EffectMap:
    """Estimate the effect of a factor on the embedding in every cell of other columns, such as class by site.

    Parameters
    ----------
    cohort, graph
        Data and declared graph.
    treatment
        Categorical factor, for instance the scanner.
    by
        Categorical columns whose combinations are the cells; no effects of the factor.
    minimum
        Fewest patients of a cell at each level of the factor.

    Returns
    -------
    EffectMap
        Cells with too few patients, or not all levels, are "cannot tell" and named.

    Raises
    ------
    GraphError
        Columns that are effects of the factor, or with which no valid conditioning set exists.
    DataError
        A continuous column, the group column, or a factor that varies within a few patients only.

    Notes
    -----
    Within a cell the effect is that of :func:`causalfm.effect`: standardised over the other columns of the graph's set;
    within patients where most were seen at several levels. Values are shrunk towards their mean by how much cells
    differ beyond noise (:func:`causalfm.estimators.maps.shrinkage.shrink`): read them for ranking. Whether a cell
    differs is a question on vectors: the squared norm of its effect minus the mean effect of the other cells, whose
    null distribution is that of :class:`causalfm.norms.SquaredNorm`, with Holm's correction over the cells, so that in
    a homogeneous cohort any cell at all is called different with probability 5 % at most. Two cells can be moved
    equally far in different directions: they then differ although their values do not.

    References
    ----------
    Morris, J. Am. Statist. Assoc. 78 (1983) 47-55; Holm, Scand. J. Statist. 6 (1979) 65-70.
    """
    check_whole(minimum, "minimum", MIN_GROUPS, why="independent units that the variance of a cell needs")
    check_inputs(cohort, graph)
    graph.check(cohort)
    columns = columns_of(by, "by")
    given = _given(cohort, graph, treatment, columns)
    cell, factor = joint_factor(cohort, columns), cohort.factor(treatment)
    paired = pair_rows(cohort, graph, names(treatment), given) is not None
    counts = _counts(cohort, graph, cell, factor, paired)
    rest = [name for name in given if name not in columns]
    usable = counts if paired else comparable_counts(cohort, graph, cell, factor, rest)
    kept = complete_table(usable, minimum)
    told: dict[int, CellEffect] = {}
    compared = None if kept is None else kept.levels
    apart = f"the compared levels do not all meet within {' and '.join(rest) or f'{graph.group}s'}"
    reasons = {c: _short(counts[c], factor, compared, minimum, graph.group) for c in range(cell.n_levels)}
    enough = counts >= minimum
    met = enough.sum(axis=1) > 1 if compared is None else enough[:, list(compared)].all(axis=1)
    reasons |= dict.fromkeys(np.flatnonzero(met).tolist(), apart)  # enough patients, but not under equal conditions
    if kept is not None:
        at_level = np.isin(factor.codes, kept.levels)
        for c in kept.strata:
            rows = np.flatnonzero(at_level & (cell.codes == c))
            try:
                found = cell_effect(cohort, rows, graph, (treatment,), rest, paired=paired)
            except CausalFMError as error:
                reasons[c] = str(error)
                continue
            if found is None:
                reasons[c] = apart
            else:
                told[c] = found
    levels = () if kept is None else tuple(factor.levels[i] for i in kept.levels)
    return _told(
        cohort,
        columns,
        cell,
        treatment,
        levels,
        told,
        reasons,
        {"given": list(given), "paired": paired, "unit": graph.group},
    )


def _given(cohort: Cohort, graph: CausalGraph, treatment: str, by: Sequence[str]) -> tuple[str, ...]:
    """Conditioning set with the columns of the cells in it, checked."""
    refuse_numbers(cohort, graph, (treatment, *by))
    if not by or treatment in by or set(by) & {*graph.groups}:
        raise DataError(f"by={list(by)}: name columns other than the factor and the units.")
    for given in graph.adjustment_set((treatment,)).valid:
        wider = (*by, *(name for name in given if name not in by))
        if graph.is_valid_adjustment(treatment, wider):
            return wider
    raise GraphError(
        f"within {' and '.join(by)} no conditioning set gives the effect of {treatment}: choose columns that are no "
        f"effects of it.\nGraph: {graph}"
    )


def _counts(cohort: Cohort, graph: CausalGraph, cell: Factor, factor: Factor, paired: bool) -> np.ndarray:
    """Patients per cell and level; where they are their own controls, those seen at another level of the cell too."""
    unit = cohort.factor(graph.group, private=True).codes
    codes, shape = cell.codes * factor.n_levels + factor.codes, (cell.n_levels, factor.n_levels)
    if paired:
        place = cell.codes * (int(unit.max()) + 1) + unit
        pairs = np.unique(np.stack([place, factor.codes]), axis=1)
        several = np.bincount(pairs[0], minlength=int(place.max()) + 1)[place] > 1
        if not several.any():
            return np.zeros(shape, dtype=np.int64)
        codes, unit = codes[several], unit[several]
    return groups_per_level(codes, unit, shape[0] * shape[1]).reshape(shape)


def _short(counts: np.ndarray, factor: Factor, compared: Sequence[int] | None, minimum: int, unit: str) -> str:
    """Count a cell at the compared levels; where nothing is compared, at those that it was seen at."""
    at = list(np.flatnonzero(counts)) if compared is None else list(compared)
    held = ", ".join(f"{factor.levels[i]} {counts[i]}" for i in at[:SHOWN]) or "none"
    more = f" and {len(at) - SHOWN} other levels" if len(at) > SHOWN else ""
    return f"{unit}s {held}{more}; not {minimum} at every compared level"


def _told(
    cohort: Cohort,
    by: tuple[str, ...],
    cell: Factor,
    treatment: str,
    levels: tuple[str, ...],
    told: dict[int, CellEffect],
    reasons: dict[int, str],
    details: dict[str, Any],
) -> EffectMap:
    """Lay out all cells, the told ones with numbers."""
    codes, effects = list(told), list(told.values())
    norms = [effect.norm() for effect in effects]
    shrunk = shrink(norms) if norms else None
    p_values = holm(_differences(effects)).tolist() if len(effects) > 1 else [NOTHING] * len(effects)
    first = np.unique(cell.codes, return_index=True)[1]
    columns = {name: cohort.factor(name) for name in by}
    rows: list[dict[str, Any]] = []
    for c in range(cell.n_levels):
        row: dict[str, Any] = {name: column.levels[column.codes[first[c]]] for name, column in columns.items()}
        if c not in told or shrunk is None:
            blank = {"told": False, **dict.fromkeys(_NUMBERS, NOTHING), "differs": None, "n_groups": 0}
            rows.append({**row, **blank, "reason": reasons[c]})
            continue
        i = codes.index(c)
        value, low, high = shrunk.values[i], shrunk.lows[i], shrunk.highs[i]
        numbers = [norms[i].value, *norms[i].interval(), value, low, high, shrunk.weights[i]]
        numbers += [np.sqrt(max(value, 0.0)), p_values[i]]
        row |= {"told": True, **dict(zip(_NUMBERS, map(float, numbers), strict=True))}
        differs = None if np.isnan(p_values[i]) else bool(p_values[i] <= alpha_in_force())
        rows.append({**row, "differs": differs, "n_groups": len(np.unique(effects[i].groups)), "reason": ""})
    details["multiplicity"] = f"Holm over {len(told)} cells, {percent(1.0 - alpha_in_force())} for all together"
    details["shrunk"] = len(told) >= LEAST
    mean, between = (NOTHING, NOTHING) if shrunk is None else (shrunk.mean, float(np.sqrt(shrunk.between)))
    out = [name for name in cohort.factor(treatment).levels if name not in levels]
    return EffectMap(
        treatment, by, levels, tuple(rows), mean, between, _sentence(treatment, by, levels, out, rows), details
    )


_NUMBERS = ("value", "low", "high", "shrunk", "shrunk_low", "shrunk_high", "own_weight", "distance", "p_value")


def _differences(effects: Sequence[CellEffect]) -> list[float]:
    """p-values of each cell's effect minus the mean effect of the others."""
    stacked, C = stack(effects), len(effects)
    rest = np.full((C, C), -1.0 / (C - 1.0))
    np.fill_diagonal(rest, 1.0)
    return [stacked.norm(weights).p_value() for weights in rest]


def _listed(levels: Sequence[str]) -> str:
    return ", ".join(levels[:SHOWN]) + (f" and {len(levels) - SHOWN} others" if len(levels) > SHOWN else "")


def _sentence(
    treatment: str, by: Sequence[str], levels: Sequence[str], out: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> str:
    def name(row: Mapping[str, Any]) -> str:
        return ", ".join(f"{column}={row[column]}" for column in by)

    seen = [row for row in rows if row["told"]]
    if not seen:
        return f"Cannot tell: no cell of {' and '.join(by)} holds enough comparable units at two levels of {treatment}."
    words = f"The effect of {treatment} is told in {len(seen)} of {len(rows)} cells of {' and '.join(by)}."
    if out:
        words += f" It is that between {_listed(levels)}; left out, for too few in these cells: {_listed(out)}."
    most = max(seen, key=lambda row: float(row["shrunk"]))
    words += f" Largest after shrinkage: {name(most)} (distance {most['distance']:.3g})."
    if len(seen) < 2:
        return words
    other = [name(row) for row in seen if row["differs"]]
    return words + (
        f" Different from the mean of the other cells: {'; '.join(other[:6])}{' and others' if len(other) > 6 else ''}."
        if other
        else " No cell is told from the mean of the others."
    )
