"""What a split gap holds: one row per part and outcome, with names, kinds and arrows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.arrows import EMBEDDING
from causalfm.results import Result
from causalfm.scm.gap_split import REST, Partition
from causalfm.scm.refits import refitted_ratio

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph

ROUNDING = 1e-9  # of the largest coefficient: what least squares leave over


@dataclass(frozen=True)
class PathPart:
    """What one path, or a group of paths that cannot be told apart, adds to a gap.

    Attributes
    ----------
    part, kind, path
        Name; ``"technical"``, ``"case mix"``, ``"biology"``, ``"association"``, ``"not in the model"`` or
        ``"cannot tell"``; arrows.
    outcome
        ``"Z"`` or a class of the model.
    value, low, high
        On ``Z`` the debiased inner product with the gap, in squared units; else the part of the gap in mean scores.
    share, share_low, share_high
        Of the whole; ``nan`` where the gap is not told from 0.
    is_sum
        Whether it sums other rows.
    reason
        Why paths were joined or a number is missing.
    """

    part: str
    kind: str
    path: str
    outcome: str
    value: float
    low: float
    high: float
    share: float
    share_low: float
    share_high: float
    is_sum: bool
    reason: str


@dataclass(frozen=True)
class GapPaths(Result):
    """A gap and its parts.

    Attributes
    ----------
    of, levels
        The factor; the gap is the first level less the second.
    parts
        One row per part and outcome, and sums.
    names
        Of the parts, in the order of ``vectors``.
    gap, vectors, standard_error
        ``(d,)`` observed gap of mean embeddings, ``(K, d)`` its parts, which add up to it, and their errors.
    n, n_groups, unit
        Rows and independent units of the cohort.
    details
        Target, weights, intervals, coupling.
    """

    of: str
    levels: tuple[str, str]
    parts: tuple[PathPart, ...]
    names: tuple[str, ...]
    gap: np.ndarray
    vectors: np.ndarray
    standard_error: np.ndarray
    n: int
    n_groups: int
    unit: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per part and outcome."""
        return [dict(vars(part)) for part in self.parts]


def assemble(
    graph: CausalGraph,
    found: Partition,
    outcomes: Sequence[str],
    values: tuple[np.ndarray, np.ndarray],
    errors: tuple[np.ndarray, float],
    rest: tuple[int, int, float, dict[str, Any]],
) -> GapPaths:
    """Put names and intervals to the parts.

    Parameters
    ----------
    graph, found
        The graph and the parts.
    outcomes
        Names of the scores.
    values
        ``(K + 1, d)`` vectors, the last unexplained, and ``(K, c)`` scores.
    errors
        ``(m, ...)`` their deviations without each fold, flat, and the quantile of t.
    rest
        Rows, independent units, the largest coefficient, details.
    """
    (vectors, scores), (off, t), (n, n_groups, size, details) = values, errors, rest
    labels = [_label(graph, found, i) for i in range(len(found.parts))]
    away = off[:, : vectors.size].reshape(len(off), *vectors.shape)
    moved = off[:, vectors.size :].reshape(len(off), *scores.shape)
    scored, at = list(labels), next(i for i, part in enumerate(found.parts) if REST in part)
    if np.abs(vectors[-1]).max() <= ROUNDING * size:
        vectors[at] += vectors[-1]
        vectors, away = vectors[:-1], away[:, :-1]
    else:
        shrunken = details["mechanism"] == "random-effects"
        why = f"the {'mechanism, which shrinks effects,' if shrunken else 'graph'} leaves this gap unexplained"
        labels.append(("not in the model", "not in the model", "", why))
        part, _, path, reason = scored[at]  # rows that are moved carry along what the mean leaves
        scored[at] = (f"{part} and not in the model", "cannot tell", path, "; ".join(r for r in (reason, why) if r))
    gap, spread = vectors.sum(axis=0), away.sum(axis=1)
    along = vectors @ gap - np.einsum("mkd,md->k", away, spread)
    tops = away @ gap + np.einsum("kd,md->mk", vectors, spread)
    parts = _rows(labels, "Z", along, tops, t)
    names = tuple(label[0] for label in labels)
    for c, outcome in enumerate(outcomes):
        parts += _rows(scored, outcome, scores[:, c], moved[:, :, c], t)
    error = np.sqrt((away**2).sum(axis=0))
    return GapPaths(found.of, found.levels, tuple(parts), names, gap, vectors, error, n, n_groups, graph.group, details)


def _rows(
    labels: list[tuple[str, str, str, str]], outcome: str, values: np.ndarray, off: np.ndarray, t: float
) -> list[PathPart]:
    """Rows of one outcome: its parts, their sum over technical paths, the whole."""
    K = len(labels)
    picks = [(label, np.eye(K)[i], False) for i, label in enumerate(labels)]
    technical = np.array([float(label[1] == "technical") for label in labels])
    if technical.sum() > 1:
        picks.append((("all technical paths", "technical", "", ""), technical, True))
    picks.append((("the gap", "observed", "", ""), np.ones(K), True))
    total, totals = float(values.sum()), off.sum(axis=1)
    out = []
    for (part, kind, path, why), pick, is_sum in picks:
        value, away = float(pick @ values), off @ pick
        half = t * float(np.sqrt(away @ away))
        share = refitted_ratio(value, total, away, totals, t) if np.isfinite(half) else (np.nan,) * 3
        unclear = "" if np.isfinite(share[0]) else "no share: the gap is not told from 0"
        unclear = unclear if np.isfinite(half) else "no interval: the model could not be fitted without some patients"
        reason = "; ".join(r for r in (why, unclear) if r)
        out.append(PathPart(part, kind, path, outcome, value, value - half, value + half, *share, is_sum, reason))
    return out


def _label(graph: CausalGraph, found: Partition, i: int) -> tuple[str, str, str, str]:
    """Name, kind, path and reason of a part."""
    names, kinds, paths = [], [], []
    for arrow in found.parts[i]:
        if arrow == REST:
            names.append("case mix" if found.of in graph.technical else f"not caused by {found.of}")
            kinds.append("case mix" if found.of in graph.technical else "association")
            paths.append(_associated(graph, found.of))
        elif arrow == found.of:
            names.append(f"{arrow} itself")
            kinds.append("technical" if arrow in graph.technical else "biology")
            paths.append(f"{arrow} -> {EMBEDDING}")
        else:
            names.append(f"through {arrow}")
            other = "case mix" if found.of in graph.technical else "biology"
            kinds.append("technical" if arrow in graph.technical else other)
            direct = EMBEDDING in graph.children(arrow)
            paths.append(f"{found.of} -> {arrow} -> {'' if direct else '... -> '}{EMBEDDING}")
    kind = kinds[0] if len(set(kinds)) == 1 else "cannot tell"
    return " and ".join(names), kind, "; ".join(paths), found.why[i]


def _associated(graph: CausalGraph, of: str) -> str:
    """Arrows that tie the factor to patients of another kind."""
    shown = []
    for node in (graph.biology, *graph.covariates, *graph.technical):
        if node == of or node in graph.descendants(of):
            continue
        if (node, of) in graph.edges:
            shown.append(f"{of} <- {node}")
        elif {(node, of), (of, node)} & set(graph.bidirected):
            shown.append(f"{of} <-> {node}")
    return ", ".join(shown) or "chance: the graph ties nothing else to it"
