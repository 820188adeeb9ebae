"""Which shares of the classes are usual among the hospitals of the reference."""

from __future__ import annotations

import numpy as np

from causalfm.confidence import CHECK_ALPHA
from causalfm.shift.changes.drift_distances import MIN_SITES
from causalfm.shift.domains import Domain, Domains

NAN = float("nan")
Ranges = tuple[tuple[float, float], ...]


def patient_shares(side: Domain, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the shares ``(G, K)`` of the labelled rows of each patient who has one, and their sites ``(G,)``."""
    known = side.known
    units, first = np.unique(side.units[known], return_index=True)
    codes = np.searchsorted(units, side.units[known])
    counts = np.zeros((len(units), n_classes))
    np.add.at(counts, (codes, side.labels[known]), 1.0)
    return np.asarray(counts / counts.sum(axis=1, keepdims=True)), side.sites[known][first]


def usual_shares(domains: Domains) -> tuple[Ranges, Ranges]:
    """Predict the shares of the classes at one more hospital.

    Parameters
    ----------
    domains
        The reference's patients are looked at.

    Returns
    -------
    of_site, of_patients : tuple
        ``(low, high)`` per class: 95 % prediction interval, over all classes, of the share in the population of one
        more hospital, and of the share of as many patients as the hospitals have; ``nan`` under five.

    Notes
    -----
    On the scale of the arcsine of the root, with Student's t. For the first, what patients add to the spread of the
    hospitals is taken off.
    """
    from scipy import stats

    K = len(domains.classes)
    shares, sites = patient_shares(domains.reference, K)
    codes, where, count = np.unique(sites, return_inverse=True, return_counts=True)
    S = len(codes)
    if S < MIN_SITES:
        return ((NAN, NAN),) * K, ((NAN, NAN),) * K
    means = np.stack([np.bincount(where, column) for column in shares.T], axis=1) / count[:, None]
    angle = np.arcsin(np.sqrt(np.clip(means, 0.0, 1.0)))
    within = ((shares - means[where]) ** 2).sum(axis=0) / max(len(shares) - S, 1)
    middle = shares.mean(axis=0)
    noise = within / np.maximum(4.0 * middle * (1.0 - middle), 1e-6) * (1.0 / count).mean()
    spread = angle.var(axis=0, ddof=1)
    t = float(stats.t.ppf(1.0 - CHECK_ALPHA / 2.0 / max(K - 1, 1), S - 1))
    reach = t * np.sqrt(np.maximum(spread - noise, 0.0) + spread / S)
    return _range(angle.mean(axis=0), reach), _range(angle.mean(axis=0), t * np.sqrt(spread * (1.0 + 1.0 / S)))


def _range(middle: np.ndarray, reach: np.ndarray) -> Ranges:
    ends = [np.sin(np.clip(middle + step, 0.0, np.pi / 2.0)) ** 2 for step in (-reach, reach)]
    return tuple((float(a), float(b)) for a, b in zip(*ends, strict=True))
