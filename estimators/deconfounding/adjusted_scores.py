"""Accuracy and Brier score where the factor is independent of biology and covariates, doubly robustly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from causalfm.cohort import Cohort
from causalfm.errors import CausalFMError
from causalfm.estimators.deconfounding.independent_population import Mixed, mixed
from causalfm.estimators.deconfounding.premiums import Premium, premium_of
from causalfm.estimators.deconfounding.weighted_scores import TOPS, Scored
from causalfm.estimators.effects import effect
from causalfm.estimators.influence.group_influence import GroupInfluence
from causalfm.graph import CausalGraph

if TYPE_CHECKING:
    import pandas as pd


def adjusted_premiums(
    obs: pd.DataFrame, graph: CausalGraph, by: str, scored: Scored, rows: Mixed, random_state: int
) -> tuple[tuple[Premium, ...], str]:
    """AIPW of correctness and Brier score given class, level and the covariates of the graph's set.

    Parameters
    ----------
    obs, graph, by
        Table of the rows judged, the graph and the factor.
    scored, rows
        What the model said of them, and their layout.
    random_state
        Seed of the folds.

    Returns
    -------
    premiums : tuple of Premium
        ``adjusted_accuracy`` and ``adjusted_brier``; empty if there is nothing to adjust for.
    why : str
        What was adjusted for, or why nothing was.

    Notes
    -----
    The mean over levels, in their shares, of what :func:`causalfm.effect` estimates for ``estimator="aipw"``. The score
    as found is that of the same patients. Covariates are drawn with the patients, so that intervals are for new
    patients of any class, level and covariates, and wider than those for given numbers per level and class.
    """
    same = "nothing beside biology: the doubly robust score is the weighted one"
    try:
        valid = graph.adjustment_set((by,)).valid
        if all(set(given) <= {graph.biology} for given in valid):
            return (), same
        values = np.column_stack([scored.hit, scored.square])
        cohort = Cohort(values, obs)  # the embedding itself takes no part, and may be larger than memory
        found = effect(
            cohort, graph, treatment=by, outcome=values, estimator="aipw", confirm=False, random_state=random_state
        )
    except CausalFMError as error:
        return (), f"not told: {error}"
    if found.influence is None or found._shares is None:
        return (), f"not told: {found.details.get('reason', f'{by} varies within {graph.group}s')}"
    given = [name for name in found.details["given"] if name != graph.biology]
    if not given:
        return (), same
    inside = np.isin(cohort.factor(graph.group, private=True).codes, found.influence.groups)
    codes = cohort.factor(graph.group, private=True).codes[inside]
    own = mixed(rows.site[inside], rows.y[inside], codes, rows.shape)
    return _joint(found.influence, found._shares, own, values[inside], graph.group), ", ".join(given)


def _joint(
    adjusted: GroupInfluence, shares: np.ndarray, rows: Mixed, values: np.ndarray, unit: str
) -> tuple[Premium, ...]:
    """Set scores as found beside the adjusted ones of the same patients, with the error of the difference."""
    table = adjusted.contrast(shares[None])
    (moved,) = adjusted.contributions(shares[None])
    G, out = len(adjusted), []
    place = np.searchsorted(np.sort(adjusted.groups), adjusted.groups)
    for j, (name, top) in enumerate((("adjusted_accuracy", TOPS["accuracy"]), ("adjusted_brier", TOPS["brier"]))):
        mean = float(rows.found @ values[:, j])
        parts = np.bincount(rows.groups, rows.found * (values[:, j] - mean)) * np.sqrt(G / (G - 1.0))
        bundled = np.bincount(adjusted.bundle, parts[place], adjusted.n_bundles)
        errors = np.sqrt([(parts**2).sum(), table.se[0, j] ** 2, ((bundled - moved[:, j]) ** 2).sum()])
        freedom = np.array([G - 1.0, table.df[0, j], table.df[0, j]])
        pair = mean, float(table.estimate[0, j])
        out.append(premium_of(name, pair, errors, freedom, (float(G), float(G)), len(values), unit, top))
    return tuple(out)
