"""Structural causal model with the embedding as one vector-valued node."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, overload

import numpy as np

from causalfm.arguments import check_choice, check_flag, check_seed, check_type, check_whole
from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.graph_checks import check_inputs
from causalfm.model_files import read_model, write_model
from causalfm.scm.contrasts import InterventionalContrast, interventional_contrast
from causalfm.scm.counterfactuals import RowErrors, scale_error
from causalfm.scm.draws import draw_rows, log_density
from causalfm.scm.fitted import Fitted, fit_model
from causalfm.scm.interventions import intervene
from causalfm.scm.mechanisms import mechanism_named
from causalfm.scm.new_levels import POLICIES, Met, meet
from causalfm.scm.number_errors import number_errors
from causalfm.scm.packing import KIND, graph_header, pack, unpack
from causalfm.scm.pair_maps import with_pairs
from causalfm.scm.pair_moves import move_rows
from causalfm.scm.support import refuse_unsupported

SETTINGS = ("mechanism", "assume", "random_state", "unseen")


class EmbeddingSCM:
    """Causal model in which the embedding is one vector-valued node: what would it be at another scanner.

    Parameters
    ----------
    graph
        Declared graph. The parents of ``Z`` enter its mean; nodes below an intervention follow it.
    mechanism
        ``"additive"``: levels shift the mean. ``"location-scale"``: they stretch the residual too, dimension by
        dimension; ``"optimal-transport"``: they reshape its covariance; ``"flow"``: they bend it, by an invertible
        network trained on rows. ``"interaction"``: additive, and biology changes the shifts;
        ``"interaction-location-scale"``: both; ``"random-effects"``: as interaction, shrunken direction by direction.
    assume
        ``"additive"`` lets rows move to a level at which fewer than three patients of their biology were seen; the
        default refuses them.
    random_state
        Seed of the exogenous noise of categorical nodes, and of the training of a flow.
    unseen
        Rows at levels of technical factors that the fit never saw: ``"refuse"``; ``"shrink"``, effects drawn from the
        population of the levels seen; ``"adapt"``, learned from these rows, given their biology if it is there.
    device
        Torch device on which a flow is trained; None is the CPU.

    Notes
    -----
    Estimand: the regression of ``Z`` on its parents in which patients weigh equally, and rows equally within a patient.
    Levels (ordinal ones too) are indicators that add up over factors, numbers enter as quadratic splines. Assumptions:
    the graph, independent patients, and for rows the coupling printed by :attr:`coupling`: which counterfactual belongs
    to which row cannot be learned from unpaired data. :meth:`contrast` and :meth:`interventional` need no coupling.
    Mechanisms that stretch or cross move a row by its own biology too, which the moved row then carries: how well
    biology is read from counterfactual rows says nothing about the embedding.

    Examples
    --------
    >>> scm = EmbeddingSCM(graph, mechanism="location-scale").fit(cohort)  # doctest: +SKIP
    >>> moved = scm.counterfactual(cohort, do={"scanner": "S60"})  # doctest: +SKIP
    """

    def __init__(
        self,
        graph: CausalGraph,
        mechanism: str = "additive",
        *,
        assume: Literal["additive"] | None = None,
        random_state: int = 0,
        unseen: Literal["refuse", "shrink", "adapt"] = "refuse",
        device: str | None = None,
    ) -> None:
        check_type(graph, CausalGraph, "graph", "make one with CausalGraph(arrows, biology=..., ...)")
        check_seed(random_state)
        check_choice(unseen, "unseen", POLICIES)
        if assume not in (None, "additive"):
            raise DataError(f"assume={assume!r}: choose None or 'additive'.")
        self.graph, self.mechanism, self.assume, self.random_state = graph, mechanism, assume, random_state
        self.unseen = unseen
        self._mechanism = mechanism_named(mechanism, random_state, device)
        self._fitted: Fitted | None = None

    def __repr__(self) -> str:
        state = "not fitted" if self._fitted is None else f"{self._fitted.n} rows, {self._fitted.n_groups} units"
        return f"EmbeddingSCM({self.mechanism!r}, {state})"

    @property
    def coupling(self) -> str:
        """What ties a row to its counterfactual: an assumption."""
        return self._mechanism.coupling

    @property
    def fitted(self) -> Fitted:
        """What was learned.

        Raises
        ------
        DataError
            Before :meth:`fit`.
        """
        if self._fitted is None:
            raise DataError("this EmbeddingSCM is not fitted: call fit(cohort) first, or use EmbeddingSCM.load(path).")
        return self._fitted

    def fit(self, cohort: Cohort, pairs: Cohort | None = None) -> EmbeddingSCM:
        """Learn all mechanisms in two passes over the rows.

        Parameters
        ----------
        cohort
            Embeddings ``(n, d)``, may be a memory map, and table.
        pairs
            Rows of the same tissue (``graph.specimen``) at several levels of technical factors. They correct the
            rows of :meth:`counterfactual` and give prediction intervals (ADR 15).

        Returns
        -------
        EmbeddingSCM
            This model.

        Raises
        ------
        GraphError, NotIdentifiedError
            A cohort that does not fit the graph; an unmeasured common cause of ``Z`` and its parents; selection.
        DataError
            See :meth:`causalfm.CausalGraph.check`; too few patients, too many levels, embeddings that do not vary.
        """
        check_inputs(cohort, self.graph)
        self._fitted = with_pairs(fit_model(cohort, self.graph, self._mechanism), cohort, pairs, self.graph)
        return self

    @overload
    def counterfactual(
        self, cohort: Cohort, do: Mapping[str, Any], *, return_uncertainty: Literal[False] = False
    ) -> Cohort: ...

    @overload
    def counterfactual(
        self, cohort: Cohort, do: Mapping[str, Any], *, return_uncertainty: Literal[True]
    ) -> tuple[Cohort, RowErrors]: ...

    def counterfactual(
        self, cohort: Cohort, do: Mapping[str, Any], *, return_uncertainty: bool = False
    ) -> Cohort | tuple[Cohort, RowErrors]:
        """Say what each row would have been: abduction, action, prediction.

        Parameters
        ----------
        cohort
            Rows, of the fit or new ones at the same levels.
        do
            Node to value, several at once. Measured nodes below them follow, each row by its own abducted noise.
        return_uncertainty
            Return the errors of the rows too: parameter uncertainty under the stated coupling, or, where pairs were
            seen, true prediction intervals (``kind`` says which).

        Returns
        -------
        Cohort
            Float64 for float64 input, else float32. ``obs`` holds the new levels, and the abducted noise in columns
            ``noise:<node>``; ``info["counterfactual"]`` the intervention and the coupling.

        Raises
        ------
        DataError
            Levels that the model never saw, a contrast that the design leaves open (with the table), other dimensions.
        NotIdentifiedError
            A node that follows has an unmeasured common cause with its own causes.
        """
        met = self._meet(cohort, do, return_uncertainty)
        fitted = met.fitted
        source = fitted.mean.parents.read(met.cohort)
        obs = intervene(met.cohort, self.graph, do, fitted.models, met.settable.known, self.random_state)
        target = fitted.mean.parents.read(Cohort._of_finite(cohort.X, obs, {}))
        refuse_unsupported(fitted, self.graph, do, source, target, assume=self.assume)
        if return_uncertainty and fitted.pairs is None:  # before the work, not after it
            scale_error(fitted.noise, source.levels[0], target.levels[0])
        X, obs, errors = move_rows(met.cohort, obs, self.graph, fitted, source, target, self.coupling)
        record = {"do": {k: str(v) for k, v in do.items()}, "mechanism": self.mechanism, "coupling": errors.coupling}
        moved = met.record(X, obs, record)
        if not return_uncertainty:
            return moved
        return moved, replace(errors, unseen=met.note, numbers=number_errors(fitted, self.graph, met.cohort, moved))

    def contrast(self, do: Mapping[str, Any], reference: Mapping[str, Any]) -> InterventionalContrast:
        """Estimate the difference of mean embeddings under two interventions; needs no coupling.

        Parameters
        ----------
        do, reference
            Levels and numbers to set; levels between them and ``Z`` follow.

        Returns
        -------
        InterventionalContrast
            Per dimension with interval, for the patients of the fit.

        Raises
        ------
        DataError
            See :meth:`counterfactual`.
        """
        return interventional_contrast(self.fitted, self.graph, do, reference, self.assume)

    def interventional(self, n: int, do: Mapping[str, Any] | None = None, *, random_state: int = 0) -> Cohort:
        """Draw rows of ``n`` new patients, one each, under an intervention.

        Parameters
        ----------
        n
            How many.
        do
            Node to value; None draws as observed.
        random_state
            Seed of the draw.

        Returns
        -------
        Cohort
            Float32. Noise is Gaussian: principal directions and a round remainder. Numbers are Gaussian around the
            mean of the unit's levels.

        Raises
        ------
        DataError
            See :meth:`counterfactual`.
        """
        check_whole(n, "n", 1)
        check_seed(random_state)
        return draw_rows(self.fitted, self.graph, do or {}, n, np.random.default_rng(random_state), self.assume)

    def log_likelihood(self, cohort: Cohort) -> np.ndarray:
        """Log density of each row given its parents: low where an image lies outside of what the model knows.

        Parameters
        ----------
        cohort
            Rows at levels of the fit.

        Returns
        -------
        numpy.ndarray
            ``(n,)`` in nats, under Gaussian noise with principal directions and a round remainder.

        Raises
        ------
        DataError
            Levels that the model never saw; other dimensions.
        """
        fitted = self._check_width(cohort)
        return log_density(cohort.X, fitted, fitted.mean.parents.read(cohort))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to one safetensors file, whole or not at all: no id, no row, but averages of small cells.

        Raises
        ------
        DataError
            Not fitted, another ending than ``.safetensors``, or a place that cannot be written.
        """
        header, tensors = pack(self.fitted)
        own = {name: getattr(self, name) for name in SETTINGS}
        write_model(path, {**header, **own, "graph": graph_header(self.graph)}, tensors, KIND)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> EmbeddingSCM:
        """Read a model that :meth:`save` wrote.

        Raises
        ------
        DataError
            Missing, damaged or edited, of another kind, or written under a newer schema.
        """
        header, tensors = read_model(path, KIND)
        graph = dict(header["graph"])
        scm = cls(CausalGraph(graph.pop("arrows"), **graph), **{name: header[name] for name in SETTINGS})
        scm._fitted = unpack(header, tensors, scm._mechanism)
        return scm

    def _meet(self, cohort: Cohort, do: Mapping[str, Any], return_uncertainty: object) -> Met:
        """Check the arguments, and know the levels of the cohort."""
        check_flag(return_uncertainty, "return_uncertainty")
        return meet(self._check_width(cohort), self.graph, cohort, do, self.unseen, self.mechanism)

    def _check_width(self, cohort: Cohort) -> Fitted:
        fitted = self.fitted
        check_inputs(cohort, self.graph)
        d = fitted.mean.coefficients.shape[1]
        if cohort.d != d:
            raise DataError(f"X has {cohort.d} dimensions and the model {d}: use embeddings of the same encoder.")
        return fitted
