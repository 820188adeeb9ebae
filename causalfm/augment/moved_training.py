"""Counterfactual augmentation as something that is fitted, so that it is measured beside correctors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.augment.balanced import balanced_counterfactuals

if TYPE_CHECKING:
    import pandas as pd

    from causalfm.graph import CausalGraph


class CounterfactualTraining:
    """Training rows moved to technical levels drawn independently of biology; new rows stay as they are.

    Parameters
    ----------
    graph
        Declared graph with all its columns.
    target
        How levels are drawn, see :func:`causalfm.augment.balanced_counterfactuals`.
    random_state
        Seed of the draws.

    Attributes
    ----------
    training_
        ``(n, d)`` rows of the fit as they train a model; those that the design cannot move are as they were.

    Notes
    -----
    :func:`causalfm.estimators.scoreboard` takes it for a corrector: a probe is trained on ``training_`` and asked about
    rows that nothing was done to. The deployed pipeline stays as it is, and no level of a new row needs to be known.
    """

    def __init__(self, graph: CausalGraph | None = None, target: str = "marginal", random_state: int = 0) -> None:
        self.graph, self.target, self.random_state = graph, target, random_state

    def __repr__(self) -> str:  # reports print it: no address in memory, which differs from run to run
        return f"CounterfactualTraining(target={self.target!r}, random_state={self.random_state!r})"

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the settings."""
        return {"graph": self.graph, "target": self.target, "random_state": self.random_state}

    def set_params(self, **settings: Any) -> CounterfactualTraining:
        """Change settings."""
        for name, value in settings.items():
            setattr(self, name, value)
        return self

    def fit(
        self,
        X: np.ndarray,
        y: pd.Series | pd.DataFrame,
        *,
        biology: pd.Series,
        covariates: pd.DataFrame | None = None,
        groups: np.ndarray | None = None,
    ) -> CounterfactualTraining:
        """Fit the causal model of the embedding and move the rows.

        Parameters
        ----------
        X
            ``(n, d)`` embeddings.
        y
            Technical columns of the graph: a table, or the only one.
        biology, covariates
            The other columns of the graph.
        groups
            ``(n,)`` patients; None: every row is one.

        Returns
        -------
        CounterfactualTraining
            Itself.

        Raises
        ------
        DataError, GraphError, NotIdentifiedError
            Columns that do not fit the graph, or a design in which no row can be moved.
        """
        import pandas as pd

        from causalfm.arguments import check_type
        from causalfm.cohort import Cohort
        from causalfm.estimators.correctors.scm_parts import unit_columns
        from causalfm.graph import CausalGraph
        from causalfm.scm import EmbeddingSCM

        check_type(self.graph, CausalGraph, "graph", "declare one: it says what is technical")
        graph = self.graph
        assert graph is not None
        parts = [y.to_frame(graph.technical[0]) if isinstance(y, pd.Series) else y, biology.to_frame(graph.biology)]
        parts += [] if covariates is None else [covariates]
        parts.append(pd.DataFrame(unit_columns(graph, groups, len(X))))
        obs = pd.concat([part.reset_index(drop=True) for part in parts], axis=1)
        cohort = Cohort(X, obs)
        scm = EmbeddingSCM(graph).fit(cohort)
        moved = balanced_counterfactuals(scm, cohort, target=self.target, random_state=self.random_state)
        self.training_ = np.asarray(moved.X)
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Return new rows as they are."""
        return np.asarray(X)
