"""An observed gap between two levels of a factor, split into case mix and what each technical path carries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.arguments import check_seed, check_type, did_you_mean
from causalfm.arrows import EMBEDDING
from causalfm.cohort import Cohort
from causalfm.errors import CausalFMError, DataError
from causalfm.graph_checks import check_inputs, graph_error
from causalfm.results import CAVEAT, Result
from causalfm.scm.embedding_scm import EmbeddingSCM
from causalfm.scm.fitted import fit_model
from causalfm.scm.gap_split import REST, Partition, partition, split_gap
from causalfm.scm.mechanisms import mechanism_named
from causalfm.scm.refits import FOLDS, deal, quantile, ratio_interval, without_each
from causalfm.scm.scores import Scorer, scorer_of

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph

ROUNDING = 1e-9  # of the gap: what least squares leave over


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


def gap_paths(
    scm: EmbeddingSCM,
    cohort: Cohort,
    levels: tuple[str, str],
    *,
    of: str | None = None,
    model: Any = None,
    n_folds: int = FOLDS,
    random_state: int = 0,
) -> GapPaths:
    """Split the observed gap between two levels into patients who differ and what each path carries.

    Parameters
    ----------
    scm
        Fitted on ``cohort``.
    cohort
        The cohort of the fit.
    levels
        The gap is the mean of the first less the mean of the second.
    of
        Categorical node; the graph's first technical factor by default.
    model
        Downstream model: ``(n, d) -> (n, classes)``, a score ``(n, d) -> (n,)``, or a fitted estimator with
        ``predict_proba`` or ``decision_function``. The gap in its mean scores is split likewise.
    n_folds
        The model of the embedding is fitted again without each fold of patients; the downstream model stays.
    random_state
        Seed of the folds.

    Returns
    -------
    GapPaths
        The part of a path: the gap that vanishes if its first arrow carried the same level on both sides, averaged over
        the orders of switching arrows and over the patients of both levels. What is left if all carried the same is
        case mix. Paths that the design cannot tell apart are one part, with the reason.

    Raises
    ------
    DataError
        A model that is not fitted on this cohort, levels it does not have, fewer than three patients at one; a
        downstream model without scores.
    GraphError
        A factor that is no categorical cause of ``Z``.

    Notes
    -----
    Assumptions: those of the model of the embedding. Scores of a curved ``model`` need its residuals to be carried over
    rightly in distribution, not row by row: no coupling. Intervals: delete-a-fold jackknife of patients, t with the
    smaller of folds and patients of the smaller level, less one; they hold for these levels and new patients.

    References
    ----------
    Shapley, in Contributions to the Theory of Games II (1953) 307-317; Fieller, J. R. Statist. Soc. B 16 (1954) 175.
    """
    check_type(scm, EmbeddingSCM, "scm", "make one with EmbeddingSCM(graph).fit(cohort)")
    check_inputs(cohort, scm.graph)
    check_seed(random_state)
    fitted, graph = scm.fitted, scm.graph
    factor, pair = _asked(scm, of, levels)
    if cohort.d != fitted.mean.coefficients.shape[1] or cohort.fingerprint(graph.columns) != fitted.fingerprint:
        raise DataError("the observed gap is split on the cohort of the fit, and this is another: fit on it first.")
    names = fitted.known(factor) or ()
    counts = [fitted.patients[fitted.joint[:, fitted.columns.index(factor)] == names.index(p)].sum() for p in pair]
    if min(counts) < 3 - 1e-6:
        raise DataError(f"{factor} {pair[int(np.argmin(counts))]} holds fewer than 3 {graph.group}s: merge it.")
    found = partition(fitted, graph, factor, pair, scm.assume)
    by = None if model is None else scorer_of(model, cohort.X, decisions=False)
    vectors, scores = split_gap(fitted, graph, cohort, found, by)
    units = cohort.factor(graph.group, private=True)
    strata = [cohort.factor(factor).codes, cohort.factor(graph.biology).codes]
    folds = deal(units, strata, n_folds, random_state)

    def again(part: Cohort) -> np.ndarray:
        refitted = fit_model(part, graph, mechanism_named(scm.mechanism))
        return np.concatenate(split_gap(refitted, graph, part, found, by), axis=None)

    try:
        off, reason = without_each(cohort, folds, again), ""
    except CausalFMError as error:
        off, reason = np.full((2, vectors.size + scores.size), np.nan), f"no interval: {error}"
    t = quantile(int(folds.max()) + 1, min(counts))
    details = {
        "target": f"patients of {pair[0]} and of {pair[1]}",
        "weights": f"rows equal within a {graph.group}, {graph.group}s equal",
        "interval_for": "these levels, new patients",
        "intervals": reason or f"jackknife over {int(folds.max()) + 1} folds of {graph.group}s",
        "mechanism": scm.mechanism,
        "caveat": CAVEAT,
    }
    return _result(scm, found, by, (vectors, scores), off, t, (len(cohort), details))


def _asked(scm: EmbeddingSCM, of: str | None, levels: Any) -> tuple[str, tuple[str, str]]:
    """Return the factor and the levels, if the model knows them."""
    graph = scm.graph
    factor = graph.technical[0] if of is None else of
    names = scm.fitted.known(factor) if isinstance(factor, str) else None
    if names is None or EMBEDDING not in graph.descendants(factor):
        raise graph_error(
            graph,
            f"of={of!r} is no categorical cause of Z: choose among {', '.join(scm.fitted.columns)}."
            f"{did_you_mean(of, scm.fitted.columns)}",
        )
    given = tuple(str(v) for v in levels) if isinstance(levels, (tuple, list)) else ()
    if len(given) != 2 or given[0] == given[1] or not set(given) <= set(names):
        raise DataError(f"levels={levels!r}: give two different levels of {factor!r}, such as {names[:2]}.")
    return factor, (given[0], given[1])


def _result(
    scm: EmbeddingSCM,
    found: Partition,
    by: Scorer | None,
    values: tuple[np.ndarray, np.ndarray],
    off: np.ndarray,
    t: float,
    rest: tuple[int, dict[str, Any]],
) -> GapPaths:
    vectors, scores = values
    labels = [_label(scm.graph, found, i) for i in range(len(found.parts))]
    away = off[:, : vectors.size].reshape(len(off), *vectors.shape)
    moved = off[:, vectors.size :].reshape(len(off), *scores.shape)
    if np.abs(vectors[-1]).max() <= ROUNDING * max(1.0, float(np.abs(vectors).max())):
        at = next(i for i, part in enumerate(found.parts) if REST in part)
        vectors[at] += vectors[-1]
        vectors, away = vectors[:-1], away[:, :-1]
    else:
        labels.append(("not in the model", "not in the model", "", "the graph leaves this gap unexplained"))
    gap, spread = vectors.sum(axis=0), away.sum(axis=1)
    along = vectors @ gap - np.einsum("mkd,md->k", away, spread)
    tops = away @ gap + np.einsum("kd,md->mk", vectors, spread)
    parts = _rows(labels, "Z", along, tops, t)
    names = tuple(label[0] for label in labels)
    labels = labels[: len(scores)]
    for c in range(scores.shape[1]):
        outcome = "score" if by is None or by.single else by.classes[c]
        parts += _rows(labels, outcome, scores[:, c], moved[:, :, c], t)
    error, (n, details) = np.sqrt((away**2).sum(axis=0)), rest
    unit = scm.graph.group
    return GapPaths(
        found.of, found.levels, tuple(parts), names, gap, vectors, error, n, scm.fitted.n_groups, unit, details
    )


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
        share = ratio_interval(value, total, away, totals, t) if np.isfinite(half) else (np.nan,) * 3
        unclear = "" if np.isfinite(share[0]) else "no share: the gap is not told from 0"
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
