"""Split the gap between two levels of a factor over the arrows out of it, on a fitted model."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from causalfm.arrows import EMBEDDING
from causalfm.cohort import Cohort
from causalfm.errors import DataError, NotIdentifiedError
from causalfm.positivity import MIN_GROUPS
from causalfm.scm.counterfactuals import predict_rows
from causalfm.scm.fitted import Fitted
from causalfm.scm.interventions import refuse_confounded
from causalfm.scm.parents import Values, known_codes
from causalfm.scm.scores import Scorer
from causalfm.scm.switching import arrows_out, share_out, switched

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph

REST = ""  # stands for the patients who differ, among the parts


@dataclass(frozen=True, eq=False)
class Partition:
    """Which parts can be told apart.

    Attributes
    ----------
    of, levels
        The factor and the two levels.
    parts
        Groups of arrows, and one group that holds :data:`REST`; single ones wherever they can be told apart.
    why
        Per part the reason why it is joint, else empty.
    """

    of: str
    levels: tuple[str, str]
    parts: tuple[tuple[str, ...], ...]
    why: tuple[str, ...]


def partition(fitted: Fitted, graph: CausalGraph, of: str, levels: tuple[str, str], assume: str | None) -> Partition:
    """Find the finest parts that the graph and the design determine.

    Parameters
    ----------
    fitted, graph
        Model and graph.
    of, levels
        Factor and two of its levels.
    assume
        ``"additive"`` allows classes that fewer than three patients of one level have.

    Returns
    -------
    Partition
        See there.
    """
    arrows, fixed = arrows_out(graph, of), {}
    for arrow in arrows:
        reason = _why_not(fitted, graph, of, levels, arrow, assume)
        if reason:
            fixed[arrow] = reason
    free = [a for a in arrows if a not in fixed]
    contrasts, rest = split_regressors(fitted, graph, of, levels, [(a,) for a in free])
    every, names = np.stack([*contrasts, rest]), [*free, REST]
    groups = joined(every, fitted.mean.undetermined)
    parts, why = [], []
    for group in groups:
        members = [names[i] for i in group]
        reasons = ["the design cannot tell them apart"] if len(group) > 1 else []
        if REST in members:
            members += list(fixed)
            reasons += list(dict.fromkeys(fixed.values()))
        parts.append(tuple(members))
        why.append("; ".join(reasons))
    return Partition(of, levels, tuple(parts), tuple(why))


def _why_not(
    fitted: Fitted, graph: CausalGraph, of: str, levels: tuple[str, str], arrow: str, assume: str | None
) -> str:
    """Why an arrow cannot be switched on this design, else nothing."""
    if arrow == of:
        classes = graph.biology in fitted.mean.parents.categorical and of in graph.technical
        if assume == "additive" or not classes or graph.biology == of:
            return ""
        patients = fitted.crossed_patients(of, graph.biology)
        names = fitted.known(of) or ()
        seen = patients[[names.index(level) for level in levels]]
        few = np.flatnonzero((seen.max(axis=0) > 0) & (seen.min(axis=0) < MIN_GROUPS - 1e-6))
        if not len(few):
            return ""
        shown = ", ".join((fitted.known(graph.biology) or ())[c] for c in few[:3])
        return f"{graph.biology} {shown} has fewer than {MIN_GROUPS} {graph.group}s at one of the levels"
    below = {arrow, *graph.descendants(arrow)} & set(graph.ancestors(EMBEDDING)) & set(graph.measured)
    numbers = sorted(below - set(fitted.tables))
    if numbers:
        return f"{', '.join(numbers)} is a number or follows one: what {of} sends through it cannot be told"
    try:
        for node in sorted(below):
            refuse_confounded(graph, node)
        for level, other in (levels, levels[::-1]):
            switched(fitted, graph, of, level, other, frozenset({arrow}))
    except NotIdentifiedError:
        return f"what {arrow} owes to {of} cannot be told from an unmeasured common cause"
    except DataError:
        return f"{arrow} was not seen with the other causes of it that {' or '.join(levels)} would bring"
    return ""


def joined(contrasts: np.ndarray, undetermined: Callable[[np.ndarray], np.ndarray]) -> list[tuple[int, ...]]:
    """Join contrasts ``(r, p)`` until every sum is determined, as few as possible in one group."""
    left = np.flatnonzero(undetermined(contrasts)).tolist()
    groups: list[tuple[int, ...]] = [(i,) for i in range(len(contrasts)) if i not in left]
    size = 2
    while left and size <= len(left):
        sets = itertools.combinations(left, size)
        found = next((c for c in sets if not undetermined(contrasts[list(c)].sum(axis=0)[None])[0]), None)
        if found is None:
            size += 1
            continue
        groups.append(found)
        left = [i for i in left if i not in found]
    if left:
        groups.append(tuple(left))
    return sorted(groups)


def split_regressors(
    fitted: Fitted, graph: CausalGraph, of: str, levels: tuple[str, str], groups: Sequence[tuple[str, ...]]
) -> tuple[list[np.ndarray], np.ndarray]:
    """Contrasts ``(p,)`` of the regressors of ``Z``: per group of arrows, and the rest."""
    parents = fitted.mean.parents
    at = [fitted.columns.index(c) for c in parents.categorical]

    def mean(level: str, other: str, arrows: frozenset[str]) -> np.ndarray:
        now = switched(fitted, graph, of, level, other, arrows)
        rows = parents.rows(Values(now.codes[:, at], np.zeros((len(now.cell), 0))), splines=False)
        rows[:, 1 : 1 + parents.n_splines] = fitted.spline_means[now.cell]
        return np.asarray(now.weight @ rows)

    return share_out(mean, groups, *levels)


def split_scores(
    fitted: Fitted, graph: CausalGraph, cohort: Cohort, found: Partition, groups: Sequence[tuple[str, ...]], by: Scorer
) -> tuple[list[np.ndarray], np.ndarray]:
    """Parts ``(c,)`` of the gap in mean scores: per group of arrows, and the rest.

    Rows are moved by the mechanism and scored again, once for each combination of levels that the arrows can bring.
    """
    parents = fitted.mean.parents
    at = [fitted.columns.index(c) for c in parents.categorical]
    source = parents.read(cohort)
    units = cohort.factor(graph.group, private=True)
    weight = 1.0 / units.counts()[units.codes]
    codes = np.stack([known_codes(cohort, n, fitted.known(n) or ()) for n in fitted.columns], axis=1)
    cell_of = {tuple(c): j for j, c in enumerate(fitted.joint.tolist())}
    cell = np.array([cell_of[tuple(c)] for c in codes.tolist()])
    known: dict[tuple[int, bytes], np.ndarray] = {}

    def score(j: int, target: np.ndarray) -> np.ndarray:
        key = (j, target.tobytes())
        if key not in known:
            rows = np.flatnonzero(cell == j)
            before = source[rows]
            after = Values(np.broadcast_to(target, before.levels.shape), before.numbers)
            scores = by.scores(predict_rows(np.asarray(cohort.X[rows]), fitted, before, after))
            known[key] = weight[rows] @ scores / weight[rows].sum()
        return known[key]

    def mean(level: str, other: str, arrows: frozenset[str]) -> np.ndarray:
        now = switched(fitted, graph, found.of, level, other, arrows)
        every = zip(now.cell.tolist(), now.codes[:, at], now.weight, strict=True)
        return np.asarray(sum(w * score(j, np.ascontiguousarray(target)) for j, target, w in every))

    return share_out(mean, groups, *found.levels)


def observed_gap(cohort: Cohort, graph: CausalGraph, of: str, levels: tuple[str, str]) -> np.ndarray:
    """Mean embedding ``(d,)`` of the first level less that of the second, weighted as in the fit."""
    units, factor = cohort.factor(graph.group, private=True), cohort.factor(of)
    weight = 1.0 / units.counts()[units.codes]
    sides = np.stack([(factor.codes == factor.levels.index(level)) * weight for level in levels])
    sides /= sides.sum(axis=1, keepdims=True)
    signed, total = sides[0] - sides[1], np.zeros(cohort.d)
    for rows, block in cohort.blocks():
        total += signed[rows] @ block.astype(np.float64)
    return total


def split_gap(
    fitted: Fitted, graph: CausalGraph, cohort: Cohort, found: Partition, by: Scorer | None
) -> tuple[np.ndarray, np.ndarray]:
    """Parts of the gap, in the order of the partition, one last row for what the model leaves unexplained.

    Returns
    -------
    vectors : numpy.ndarray
        ``(K + 1, d)``, adding up to the observed gap.
    scores : numpy.ndarray
        ``(K, c)``, adding up to the gap in mean scores; no columns without a model.
    """
    groups = [part for part in found.parts if REST not in part]
    place = [i for i, part in enumerate(found.parts) if REST not in part]
    rest = next(i for i, part in enumerate(found.parts) if REST in part)
    contrasts = np.zeros((len(found.parts), fitted.mean.parents.width))
    carried, contrasts[rest] = split_regressors(fitted, graph, found.of, found.levels, groups)
    for i, contrast in zip(place, carried, strict=True):
        contrasts[i] = contrast
    if fitted.mean.undetermined(contrasts).any():
        raise DataError(f"without some {graph.group}s the parts are not determined: merge rare levels.")
    vectors = contrasts @ fitted.mean.coefficients
    left = observed_gap(cohort, graph, found.of, found.levels) - vectors.sum(axis=0)
    scores = np.zeros((len(found.parts), 0))
    if by is not None:
        each, last = split_scores(fitted, graph, cohort, found, groups, by)
        scores = np.zeros((len(found.parts), len(last)))
        scores[rest] = last
        for i, part in zip(place, each, strict=True):
            scores[i] = part
    return np.concatenate([vectors, left[None]]), scores
