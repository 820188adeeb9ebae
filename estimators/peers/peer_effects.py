"""Estimators of EconML and DoWhy by name: the same question, the same result, on one scalar outcome."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.arguments import columns_of
from causalfm.arrows import names
from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.estimators.effect_questions import Posed, pose
from causalfm.estimators.effect_result import Effect
from causalfm.estimators.effect_rows import nothing
from causalfm.estimators.influence.nuisances import Nuisances
from causalfm.estimators.outcomes import read_outcome
from causalfm.estimators.peers import dowhy_adapters, econml_adapters
from causalfm.estimators.peers.scalar_errors import ScalarEstimates
from causalfm.estimators.peers.scalar_samples import ScalarSample, scalar_sample
from causalfm.graph_checks import check_inputs
from causalfm.positivity import Overlap, inside
from causalfm.strata import stratify

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph

UNIDENTIFIED_BY_US = ("iv.", "frontdoor.")  # no conditioning set: DoWhy identifies these


def is_peer(estimator: str) -> bool:
    """Whether an estimator is one of another package."""
    return isinstance(estimator, str) and estimator.startswith((econml_adapters.PREFIX, *dowhy_adapters.FAMILIES))


def peer_effect(cohort: Cohort, graph: CausalGraph, arguments: Mapping[str, Any]) -> Effect:
    """Estimate with another package.

    Parameters
    ----------
    cohort, graph, arguments
        Those of :func:`causalfm.effect`.

    Returns
    -------
    Effect
        One row per level (and subgroup, column ``among``); no joint distance, no biology beside it. ``details`` hold
        the sentence that says whether the errors are clustered.

    Raises
    ------
    DataError
        Several treatments, an outcome that is not one number per row, arguments that the estimator does not take.
    GraphError, NotIdentifiedError
        The graph does not identify the effect this way.
    """
    estimator, factors = arguments["estimator"], names(arguments["treatment"])
    _check(estimator, factors, arguments)
    if estimator.startswith(UNIDENTIFIED_BY_US):
        posed = _posed_by_dowhy(cohort, graph, factors, arguments)
    else:
        asked = ("treatment", "outcome", "score", "effect", "pool_rare", "minimum", "confirm", "random_state")
        posed = pose(cohort, graph, **{name: arguments[name] for name in asked})
    if len(posed.outcome.names) != 1:
        raise DataError(
            f"estimator={estimator!r} takes one number per row and outcome {posed.outcome.name!r} has "
            f"{len(posed.outcome.names) or posed.cohort.d}: give a column, or one column of the predictions."
        )
    call = {"cohort": cohort, "graph": graph, "arguments": dict(arguments)}
    if posed.reason:
        return _effect(posed, estimator, None, call)
    sample = _sample(posed, arguments)
    return _effect(posed, estimator, run_peer(sample, graph, arguments), {**call, "sample": sample})


def run_peer(sample: ScalarSample, graph: CausalGraph, arguments: Mapping[str, Any]) -> ScalarEstimates:
    """Call the package on a sample."""
    estimator = arguments["estimator"]
    shared = {name: arguments[name] for name in ("clusters", "n_bootstrap", "random_state")}
    if not estimator.startswith(econml_adapters.PREFIX):
        return dowhy_adapters.dowhy_effect(sample, graph, estimator=estimator, **shared)
    given: Nuisances | None = arguments["nuisances"]
    models = econml_adapters.as_nuisances(estimator, given.outcome, given.propensity) if given else {}
    return econml_adapters.econml_effect(
        sample, estimator=estimator, folds=arguments["folds"], nuisances=models, **shared
    )


def _check(estimator: str, factors: tuple[str, ...], arguments: Mapping[str, Any]) -> None:
    if len(factors) != 1:
        raise DataError(f"estimator={estimator!r} takes one treatment, not {len(factors)}.")
    if np.ndim(arguments["folds"]) != 0:
        raise DataError(f"estimator={estimator!r} takes a number of folds: whole groups are dealt to them.")
    if arguments["trim"] is not None or arguments["coding"] != "reference":
        raise DataError(f"estimator={estimator!r} takes neither trim= nor coding='effect': leave them out.")
    if not estimator.startswith(econml_adapters.PREFIX):
        if arguments["heterogeneity"] or arguments["nuisances"] is not None:
            raise DataError(f"estimator={estimator!r} takes neither heterogeneity= nor nuisances=: choose econml.*")
        if arguments["effect"] != "total":
            raise DataError(f"estimator={estimator!r} estimates total effects: choose another for effect='direct'.")


def _posed_by_dowhy(
    cohort: Cohort, graph: CausalGraph, factors: tuple[str, ...], arguments: Mapping[str, Any]
) -> Posed:
    check_inputs(cohort, graph)
    read = read_outcome(cohort, graph, arguments["outcome"], arguments["score"])
    graph.check(read.cohort, doses=True)
    continuous = graph.kind(factors[0], cohort) == "continuous"
    levels = () if continuous else cohort.factor(factors[0]).levels
    method = arguments["estimator"].split(".")[0]
    sentence = f"Identified by DoWhy ({method}) from the declared graph; overlap does not enter."
    found = Overlap(
        factors[0], (), "cannot tell", sentence, True, levels, (), (), None, arguments["minimum"], continuous=continuous
    )
    return Posed(read.cohort, graph, factors, found, read, "", {"given": [], "question": sentence})


def _sample(posed: Posed, arguments: Mapping[str, Any]) -> ScalarSample:
    """Lay out the rows of the groups that can be compared."""
    cohort, found = posed.cohort, posed.found
    rows = np.ones(len(cohort), dtype=bool)
    if found.table is not None and not found.paired and not found.continuous:
        strata = stratify(cohort, posed.graph, posed.factors, found.given)
        rows = inside(strata, found.table)[strata.groups.codes]
    cohort = cohort if rows.all() else cohort[rows]
    name = posed.outcome.name
    return scalar_sample(
        cohort,
        posed.graph,
        treatment=posed.factors[0],
        outcome=np.asarray(cohort.X[:, 0], dtype=float),
        name="outcome" if name in posed.graph.columns else name,
        given=found.given,
        heterogeneity=columns_of(arguments["heterogeneity"], "heterogeneity"),
        reference=arguments["reference"] if not found.continuous else None,
    )


def _effect(posed: Posed, estimator: str, found: ScalarEstimates | None, call: Mapping[str, Any]) -> Effect:
    n, unit = len(posed.cohort), posed.graph.group
    details = {**posed.details, "reason": posed.reason}
    if found is not None:
        n = found.n
        details = {**posed.details, **found.details, "clusters": found.clusters, "sentence": found.sentence}
    return Effect(
        treatment=posed.found.factor,
        reference=found.contrasts[0].reference if found else "",
        outcome=posed.outcome.name,
        estimator=estimator,
        levels=tuple(found.rows()) if found else (),
        joint=nothing("mean_squared_distance", n, unit),
        biology=None,
        ratio=nothing("distance_ratio", n, unit),
        overlap=posed.found,
        details=details,
        _call=call,
    )
