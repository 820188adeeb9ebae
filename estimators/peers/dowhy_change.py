"""DoWhy's attribution of a change in a mean to scalar mechanisms (multiply robust), with regressors for categories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from causalfm.errors import DataError
from causalfm.estimators.peers.seeding import contained

TARGET = "performance"


def dowhy_change(
    columns: Sequence[np.ndarray],
    levels: Sequence[int],
    outcome: np.ndarray,
    domain: np.ndarray,
    *,
    weights: np.ndarray | None = None,
    random_state: int = 0,
) -> np.ndarray:
    """Attribute ``mean(outcome | new) - mean(outcome | old)`` to the mechanisms of the columns and of the outcome.

    Parameters
    ----------
    columns
        Nodes, causes first, each ``(m,)``: numbers, or codes from 0.
    levels
        Number of levels of each; 0 for numbers.
    outcome
        ``(m,)`` numbers; an effect of every column.
    domain
        ``(m,)`` 0 for old, 1 for new.
    weights
        ``(m,)`` of the rows; equal by default.
    random_state
        Seed.

    Returns
    -------
    numpy.ndarray
        ``(columns + 1,)`` Shapley values of DoWhy's ``distribution_change_robust``, the outcome's mechanism last.

    Raises
    ------
    DataError
        DoWhy cannot run; the message carries its own.

    References
    ----------
    Quintas-Martinez et al., Multiply-robust causal change attribution, ICML 2024.
    """
    import pandas as pd

    with contained(random_state):
        import networkx as nx
        from dowhy import gcm
        from dowhy.gcm.shapley import ShapleyApproximationMethods, ShapleyConfig

        names = [f"{i:03d}" for i in range(len(columns))]  # DoWhy orders nodes by name where causes do not
        graph = nx.DiGraph([(a, b) for i, a in enumerate(names) for b in names[i + 1 :]])
        graph.add_nodes_from(names)
        graph.add_edges_from((name, TARGET) for name in names)
        frame = pd.DataFrame(dict(zip(names, columns, strict=True)), dtype=float).assign(**{TARGET: outcome})
        frame["weight"] = np.ones(len(frame)) if weights is None else weights
        old, new = (frame[domain == side].reset_index(drop=True) for side in (0, 1))
        regressor, classifier = _models(levels)
        # EXACT_FAST gave four equal shares where EXACT tells them apart (DoWhy 0.14)
        exact = ShapleyConfig(ShapleyApproximationMethods.EXACT, n_jobs=1)
        bars, gcm.config.show_progress_bars = gcm.config.show_progress_bars, False
        try:
            found = gcm.distribution_change_robust(
                gcm.ProbabilisticCausalModel(graph),
                old,
                new,
                TARGET,
                sample_weight="weight",
                regressor=regressor,
                classifier=classifier,
                shapley_config=exact,
                split_random_state=random_state,
            )
        except Exception as error:  # whatever a peer raises is its answer
            raise DataError(f"DoWhy cannot attribute this change: {error}") from error
        finally:
            gcm.config.show_progress_bars = bars
    return np.array([float(found[name]) for name in (*names, TARGET)])


def _models(levels: Sequence[int]) -> tuple[Any, Any]:
    """Return factories of DoWhy's weighted models, on indicators of categories and on squares of numbers."""
    from dowhy.gcm.ml.classification import SklearnClassificationModelWeighted
    from dowhy.gcm.ml.regression import SklearnRegressionModelWeighted
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, PolynomialFeatures

    def expanded(X: np.ndarray) -> np.ndarray:
        values = np.asarray(X, dtype=float)
        parts = []
        for column, count in zip(values.T, levels, strict=False):  # DoWhy passes the first columns
            if count:
                parts.append(np.eye(count)[column.astype(int)][:, 1:])
            else:
                parts.append(np.stack([column, column**2], axis=1))
        return np.concatenate(parts, axis=1)

    def pipeline(model: Any) -> Any:
        pairs = PolynomialFeatures(2, interaction_only=True, include_bias=False)
        return make_pipeline(FunctionTransformer(expanded), pairs, model)

    class Regression(SklearnRegressionModelWeighted):  # type: ignore[misc]
        def fit(self, X: np.ndarray, Y: np.ndarray, sample_weight: np.ndarray | None = None) -> None:
            self._sklearn_mdl.fit(X, Y.ravel(), ridge__sample_weight=sample_weight)

    class Classification(SklearnClassificationModelWeighted):  # type: ignore[misc]
        def fit(self, X: np.ndarray, Y: np.ndarray, sample_weight: np.ndarray | None = None) -> None:
            self._sklearn_mdl.fit(X, Y.astype(str).ravel(), logisticregression__sample_weight=sample_weight)

    return (
        lambda: Regression(pipeline(Ridge(1.0))),
        lambda: Classification(pipeline(LogisticRegression(C=10.0, max_iter=2000))),
    )
