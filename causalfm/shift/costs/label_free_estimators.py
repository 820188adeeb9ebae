"""What a model's accuracy on patients without labels would be, by four textbook estimators and two scores.

Each is a rule that gives every row an expected hit ``f``, fitted on labelled source rows: the estimate is the mean of
``f`` over the target's patients, and what it can miss is the mean of ``hit - f``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from causalfm.metrics.calibration import SMALLEST

RIDGE = 1.0  # patients that speak against each standardised slope of the domain classifier
NEWTON = 50


@dataclass(frozen=True, eq=False)
class Scored:
    """Rows with a model's probabilities ``(n, K)``, hits ``(n,)`` (``nan`` if unknown), units and patient weights."""

    probabilities: np.ndarray
    hit: np.ndarray
    units: np.ndarray
    weights: np.ndarray

    @property
    def share(self) -> np.ndarray:
        """``(n,)`` weights that add up to 1."""
        return np.asarray(self.weights / self.weights.sum())

    @property
    def confidence(self) -> np.ndarray:
        """``(n,)`` probability of the class predicted."""
        return np.asarray(self.probabilities.max(axis=1))

    @property
    def negative_entropy(self) -> np.ndarray:
        """``(n,)`` sum of ``p log p``: 0 where the model is certain."""
        return np.asarray((self.probabilities * np.log(np.maximum(self.probabilities, SMALLEST))).sum(axis=1))

    def __getitem__(self, rows: np.ndarray) -> Scored:
        units = np.unique(self.units[rows], return_inverse=True)[1]
        return Scored(self.probabilities[rows], self.hit[rows], units, self.weights[rows])


@dataclass(frozen=True, eq=False)
class Guess:
    """Expected hits of source ``(n,)`` and target rows ``(m,)``; ``weights (n,)`` of the source add up to 1."""

    source: np.ndarray
    target: np.ndarray
    weights: np.ndarray
    effective: float = float("nan")


def threshold(score: Callable[[Scored], np.ndarray], source: Scored, target: Scored) -> Guess:
    """ATC: rows above a threshold count as right, which lets through as many of the source as are right.

    Rows that tie with the threshold count in part, all by the same share, so that the source is met exactly.

    References
    ----------
    Garg et al., Leveraging unlabeled data to predict out-of-distribution performance, ICLR 2022.
    """
    values, weights = score(source), source.share
    wrong = float(weights @ (1.0 - source.hit))
    order = np.argsort(values, kind="stable")
    position = np.searchsorted(np.cumsum(weights[order]), wrong, side="right")
    cut = values[order][min(int(position), len(values) - 1)]
    below, tied = float(weights[values < cut].sum()), float(weights[values == cut].sum())
    part = 1.0 - np.clip((wrong - below) / tied, 0.0, 1.0)

    def right(scores: np.ndarray) -> np.ndarray:
        return np.asarray((scores > cut) + part * (scores == cut))

    return Guess(right(values), right(score(target)), weights)


def confidence_difference(source: Scored, target: Scored) -> Guess:
    """DoC: the accuracy falls by as much as the mean confidence.

    References
    ----------
    Guillory et al., Predicting with confidence on unseen distributions, ICCV 2021.
    """
    weights = source.share
    offset = float(weights @ (source.hit - source.confidence))
    return Guess(source.confidence + offset, target.confidence + offset, weights)


def calibrated_confidence(source: Scored, target: Scored) -> Guess:
    """CBPE: a row is right as often as source rows of its confidence are, by isotonic regression.

    Confidences beyond those of the source take the share of the nearest.

    References
    ----------
    Kivimaki et al., Confidence-based performance estimation, arXiv:2407.08649.
    """
    from sklearn.isotonic import IsotonicRegression

    curve = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
    weights = source.share
    curve.fit(source.confidence, source.hit, sample_weight=weights * len(weights))
    return Guess(curve.predict(source.confidence), curve.predict(target.confidence), weights)


def importance_weighting(source: Scored, target: Scored) -> Guess:
    """IW: source rows weigh as the target has rows with such probabilities.

    The odds come from a logistic classifier of the two sets in the log probabilities, confidence and entropy, which
    has not seen the row's patient (two folds). Weights are not clipped: ``effective`` is the number of patients that
    they leave, ``(sum W)^2 / sum W^2`` over the patients' sums, times the part of the target that they stand for: the
    mean odds, 1 where the source has such rows. (Where it has none at all, the weights are small and much the same, and
    the first factor alone is large: 346 of 500 patients of full confidence for a target that had none.)
    """
    features = _features(np.concatenate([source.probabilities, target.probabilities]))
    patients = np.concatenate([source.weights, target.weights])
    features = features - np.average(features, axis=0, weights=patients)
    spread = np.sqrt(np.average(features**2, axis=0, weights=patients))
    features = features / np.where(spread > SMALLEST, spread, 1.0)
    n, second = len(source.hit), np.zeros(len(features), dtype=bool)
    second[:n], second[n:] = source.units % 2 == 1, target.units % 2 == 1
    side = np.arange(len(features)) >= n
    odds = np.empty(n)
    for half in (False, True):
        fit, use = second != half, second[:n] == half
        if not use.any():
            continue
        if not (side & fit).any() or not (~side & fit).any():
            fit = np.ones(len(side), dtype=bool)  # one patient alone on a side
        slopes = _logistic(features[fit], side[fit], patients[fit])
        odds[use] = slopes[0] + features[:n][use] @ slopes[1:]
    mass = float(source.share @ np.exp(np.minimum(odds, 500.0)))
    odds = np.exp(odds - odds.max()) * source.weights
    weights = odds / odds.sum()
    by_patient = np.bincount(source.units, weights)
    value = float(weights @ source.hit)
    flat = np.full(n, value), np.full(len(target.units), value)
    return Guess(*flat, weights, min(mass, 1.0) * float(1.0 / (by_patient**2).sum()))


def _features(probabilities: np.ndarray) -> np.ndarray:
    logs = np.log(np.maximum(probabilities, SMALLEST))
    entropy = (probabilities * logs).sum(axis=1, keepdims=True)
    return np.hstack([logs - logs.mean(axis=1, keepdims=True), probabilities.max(axis=1, keepdims=True), entropy])


def _logistic(X: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Fit a ridge-penalised logistic regression by Newton steps, both sides weighing the same; intercept first."""
    total = np.array([weights[~y].sum(), weights[y].sum()])
    weights = weights * (total.sum() / 2.0 / total)[y.astype(int)]
    design = np.hstack([np.ones((len(X), 1)), X])
    penalty = np.full(design.shape[1], RIDGE)
    penalty[0] = 1e-9
    slopes = np.zeros(design.shape[1])

    def loss(at: np.ndarray) -> float:
        logits = design @ at
        return float(weights @ (np.logaddexp(0.0, logits) - y * logits) + 0.5 * penalty @ at**2)

    now = loss(slopes)
    for _ in range(NEWTON):
        chances = 1.0 / (1.0 + np.exp(-np.clip(design @ slopes, -500.0, 500.0)))
        gradient = design.T @ (weights * (chances - y)) + penalty * slopes
        curvature = design.T @ (design * (weights * chances * (1.0 - chances))[:, None]) + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        size = 1.0
        while (then := loss(slopes - size * step)) > now and size > 1e-6:
            size /= 2.0
        slopes = slopes - size * step
        if now - then < 1e-9 * max(now, 1.0):
            break
        now = then
    return np.asarray(slopes)


def atc_confidence(source: Scored, target: Scored) -> Guess:
    """ATC on the confidence."""
    return threshold(lambda rows: rows.confidence, source, target)


def atc_entropy(source: Scored, target: Scored) -> Guess:
    """ATC on the negative entropy."""
    return threshold(lambda rows: rows.negative_entropy, source, target)


# name: the rule, and what it assumes
ESTIMATORS: dict[str, tuple[Callable[[Scored, Scored], Guess], str]] = {
    "ATC confidence": (
        atc_confidence,
        "the share of rows above one threshold of the confidence is the accuracy at the new site as in the reference",
    ),
    "ATC entropy": (
        atc_entropy,
        "the share of rows above one threshold of the negative entropy is the accuracy, as in the reference",
    ),
    "DoC": (confidence_difference, "the accuracy falls by as much as the mean confidence"),
    "CBPE": (
        calibrated_confidence,
        "rows of a given confidence are right as often as in the reference (no concept shift, same support)",
    ),
    "importance weighting": (
        importance_weighting,
        "among rows with the same probabilities the biology is as in the reference, which has such rows",
    ),
}
