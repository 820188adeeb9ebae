"""Read-out: how well a probe reads a factor from the embedding of patients it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from causalfm.arguments import check_seed, check_type, check_whole
from causalfm.cohort import Cohort, Factor
from causalfm.errors import DataError
from causalfm.graph_checks import check_inputs, check_levels
from causalfm.metrics.learners import cross_fitted, grouped_folds
from causalfm.metrics.recall import (
    balanced_accuracy,
    case_mix,
    cell_balance,
    pair_share,
    recall_effects,
    within_contexts,
)
from causalfm.neighbours import Neighbours, knn
from causalfm.results import Estimate, Influence
from causalfm.strata import groups_per_level, joint_factor

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph

Probe = Literal["logistic", "knn", "network"]
PROBES: tuple[Probe, ...] = ("logistic", "knn", "network")
KNN = 11


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a probe says about patients it has not seen.

    Attributes
    ----------
    unit
        Name of the independent unit.
    probabilities
        ``(m, levels)``: of a design in which the levels are equally frequent in every context, as the probe was trained
        (shares of votes for ``"knn"``).
    y, context, groups
        ``(m,)`` codes of true level, case mix and unit.
    weights
        ``(m,)`` row weights: each unit's add up to one.
    rows
        ``(m,)`` positions in the cohort.
    silent
        Which of the ``m`` rows have no answer (no neighbour with a vote): shares are equal, and they count as wrong.
    units
        ``(G,)`` code in ``groups`` of every unit of the cohort, -1 for those not used.
    details
        Settings, level names, what was left out.
    """

    unit: str
    probabilities: np.ndarray
    y: np.ndarray
    context: np.ndarray
    groups: np.ndarray
    weights: np.ndarray
    rows: np.ndarray
    silent: np.ndarray
    units: np.ndarray
    details: dict[str, Any]

    def hits(self) -> np.ndarray:
        """Return which rows are right, ``(m,)``; those without an answer are not: equal shares name the first level."""
        hit = self.probabilities.argmax(axis=1) == self.y
        hit[self.silent] = False
        return np.asarray(hit)


def readout(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    of: str | None = None,
    probe: Probe = "logistic",
    beyond: Sequence[str] | None = None,
    neighbours: Neighbours | None = None,
    n_splits: int = 5,
    max_rows: int = 20_000,
    random_state: int = 0,
) -> Estimate:
    """Balanced accuracy with which a factor is read from embeddings of unseen patients.

    Parameters
    ----------
    cohort, graph
        Data and declared graph; its ``group`` is never split between training and test.
    of
        Factor to read; default the first technical factor.
    probe
        ``"logistic"``: L2 logistic regression after standardisation on the training patients, levels balanced within
        the case mix, strength chosen on a third of the training patients; ``n_splits``-fold cross-validation by
        patient. ``"knn"``: vote of the 11 nearest rows of other patients (cosine), divided by the frequency of level
        and case mix; every patient left out in turn. ``"network"``: one hidden layer of 32 units, trained and tested
        as ``"logistic"``; it also reads what differs in scale or shape only, where the other two may see nothing.
    beyond
        Columns whose read-out alone sets the chance value; default biology and the technical ancestors for a technical
        factor, the first technical factor for biology.
    neighbours
        A pass of :func:`causalfm.knn` with the patients excluded, to be used again by ``"knn"``.
    n_splits
        Folds.
    max_rows
        Beyond it ``"logistic"`` and ``"network"`` use a random sample, as many rows of every patient (one each of a
        sample of patients, if there are more of these); the others are counted.
    random_state
        Seed of the folds, of the sample and of the network's first weights.

    Returns
    -------
    Estimate
        ``chance`` is what the case mix alone gives: the balanced accuracy of the best guess of the factor from
        ``beyond`` on this cohort; ``details["chance_low"]`` is the same less what a finite cohort adds;
        ``details["uniform"]`` is 1 / levels. Each patient's rows weigh one
        together.

    Raises
    ------
    DataError
        Fewer than two levels with two patients each, or an unknown probe.

    Notes
    -----
    The interval is Wilson's with the effective number of patients that the group-robust variance implies; it is for new
    patients of this design with probes trained as here.
    """
    prediction = predict(
        cohort,
        graph,
        of=of,
        probe=probe,
        beyond=beyond,
        neighbours=neighbours,
        n_splits=n_splits,
        max_rows=max_rows,
        random_state=random_state,
    )
    return score(prediction, random_state)


def score(prediction: Prediction, random_state: int = 0) -> Estimate:
    """Judge a prediction as :func:`readout` does; the seed is that of the permutations behind ``chance_low``."""
    p, details = prediction, dict(prediction.details)
    hit = p.hits()
    value, recalls, low, high = balanced_accuracy(hit, p.y, p.groups, p.weights)
    details["recall"] = {level: float(r) for level, r in zip(details["levels"], recalls, strict=True)}
    details["within"] = within_contexts(hit, p.y, p.context, p.groups, p.weights, len(PROBES))
    chance, details["chance_low"] = case_mix(p.y, p.context, p.groups, p.weights, random_state)
    n_groups, uniform = int(p.groups.max()) + 1, np.full(len(recalls), 1.0 / len(recalls))
    effects = recall_effects(hit, p.y, p.groups, p.weights, uniform)[1]
    influence = unit_influence(effects, p.units, 1.0 + pair_share(value, uniform[0]))
    return Estimate("balanced_accuracy", value, low, high, chance, len(p.y), n_groups, p.unit, details, influence)


def unit_influence(effects: np.ndarray, units: np.ndarray, inflation: float) -> Influence:
    """Put effects of the units used in the order of all units of the cohort; ``units`` as in :class:`Prediction`."""
    used = units >= 0
    return Influence(np.where(used, effects[units], 0.0), np.where(used, 0, -1), inflation=inflation)


def predict(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    of: str | None = None,
    probe: Probe = "logistic",
    beyond: Sequence[str] | None = None,
    neighbours: Neighbours | None = None,
    n_splits: int = 5,
    max_rows: int = 20_000,
    random_state: int = 0,
) -> Prediction:
    """Let a probe name a factor of patients it has not seen; parameters and errors as in :func:`readout`."""
    if probe not in PROBES:
        raise DataError(f"probe={probe!r} is not known: choose {', '.join(PROBES[:-1])} or {PROBES[-1]}.")
    check_inputs(cohort, graph)
    check_whole(n_splits, "n_splits", 2)
    check_whole(max_rows, "max_rows", 1)
    check_seed(random_state)
    if neighbours is not None:
        check_type(neighbours, Neighbours, "neighbours", "search with knn(cohort.X, k, exclude=group codes)")
    of = graph.technical[0] if of is None else of
    target, groups = cohort.factor(of), cohort.factor(graph.group, private=True)
    check_levels(target, "the factor to read")
    if beyond is None:
        beyond = (graph.technical[0],) if of == graph.biology else (graph.biology, *graph.technical_ancestors(of))
    drawn = np.arange(len(cohort))
    if probe != "knn":
        drawn = sample_rows(drawn, groups.codes, max_rows, random_state)
    held = groups_per_level(target.codes[drawn], groups.codes[drawn], target.n_levels)
    kept = np.flatnonzero(held >= 2)
    if len(kept) < 2:
        where = "" if len(drawn) == len(cohort) else f" among the {len(drawn)} rows drawn: choose a larger max_rows"
        raise DataError(
            f"column {of!r}: a read-out needs two levels with two {graph.group}s each; {len(kept)} has them{where}."
        )
    rows, eligible = drawn[np.isin(target.codes[drawn], kept)], int(np.isin(target.codes, kept).sum())
    y = np.searchsorted(kept, target.codes[rows])
    used, g = np.unique(groups.codes[rows], return_inverse=True)
    units = np.full(groups.n_levels, -1)
    units[used] = np.arange(len(used))
    context = joint_factor(cohort, beyond).codes[rows]
    unit = graph.group if len(drawn) == len(cohort) else f"{graph.group} among the rows drawn"
    details: dict[str, Any] = {
        "probe": probe,
        "uniform": 1.0 / len(kept),
        "beyond": list(beyond),
        "rows_not_sampled": eligible - len(rows),
        "weights": f"{graph.group}s equal",
        "levels": [target.levels[i] for i in kept],
        "left_out": [f"{target.levels[i]}: {held[i]} {unit}" for i in range(target.n_levels) if i not in kept],
    }
    silent = np.empty(0, dtype=np.int64)
    if probe == "knn":
        voice = cell_balance(y, context, np.ones(len(y)))
        probabilities, silent = _knn_votes(cohort, target, groups, kept, rows, voice, neighbours, details)
    else:
        details["n_splits"] = int(min(n_splits, held[kept].min()))
        folds = grouped_folds(y, g, details["n_splits"], random_state)
        holds = ((folds != fold, folds == fold) for fold in range(details["n_splits"]))
        probabilities, strengths = cross_fitted(cohort.X[rows], y, g, context, holds, probe, random_state)
        details |= {"strengths": strengths} if strengths else {}
    weights = 1.0 / np.bincount(g)[g]
    return Prediction(graph.group, probabilities, y, context, g, weights, rows, silent, units, details)


def sample_rows(rows: np.ndarray, groups: np.ndarray, max_rows: int, random_state: int) -> np.ndarray:
    """Keep all rows, or ``max_rows`` at most: as many random ones of each group, or one each of random groups.

    Parameters
    ----------
    rows, groups
        ``(n,)`` row positions and codes of their groups.
    max_rows
        Rows at most.
    random_state
        Seed.

    Returns
    -------
    numpy.ndarray
        Ascending.
    """
    if len(rows) <= max_rows:
        return np.sort(rows)
    rng = np.random.default_rng(random_state)
    order = np.lexsort((rng.random(len(rows)), groups))
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    rank = np.arange(len(rows)) - np.repeat(starts, np.diff(starts, append=len(rows)))
    kept = rows[order[rank < max(1, max_rows // len(starts))]]
    return np.sort(kept if len(kept) <= max_rows else rng.choice(kept, max_rows, replace=False))


def _knn_votes(
    cohort: Cohort,
    target: Factor,
    groups: Factor,
    kept: np.ndarray,
    rows: np.ndarray,
    voice: np.ndarray,
    neighbours: Neighbours | None,
    details: dict[str, Any],
) -> tuple[np.ndarray, np.ndarray]:
    """Return shares of votes, and the rows whose neighbours are all of levels left out: nobody votes."""
    k = KNN if neighbours is None else min(KNN, neighbours.k)
    details["k"] = k
    if neighbours is None:
        k = details["k"] = min(k, len(cohort) - int(groups.counts().max()))
        neighbours = knn(cohort.X, k, exclude=groups.codes)
    label = np.full(target.n_levels, -1)
    label[kept] = np.arange(len(kept))
    codes = label[target.codes]
    weight = np.zeros(len(codes))
    weight[rows] = voice
    near = neighbours.indices[rows, :k]
    votes = ((codes[near][:, :, None] == np.arange(len(kept))) * weight[near][:, :, None]).sum(axis=1)
    silent = np.flatnonzero(~votes.any(axis=1))
    if len(silent):
        votes[silent] = 1.0
        details["rows_without_votes"] = len(silent)
    return votes / np.maximum(votes.sum(axis=1, keepdims=True), 1e-300), silent
