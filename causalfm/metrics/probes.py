"""Read-out: how well a probe reads a factor from the embedding of patients it has not seen."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from causalfm.cohort import Cohort, Factor
from causalfm.errors import DataError
from causalfm.metrics.recall import balanced_accuracy, case_mix, cell_balance, within_contexts
from causalfm.neighbours import Neighbours, knn
from causalfm.results import Estimate
from causalfm.strata import joint_factor

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph

PROBES: tuple[Literal["logistic", "knn"], ...] = ("logistic", "knn")
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)
KNN = 11
SMALL = 4_000_000  # numbers in the embeddings below which one thread is fastest


def readout(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    of: str | None = None,
    probe: Literal["logistic", "knn"] = "logistic",
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
        and case mix; every patient left out in turn.
    beyond
        Columns whose read-out alone sets the chance value; default biology and the technical ancestors for a technical
        factor, the first technical factor for biology.
    neighbours
        A pass of :func:`causalfm.knn` with the patients excluded, to be used again by ``"knn"``.
    n_splits
        Folds.
    max_rows
        Beyond it ``"logistic"`` uses a random sample, as many rows of every patient; the others are counted.
    random_state
        Seed of the folds and of the sample.

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
    if probe not in PROBES:
        raise DataError(f"probe={probe!r} is not known: choose {' or '.join(PROBES)}.")
    of = graph.technical[0] if of is None else of
    from threadpoolctl import threadpool_limits

    target, groups = cohort.factor(of), cohort.factor(graph.group, private=True)
    if beyond is None:
        beyond = (graph.technical[0],) if of == graph.biology else (graph.biology, *graph.technical_ancestors(of))
    held = _groups_per_level(target, groups)
    kept = np.flatnonzero(held >= 2)
    if len(kept) < 2:
        raise DataError(
            f"column {of!r}: a read-out needs two levels with two {graph.group}s each; {len(kept)} has them."
        )
    rows = np.flatnonzero(np.isin(target.codes, kept))
    eligible = len(rows)
    if probe == "logistic":
        rows = _sample_rows(rows, groups.codes[rows], max_rows, random_state)
    y = np.searchsorted(kept, target.codes[rows])
    g = np.unique(groups.codes[rows], return_inverse=True)[1]
    weights = 1.0 / np.bincount(g)[g]
    context = joint_factor(cohort, beyond).codes[rows]
    balance = cell_balance(y, context, weights)
    balance *= weights.sum() / balance.sum()  # patients, not rows, weigh against the penalty
    details: dict[str, Any] = {
        "probe": probe,
        "uniform": 1.0 / len(kept),
        "beyond": list(beyond),
        "rows_not_sampled": eligible - len(rows),
        "weights": f"{graph.group}s equal",
        "levels": [target.levels[i] for i in kept],
        "left_out": [f"{target.levels[i]}: {held[i]} {graph.group}" for i in range(target.n_levels) if i not in kept],
    }
    if probe == "knn":
        predicted = _knn_votes(
            cohort, target, groups, kept, rows, cell_balance(y, context, np.ones(len(y))), neighbours, details
        )
    else:
        X = np.asarray(cohort.X[rows], dtype=np.float64)
        splits = int(min(n_splits, held[kept].min()))
        details["n_splits"] = splits
        # small products: threads that wait for each other cost 2 to 40 times
        with threadpool_limits(1 if X.size < SMALL else None, user_api="blas"):
            predicted = _logistic_predictions(X, y, g, balance, splits, random_state, details)
    value, recalls, low, high = balanced_accuracy(predicted == y, y, g, weights)
    details["recall"] = {target.levels[i]: float(r) for i, r in zip(kept, recalls, strict=True)}
    details["within"] = within_contexts(predicted == y, y, context, g, weights)
    chance, details["chance_low"] = case_mix(y, context, g, weights, random_state)
    return Estimate("balanced_accuracy", value, low, high, chance, len(rows), int(g.max()) + 1, graph.group, details)


def _sample_rows(rows: np.ndarray, groups: np.ndarray, max_rows: int, random_state: int) -> np.ndarray:
    """Keep all rows, or as many from each group as ``max_rows`` allows, at least one; ascending."""
    order = np.lexsort((np.random.default_rng(random_state).random(len(rows)), groups))
    starts = np.r_[True, np.diff(groups[order]) != 0]
    rank = np.arange(len(rows)) - np.maximum.accumulate(np.where(starts, np.arange(len(rows)), 0))
    limit = max(1, max_rows // int(starts.sum())) if len(rows) > max_rows else len(rows)
    return np.asarray(np.sort(rows[order[rank < limit]]))


def _groups_per_level(target: Factor, groups: Factor) -> np.ndarray:
    pairs = np.unique(target.codes * groups.n_levels + groups.codes)
    return np.bincount(pairs // groups.n_levels, minlength=target.n_levels)


def _knn_votes(
    cohort: Cohort,
    target: Factor,
    groups: Factor,
    kept: np.ndarray,
    rows: np.ndarray,
    voice: np.ndarray,
    neighbours: Neighbours | None,
    details: dict[str, Any],
) -> np.ndarray:
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
    counts = ((codes[near][:, :, None] == np.arange(len(kept))) * weight[near][:, :, None]).sum(axis=1)
    return np.asarray(counts.argmax(axis=1))


def _logistic_predictions(
    X: np.ndarray,
    y: np.ndarray,
    groups: np.ndarray,
    weights: np.ndarray,
    n_splits: int,
    random_state: int,
    details: dict[str, Any],
) -> np.ndarray:
    from sklearn.model_selection import StratifiedGroupKFold

    predicted = np.full(len(y), -1)
    strengths = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        folds = list(StratifiedGroupKFold(n_splits, shuffle=True, random_state=random_state).split(X, y, groups))
    for train, test in folds:
        strength = _choose_strength(X[train], y[train], groups[train], weights[train], random_state)
        strengths.append(strength)
        predicted[test] = _fit_logistic(X[train], y[train], weights[train], X[test], (strength,))[0]
    details["strengths"] = strengths
    return predicted


def _choose_strength(X: np.ndarray, y: np.ndarray, groups: np.ndarray, weights: np.ndarray, random_state: int) -> float:
    """Pick the inverse penalty that does best on a third of the training patients; the smaller at a tie."""
    from sklearn.model_selection import StratifiedGroupKFold

    held = np.bincount(np.unique(np.stack([y, groups]), axis=1)[0])
    if held.min() < 2:
        return STRENGTHS[len(STRENGTHS) // 2]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        splitter = StratifiedGroupKFold(min(3, int(held.min())), shuffle=True, random_state=random_state)
        train, test = next(iter(splitter.split(X, y, groups)))
    scores = []
    for guess in _fit_logistic(X[train], y[train], weights[train], X[test], STRENGTHS):
        total = np.bincount(y[test], weights[test], len(held))
        recall = np.bincount(y[test], weights[test] * (guess == y[test]), len(held)) / np.maximum(total, 1e-12)
        scores.append(recall[total > 0].mean())
    return STRENGTHS[int(np.argmax(scores))]


def _fit_logistic(
    X: np.ndarray, y: np.ndarray, weights: np.ndarray, test: np.ndarray, strengths: Sequence[float]
) -> list[np.ndarray]:
    """Predict ``test`` at each strength, rotated to at most ``n`` dimensions: this changes no L2-penalised fit."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    share = weights / weights.sum()
    mean = share @ X
    spread = np.sqrt(share @ (X - mean) ** 2)
    spread[spread <= 1e-12 * max(float(spread.max()), 1e-300)] = 1.0
    X, test = (X - mean) / spread, (test - mean) / spread
    if X.shape[1] > len(X):
        axes = np.linalg.svd(X, full_matrices=False)[2].T
        X, test = X @ axes, test @ axes
    total = np.bincount(y, weights)
    weights = weights * (weights.sum() / ((total > 0).sum() * np.maximum(total, 1e-300)))[y]  # also within this fold
    out = []
    for strength in strengths:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # an early stop only regularises a little more
            model = LogisticRegression(C=strength, max_iter=200, tol=1e-3).fit(X, y, sample_weight=weights)
        out.append(model.predict(test))
    return out
