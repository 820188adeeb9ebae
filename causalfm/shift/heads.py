"""The linear head that is judged where the user brings no model."""

from __future__ import annotations

import numpy as np

from causalfm.metrics.learners import cross_fitted, grouped_folds, groups_per_level

FOLDS = 5


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
        ``(n, classes)`` from heads that have not seen the row's site; ``nan`` where a class has no row elsewhere.
    deployment : numpy.ndarray
        ``(m, classes)`` from the head of the whole reference.
    """
    n, context = len(y), np.zeros(len(y), dtype=np.int64)
    folds = grouped_folds(y, units, int(np.clip(groups_per_level(y, units).min(), 2, FOLDS)), random_state)
    holds = [(folds != fold, folds == fold) for fold in range(int(folds.max()) + 1)]
    patients_out, _ = cross_fitted(X, y, units, context, holds, "logistic", random_state)
    there = [sites == site for site in np.unique(sites)]
    whole = [here for here in there if len(np.unique(y[~here])) == len(np.unique(y))]
    site_out, _ = cross_fitted(X, y, units, context, [(~here, here) for here in whole], "logistic", random_state)
    site_out[~np.logical_or.reduce([np.zeros(n, dtype=bool), *whole])] = np.nan
    both = np.concatenate([X, new])
    train = np.arange(len(both)) < n
    more = np.concatenate([y, np.zeros(len(new), dtype=y.dtype)])
    others = np.concatenate([units, units.max() + 1 + np.arange(len(new))])
    deployment, _ = cross_fitted(
        both, more, others, np.zeros(len(both), dtype=np.int64), [(train, ~train)], "logistic", random_state
    )
    return patients_out, site_out, deployment[n:]
