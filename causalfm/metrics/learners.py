"""Learners of the read-outs: folds by patient, logistic regression and a small network, all with row weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from causalfm.metrics.distances import safe_scale
from causalfm.metrics.recall import cell_balance
from causalfm.strata import groups_per_level

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)
# of the network; 64 or 128 units read no more, and a decay of 1 or 10 reads weak signals less
HIDDEN = 32
STEPS, PASSES, BATCH = 200, 10, 256
RATE, DECAY = 1e-2, 3.0
MOMENTS = (0.9, 0.999)
SMALL = 4_000_000  # numbers in the embeddings below which one thread is fastest


def cross_fitted(
    X: np.ndarray,
    y: np.ndarray,
    groups: np.ndarray,
    context: np.ndarray,
    holds: Iterable[tuple[np.ndarray, np.ndarray]],
    probe: str,
    random_state: int,
) -> tuple[np.ndarray, list[float]]:
    """Give rows the probabilities of probes trained on other rows.

    Parameters
    ----------
    X
        ``(m, d)`` embeddings.
    y, groups, context
        ``(m,)`` codes of level, unit and case mix.
    holds
        Pairs of masks ``(m,)``: rows to train on and rows to predict.
    probe
        ``"logistic"`` or ``"network"``.
    random_state
        Seed.

    Returns
    -------
    probabilities : numpy.ndarray
        ``(m, levels)``; 0 for rows that no mask held.
    strengths : list of float
        Inverse penalties chosen for ``"logistic"``.
    """
    from threadpoolctl import threadpool_limits

    X = np.asarray(X, dtype=np.float64)
    X = np.ldexp(X, safe_scale(X))  # exact; squares of 1e200 would overflow
    weights = cell_balance(y, context, 1.0 / np.bincount(groups)[groups])
    weights *= (int(groups.max()) + 1) / weights.sum()  # patients, not rows, weigh against the penalty
    n_levels = int(y.max()) + 1
    out = np.zeros((len(y), n_levels))
    strengths: list[float] = []
    # small products: threads that wait for each other cost 2 to 40 times
    with threadpool_limits(1 if X.size < SMALL else None, user_api="blas"):
        for train, test in holds:
            data = X[train], y[train], weights[train], X[test]
            if probe == "network":
                out[test] = fit_network(*data, random_state, n_levels)
            else:
                strengths.append(choose_strength(X[train], y[train], groups[train], weights[train], random_state))
                out[test] = fit_logistic(*data, strengths[-1:], n_levels)[0]
    return out, strengths


def grouped_folds(y: np.ndarray, groups: np.ndarray, n_splits: int, random_state: int) -> np.ndarray:
    """Deal groups to folds so that every level is spread evenly.

    A group counts for the rarest level that it holds; the groups of a level are shuffled and dealt in turn. (Greedy
    stratification as in scikit-learn takes most of the time of a small read-out.)

    Parameters
    ----------
    y, groups
        ``(n,)`` codes of level and group, each from 0 without gaps.
    n_splits
        Folds.
    random_state
        Seed.

    Returns
    -------
    numpy.ndarray
        ``(n,)`` fold of every row; the rows of a group share theirs.
    """
    held = groups_per_level(y, groups)
    rarest = np.full(int(groups.max()) + 1, np.inf)
    rarity = np.empty(len(held))
    rarity[np.argsort(held, kind="stable")] = np.arange(len(held))
    np.minimum.at(rarest, groups, rarity[y])
    order = np.lexsort((np.random.default_rng(random_state).random(len(rarest)), rarest))
    fold = np.empty(len(rarest), dtype=np.int64)
    fold[order] = np.arange(len(rarest)) % n_splits
    return np.asarray(fold[groups])


def choose_strength(X: np.ndarray, y: np.ndarray, groups: np.ndarray, weights: np.ndarray, random_state: int) -> float:
    """Pick the inverse penalty that does best on a third of the training patients; the smaller at a tie."""
    groups = np.unique(groups, return_inverse=True)[1]
    held = groups_per_level(y, groups)
    if held[held > 0].min() < 2:
        return STRENGTHS[len(STRENGTHS) // 2]
    test = grouped_folds(y, groups, min(3, int(held[held > 0].min())), random_state) == 0
    train, y_test = ~test, y[test]
    total = np.bincount(y_test, weights[test], len(held))
    scores = []
    for guess in fit_logistic(X[train], y[train], weights[train], X[test], STRENGTHS, len(held)):
        hits = np.bincount(y_test, weights[test] * (guess.argmax(axis=1) == y_test), len(held))
        scores.append((hits / np.maximum(total, 1e-12))[total > 0].mean())
    return STRENGTHS[int(np.argmax(scores))]


def fit_logistic(
    X: np.ndarray, y: np.ndarray, weights: np.ndarray, test: np.ndarray, strengths: Sequence[float], n_levels: int
) -> list[np.ndarray]:
    """Fit L2 logistic regression at each strength on standardised rows, and give probabilities for ``test``.

    The rows are rotated to at most ``n`` dimensions first, which changes no L2-penalised fit.

    Returns
    -------
    list of numpy.ndarray
        ``(n_test, n_levels)`` for each strength; a level that no training row has gets 0, the only one gets 1.
    """
    if (y == y[0]).all():  # patients that hold several levels can leave a training fold with one
        certain = np.zeros((len(test), n_levels))
        certain[:, y[0]] = 1.0
        return [certain.copy() for _ in strengths]
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    X, test = _standardise(X, weights, test)
    if X.shape[1] > len(X):
        axes = np.linalg.qr(X.T)[0]
        X, test = X @ axes, test @ axes
    weights = _balance_levels(y, weights)
    out = []
    for strength in strengths:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # an early stop only regularises a little more
            model = LogisticRegression(C=strength, max_iter=200, tol=1e-3).fit(X, y, sample_weight=weights)
        out.append(np.zeros((len(test), n_levels)))
        out[-1][:, model.classes_] = model.predict_proba(test)
    return out


def fit_network(
    X: np.ndarray, y: np.ndarray, weights: np.ndarray, test: np.ndarray, random_state: int, n_levels: int
) -> np.ndarray:
    """Fit a network with one hidden layer on standardised rows, and give probabilities for ``test``.

    32 rectified units, decoupled weight decay (AdamW), a rate that falls to zero along a cosine, at least 200 steps and
    10 passes over the rows. One input is added: the mean square of the row, as a difference in scale between levels is
    otherwise hidden in all columns at once; it counts as much as they do together.

    Returns
    -------
    numpy.ndarray
        ``(n_test, n_levels)``.

    References
    ----------
    Loshchilov and Hutter, Decoupled weight decay regularization, ICLR 2019.
    """
    weights = _balance_levels(y, weights)
    X, test = _with_mean_square(*_standardise(X, weights, test), weights)
    rng = np.random.default_rng(random_state)
    # one flat vector for all parameters: the optimiser then takes a few array operations a step
    shapes = ((X.shape[1], HIDDEN), (HIDDEN, n_levels), (HIDDEN,), (n_levels,))
    size = sum(int(np.prod(shape)) for shape in shapes)
    parameters, gradient, mean, square = np.zeros((4, size), dtype=np.float32)
    layers, slopes = _views(parameters, shapes), _views(gradient, shapes)
    for layer in layers[:2]:
        layer[:] = rng.standard_normal(layer.shape) / np.sqrt(len(layer))
    decayed = layers[0].size + layers[1].size  # not the intercepts
    target = np.eye(n_levels, dtype=np.float32)[y]
    scale = (weights / weights.mean()).astype(np.float32)
    steps = max(STEPS, -(-PASSES * len(X) // BATCH))
    for step, rows in enumerate(_batches(len(X), steps, rng), start=1):
        _slopes(X[rows], target[rows], scale[rows], layers, slopes)
        mean += (1.0 - MOMENTS[0]) * (gradient - mean)
        square += (1.0 - MOMENTS[1]) * (gradient**2 - square)
        move = (mean / (1.0 - MOMENTS[0] ** step)) / (np.sqrt(square / (1.0 - MOMENTS[1] ** step)) + 1e-8)
        move[:decayed] += DECAY * parameters[:decayed]
        parameters -= RATE * 0.5 * (1.0 + np.cos(np.pi * step / steps)) * move
    return _forward(test, layers)[1]


def _views(flat: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """Cut a flat vector into arrays that share its memory."""
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    return [part.reshape(shape) for part, shape in zip(np.split(flat, ends[:-1]), shapes, strict=True)]


def _batches(n: int, steps: int, rng: np.random.Generator) -> Iterator[slice | np.ndarray]:
    """Yield the rows of each step: all, or the next of a shuffled deck."""
    deck = np.empty(0, dtype=np.int64)
    for _ in range(steps):
        if n <= BATCH:
            yield slice(None)
            continue
        deck = rng.permutation(n) if len(deck) < BATCH else deck
        yield deck[:BATCH]
        deck = deck[BATCH:]


def _forward(X: np.ndarray, layers: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return hidden units and probabilities."""
    hidden = X @ layers[0]
    hidden += layers[2]
    np.maximum(hidden, 0.0, out=hidden)
    out = hidden @ layers[1]
    out += layers[3]
    out -= out.max(axis=1, keepdims=True)
    np.exp(out, out=out)
    out /= out.sum(axis=1, keepdims=True)
    return hidden, out


def _slopes(
    X: np.ndarray, target: np.ndarray, scale: np.ndarray, layers: Sequence[np.ndarray], slopes: Sequence[np.ndarray]
) -> None:
    """Write the gradient of the weighted mean cross-entropy into ``slopes``."""
    hidden, error = _forward(X, layers)
    error -= target
    error *= (scale / len(X))[:, None]
    np.matmul(hidden.T, error, out=slopes[1])
    error.sum(axis=0, out=slopes[3])
    back = error @ layers[1].T
    back *= hidden > 0.0
    np.matmul(X.T, back, out=slopes[0])
    back.sum(axis=0, out=slopes[2])


def _with_mean_square(X: np.ndarray, test: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Append the mean square of each row, standardised times the root of the number of directions, as float32."""
    scale = np.sqrt(min(int(X.any(axis=0).sum()), len(X)))
    size, size_test = ((part**2).mean(axis=1)[:, None] for part in (X, test))
    size, size_test = (scale * part for part in _standardise(size, weights, size_test))
    return np.hstack([X, size]).astype(np.float32), np.hstack([test, size_test]).astype(np.float32)


def _standardise(X: np.ndarray, weights: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre and scale by the weighted moments of the training rows; constant columns are only centred."""
    share = weights / weights.sum()
    mean = share @ X
    spread = np.sqrt(share @ (X - mean) ** 2)
    spread[spread <= 1e-12 * max(float(spread.max()), 1e-300)] = 1.0
    return (X - mean) / spread, (test - mean) / spread


def _balance_levels(y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Rescale the weights so that the levels held by these rows weigh the same; their sum stays."""
    total = np.bincount(y, weights)
    return np.asarray(weights * (weights.sum() / ((total > 0).sum() * np.maximum(total, 1e-300)))[y])
