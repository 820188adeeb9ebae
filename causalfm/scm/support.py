"""Whether the design holds what an intervention asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.errors import DataError, NotComparableError
from causalfm.positivity import MIN_GROUPS
from causalfm.scm.fitted import Fitted, undetermined_message
from causalfm.scm.parents import Parents, Values

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph

ROWS = 4096  # whose regressors are laid out at once


def refuse_unsupported(
    fitted: Fitted, graph: CausalGraph, do: Mapping[str, Any], source: Values, target: Values, *, assume: str | None
) -> None:
    """Refuse rows whose change of parents the design does not determine, or only by adding effects up.

    Parameters
    ----------
    fitted, graph
        Model and graph.
    do
        The intervention, for messages.
    source, target
        Parents of ``Z`` before and after.
    assume
        ``"additive"`` allows combinations of biology and a changed factor that were not seen.

    Raises
    ------
    DataError
        Naming the combinations and the rows.
    """
    parents = fitted.mean.parents
    both = np.concatenate([source.levels, target.levels], axis=1)
    distinct, where, count = np.unique(both, axis=0, return_inverse=True, return_counts=True)
    undetermined = _undetermined(fitted, source, target, distinct, where.reshape(-1))
    if undetermined.any():
        raise NotComparableError(undetermined_message(fitted, graph, do, int(undetermined.sum())))
    for name in (name for name in do if name in parents.continuous):
        for value in set(target.numbers[:, parents.continuous.index(name)].tolist()):
            refuse_beyond(parents, name, value)
    if assume is None and graph.biology in parents.categorical:
        _refuse_unseen(fitted, graph, distinct, count)


def _undetermined(
    fitted: Fitted, source: Values, target: Values, distinct: np.ndarray, where: np.ndarray
) -> np.ndarray:
    """Tell which rows change in a way that the design leaves open, as a mask ``(n,)``.

    ``distinct`` holds the changes of levels, ``where`` that of each row; numbers change row by row.
    """
    parents = fitted.mean.parents
    k, splines = len(parents.categorical), slice(1, 1 + parents.n_splines)
    none = np.zeros((len(distinct), 0))
    before, after = (parents.rows(Values(part, none), splines=False) for part in (distinct[:, :k], distinct[:, k:]))
    levels = after - before
    if np.array_equal(source.numbers, target.numbers):
        return np.asarray(fitted.mean.undetermined(levels)[where])
    out = np.zeros(len(where), dtype=bool)
    for start in range(0, len(where), ROWS):
        rows = slice(start, start + ROWS)
        contrasts = levels[where[rows]]
        contrasts[:, splines] = parents.splines(target.numbers[rows]) - parents.splines(source.numbers[rows])
        out[rows] = fitted.mean.undetermined(contrasts)
    return out


def refuse_beyond(parents: Parents, name: str, value: float) -> None:
    """Refuse to set a number that causes ``Z`` beyond what was seen.

    Raises
    ------
    DataError
        Naming the range.
    """
    if name not in parents.continuous:
        return
    low, _, high = parents.knots[parents.continuous.index(name)]
    if not low <= value <= high:
        raise DataError(f"do({name}={value:g}) lies beyond what was seen, {low:g} to {high:g}: choose a value within.")


def _refuse_unseen(fitted: Fitted, graph: CausalGraph, distinct: np.ndarray, count: np.ndarray) -> None:
    parents = fitted.mean.parents
    k, biology = len(parents.categorical), parents.categorical.index(graph.biology)
    classes, classes_before = distinct[:, k + biology], distinct[:, biology]
    for j, name in enumerate(parents.categorical):
        if j == biology or name not in graph.technical:
            continue
        patients = fitted.crossed_patients(name, graph.biology)
        moved = (distinct[:, j] != distinct[:, k + j]) | (classes != classes_before)
        few = moved & (patients[distinct[:, k + j], classes] < MIN_GROUPS - 1e-6)
        if few.any():
            pairs = sorted(
                {(parents.levels[j][a], parents.levels[biology][b]) for a, b in distinct[few][:, [k + j, k + biology]]}
            )
            shown = "; ".join(f"{name}={a} with {graph.biology}={b}" for a, b in pairs[:4])
            raise DataError(
                f"{int(count[few].sum())} rows would move to combinations with fewer than {MIN_GROUPS} {graph.group}s "
                f"in the fit ({shown}{' and others' if len(pairs) > 4 else ''}). Leave these rows out, or make "
                "the model with assume='additive' if effects add up there as elsewhere."
            )


def refuse_unseen_levels(fitted: Fitted, graph: CausalGraph, changed: Sequence[str], joint: np.ndarray) -> None:
    """Refuse to move patients to levels at which some of their classes were hardly seen.

    Parameters
    ----------
    fitted, graph
        Model and graph.
    changed
        Nodes that are set or that follow.
    joint
        ``(J, k)`` combinations under the intervention, in the order of ``fitted.columns``.

    Raises
    ------
    DataError
        Naming the level and the classes.
    """
    parents, biology = fitted.mean.parents.categorical, graph.biology
    if biology not in parents:
        return
    classes = joint[:, fitted.columns.index(biology)]
    for name in graph.technical:
        if name not in parents or not {name, biology} & set(changed):
            continue
        levels = joint[:, fitted.columns.index(name)]
        few = fitted.crossed_patients(name, biology)[levels, classes] < MIN_GROUPS - 1e-6
        if few.any():
            level = levels[few][0]
            names = [(fitted.known(biology) or ())[c] for c in np.unique(classes[few & (levels == level)])]
            raise DataError(
                f"{name}={(fitted.known(name) or ())[level]} holds fewer than {MIN_GROUPS} {graph.group}s of {biology} "
                f"{', '.join(names[:4])}: the mean over all {graph.group}s would rest on adding effects up. Fit on the "
                f"classes seen there, set {biology!r} as well, or make the model with assume='additive'."
            )
