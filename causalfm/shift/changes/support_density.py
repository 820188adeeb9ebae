"""Which rows lie outside every class of the reference: a Gaussian density per class, judged on hospitals left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalfm.scm.density import Density
from causalfm.scm.principal import directions
from causalfm.shift.changes.drift_patients import patients_drawn
from causalfm.shift.domains import Domain

MOST_PATIENTS = 1500  # of the reference that densities are fitted to
MOST_ROWS = 6000
DIRECTIONS = 32
EXACT = 256  # dimensions: beyond, directions are found by randomised projections
SITE_FOLDS = 8
PATIENT_FOLDS = 5
MIN_OWN = 40  # patients of a class for a threshold of its own


@dataclass(frozen=True, eq=False)
class ClassDensities:
    """Gaussian density of every class, with one covariance: ``means (K, d)``."""

    means: np.ndarray
    noise: Density

    def distances(self, X: np.ndarray, block: int = 8192) -> np.ndarray:
        """Return minus the log density ``(n, K)`` of every row in every class, in nats."""
        out = np.empty((len(X), len(self.means)))
        for start in range(0, len(X), block):
            rows = np.asarray(X[start : start + block], dtype=np.float64)
            for c, mean in enumerate(self.means):
                out[start : start + block, c] = -self.noise.log(rows - mean)
        return out


@dataclass(frozen=True, eq=False)
class ReferenceRows:
    """Rows of the reference that densities are fitted to and judged on.

    Attributes
    ----------
    X, labels, units, sites
        Rows ``(n, d)`` in float64 and their codes.
    weights
        ``(n,)`` patients weigh the same.
    n_classes
        Number of classes.
    patients_left_out
        How many patients were not drawn.
    """

    X: np.ndarray
    labels: np.ndarray
    units: np.ndarray
    sites: np.ndarray
    weights: np.ndarray
    n_classes: int
    patients_left_out: int


def reference_rows(side: Domain, n_classes: int, random_state: int) -> ReferenceRows:
    """Draw patients evenly over hospitals, and rows of each until there are 6,000."""
    keep = patients_drawn(side, MOST_PATIENTS, random_state)
    rows = spread_rows(side.units, keep, MOST_ROWS, random_state)
    units = np.unique(side.units[rows], return_inverse=True)[1].reshape(-1)
    weights = 1.0 / np.bincount(units)[units]
    X = np.asarray(side.cohort.X[rows], dtype=np.float64)
    return ReferenceRows(X, side.labels[rows], units, side.sites[rows], weights, n_classes, int((~keep).sum()))


def spread_rows(units: np.ndarray, keep: np.ndarray, most: int, random_state: int) -> np.ndarray:
    """Positions of at most ``most`` rows of the patients kept: a first row of every patient, then a second one, ..."""
    rows = np.flatnonzero(keep[units])
    order = np.random.default_rng(random_state).permutation(rows)
    order = order[np.argsort(units[order], kind="stable")]
    starts = np.flatnonzero(np.diff(units[order], prepend=-1))
    turn = np.arange(len(order)) - np.repeat(starts, np.diff([*starts, len(order)]))
    return np.sort(order[np.argsort(turn, kind="stable")[:most]])


def fit_densities(rows: ReferenceRows, train: np.ndarray, random_state: int) -> ClassDensities:
    """Fit the densities to the rows of the mask ``train``, which holds every class."""
    X, labels, weights = rows.X[train], rows.labels[train], rows.weights[train]
    onehot = np.eye(rows.n_classes)[labels] * weights[:, None]
    means = (onehot.T @ X) / onehot.sum(axis=0)[:, None]
    residual = X - means[labels]
    n_patients = len(np.unique(rows.units[train]))
    d, weight = X.shape[1], weights / weights.sum()
    k = max(1, min(DIRECTIONS, d, n_patients // 4))
    basis = _directions(residual, weight, k, random_state)
    along = residual @ basis
    inside = weight @ along**2
    total = float(weight @ (residual**2).sum(axis=1))
    floor = 1e-9 * max(float(inside.max()), 1e-300)
    outside = (total - float(inside.sum())) / (d - k) if k < d else float(inside.min())
    return ClassDensities(means, Density(basis, np.maximum(inside, floor), max(outside, floor)))


def _directions(residual: np.ndarray, weight: np.ndarray, k: int, random_state: int) -> np.ndarray:
    if residual.shape[1] <= EXACT:
        return directions(residual, weight, k)[0]
    from sklearn.utils.extmath import randomized_svd

    scaled = residual * np.sqrt(weight)[:, None]
    return np.asarray(randomized_svd(scaled, k, n_iter=2, random_state=random_state)[2].T)


def held_out(rows: ReferenceRows, folds: np.ndarray, random_state: int) -> np.ndarray:
    """Distances ``(n, K)`` of rows in densities fitted without their fold; ``nan`` without a class elsewhere."""
    out = np.full((len(folds), rows.n_classes), np.nan)
    for fold in np.unique(folds):
        train = folds != fold
        if len(np.unique(rows.labels[train])) == rows.n_classes:
            out[~train] = fit_densities(rows, train, random_state).distances(rows.X[~train])
    return out


def site_folds(sites: np.ndarray) -> np.ndarray:
    """Deal the hospitals into at most eight folds, the largest first."""
    codes, count = np.unique(sites, return_counts=True)
    fold = np.zeros(int(codes.max()) + 1, dtype=np.int64)
    load = np.zeros(min(SITE_FOLDS, len(codes)))
    for at in np.argsort(-count, kind="stable"):
        fold[codes[at]] = int(np.argmin(load))
        load[fold[codes[at]]] += count[at]
    return np.asarray(fold[sites])


def thresholds(distances: np.ndarray, rows: ReferenceRows, alpha: float, use: np.ndarray) -> np.ndarray:
    """Largest usual distance ``(K,)`` to one's own class: its ``1 - alpha`` quantile over the rows of the mask ``use``.

    A class with fewer than 40 patients takes that of all classes.
    """
    use = use & np.isfinite(distances[:, 0])
    own = distances[np.arange(len(distances)), rows.labels]
    pooled = weighted_quantile(own[use], rows.weights[use], 1.0 - alpha)
    out = np.full(rows.n_classes, pooled)
    for c in range(rows.n_classes):
        members = use & (rows.labels == c)
        if len(np.unique(rows.units[members])) >= MIN_OWN:
            out[c] = weighted_quantile(own[members], rows.weights[members], 1.0 - alpha)
    return out


def weighted_quantile(values: np.ndarray, weights: np.ndarray, q: float) -> float:
    """Least value with at least a share ``q`` of the weight at or below it; infinite if there are no values."""
    if len(values) == 0:
        return float("inf")
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    at = int(np.searchsorted(total, q * total[-1] * (1.0 - 1e-12)))
    return float(values[order][min(at, len(values) - 1)])


def beyond(distances: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Mask ``(n,)`` of the rows that are too far from every class."""
    return np.asarray((distances > limits).all(axis=1))
