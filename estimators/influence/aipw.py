"""Augmented inverse-probability weighting for many levels and many outcomes."""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping
from typing import Any

import numpy as np

from causalfm.errors import DataError
from causalfm.estimators.influence.bundles import pieces
from causalfm.estimators.influence.comparison_groups import Compared
from causalfm.estimators.influence.crossfitting import check_training
from causalfm.estimators.influence.group_influence import GroupInfluence
from causalfm.estimators.influence.level_ridge import fit_levels, level_products
from causalfm.estimators.influence.nuisances import Nuisances, cross_propensities, linear_models


def aipw(
    compared: Compared,
    fold: np.ndarray,
    nuisances: Nuisances,
    *,
    trim: float | None = None,
    overwrite: bool = False,
) -> tuple[GroupInfluence, Mapping[str, Any]]:
    """Estimate each level's mean potential outcome, doubly robust and cross-fitted by group.

    Parameters
    ----------
    compared
        The groups.
    fold
        ``(G,)`` fold of each group.
    nuisances
        Models in place of the built-in ones.
    trim
        Propensities below it are raised to it, and their number is told; None: none is touched.
    overwrite
        Whether ``compared.Z`` may be overwritten: saves a matrix of its size.

    Returns
    -------
    GroupInfluence
        One quantity per level.
    details : dict
        Smallest propensity, effective number of groups per level, number of raised propensities.

    Raises
    ------
    DataError
        A level without groups to learn from in some fold.

    Notes
    -----
    ``part_t[g] = m_t(W_g) + w_gt (Z_g - m_t(W_g))`` with ``w_gt = 1{T_g = t} / e_t(W_g)``, scaled to a mean of 1. The
    mean is right if the outcome models ``m`` or the propensities ``e`` are. The models are linear in the outcomes they
    were fitted to, so that the estimate is ``omega' Z`` with weights that hold a group's part in the models of the
    other folds too: without it, at 60 patients of 3 sites with a continuous column, a squared distance of .36 was .20
    too large and 88 % of scalar intervals held the truth. For models handed over that part is not known and left out. A
    group's residual is made with models fitted on other folds: their error makes its square too large by the leverage,
    which is taken off. The estimate of each level is for all groups compared, whichever their level.

    Assumptions: the conditioning columns block all back doors; every kind of group can be at every level.

    References
    ----------
    Robins, Rotnitzky and Zhao, J. Amer. Statist. Assoc. 89 (1994) 846-866; Chernozhukov et al., Econometrics J. 21
    (2018) C1-C68.
    """
    names, level, X = compared.levels, compared.level, compared.features
    check_training(fold, level, names, compared.factor, compared.unit)
    G, L, F = len(compared), len(names), int(fold.max()) + 1
    e = cross_propensities(compared, fold, nuisances.propensity)
    own = e[np.arange(G), level]
    raised = 0
    if trim is not None:
        if not 0.0 < trim < 1.0 / L:
            raise DataError(f"trim={trim!r}: choose a propensity above 0 and below 1 / {L}, the number of levels.")
        raised = int((own < trim).sum())
        own = np.maximum(own, trim)
    weight = 1.0 / np.maximum(own, np.finfo(float).tiny)
    weight *= G / np.bincount(level, weight, L)[level]
    scale = np.zeros((G, L))
    scale[np.arange(G), level] = weight
    theta, omega = scale.T @ compared.Z / G, scale / G
    leverage, built_in = np.zeros(G), nuisances.outcome is None
    residual = compared.Z if overwrite and built_in else np.empty(compared.Z.shape)
    folds = [np.flatnonzero(fold == f) for f in range(F)]
    parts = [level_products(compared.Z, np.where(fold == f, level, -1), X, L) for f in range(F)] if built_in else []
    for f, test in enumerate(folds):
        train = np.flatnonzero(fold != f)
        left = (X[test].T @ (1.0 - scale[test])).T / G  # features by what the weights leave to the models, (L, 1 + p)
        if built_in:
            fit = fit_levels(functools.reduce(operator.add, parts[:f] + parts[f + 1 :]))
            coefficients, leverage[test] = fit.coefficients, fit.leverage(X[test], level[test])
            for code in range(L):
                omega[train, code] += fit.weights(left[code], code, X[train], level[train])
        else:
            coefficients = linear_models(compared.Z[train], level[train], X[train], L, nuisances.outcome)
        theta += np.einsum("jp,jpd->jd", left, coefficients)
        for code in np.unique(level[test]):
            for rows in pieces(test[level[test] == code], compared.Z.shape[1]):
                residual[rows] = compared.Z[rows] - X[rows] @ coefficients[code]
    cell = compared.cell
    fitted = np.bincount(cell, leverage, int(cell.max()) + 1) * (F - 1) / F
    influence = GroupInfluence(
        names=names,
        theta=theta,
        groups=compared.groups,
        scale=omega * G,
        residual=residual,
        correction=1.0 / np.sqrt(1.0 + leverage),
        cell=cell,
        df=np.maximum(np.bincount(cell) - np.maximum(fitted, 1.0), 1.0),
        bundle=compared.bundle,
        n_bundles=compared.n_bundles,
        level=level,
    )
    return influence, {
        "smallest_propensity": float(e[np.arange(G), level].min()),
        "effective_groups": effective_groups(weight, level, names),
        "raised_propensities": raised,
        "folds": F,
    }


def effective_groups(weight: np.ndarray, level: np.ndarray, names: tuple[str, ...]) -> dict[str, float]:
    """``(sum w)^2 / sum w^2`` of the groups of each level."""
    L = len(names)
    total, square = np.bincount(level, weight, L), np.bincount(level, weight**2, L)
    return dict(zip(names, (total**2 / square).tolist(), strict=True))
