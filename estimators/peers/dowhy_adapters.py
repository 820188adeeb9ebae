"""DoWhy's estimators and refuters on a scalar outcome, under the declared graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.arrows import EMBEDDING
from causalfm.confidence import level_in_force
from causalfm.errors import DataError, NotIdentifiedError
from causalfm.estimators.peers.scalar_errors import Clusters, ScalarContrast, ScalarEstimates, with_errors
from causalfm.estimators.peers.scalar_samples import ScalarSample
from causalfm.estimators.peers.seeding import contained
from causalfm.estimators.refuting.refutation import KEPT
from causalfm.separation import latent_dag

if TYPE_CHECKING:
    import networkx as nx

    from causalfm.graph import CausalGraph

FAMILIES = {  # beginning of a method's name: DoWhy's estimand, and what the graph must hold
    "backdoor.": ("backdoor", "back-door set"),
    "iv.": ("iv", "instrument"),
    "frontdoor.": ("frontdoor", "front-door variable"),
}
WITH_INTERVALS = ("backdoor.linear_regression",)  # the others bootstrap rows, in minutes
REFUTERS: dict[str, tuple[str, dict[str, Any]]] = {
    "placebo factor": ("placebo_treatment_refuter", {"placebo_type": "permute"}),
    "random common cause": ("random_common_cause", {}),
    "data subset": ("data_subset_refuter", {"subset_fraction": KEPT}),
}


def dowhy_effect(
    sample: ScalarSample,
    graph: CausalGraph,
    *,
    estimator: str = "backdoor.linear_regression",
    method_params: Mapping[str, Any] | None = None,
    clusters: Clusters = None,
    n_bootstrap: int = 100,
    random_state: int = 0,
) -> ScalarEstimates:
    """Estimate the effect on a scalar outcome with a method of DoWhy.

    Parameters
    ----------
    sample
        Rows with roles. ``given`` is the set of a back-door method; instruments and mediators DoWhy finds itself.
    graph
        Declared graph: its nodes, with the outcome in place of ``Z``; ``a <-> b`` is an unobserved cause.
    estimator
        DoWhy's name: ``"backdoor.propensity_score_weighting"``, ``"iv.instrumental_variable"``,
        ``"frontdoor.two_stage_regression"``, ...
    method_params
        Handed to DoWhy.
    clusters, n_bootstrap
        See :func:`causalfm.estimators.peers.scalar_errors.with_errors`.
    random_state
        Seed.

    Returns
    -------
    ScalarEstimates
        Every level against the reference, on the rows of the two. Only linear regression has intervals of its own;
        the others have none unless ``clusters`` is ``"bootstrap"``.

    Raises
    ------
    DataError
        An unknown method, or one that DoWhy cannot run on these columns; the message carries DoWhy's.
    NotIdentifiedError
        No back-door set, instrument or front-door variable in the graph.
    """
    if not estimator.startswith(tuple(FAMILIES)):
        raise DataError(f"estimator={estimator!r} is not available: DoWhy's begin with {', '.join(FAMILIES)}.")

    def fit(part: ScalarSample) -> list[ScalarContrast]:
        return [_contrast(part, graph, pair, estimator, method_params, random_state) for pair in _pairs(part)]

    details = {"given": list(sample.given), "graph": str(graph)}
    return with_errors(sample, fit, estimator, clusters, n_bootstrap, random_state, details)


def dowhy_refutations(
    sample: ScalarSample,
    graph: CausalGraph,
    *,
    estimator: str = "backdoor.linear_regression",
    method_params: Mapping[str, Any] | None = None,
    n_simulations: int = 50,
    random_state: int = 0,
) -> list[dict[str, Any]]:
    """Ask DoWhy's refuters about each contrast.

    Parameters
    ----------
    sample, graph, estimator, method_params, random_state
        See :func:`dowhy_effect`.
    n_simulations
        Repetitions of each refuter.

    Returns
    -------
    list of dict
        ``name``, ``level``, ``reference``, ``before``, ``after`` (the mean over the repetitions), ``p_value``: DoWhy's,
        that the estimate (for the placebo: zero) belongs to what the refuter gave; ``nan`` if nothing moved.

    Notes
    -----
    DoWhy's ``dummy_outcome_refuter`` fails on read-only data, and its data-subset refuter draws the same subset every
    time if it is given a seed (its p-value is then 0): the global generators are seeded instead, and put back.
    """
    out = []
    for pair in _pairs(sample):
        with contained(random_state):
            model, identified, found = _estimated(sample, graph, pair, estimator, method_params)
            for name, (refuter, settings) in REFUTERS.items():
                told = model.refute_estimate(
                    identified, found, method_name=refuter, num_simulations=n_simulations, n_jobs=1, **settings
                )
                p_value = float((told.refutation_result or {}).get("p_value", float("nan")))
                out.append(
                    {
                        "name": name,
                        "level": str(pair[1]),
                        "reference": str(pair[0]),
                        "before": float(found.value),
                        "after": float(told.new_effect),
                        "p_value": p_value,
                    }
                )
    return out


def _pairs(sample: ScalarSample) -> Sequence[tuple[Any, Any]]:
    return [(sample.reference, level) for level in sample.levels[1:]] or [(0, 1)]


def _contrast(
    sample: ScalarSample,
    graph: CausalGraph,
    pair: tuple[Any, Any],
    estimator: str,
    method_params: Mapping[str, Any] | None,
    random_state: int,
) -> ScalarContrast:
    with contained(random_state):
        *_, found = _estimated(sample, graph, pair, estimator, method_params)
        low = high = float("nan")
        if estimator in WITH_INTERVALS:
            low, high = np.ravel(found.get_confidence_intervals(confidence_level=level_in_force())).tolist()
    names = (str(pair[1]), str(pair[0])) if sample.levels else ("+1", "0")
    return ScalarContrast(*names, "", float(found.value), low, high)


def _estimated(
    sample: ScalarSample,
    graph: CausalGraph,
    pair: tuple[Any, Any],
    estimator: str,
    method_params: Mapping[str, Any] | None,
) -> tuple[Any, Any, Any]:
    """DoWhy's model, estimand and estimate for one pair of levels."""
    from dowhy import CausalModel

    frame = sample.frame
    if sample.levels:
        frame = frame[frame[sample.treatment].isin(pair)]
        frame = frame.assign(**{sample.treatment: (frame[sample.treatment] == pair[1]).astype(int)})
    frame = frame.reset_index(drop=True)
    model = CausalModel(frame, sample.treatment, sample.outcome, graph=metadata_graph(graph, sample.outcome))
    identified = model.identify_effect(proceed_when_unidentifiable=True)
    family = estimator.split(".")[0]
    if identified.estimands.get(FAMILIES[f"{family}."][0]) is None:
        what = FAMILIES[f"{family}."][1]
        raise NotIdentifiedError(f"DoWhy finds no {what} for {sample.treatment} under this graph.\nGraph: {graph}")
    if family == "backdoor":  # DoWhy's own choice among the valid sets is arbitrary
        identified.backdoor_variables = {"backdoor": list(sample.given)}
        identified.default_backdoor_id = "backdoor"
    try:
        found = model.estimate_effect(
            identified,
            method_name=estimator,
            control_value=0,
            treatment_value=1,
            target_units="ate",
            effect_modifiers=[],
            method_params=_settings(estimator, method_params),
        )
    except Exception as error:  # whatever DoWhy raises, it is about this method on these columns
        raise DataError(f"DoWhy cannot run {estimator} here: {type(error).__name__}: {error}") from error
    if found.value is None or not np.isfinite(float(found.value)):
        raise DataError(f"DoWhy's {estimator} gives no number here: choose another method.")
    return model, identified, found


def _settings(estimator: str, method_params: Mapping[str, Any] | None) -> dict[str, Any]:
    """DoWhy's ``doubly_robust`` needs a propensity model: without one it fails (0.14)."""
    settings = dict(method_params or {})
    if estimator == "backdoor.doubly_robust":
        from sklearn.linear_model import LogisticRegression

        settings.setdefault("propensity_score_model", LogisticRegression(max_iter=1000))
    return settings


def metadata_graph(graph: CausalGraph, outcome: str) -> nx.DiGraph:
    """Return the declared graph for DoWhy, the outcome in place of ``Z``: it inherits Z's causes."""
    import networkx as nx

    dag = latent_dag(graph, text=True)
    return nx.relabel_nodes(dag, {EMBEDDING: outcome})
