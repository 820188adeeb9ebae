"""Multinomial logistic regression with weights and a weak prior."""

from __future__ import annotations

import numpy as np
from scipy import optimize
from scipy.special import log_softmax

PRIOR = 2.5  # standard deviation of a coefficient, Gelman et al., Ann. Appl. Stat. 2 (2008)


def multinomial_logits(design: np.ndarray, codes: np.ndarray, weight: np.ndarray, n_levels: int) -> np.ndarray:
    """Fit the logits of levels.

    Parameters
    ----------
    design
        ``(n, p)`` regressors on the scale of 1; the first is the constant.
    codes
        ``(n,)`` levels.
    weight
        ``(n,)``; those of a patient add up to 1.
    n_levels
        ``K``.

    Returns
    -------
    numpy.ndarray
        ``(p, K)``: the posterior mode, finite also where a level was never seen beside another. The constant is free,
        so that the mean probabilities are the shares seen.
    """
    level, total = codes, float(weight.sum())
    if len(weight) > 1.5 * total:  # rows of a patient that are alike count as one
        rows = np.concatenate([design, codes[:, None]], axis=1)
        distinct, where = np.unique(rows, axis=0, return_inverse=True)
        design, level = distinct[:, :-1], distinct[:, -1].astype(np.int64)
        weight = np.bincount(where.reshape(-1), weight)
    penalty = np.full((design.shape[1], 1), 1.0 / PRIOR**2)
    penalty[0] = 1e-8  # logits are free up to a common number
    onehot = np.eye(n_levels)[level]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        coefficients = flat.reshape(len(penalty), n_levels)
        log = log_softmax(design @ coefficients, axis=1)
        value = -float(weight @ log[np.arange(len(level)), level]) + 0.5 * float((penalty * coefficients**2).sum())
        gradient = design.T @ (weight[:, None] * (np.exp(log) - onehot)) + penalty * coefficients
        return value / total, gradient.reshape(-1) / total

    start = np.zeros(len(penalty) * n_levels)
    options = {"maxiter": 2000, "maxfun": 4000, "ftol": 1e-15, "gtol": 1e-10, "maxcor": 30}
    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
    return np.asarray(found.x.reshape(len(penalty), n_levels))
