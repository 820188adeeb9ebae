"""A corrector fitted on some rows of a trial and applied to others."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from causalfm.errors import CausalFMError, DataError
from causalfm.estimators.scoring.readers import TREES
from causalfm.estimators.scoring.trial import Trial

WORDS = 300  # letters of a message that a foreign corrector leaves


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
    trees
        Of the forest that reads the site.
    probe
        What reads the outcome: a key of ``readers.READERS`` or ``readers.SECOND``.
    fits
        Correctors fitted so far, by the rows that they were fitted on: parts that hold the same patients out share one.
    """

    corrector: Any
    readers: tuple[str, ...]
    leak: bool
    random_state: int
    trees: int = TREES
    probe: str = "linear"
    fits: dict[bytes, Any] = field(default_factory=dict)


def corrected(trial: Trial, attempt: Attempt, fit: np.ndarray, batches: Sequence[np.ndarray]) -> np.ndarray:
    """Fit on rows of a mask and correct others, batch by batch.

    Parameters
    ----------
    trial, attempt
        Rows and corrector.
    fit
        ``(n,)`` mask.
    batches
        Masks of rows that are passed together: a corrector that adapts to a new level learns from these. The batch that
        is the fit itself trains a probe: it gets the corrector's ``training_`` rows if there are any.

    Returns
    -------
    numpy.ndarray
        ``(n, d)``; rows of no batch are as they were.

    Raises
    ------
    DataError
        The corrector failed, or gave rows of another shape or without a value.
    """
    X = trial.cohort.X
    if attempt.corrector is None:
        return X
    fit = np.ones(len(X), dtype=bool) if attempt.leak else fit
    # a corrector with a graph of its own moves all its technical factors, others the one that is scored
    own = getattr(attempt.corrector, "graph", None)
    names = list(own.technical) if own is not None and len(own.technical) > 1 else trial.confounder
    obs = trial.cohort.obs.reset_index(drop=True)  # identifiers are nothing to learn from, nor to print
    key = np.packbits(fit).tobytes()
    if key not in attempt.fits:
        attempt.fits[key] = _guarded("fit", _fitted, trial, attempt.corrector, obs, names, fit)
    model = copy.deepcopy(attempt.fits[key])  # one that learns while it transforms must not carry rows to other parts
    takes = "factor" in inspect.signature(model.transform).parameters
    out = np.asarray(X, dtype=np.float64 if X.dtype == np.float64 else np.float32).copy()
    changed = getattr(model, "training_", None)  # augmentation: rows that train differ from the same rows when read
    for rows in batches:
        if changed is not None and not attempt.leak and np.array_equal(rows, fit):
            out[rows] = _checked(changed, out[rows].shape)
            continue
        factor = {"factor": obs.loc[rows, names].reset_index(drop=True)} if takes else {}
        out[rows] = _checked(_guarded("transform", model.transform, X[rows], **factor), out[rows].shape)
    return out


def _fitted(trial: Trial, corrector: Any, obs: pd.DataFrame, names: Any, fit: np.ndarray) -> Any:
    from sklearn.base import clone

    biology, factor = (obs.loc[fit, name].reset_index(drop=True) for name in (trial.graph.biology, names))
    covariates = obs.loc[fit, list(trial.graph.covariates)].reset_index(drop=True) if trial.graph.covariates else None
    model = clone(corrector)
    model.fit(trial.cohort.X[fit], factor, biology=biology, covariates=covariates, groups=trial.groups[fit])
    return model


def _guarded(step: str, call: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """Call a corrector; what it raises counts against it alone, whoever wrote it."""
    try:
        return call(*given, **named)
    except (CausalFMError, MemoryError):
        raise
    except Exception as error:
        raise DataError(f"the corrector failed in {step}: {type(error).__name__}: {str(error)[:WORDS]}") from error


def _checked(found: Any, shape: tuple[int, ...]) -> np.ndarray:
    rows = np.asarray(found)
    if rows.shape != shape:
        raise DataError(f"the corrector gave an array of shape {rows.shape} for rows of shape {shape}.")
    if bad := int((~np.isfinite(rows).all(axis=1)).sum()):
        raise DataError(f"the corrector gave {bad} rows with a missing or infinite value.")
    return rows
