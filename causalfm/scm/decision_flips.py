"""Counterfactual audit of a downstream model: what would it have decided at another hospital."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from causalfm.arguments import check_seed, check_type
from causalfm.cohort import Cohort
from causalfm.errors import CausalFMError, DataError
from causalfm.graph_checks import check_inputs
from causalfm.results import CAVEAT, Result
from causalfm.scm.embedding_scm import EmbeddingSCM
from causalfm.scm.fitted import fit_model
from causalfm.scm.flip_counts import Asked, count_flips
from causalfm.scm.flip_tables import PER, FlipRate, rates_of
from causalfm.scm.pair_maps import refuse_pairs
from causalfm.scm.refits import FOLDS, deal
from causalfm.scm.scores import scorer_of


@dataclass(frozen=True)
class Flips(Result):
    """Decisions that change when a factor is set to another level.

    Attributes
    ----------
    of, levels
        The factor and its levels.
    pairs
        One rate per ordered pair of levels; ``nan`` where no row could be moved.
    who
        Rates by source level, and by source level and class of the biology, over all other levels.
    worst
        The pair with the largest rate, its interval holding jointly over all pairs; None if there is none.
    not_moved
        Per ordered pair with rows that the model of the embedding cannot move: how many, first positions, the reason.
    coupling
        What ties a row to its counterfactual: an assumption, not part of the intervals.
    n, n_groups, unit
        Rows and independent units looked at.
    details
        Weights, intervals, decisions.
    """

    of: str
    levels: tuple[str, ...]
    pairs: tuple[FlipRate, ...]
    who: tuple[FlipRate, ...]
    worst: FlipRate | None
    not_moved: tuple[Mapping[str, Any], ...]
    coupling: str
    n: int
    n_groups: int
    unit: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per ordered pair of levels, then who flips."""
        return [rate.row() for rate in (*self.pairs, *self.who)]


def flips(
    scm: EmbeddingSCM,
    cohort: Cohort,
    model: Any,
    *,
    of: str | None = None,
    n_folds: int = FOLDS,
    random_state: int = 0,
) -> Flips:
    """Count the decisions of a model that change when every row is moved to another level of a factor.

    Parameters
    ----------
    scm
        Fitted model of the embedding.
    cohort
        Rows to decide on: the cohort of the fit, or new patients at its levels.
    model
        Downstream model, taken as it is: ``(n, d) -> (n, classes)``, or a fitted estimator with ``predict_proba`` or
        ``decision_function``. It decides for the largest score; a single decision function is cut at 0.
    of
        Categorical technical node; the graph's first technical factor by default. Nodes below it follow.
    n_folds
        On the cohort of the fit the model of the embedding is fitted again without each fold of patients.
    random_state
        Seed of the folds.

    Returns
    -------
    Flips
        Rates per 1,000 decisions with intervals by patient, mean changes of the scores, who flips, the worst pair, and
        the rows that could not be moved.

    Raises
    ------
    DataError
        A model without scores, another encoder, no row that can be moved.
    GraphError
        A factor that is no technical node with levels.

    Notes
    -----
    Which counterfactual belongs to which row rests on the coupling of the mechanism, which unpaired data cannot check.
    An error of the model of the embedding changes decisions too, so that rates are above 0 even if levels do nothing:
    ``chance`` is the rate that such errors give alone, drawn from the models fitted without each fold, and the lower
    end is 0 where the rate is not above 19 in 20 of these draws. Intervals: Wilson's with the patients' effective
    number of decisions, from a jackknife over folds of patients; on other cohorts than that of the fit the model of
    the embedding is taken as known, and there is no ``chance``.

    References
    ----------
    Korn and Graubard, Survey Methodology 24 (1998) 193-201.
    """
    check_type(scm, EmbeddingSCM, "scm", "make one with EmbeddingSCM(graph).fit(cohort)")
    check_inputs(cohort, scm.graph)
    check_seed(random_state)
    fitted, graph = scm.fitted, scm.graph
    refuse_pairs(fitted, "flips fits the model again without some patients")
    factor = graph.technical[0] if of is None else of
    if not isinstance(factor, str) or factor not in graph.technical or fitted.known(factor) is None:
        raise DataError(f"of={of!r} is no technical node with levels: choose among {', '.join(graph.technical)}.")
    levels = fitted.known(factor) or ()
    if cohort.d != fitted.mean.coefficients.shape[1]:
        raise DataError(f"X has {cohort.d} dimensions, the model of the embedding others: use the same encoder.")
    by = scorer_of(model, cohort.X, decisions=True)
    units = cohort.factor(graph.group, private=True)
    folds = deal(units, cohort.factor(factor).codes, n_folds, random_state)
    n_parts = int(folds.max()) + 1
    models, note = _without_each(scm, cohort, folds)
    strict = copy.copy(scm)
    strict.unseen = "refuse"  # rows are moved in parts: a level must not be learned from each part anew
    asked = Asked(cohort, factor, tuple(levels), by, folds)
    biology = cohort.factor(graph.biology)
    found = count_flips(strict, models, asked, biology, units, random_state)
    pairs, who, worst = rates_of(found, asked, biology, units)
    details = {
        "per": PER,
        "weights": f"rows equal within a {graph.group}, {graph.group}s equal",
        "decision": "score above 0" if by.single else "largest score",
        "classes": by.classes,
        "intervals": f"jackknife over {n_parts} folds of {graph.group}s; the model of the embedding is {note}",
        "mechanism": scm.mechanism,
        "caveat": CAVEAT,
    }
    rest = (pairs, who, worst, found.not_moved, scm.coupling, len(cohort), units.n_levels, graph.group, details)
    return Flips(factor, tuple(levels), *rest)


def _without_each(scm: EmbeddingSCM, cohort: Cohort, folds: np.ndarray) -> tuple[list[EmbeddingSCM], str]:
    """Models fitted without each fold of patients; none, and why, where that cannot be."""
    graph, alike = scm.graph, copy.copy(scm)
    alike.assume, alike.unseen = "additive", "refuse"
    if cohort.fingerprint(graph.columns) != scm.fitted.fingerprint:
        return [], "taken as known: another cohort than that of the fit"
    models: list[EmbeddingSCM] = []
    try:
        for f in range(int(folds.max()) + 1):
            models.append(copy.copy(alike))
            models[-1]._fitted = fit_model(cohort[folds != f], graph, scm._mechanism, rows_only=True)
    except CausalFMError as error:
        return [], f"taken as known: {error}"
    return models, "fitted again without each"
