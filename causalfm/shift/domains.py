"""The reference hospitals and the new one: two domains with the same columns, classes and model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from causalfm.arguments import check_seed, check_type
from causalfm.cohort import Cohort, Factor
from causalfm.errors import DataError, positions
from causalfm.graph import CausalGraph
from causalfm.graph_checks import check_inputs
from causalfm.invariance.aligned import aligned_predictions
from causalfm.scm.scores import scorer_of
from causalfm.shift.class_scores import in_class_order
from causalfm.shift.heads import held_out_scores

UNKNOWN = -1
SIDES = ("reference", "deployment")


@dataclass(frozen=True, eq=False)
class Domain:
    """One of the two domains.

    Attributes
    ----------
    cohort
        Embeddings ``(n, d)`` and table.
    labels
        ``(n,)`` codes in ``Domains.classes``; -1 where the biology is not known (deployment only).
    units
        ``(n,)`` codes of the independent unit, from 0 without gaps.
    sites
        ``(n,)`` codes in ``Domains.sites``.
    scores
        ``(n, classes)`` probabilities of the model. In the reference they come from a model that was not trained on the
        row's patient: fitted here without it, or the user's, who answers for it.
    """

    cohort: Cohort
    labels: np.ndarray
    units: np.ndarray
    sites: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.cohort)

    @property
    def known(self) -> np.ndarray:
        """``(n,)`` rows whose biology is known."""
        return np.asarray(self.labels != UNKNOWN)

    def weights(self) -> np.ndarray:
        """``(n,)`` row weights under which patients weigh the same; they add up to the number of patients."""
        return np.asarray(1.0 / np.bincount(self.units)[self.units], dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Domains:
    """Reference and deployment under one graph.

    Attributes
    ----------
    reference, deployment
        The two domains.
    graph
        Declared graph.
    site
        The first technical factor: what a new hospital is a level of.
    classes
        Levels of the biology in the reference; columns of scores.
    sites
        Levels of ``site``: the reference's, then those that only the deployment has.
    n_reference_sites
        How many of ``sites`` the reference has.
    site_out
        ``(n_reference, classes)`` scores of a model that has not seen the row's site: what a back-test leans on. The
        model's own where it was given (``refitted`` is False); ``nan`` rows where a class lives at that site alone.
    model
        The model in words.
    refitted
        Whether the model is a linear head fitted here, and so fitted again without patients and sites.
    random_state
        Seed of folds.
    """

    reference: Domain
    deployment: Domain
    graph: CausalGraph
    site: str
    classes: tuple[str, ...]
    sites: tuple[str, ...]
    n_reference_sites: int
    site_out: np.ndarray
    model: str
    refitted: bool
    random_state: int

    @property
    def unseen_sites(self) -> tuple[str, ...]:
        """Sites of the deployment that the reference does not have."""
        return self.sites[self.n_reference_sites :]


def as_domains(
    reference: Cohort,
    deployment: Cohort,
    graph: CausalGraph,
    *,
    predictions: pd.DataFrame | Mapping[str, pd.DataFrame] | None = None,
    model: Any = None,
    random_state: int = 0,
) -> Domains:
    """Bring two cohorts, their labels and a model's probabilities into one shape, or refuse.

    Parameters
    ----------
    reference
        Hospitals whose biology is known, for every row.
    deployment
        The new hospital or hospitals, same encoder. The biology column may be absent or empty in any rows.
    graph
        Declared graph; its first technical factor is the site.
    predictions
        Probabilities of a model, one column per class: ``{"reference": table, "deployment": table}``, or one table of
        both if no row id is in both. Those of the reference must come from a model not trained on its patients.
    model
        Instead: ``(n, d) -> (n, classes)`` probabilities, or a fitted estimator with ``predict_proba``. Without model
        and predictions a linear head is fitted to the reference here.
    random_state
        Seed of the head's folds.

    Returns
    -------
    Domains
        The two domains, with scores.

    Raises
    ------
    DataError, GraphError
        Other dimensions, a patient in both cohorts, classes that the reference does not know, scores that are no
        probabilities.
    """
    check_inputs(reference, graph)
    check_type(deployment, Cohort, "deployment", "read one with causalfm.read")
    check_seed(random_state)
    if deployment.d != reference.d:
        raise DataError(
            f"deployment has {deployment.d} dimensions and the reference {reference.d}: use the same encoder for both."
        )
    site, classes = graph.technical[0], reference.factor(graph.biology).levels
    known, here = reference.factor(site).levels, deployment.factor(site).levels
    sites = (*known, *(level for level in here if level not in known))
    _refuse_shared_units(reference, deployment, graph)
    labels = reference.factor(graph.biology).codes, known_labels(deployment, graph.biology, classes)
    places = [_codes(cohort.factor(site), sites) for cohort in (reference, deployment)]
    units = [cohort.factor(graph.group, private=True).codes for cohort in (reference, deployment)]
    if given := _given_scores(reference, deployment, graph, classes, predictions, model):
        scores, site_out = given, given[0]
    else:
        first, site_out, second = held_out_scores(
            reference.X, labels[0], units[0], places[0], deployment.X, random_state=random_state
        )
        scores = first, second
    words = "the model given" if given else "a linear head fitted to the reference"
    return Domains(
        Domain(reference, labels[0], units[0], places[0], scores[0]),
        Domain(deployment, labels[1], units[1], places[1], scores[1]),
        graph,
        site,
        classes,
        sites,
        len(known),
        site_out,
        words,
        not given,
        random_state,
    )


def _codes(factor: Factor, levels: tuple[str, ...]) -> np.ndarray:
    where = {level: code for code, level in enumerate(levels)}
    return np.asarray(np.array([where[level] for level in factor.levels], dtype=np.int64)[factor.codes])


def known_labels(deployment: Cohort, biology: str, classes: tuple[str, ...]) -> np.ndarray:
    """Return the ``(n,)`` codes of the biology in ``classes``, -1 where it is missing or there is no such column."""
    out = np.full(len(deployment), UNKNOWN, dtype=np.int64)
    if biology not in deployment.obs.columns:
        return out
    there = deployment.obs[biology].notna().to_numpy()
    if not there.any():
        return out
    factor = deployment[there].factor(biology)
    if more := [level for level in factor.levels if level not in classes]:
        rows = np.flatnonzero(there)[np.isin(factor.codes, [factor.levels.index(level) for level in more])]
        raise DataError(
            f"{len(rows)} rows of the deployment ({positions(rows.tolist())}) have a {biology} that the reference "
            f"does not know: {', '.join(more)}. No model of the reference can name it: leave them out, or relabel them."
        )
    out[there] = _codes(factor, classes)
    return out


def _refuse_shared_units(reference: Cohort, deployment: Cohort, graph: CausalGraph) -> None:
    known = set(reference.factor(graph.group, private=True).levels)
    factor = deployment.factor(graph.group, private=True)
    both = np.flatnonzero(np.array([level in known for level in factor.levels])[factor.codes]).tolist()
    if both:
        raise DataError(
            f"{len(both)} rows of the deployment ({positions(both)}) belong to a {graph.group} that the reference has "
            "too: the two are not independent. Leave these rows out of one of them; if ids are only counted anew at "
            "each hospital, put the hospital before them."
        )


def _given_scores(
    reference: Cohort, deployment: Cohort, graph: CausalGraph, classes: tuple[str, ...], predictions: Any, model: Any
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return probabilities of both cohorts from the user's predictions or model, or None without either."""
    if predictions is not None and model is not None:
        raise DataError("give predictions or a model, not both: they could disagree.")
    if predictions is not None:
        tables = _tables(predictions, reference, deployment)
        first, second = (
            aligned_predictions(tables[name], cohort, graph.biology, classes)
            for name, cohort in zip(SIDES, (reference, deployment), strict=True)
        )
        return first, second
    if model is None:
        return None
    scorer = scorer_of(model, reference.X, decisions=True)
    found = [scorer.scores(cohort.X) for cohort in (reference, deployment)]
    first, second = (in_class_order(table, scorer, classes, name) for name, table in zip(SIDES, found, strict=True))
    return first, second


def _tables(predictions: Any, reference: Cohort, deployment: Cohort) -> Mapping[str, pd.DataFrame]:
    if isinstance(predictions, Mapping):
        if set(predictions) != set(SIDES):
            raise DataError("predictions needs two tables: {'reference': ..., 'deployment': ...}.")
        return predictions
    check_type(predictions, pd.DataFrame, "predictions", "or {'reference': table, 'deployment': table}")
    if reference.obs.index.isin(deployment.obs.index).any():
        raise DataError(
            "predictions is one table, and some row ids are in both cohorts: pass {'reference': ..., 'deployment': ...}"
        )
    indices = reference.obs.index, deployment.obs.index
    extra = np.flatnonzero(~predictions.index.isin(indices[0].append(indices[1]))).tolist()
    if extra:
        raise DataError(f"{len(extra)} rows of predictions ({positions(extra)}) are in neither cohort: leave them out.")
    return {name: predictions[predictions.index.isin(index)] for name, index in zip(SIDES, indices, strict=True)}
