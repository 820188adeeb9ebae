"""The linear head that is judged where the user brings no model: a regularised discriminant, fitted from moments.

One pass over the rows gives the moments of every fold; those of a training set are sums or differences of them. A head
without each of 34 hospitals then costs one more product and one small solution per hospital instead of a fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from causalfm.metrics.calibration import SMALLEST, calibration_slope
from causalfm.metrics.learners import SMALL, grouped_folds
from causalfm.scm.scores import HeldOutHeads
from causalfm.shift.head_moments import Moments, Rows
from causalfm.strata import groups_per_level

FOLDS = 5
SHRINKAGES = (1e-3, 1e-2, 1e-1, 0.5)  # of the covariance towards a multiple of the identity
FLATTEST = 1e-3  # factor on the logits: a temperature of 1,000 makes any probabilities equal


def held_out_scores(
    X: np.ndarray, y: np.ndarray, units: np.ndarray, sites: np.ndarray, new: np.ndarray, *, random_state: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit linear heads and give probabilities to rows that they have not seen.

    Parameters
    ----------
    X, y, units, sites
        ``(n, d)`` reference rows and their ``(n,)`` codes of class, patient and site.
    new
        ``(m, d)`` rows of the deployment.
    random_state
        Seed of the folds.

    Returns
    -------
    patients_out : numpy.ndarray
        ``(n, classes)`` from heads that have not seen the row's patient.
    site_out : numpy.ndarray
        ``(n, classes)`` from heads that have seen neither the row's site nor any patient of it, wherever else that
        patient was seen; ``nan`` where a class has no such row.
    deployment : numpy.ndarray
        ``(m, classes)`` from the head of the whole reference.

    Notes
    -----
    The head is a linear discriminant with class frequencies of the reference, in which patients weigh the same. Its
    covariance is shrunken by the share with the least log loss for patients left out, and one temperature, fitted on
    patients left out too, makes its probabilities calibrated there. Both are chosen on patients of the other
    sites for the scores of ``site_out`` (by heads that saw some of the site's: two numbers, not a fit). Only the scale
    of the columns, which no label enters, is that of the whole reference.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1 if X.size < SMALL else None, user_api="blas"):
        crossed = _Crossed.of(X, y, units, random_state)
        rows, whole, tried = crossed.rows, crossed.whole, crossed.tried
        out = np.full((len(y), whole.count.size), np.nan)
        for site in np.unique(sites):
            here = sites == site
            patients = np.isin(units, units[here])
            others = whole - rows.moments(patients)
            if (others.count > 0.0).all():
                best, slope = tried.best(~patients)
                out[here] = softmax(slope * rows.logits(X, [others.head(SHRINKAGES[best])], here)[0], axis=1)
        best, slope = tried.best(np.ones(len(y), dtype=bool))
        deployed = rows.logits(new, [whole.head(SHRINKAGES[best])], np.ones(len(new), dtype=bool))[0]
    return softmax(slope * crossed.logits[best], axis=1), out, softmax(slope * deployed, axis=1)


def held_out_heads(
    X: np.ndarray, y: np.ndarray, units: np.ndarray, classes: tuple[str, ...], *, random_state: int = 0
) -> HeldOutHeads:
    """Fit linear heads of which each decides about patients that it has not seen, wherever their rows are moved.

    Parameters
    ----------
    X, y, units
        ``(n, d)`` rows and their ``(n,)`` codes of class and patient.
    classes
        Names of the classes.
    random_state
        Seed of the folds.

    Returns
    -------
    HeldOutHeads
        One head per fold of patients, and the fold of each row.

    Notes
    -----
    The head is that of :func:`held_out_scores`. Its shrinkage and temperature are chosen on patients of the other
    folds too, by heads that saw some of the fold's: two numbers, not a fit.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1 if X.size < SMALL else None, user_api="blas"):
        crossed = _Crossed.of(X, y, units, random_state)
        slopes, constants = [], []
        for k, part in enumerate(crossed.parts):
            best, factor = crossed.tried.best(crossed.fold != k)
            slope, constant = crossed.rows.linear([(crossed.whole - part).head(SHRINKAGES[best])])
            slopes.append(np.ldexp(factor * slope, crossed.rows.power))
            constants.append(factor * constant)
    return HeldOutHeads(np.stack(slopes), np.stack(constants), crossed.fold, classes)


@dataclass(frozen=True, eq=False)
class _Crossed:
    """Heads of every shrinkage without each fold of patients: moments of the folds, and logits of rows left out."""

    rows: Rows
    fold: np.ndarray
    parts: list[Moments]
    whole: Moments
    logits: np.ndarray
    tried: _Tried

    @classmethod
    def of(cls, X: np.ndarray, y: np.ndarray, units: np.ndarray, random_state: int) -> _Crossed:
        rows = Rows.of(X, y, units)
        fold = grouped_folds(y, units, int(np.clip(groups_per_level(y, units).min(), 2, FOLDS)), random_state)
        parts = [rows.moments(fold == k) for k in range(int(fold.max()) + 1)]
        whole = sum(parts[1:], parts[0])
        logits = np.empty((len(SHRINKAGES), len(y), whole.count.size))
        for k, part in enumerate(parts):
            heads = [(whole - part).head(shrinkage) for shrinkage in SHRINKAGES]
            logits[:, fold == k] = rows.logits(X, heads, fold == k)
        return cls(rows, fold, parts, whole, logits, _Tried.of(logits, y, rows.weights))


@dataclass(frozen=True, eq=False)
class _Tried:
    """What each shrinkage costs patients left out: log probabilities ``(S, n, K)`` and weighted losses ``(S, n)``."""

    logs: np.ndarray
    y: np.ndarray
    weights: np.ndarray
    losses: np.ndarray

    @classmethod
    def of(cls, logits: np.ndarray, y: np.ndarray, weights: np.ndarray) -> _Tried:
        logs = np.stack([_logs(one) for one in logits])
        share, losses = weights / weights.sum(), []
        for one in logs:  # each at its own best factor
            losses.append(-share * _logs(sharpness(one, y, weights) * one)[np.arange(len(y)), y])
        return cls(logs, y, weights, np.stack(losses))

    def best(self, mask: np.ndarray) -> tuple[int, float]:
        """Return the shrinkage with the least loss over some rows, and the factor on its logits that fits them best."""
        best = int(np.argmin(self.losses[:, mask].sum(axis=1)))
        return best, sharpness(self.logs[best, mask], self.y[mask], self.weights[mask])


def sharpness(logs: np.ndarray, y: np.ndarray, weights: np.ndarray) -> float:
    """Return the factor on log probabilities ``(n, K)`` that calibrates them: one over the temperature."""
    return max(calibration_slope(logs, y, weights / weights.sum()), FLATTEST)


def _logs(logits: np.ndarray) -> np.ndarray:
    """Return log probabilities, none below that of the smallest."""
    top = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(np.maximum(top - np.log(np.exp(top).sum(axis=1, keepdims=True)), np.log(SMALLEST)))
