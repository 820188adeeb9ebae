"""Rows under an intervention when pairs were seen: the unpaired prediction corrected, and true prediction intervals.

A correction pulls towards the mean, as the best prediction does, so that corrections do not compose: from a to b by way
of c would be pulled twice. A moved row therefore remembers the levels at which its tissue was seen (``seen:<factor>``),
and a later intervention undoes the correction first: do(a) then do(b) is do(b), and back to its own levels is the row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from causalfm.cohort import Cohort
from causalfm.confidence import level_in_force
from causalfm.scm.bridges import changes
from causalfm.scm.counterfactuals import BLOCK_BYTES, RowErrors, predict_rows
from causalfm.scm.fitted import Fitted
from causalfm.scm.interventions import levels_as
from causalfm.scm.pair_maps import PairMaps, length_quantile
from causalfm.scm.parents import Values, known_codes
from causalfm.scm.regression import regressors

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph

SEEN = "seen:{}"  # column of obs with the level at which the tissue of a moved row was seen
UNPAIRED, AS_SEEN = -1, -2
LEARNED = "best linear prediction, learned from pairs, where they show the change; elsewhere "


@dataclass(frozen=True, eq=False)
class PairedRowErrors(RowErrors):
    """Errors of rows that pairs predict: true prediction intervals; parameter uncertainty for all others.

    Attributes
    ----------
    maps, which
        What pairs taught, and for each row the map that predicted it.

    Notes
    -----
    A prediction interval covers the embedding that the same tissue of a *new* patient has at the other level, one
    dimension at a time (not all at once). Assumption: new patients resemble those of the pairs.
    """

    maps: PairMaps
    which: np.ndarray

    @property
    def kind(self) -> np.ndarray:
        """Per row: ``"prediction"``, ``"parameter"``, or ``"as seen"`` (no error)."""
        names = np.array(["prediction", "as seen", "parameter"])  # 0 and above, -2, -1
        return np.asarray(names[np.minimum(self.which, 0)])

    def radius(self, rows: Any = slice(None), level: float | None = None) -> np.ndarray:
        """Distance ``(rows,)`` from the prediction within which the true embedding lies; nan without pairs."""
        chosen = self.which[rows]
        out = np.where(chosen == AS_SEEN, 0.0, np.nan)
        for q in np.unique(chosen[chosen >= 0]):
            out[chosen == q] = length_quantile(self.maps, int(q), level_in_force(level))
        return out

    def _errors(self, rows: Any, level: float | None = None) -> tuple[np.ndarray, np.ndarray]:
        which = np.arange(self.n)[rows]
        maps, chosen = self.maps, self.which[which]
        error, quantile = np.zeros((len(which), self.d)), np.zeros(len(which))
        rest = np.flatnonzero(chosen == UNPAIRED)
        if len(rest):
            error[rest], quantile[rest] = super()._errors(which[rest], level)
        paired = chosen >= 0
        error[paired] = np.sqrt(maps.variance[chosen[paired]])
        quantile[paired] = stats.t.ppf(0.5 * (1.0 + level_in_force(level)), maps.df[chosen[paired]])
        return error, quantile


def move_rows(
    cohort: Cohort,
    obs: pd.DataFrame,
    graph: CausalGraph,
    fitted: Fitted,
    source: Values,
    target: Values,
    coupling: str,
) -> tuple[np.ndarray, pd.DataFrame, RowErrors]:
    """Predict the rows under an intervention.

    Parameters
    ----------
    cohort, obs
        Rows as they are, and the table after the intervention.
    graph, fitted
        Declared graph and model.
    source, target
        Parents of ``Z`` as they are and after the intervention.
    coupling
        Of the unpaired mechanism.

    Returns
    -------
    X, obs, errors
        Embeddings, the table with the levels at which each tissue was seen, and the errors.
    """
    maps = fitted.pairs
    if maps is None:
        X = predict_rows(cohort.X, fitted, source, target)
        return X, obs, RowErrors(coupling, fitted, cohort.X, X, source, target)
    factors = list(maps.factors)
    seen = _seen_levels(cohort, fitted, factors, source)
    start = cohort.X
    undone = maps.find(changes(seen, source.levels[:, factors]))
    if (undone >= 0).any():
        start = np.array(start, dtype=np.float64 if start.dtype == np.float64 else np.float32)
        _correct(start, fitted, maps, undone, source, back=True)
    X = predict_rows(start, fitted, source, target)
    which = maps.find(changes(seen, target.levels[:, factors]))
    _correct(X, fitted, maps, which, target, back=False)
    for j, factor in enumerate(factors):
        name = fitted.mean.parents.categorical[factor]
        obs[SEEN.format(name)] = levels_as(cohort.obs[name], fitted.mean.parents.levels[factor], seen[:, j])
    as_seen = (seen == target.levels[:, factors]).all(axis=1)
    which = _answered(which, cohort, graph, fitted, source, target, as_seen=as_seen)
    return X, obs, PairedRowErrors(LEARNED + coupling, fitted, start, X, source, target, maps, which)


def _seen_levels(cohort: Cohort, fitted: Fitted, factors: list[int], source: Values) -> np.ndarray:
    """Codes ``(n, T)`` of the technical levels at which the tissue of each row was seen."""
    seen = np.array(source.levels[:, factors])
    for j, factor in enumerate(factors):
        column = SEEN.format(fitted.mean.parents.categorical[factor])
        if column in cohort.obs:
            seen[:, j] = known_codes(cohort, column, fitted.mean.parents.levels[factor])
    return seen


def _correct(X: np.ndarray, fitted: Fitted, maps: PairMaps, which: np.ndarray, at: Values, *, back: bool) -> None:
    """Apply the maps to predictions ``X`` at levels ``at``, in place, or undo them."""
    rows_of, coefficients = regressors(fitted.mean.parents, at), fitted.mean.coefficients
    step = max(1, BLOCK_BYTES // (8 * X.shape[1]))
    for q in np.unique(which[which >= 0]):
        every = np.flatnonzero(which == q)
        for start in range(0, len(every), step):
            rows = every[start : start + step]
            classes = at.levels[rows, maps.biology] if maps.biology >= 0 else np.zeros(len(rows), dtype=np.int64)
            mean = rows_of(rows) @ coefficients
            left = X[rows] - mean
            X[rows] = mean + maps.back(int(q), classes, left) if back else X[rows] + maps.forward(int(q), classes, left)


def _answered(
    which: np.ndarray,
    cohort: Cohort,
    graph: CausalGraph,
    fitted: Fitted,
    source: Values,
    target: Values,
    *,
    as_seen: np.ndarray,
) -> np.ndarray:
    """Keep the maps of rows of which only technical factors ever changed: pairs say nothing of others."""
    earlier = {name for record in cohort.info.get("counterfactual", []) for name in record.get("do", {})}
    forgotten = earlier and not any(SEEN.format(name) in cohort.obs for name in graph.technical)
    if forgotten or earlier - set(graph.technical):
        return np.full(len(which), UNPAIRED)
    others = [j for j in range(source.levels.shape[1]) if j not in fitted.pairs.factors] if fitted.pairs else []
    same = (source.levels[:, others] == target.levels[:, others]).all(axis=1)
    same &= (source.numbers == target.numbers).all(axis=1)
    return np.where(same & as_seen, AS_SEEN, np.where(same, which, UNPAIRED))
