"""How much more often a mechanism makes these values at the deployment: ratios from cross-fitted domain classifiers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from causalfm.shift.reasons.graph_players import Player
from causalfm.shift.reasons.swap_table import DEPLOYMENT, REFERENCE, SwapTable

STEPS, TOLERANCE = 50, 1e-8


@dataclass(frozen=True, eq=False)
class Ratios:
    """Log ratios ``P_deployment / P_reference`` of every player at every item.

    Attributes
    ----------
    log
        ``(m, players)``.
    folds
        ``(m,)`` the fold in which an item was left out of the classifiers; patients are never split.
    """

    log: np.ndarray
    folds: np.ndarray


def log_odds(design: np.ndarray, size: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Fit a logistic regression with a weak prior by Newton's method.

    Parameters
    ----------
    design
        ``(m, p)`` regressors on the scale of 1.
    size
        ``(p,)`` standard deviation of the prior of each coefficient; infinite where it is free.
    target
        ``(m,)`` 0 or 1.
    weights
        ``(m,)``.

    Returns
    -------
    numpy.ndarray
        ``(p,)`` posterior mode.
    """
    penalty: np.ndarray = 1.0 / size**2
    beta = np.zeros(design.shape[1])

    def loss(b: np.ndarray) -> float:
        eta = design @ b
        return float(weights @ (np.logaddexp(0.0, eta) - target * eta) + 0.5 * (penalty @ b**2))

    now = loss(beta)
    for _ in range(STEPS):
        p = 1.0 / (1.0 + np.exp(-np.clip(design @ beta, -500.0, 500.0)))
        gradient = design.T @ (weights * (p - target)) + penalty * beta
        hessian = (design * (weights * p * (1.0 - p))[:, None]).T @ design + np.diag(penalty)
        step = np.linalg.solve(hessian, gradient)
        while (new := loss(beta - step)) > now and np.abs(step).max() > TOLERANCE:
            step = step / 2.0
        if now - new < TOLERANCE * max(1.0, abs(now)):
            break
        beta, now = beta - step, new
    return beta


def cross_fitted_ratios(table: SwapTable, players: Sequence[Player], folds: np.ndarray) -> Ratios:
    """Estimate every player's ratio: odds of the deployment given its nodes and parents, over those given the parents.

    Parameters
    ----------
    table
        Items of both domains.
    players
        The factorisation.
    folds
        ``(m,)`` fold of every item.

    Returns
    -------
    Ratios
        From classifiers that have not seen the patient.
    """
    sets = dict.fromkeys(s for player in players for s in ((*player.given, *player.nodes), player.given))
    odds = {nodes: _held_out(table, nodes, folds) for nodes in sets}
    log = [odds[*player.given, *player.nodes] - odds[player.given] for player in players]
    return Ratios(np.stack(log, axis=1) if log else np.zeros((len(folds), 0)), folds)


def _held_out(table: SwapTable, nodes: Sequence[str], folds: np.ndarray) -> np.ndarray:
    (design, size), out = table.regressors(nodes), np.zeros(len(folds))
    for fold in np.unique(folds):
        train, test = folds != fold, folds == fold
        out[test] = design[test] @ log_odds(design[train], size, table.domain[train], table.weights[train])
    return out


def normalised(log: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Exponentiate log ratios so that their weighted mean is 1."""
    raw = np.exp(log - log.max())
    return np.asarray(raw * weights.sum() / (weights @ raw))


def effective_units(ratio: np.ndarray, weights: np.ndarray, units: np.ndarray) -> float:
    """Kish's effective number of units under row weights ``weights * ratio``."""
    total = np.bincount(units, weights * ratio)
    return float(total.sum() ** 2 / (total**2).sum())


def beyond(log: np.ndarray, table: SwapTable, side: int) -> float:
    """Share of one domain's units whose ratio is further out than any of the other domain's.

    Parameters
    ----------
    log
        ``(m,)`` log ratio of the deployment to the reference.
    table
        Items.
    side
        Domain whose units are counted.
    """
    mine, sign = table.domain == side, 1.0 if side == DEPLOYMENT else -1.0
    edge = (sign * log[table.domain != side]).max()
    return float(np.average(sign * log[mine] > edge + 1e-9, weights=table.weights[mine]))


def effective_of(log: np.ndarray, table: SwapTable, side: int) -> float:
    """Effective units of a domain once it is reweighted by ratios towards the other domain."""
    rows, sign = table.domain == side, 1.0 if side == REFERENCE else -1.0
    weights = table.weights[rows]
    return effective_units(normalised(sign * log[rows], weights), weights, table.units[rows])
