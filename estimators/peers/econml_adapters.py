"""EconML's estimators on a scalar outcome: a second opinion, and effects that differ between subgroups."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from causalfm.confidence import alpha_in_force
from causalfm.errors import DataError
from causalfm.estimators.peers.scalar_errors import Clusters, ScalarContrast, ScalarEstimates, with_errors
from causalfm.estimators.peers.scalar_samples import ScalarSample, is_number
from causalfm.estimators.peers.seeding import contained

PREFIX = "econml."
# Module, settings, whether the effect must depend on something, whether the treatment may be continuous.
ESTIMATORS: dict[str, tuple[str, dict[str, Any], bool, bool]] = {
    "econml.LinearDML": ("econml.dml", {}, False, True),
    "econml.SparseLinearDML": ("econml.dml", {"n_jobs": 1}, True, True),
    "econml.CausalForestDML": ("econml.dml", {"n_jobs": 1}, True, True),
    "econml.LinearDRLearner": ("econml.dr", {}, False, False),
}


def econml_effect(
    sample: ScalarSample,
    *,
    estimator: str = "econml.LinearDML",
    folds: int = 3,
    nuisances: Mapping[str, Any] | None = None,
    clusters: Clusters = None,
    n_bootstrap: int = 100,
    random_state: int = 0,
) -> ScalarEstimates:
    """Estimate the effect on a scalar outcome with an estimator of EconML.

    Parameters
    ----------
    sample
        Rows with roles; ``heterogeneity`` are EconML's ``X``, the rest of ``given`` its ``W``.
    estimator
        A key of ``ESTIMATORS``.
    folds
        Folds of cross-fitting; whole units, every level of the treatment in each.
    nuisances
        Further arguments of EconML's class, for instance ``model_y`` and ``model_t``. Default: ridge and logistic
        regression.
    clusters, n_bootstrap
        See :func:`causalfm.estimators.peers.scalar_errors.with_errors`.
    random_state
        Seed.

    Returns
    -------
    ScalarEstimates
        One contrast per level; with heterogeneity also one per level and subgroup: the levels of a categorical column,
        the thirds of a continuous one.

    Raises
    ------
    DataError
        Unknown estimator, nothing to be heterogeneous by, a level with fewer units than folds.

    Notes
    -----
    Assumptions: those of the graph's set; rows independent unless ``clusters`` is given; overlap, which EconML does not
    check: it clips small propensities silently.
    """
    if estimator not in ESTIMATORS:
        raise DataError(f"estimator={estimator!r} is not available: choose {', '.join(ESTIMATORS)}.")
    _, _, needs_x, takes_doses = ESTIMATORS[estimator]
    if needs_x and not sample.heterogeneity:
        raise DataError(f"{estimator} needs heterogeneity=[...]: the columns of {', '.join(sample.given)} it may use.")
    if not sample.levels and not takes_doses:
        raise DataError(f"{estimator} takes categorical treatments only: choose econml.LinearDML.")
    groups = _subgroups(sample)

    def fit(part: ScalarSample) -> list[ScalarContrast]:
        return _contrasts(part, estimator, folds, dict(nuisances or {}), random_state, groups)

    details = {"folds": folds, "given": list(sample.given), "heterogeneity": list(sample.heterogeneity)}
    return with_errors(sample, fit, estimator, clusters, n_bootstrap, random_state, details)


def group_folds(sample: ScalarSample, folds: int, random_state: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Split rows into folds of whole units that hold every level of the treatment.

    Raises
    ------
    DataError
        A level with fewer units than folds.
    """
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    rows = np.zeros(len(sample.frame))
    if not sample.levels:
        return list(GroupKFold(folds).split(rows, groups=sample.groups))
    codes = sample.frame[sample.treatment].to_numpy()
    for level in sample.levels:
        if (held := len(np.unique(sample.groups[codes == level]))) < folds:
            raise DataError(
                f"{sample.treatment}={level} has {held} {sample.unit}s for {folds} folds: choose fewer folds, or leave "
                "this level out."
            )
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=random_state)
    return list(splitter.split(rows, codes, sample.groups))


def as_nuisances(estimator: str, outcome: Any, propensity: Any) -> dict[str, Any]:
    """Name two models as EconML's class does; None keeps the default."""
    learner = estimator == "econml.LinearDRLearner"
    keys = ("model_regression", "model_propensity") if learner else ("model_y", "model_t")
    return {key: model for key, model in zip(keys, (outcome, propensity), strict=True) if model is not None}


def _contrasts(
    sample: ScalarSample,
    estimator: str,
    folds: int,
    settings: dict[str, Any],
    random_state: int,
    groups: list[tuple[str, str, Any]],
) -> list[ScalarContrast]:
    X = sample.design(sample.heterogeneity) if sample.heterogeneity else None
    treatment = sample.frame[sample.treatment].to_numpy()
    pairs: list[tuple[Any, Any]] = [(sample.reference, level) for level in sample.levels[1:]] or [(0.0, 1.0)]
    with contained(random_state):
        model = _fitted(sample, X, treatment, estimator, folds, settings, random_state)
        out = []
        for (base, level), (name, column, wanted) in itertools.product(pairs, [("", "", None), *groups]):
            rows = np.ones(len(treatment), bool) if not column else _members(sample, column, wanted)
            found = model.ate_inference(X=None if X is None else X[rows], T0=base, T1=level)
            low, high = np.ravel(found.conf_int_mean(alpha=alpha_in_force())).tolist()
            value = float(np.ravel(found.mean_point)[0])
            names = (str(level), str(base)) if sample.levels else ("+1", "0")
            out.append(ScalarContrast(*names, name, value, low, high))
    return out


def _fitted(
    sample: ScalarSample,
    X: np.ndarray | None,
    treatment: np.ndarray,
    estimator: str,
    folds: int,
    settings: dict[str, Any],
    random_state: int,
) -> Any:
    import importlib

    from sklearn.linear_model import LogisticRegression, Ridge

    module, own, _, _ = ESTIMATORS[estimator]
    regression, levels = Ridge(1.0), sample.levels
    assignment = LogisticRegression(max_iter=1000) if levels else Ridge(1.0)
    if estimator == "econml.LinearDRLearner":
        default: dict[str, Any] = {"model_regression": regression, "model_propensity": assignment}
    else:
        default = {"model_y": regression, "model_t": assignment, "discrete_treatment": bool(levels)}
    default |= {"cv": group_folds(sample, folds, random_state), "random_state": random_state, **own}
    if levels:
        default["categories"] = list(levels)
    kind = getattr(importlib.import_module(module), estimator.removeprefix(PREFIX))
    W = sample.design(tuple(c for c in sample.given if c not in sample.heterogeneity))
    outcome = sample.frame[sample.outcome].to_numpy(float)
    return kind(**{**default, **settings}).fit(outcome, treatment, X=X, W=W if W.shape[1] else None)


def _subgroups(sample: ScalarSample) -> list[tuple[str, str, Any]]:
    """Name, column and membership of the subgroups: fixed once, so that resamples answer for the same ones."""
    out: list[tuple[str, str, Any]] = []
    for name in sample.heterogeneity:
        column = sample.frame[name]
        if not is_number(column):
            out += [(f"{name}={level}", name, level) for level in sorted(set(column))]
            continue
        ends = np.quantile(column, [0, 1 / 3, 2 / 3, 1])
        out += [(f"{name} {a:.3g} to {b:.3g}", name, (a, b)) for a, b in itertools.pairwise(ends.tolist()) if a < b]
    return out


def _members(sample: ScalarSample, column: str, wanted: Any) -> np.ndarray:
    values = sample.frame[column].to_numpy()
    found = (values >= wanted[0]) & (values <= wanted[1]) if isinstance(wanted, tuple) else values == wanted
    if not found.any():
        raise DataError(f"a resample holds no row of a subgroup of {column!r}: choose clusters='aggregate'.")
    return np.asarray(found)
