"""A corrector fitted on some rows of a trial and applied to others."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalfm.estimators.scoring.trial import Trial


@dataclass(frozen=True, eq=False)
class Attempt:
    """A corrector and how it is tried.

    Attributes
    ----------
    corrector
        Not fitted; None: rows are left as they are.
    readers
        Names of the readers of the site.
    leak
        Fit on all rows, those to be scored included: the number that is not honest.
    random_state
        Seed of readers and tables.
    """

    corrector: Any
    readers: tuple[str, ...]
    leak: bool
    random_state: int


def corrected(trial: Trial, attempt: Attempt, fit: np.ndarray, batches: Sequence[np.ndarray]) -> np.ndarray:
    """Fit on rows of a mask and correct others, batch by batch.

    Parameters
    ----------
    trial, attempt
        Rows and corrector.
    fit
        ``(n,)`` mask.
    batches
        Masks of rows that are passed together: a corrector that adapts to a new level learns from these.

    Returns
    -------
    numpy.ndarray
        ``(n, d)``; rows of no batch are as they were.
    """
    from sklearn.base import clone

    X = trial.cohort.X
    if attempt.corrector is None:
        return X
    fit = np.ones(len(X), dtype=bool) if attempt.leak else fit
    model, obs, graph = clone(attempt.corrector), trial.cohort.obs, trial.graph
    # a corrector with a graph of its own moves all its technical factors, others the one that is scored
    own = getattr(attempt.corrector, "graph", None)
    factor = obs[list(own.technical)] if own is not None and len(own.technical) > 1 else obs[trial.confounder]
    covariates = obs.loc[fit, list(graph.covariates)] if graph.covariates else None
    model.fit(X[fit], factor[fit], biology=obs.loc[fit, graph.biology], covariates=covariates, groups=trial.groups[fit])
    takes = "factor" in inspect.signature(model.transform).parameters
    out = np.asarray(X, dtype=np.float64 if X.dtype == np.float64 else np.float32).copy()
    for rows in batches:
        out[rows] = model.transform(X[rows], **({"factor": factor[rows]} if takes else {}))
    return out
