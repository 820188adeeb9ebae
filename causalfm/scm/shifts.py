"""Mean shift: the plain rival of a causal model. Rows move by the difference of two level means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.graph_checks import check_inputs
from causalfm.moments import weighted_products
from causalfm.scm.interventions import level_code, levels_as
from causalfm.scm.parents import known_codes
from causalfm.scm.regression import pseudo_inverse
from causalfm.strata import confounder_of

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph


def mean_shift(
    cohort: Cohort, reference: Cohort, graph: CausalGraph, *, factor: str, level: Any, adjusted: bool
) -> Cohort:
    """Move rows to a level by the difference of means.

    Parameters
    ----------
    cohort
        Rows to move.
    reference
        Where the means are taken.
    graph
        Roles.
    factor, level
        Technical column, and the level to move to.
    adjusted
        Compare levels within classes of the biology (one shift for all classes); else their plain means, which carry
        the case mix along.

    Returns
    -------
    Cohort
        Rows with the level set; other columns stay as they are. Patients weigh equally, rows equally within.

    Raises
    ------
    DataError
        A level that the reference does not hold, or levels whose classes do not overlap at all.
    """
    for part in (cohort, reference):
        check_inputs(part, graph)
    factor = confounder_of(graph, factor, "factor")
    levels, classes = reference.factor(factor), reference.factor(graph.biology)
    groups = reference.factor(graph.group, private=True)
    to = level_code(level, levels.levels, factor)
    L, C = levels.n_levels, classes.n_levels if adjusted else 1
    classed = classes.codes if adjusted else np.zeros(len(reference), dtype=np.int64)
    onehot = np.hstack([np.eye(L), np.zeros((L, C))]), np.hstack([np.zeros((C, L)), np.eye(C)])
    gram, cross = weighted_products(
        reference.X,
        lambda rows: onehot[0][levels.codes[rows]] + onehot[1][classed[rows]],
        1.0 / groups.counts()[groups.codes],
    )
    inverse, determined, scale = pseudo_inverse(gram)
    seen = known_codes(cohort, factor, levels.levels)
    contrasts = np.zeros((L, L + C))
    contrasts[:, to] += 1.0
    contrasts[np.arange(L), np.arange(L)] -= 1.0
    scaled = contrasts / scale
    open_ = np.abs(scaled - scaled @ determined).max(axis=1) > 1e-6
    if open_[seen].any():
        raise DataError(
            f"{factor}={level} shares no {graph.biology} with {levels.levels[int(seen[open_[seen]][0])]}, not even "
            "by way of other levels: their difference is not told from that of the classes. Pass adjusted=False to "
            "compare plain means all the same."
        )
    shifts = contrasts @ inverse @ cross
    dtype = np.float64 if cohort.X.dtype == np.float64 else np.float32
    moved = (np.asarray(cohort.X, dtype=dtype) + shifts[seen]).astype(dtype)
    column = levels_as(cohort.obs[factor], levels.levels, np.full(len(cohort), to))
    return Cohort(moved, cohort.obs.assign(**{factor: column}), cohort.info)
