"""Feature collapse: embeddings that recognise the slide or the patient instead of the tissue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from causalfm.arguments import check_seed, check_whole
from causalfm.metrics.deletion import blocks
from causalfm.metrics.design import NO_SPREAD, Design, design_cells, design_of, interval_of, t_quantile, variance_of
from causalfm.metrics.nested_variance import nested_shares
from causalfm.metrics.recall import discordance_floor, pair_share, recall_effects
from causalfm.neighbours import Neighbours, knn
from causalfm.results import Estimate, Influence

if TYPE_CHECKING:
    from causalfm.cohort import Cohort
    from causalfm.graph import CausalGraph

KNN = 11
DRAWS = 40_000  # random lists in all (for two classes it is exact), and
LEAST_DRAWS = 100  # for each composition of the candidates
NAN = float("nan")


def feature_collapse(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    confounder: str | None = None,
    k: int = KNN,
    random_state: int = 0,
) -> tuple[Estimate, ...]:
    """Measure how far rows are alike because they come from one slide or one patient.

    Parameters
    ----------
    cohort, graph
        The data and the roles. Every unit of the graph's ``group`` is judged: slides and patients, if it names both.
    confounder
        Technical column that makes the cells with the biology; the graph's first technical factor by default.
    k
        Neighbours that vote.
    random_state
        Seed of the random lists behind the chance of the gaps (with three classes or more).

    Returns
    -------
    tuple of Estimate
        For every unit, finest first, ``"knn_gap_<unit>"`` and then, for every unit, ``"variance_share_<unit>"``.

        The gap is the balanced accuracy of the vote of the ``k`` nearest rows for the biology with the unit's own rows
        among them, less that without: what a test within slides promises and other slides do not keep. With several
        units each gap is beyond the finer one. Chance is what random neighbours give, who share the class more often
        within a unit. ``details``: both accuracies, and ``"own_share"``, the share of a row's neighbours that are its
        own unit's, with its chance.

        The share of variance is that of the unit within cells of biology and confounder, of the total within cells,
        beyond coarser units; chance is 0. It does not depend on the sizes, as the gap does: compare designs by it.
        Components are unbiased, so that a share can be negative. ``nan`` and ``details["reason"]`` where units have
        one row or one finer unit each.

    Raises
    ------
    DataError
        Missing columns or values, or ``k`` beyond the candidates.

    Notes
    -----
    A confounder that moves rows apart leaves fewer patients near a row and so raises the gap beyond its chance, with
    no collapse at all; the share of variance is free of that.

    Intervals are for new patients. That of a gap takes the patients' differences, with the factor for pairs of patients
    of :func:`causalfm.metrics.recall.pair_share`; that of a share leaves out one patient at a time, within cells.
    """
    check_whole(k, "k", 1)
    check_seed(random_state)
    design = design_of(cohort, graph, confounder, within=())
    units = {name: cohort.factor(name, private=True).codes for name in graph.groups}
    gaps = _gaps(cohort.X, design, units, k, np.random.default_rng(random_state))
    return (*gaps, *_shares(cohort.X, design, units))


def vote_hits(neighbours: Neighbours, labels: np.ndarray, k: int) -> np.ndarray:
    """Probability that the majority of the first ``k`` neighbours names the query's class, ties broken at random.

    Parameters
    ----------
    neighbours
        Lists of m queries.
    labels
        ``(n,)`` class codes from 0.
    k
        Neighbours that vote.

    Returns
    -------
    numpy.ndarray
        ``(m,)``; 1 or 0 where no votes are tied.
    """
    out = np.empty(len(neighbours.queries))
    classes = np.arange(int(labels.max()) + 1)
    for rows in blocks(len(out), k * len(classes)):
        votes = labels[neighbours.indices[rows, :k]]
        out[rows] = _won((votes[:, :, None] == classes).sum(axis=1), labels[neighbours.queries[rows]])
    return out


def _won(votes: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the share of the winners that is the true class, for votes ``(m, classes)``."""
    best = votes == votes.max(axis=1, keepdims=True)
    return np.asarray(best[np.arange(len(truth)), truth] / best.sum(axis=1))


def _gaps(
    X: np.ndarray, design: Design, units: dict[str, np.ndarray], k: int, rng: np.random.Generator
) -> list[Estimate]:
    y, own = design.biology, np.arange(len(X))
    found = knn(X, k)
    wider = vote_hits(found, y, k), _random_hits(y, own, k, rng)
    out, finer, of = [], own, "row"
    for name, codes in units.items():
        size = np.bincount(codes)[codes]
        if codes.max() == finer.max():
            out.append(_told(f"knn_gap_{name}", design, f"cannot tell: each {name} has one {of}"))
            continue
        narrower = vote_hits(knn(X, k, exclude=codes), y, k), _random_hits(y, codes, k, rng)
        same = (codes[found.indices[:, :k]] == codes[:, None]).mean(axis=1)
        out.append(_gap(f"knn_gap_{name}", design, k, wider, narrower, same, (size - 1) / (len(y) - 1)))
        wider, finer, of = narrower, codes, name
    return out


def _gap(
    name: str,
    design: Design,
    k: int,
    wider: tuple[np.ndarray, np.ndarray],
    narrower: tuple[np.ndarray, np.ndarray],
    same: np.ndarray,
    same_by_chance: np.ndarray,
) -> Estimate:
    """Compare hits with and without the own unit; of each, what was found and what random lists give."""
    y, groups = design.biology, design.groups
    weights = 1.0 / np.bincount(groups)[groups]
    share = np.full(len(design.biology_levels), 1.0 / len(design.biology_levels))
    means = [float(recall_effects(hit, y, groups, weights, share)[0].mean()) for hit in (*wider, *narrower)]
    value, effects = means[0] - means[2], recall_effects(wider[0] - narrower[0], y, groups, weights, share)[1]
    influence = Influence(
        effects, np.zeros(len(effects), dtype=np.int64), inflation=1.0 + pair_share(means[2], share[0])
    )
    variance, df = variance_of(influence)
    variance = variance if variance > NO_SPREAD else discordance_floor(y, groups, share)
    half = t_quantile(df) * variance**0.5
    details = {
        "biology": design.biology_name,
        "k": k,
        "weights": f"{design.unit}s equal",
        "with_own": means[0],
        "without_own": means[2],
        "own_share": float(weights @ same / weights.sum()),
        "own_share_chance": float(weights @ same_by_chance / weights.sum()),
        "interval": f"{design.unit}s, t with {df:.0f} degrees of freedom",
    }
    ends, sizes = (value - half, value + half, means[1] - means[3]), (len(y), len(effects))
    return Estimate(name, value, *ends, *sizes, design.unit, details, influence)


def _random_hits(y: np.ndarray, codes: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Return the expected hit of each row if its list were drawn at random from the rows of other units."""
    n_classes = int(y.max()) + 1
    within = np.zeros((int(codes.max()) + 1, n_classes), dtype=np.int64)
    np.add.at(within, (codes, y), 1)
    left = np.bincount(y) - within[codes]
    kinds, which = np.unique(np.column_stack([left, y]), axis=0, return_inverse=True)
    if n_classes == 2:
        votes = stats.hypergeom(kinds[:, 0] + kinds[:, 1], kinds[np.arange(len(kinds)), kinds[:, 2]], k)
        tied = votes.pmf(k // 2) / 2.0 if k % 2 == 0 else 0.0
        return np.asarray((votes.sf(k // 2) + tied)[which.reshape(-1)])
    draws = max(LEAST_DRAWS, DRAWS // len(kinds))
    hits = [
        _won(rng.multivariate_hypergeometric(kind[:-1], k, draws), np.full(draws, kind[-1])).mean() for kind in kinds
    ]
    return np.array(hits)[which.reshape(-1)]


def _shares(X: np.ndarray, design: Design, units: dict[str, np.ndarray]) -> list[Estimate]:
    """Estimate the variance shares of all units that can be told from the rows and from finer units."""
    cells = design.biology * len(design.confounder_levels) + design.confounder
    told: dict[str, np.ndarray] = {}  # coarsest first
    reasons: dict[str, str] = {}
    deepest = cells
    for name, codes in reversed(units.items()):
        deeper = np.unique(np.stack([deepest, codes]), axis=1, return_inverse=True)[1].reshape(-1)
        if int(deeper.max()) + 1 == len(X):
            reasons[name] = f"cannot tell: no {name} has two rows in one cell"
        elif name != design.unit and int(deeper.max()) == int(deepest.max()):
            reasons[name] = f"cannot tell: no {design.unit} has two {name}s in one cell"
        else:
            told[name], deepest = codes, deeper
    estimates = {}
    if design.unit in told:
        shares, without = nested_shares(X, cells, list(told.values()))
        for i, name in enumerate(told):
            estimates[name] = _share(f"variance_share_{name}", design, shares[i], without[:, i])
    return [estimates.get(name) or _told(f"variance_share_{name}", design, reasons[name]) for name in units]


def _share(name: str, design: Design, value: float, without: np.ndarray) -> Estimate:
    details = {
        "cells": [design.biology_name, design.confounder_name],
        "weights": "rows within units, by sums of squares",
    }
    n, n_groups = len(design.groups), len(without)
    if np.isnan(value):
        return _told(name, design, f"cannot tell: no cell holds two {design.unit}s", **details)
    if np.isnan(without).any():
        details["interval"] = f"none: everything hangs on one {design.unit}"
        return Estimate(name, float(value), NAN, NAN, 0.0, n, n_groups, design.unit, details)
    influence = Influence((n_groups - 1) / n_groups * (value - without), design_cells(design))
    low, high, details["interval"] = interval_of(float(value), influence, design.unit, index=False)
    return Estimate(name, float(value), low, high, 0.0, n, n_groups, design.unit, details, influence)


def _told(name: str, design: Design, reason: str, **details: Any) -> Estimate:
    n_groups = int(design.groups.max()) + 1
    return Estimate(name, NAN, NAN, NAN, 0.0, len(design.groups), n_groups, design.unit, details | {"reason": reason})
