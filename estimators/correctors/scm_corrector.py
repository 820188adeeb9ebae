"""Rows moved to a reference, or to the balanced mean, of the technical levels by the causal model of the embedding."""

from __future__ import annotations

import copy
import os
from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from causalfm.arguments import check_type
from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.estimators.correctors.inputs import read_rows
from causalfm.estimators.correctors.report import Account
from causalfm.estimators.correctors.scm_parts import (
    account_of,
    column_of,
    load_scm,
    refuse_early,
    save_scm,
    targets_of,
    technical_only,
    unit_columns,
)
from causalfm.graph import CausalGraph
from causalfm.lazy_rows import empty_like
from causalfm.scm.embedding_scm import EmbeddingSCM
from causalfm.trimming import common_support


class SCMCorrector(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Remove what technical factors do to ``Z`` along the arrows of the graph, and nothing else.

    Parameters
    ----------
    graph
        Declared graph. Arrows from technical factors to biology and covariates carry case mix: these columns keep
        their values.
    reference
        Level, or a level per technical factor, to which all rows are moved; None: the mean over the combinations of
        technical levels that were seen, all weighing the same.
    mechanism, assume, unseen, random_state
        See :class:`causalfm.EmbeddingSCM`. Only ``"additive"`` needs no labels when it is applied.
    on_violation
        Levels that cannot be compared: ``"refuse"``, or ``"trim"`` the rows of the fit to what can be compared.

    Attributes
    ----------
    scm_
        The fitted :class:`causalfm.EmbeddingSCM`.
    targets_
        Where rows are moved.
    trimmed_
        What was left out, in a sentence; None if nothing was.

    Notes
    -----
    Assumption: the graph, and the coupling printed by ``scm_.coupling``. Patients weigh equally. It takes two passes
    over the rows, so that there is no ``partial_fit``.
    """

    def __init__(
        self,
        graph: CausalGraph | None = None,
        *,
        reference: Any = None,
        mechanism: str = "additive",
        assume: Literal["additive"] | None = None,
        unseen: Literal["refuse", "shrink", "adapt"] = "refuse",
        random_state: int = 0,
        on_violation: Literal["refuse", "trim"] = "refuse",
    ) -> None:
        self.graph = graph
        self.reference = reference
        self.mechanism = mechanism
        self.assume = assume
        self.unseen = unseen
        self.random_state = random_state
        self.on_violation = on_violation

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        factor: Any = None,
        biology: Any = None,
        covariates: Any = None,
        groups: Any = None,
    ) -> SCMCorrector:
        """Learn from training rows.

        Parameters
        ----------
        X
            ``(n, d)`` float16, float32 or float64; may be a memory map.
        y, factor
            ``(n,)`` the technical factor, or a table with a column each; ``factor`` in place of an outcome ``y``.
        biology
            ``(n,)`` the graph's biology.
        covariates
            Table with a column for each of the graph's covariates.
        groups
            ``(n,)`` patients; None: every row is one.

        Returns
        -------
        SCMCorrector
            This corrector.

        Raises
        ------
        DataError
            Columns of the graph that are not given, rows that are not finite, levels that cannot be compared (with the
            table).
        NotIdentifiedError
            A graph under which the technical effect on ``Z`` is not identified.
        """
        y = y if factor is None else factor
        if y is None:
            raise DataError("SCMCorrector requires y to be passed, but the target y is None: y is what to remove.")
        if self.on_violation not in ("refuse", "trim"):
            raise DataError(f"on_violation={self.on_violation!r}: choose 'refuse' or 'trim'.")
        graph = technical_only(self._graph())
        X = read_rows(self, X, reset=True)
        if one := [name for name, column in self._technical(y, len(X)).items() if column.nunique() < 2]:
            raise DataError(f"{', '.join(map(str, one))} has 1 class: there is nothing to remove.")
        cohort = self._cohort(X, y, biology, covariates, groups)
        trimmed = None
        try:
            scm = self._fitted(graph, cohort)
        except DataError:
            if self.on_violation == "refuse":
                raise
            support = common_support(cohort, graph, of=graph.technical)
            scm, trimmed = self._fitted(graph, support.trim(cohort)), support.sentence
        self.scm_, self.targets_, self.trimmed_ = scm, targets_of(self.reference, scm), trimmed
        return self

    def fit_transform(self, X: Any, y: Any = None, **params: Any) -> Any:
        """Fit, then correct the same rows: their result is no measure of what new rows will get."""
        factor = params.get("factor")
        return self.fit(X, y, **params).transform(X, factor=y if factor is None else factor)

    def transform(self, X: Any, factor: Any = None) -> Any:
        """Move rows, given their technical levels.

        Parameters
        ----------
        X
            ``(n, d)``.
        factor
            As ``y`` at the fit.

        Returns
        -------
        numpy.ndarray
            ``(n, d)``, float64 for float64 input, else float32; a new array.

        Raises
        ------
        DataError
            No ``factor``; a mechanism that moves classes differently; levels that the fit never saw.
        """
        check_is_fitted(self)
        X = read_rows(self, X, reset=False)
        if factor is None:
            raise DataError("SCMCorrector moves each row from its level: transform(X, factor=...) needs them.")
        if self.mechanism != "additive":
            raise DataError(
                f"mechanism={self.mechanism!r} moves a row by its biology too: use "
                "transform_given(X, factor, biology=, covariates=), or mechanism='additive'."
            )
        scm, graph = copy.copy(self.scm_), self.scm_.graph
        scm.assume = "additive"  # which cells hold enough patients was settled at the fit; classes are not known here
        fitted, known = scm.fitted, dict(zip(scm.fitted.columns, scm.fitted.levels, strict=True))
        obs = self._technical(factor, len(X))
        learned = self.unseen == "adapt" and any(not set(obs[t].astype(str)) <= set(known[t]) for t in graph.technical)
        if learned and graph.covariates:
            raise DataError("unseen='adapt' needs the covariates of the rows: use transform_given.")
        for name in (*graph.covariates, *(() if learned else (graph.biology,))):  # cancels in an additive mean
            number = name in fitted.continuous
            obs[name] = fitted.patients @ fitted.numbers[:, fitted.continuous.index(name)] if number else known[name][0]
            obs[name] = obs[name] / fitted.patients.sum() if number else obs[name]
        return self._moved(scm, self._settled(X, obs, None))

    def transform_given(
        self, X: Any, factor: Any, *, biology: Any, covariates: Any = None, groups: Any = None
    ) -> np.ndarray:
        """Move rows whose biology and covariates are known; a trace of them stays unless the mechanism is additive.

        Parameters
        ----------
        X, factor, biology, covariates, groups
            As at the fit, for these rows.

        Returns
        -------
        numpy.ndarray
            ``(n, d)``.

        Raises
        ------
        DataError
            See :meth:`causalfm.EmbeddingSCM.counterfactual`.
        """
        check_is_fitted(self)
        X = read_rows(self, X, reset=False)
        return self._moved(self.scm_, self._cohort(X, factor, biology, covariates, groups))

    def account(self, factor: Any) -> Account:
        """Say what :meth:`transform` does to rows at these levels; one entry per combination."""
        check_is_fitted(self)
        return account_of(self, self._technical(factor, len(factor)))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model and the settings to one safetensors file.

        Raises
        ------
        DataError
            Another ending than ``.safetensors``, or a place that cannot be written.
        """
        check_is_fitted(self)
        save_scm(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SCMCorrector:
        """Read a corrector that :meth:`save` wrote.

        Raises
        ------
        DataError
            Missing, damaged, edited, of another class, or written under a newer schema.
        """
        loaded: SCMCorrector = load_scm(cls, path)
        return loaded

    def _fitted(self, graph: CausalGraph, cohort: Cohort) -> EmbeddingSCM:
        settings = {name: getattr(self, name) for name in ("assume", "random_state", "unseen")}
        scm = EmbeddingSCM(graph, self.mechanism, **settings).fit(cohort)
        refuse_early(scm, cohort, targets_of(self.reference, scm))
        return scm

    def _graph(self) -> CausalGraph:
        check_type(self.graph, CausalGraph, "graph", "declare one: it says what is technical")
        assert self.graph is not None
        return self.graph

    def _moved(self, scm: EmbeddingSCM, cohort: Cohort) -> np.ndarray:
        """Mean over the targets."""
        total = empty_like(cohort.X, np.float64)
        total[:] = 0.0
        for target in self.targets_:
            total += scm.counterfactual(cohort, target).X
        total /= len(self.targets_)
        return total if cohort.X.dtype == np.float64 else total.astype(np.float32)

    def _cohort(self, X: np.ndarray, factor: Any, biology: Any, covariates: Any, groups: Any) -> Cohort:
        if biology is None:
            raise DataError("SCMCorrector needs the biology of the graph: pass biology=.")
        obs, graph = self._technical(factor, len(X)), self._graph()
        obs[graph.biology] = column_of(biology, len(X), "biology")
        if graph.covariates:
            have = list(covariates.columns) if isinstance(covariates, pd.DataFrame) else []
            if missing := [name for name in graph.covariates if name not in have]:
                raise DataError(
                    f"covariates lacks {', '.join(map(repr, missing))} of the graph: pass a table with them."
                )
            for name in graph.covariates:
                obs[name] = column_of(covariates[name], len(X), name)
        return self._settled(X, obs, groups)

    def _technical(self, factor: Any, n: int) -> pd.DataFrame:
        names = self._graph().technical
        if isinstance(factor, pd.DataFrame) and len(names) > 1:
            if missing := [name for name in names if name not in factor.columns]:
                raise DataError(f"the factor lacks the columns {', '.join(map(repr, missing))} of the graph.")
            return pd.DataFrame({name: column_of(factor[name], n, name) for name in names})
        if len(names) > 1:
            raise DataError(f"the graph has {len(names)} technical factors: pass a table with {', '.join(names)}.")
        return pd.DataFrame({names[0]: column_of(factor, n, "the factor")})

    def _settled(self, X: np.ndarray, obs: pd.DataFrame, groups: Any) -> Cohort:
        return Cohort(X, obs.assign(**unit_columns(self._graph(), groups, len(X))))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
