"""How uncertain the numbers are that followed an intervention: the errors of their equations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import networkx as nx
import numpy as np

from causalfm.scm.fitted import Fitted
from causalfm.scm.interventions import NOISE

if TYPE_CHECKING:
    from causalfm.cohort import Cohort
    from causalfm.graph import CausalGraph
    from causalfm.scm.scalar_nodes import ScalarNode

STEP = 1e-4  # of the range seen, to differentiate splines


def number_errors(fitted: Fitted, graph: CausalGraph, before: Cohort, after: Cohort) -> np.ndarray:
    """Errors ``(n, m, q)`` of the ``m`` continuous parents of ``Z``, as multiples of ``q`` independent unit errors.

    Parameters
    ----------
    fitted, graph
        Model and graph.
    before, after
        Tables as seen and after the intervention.

    Notes
    -----
    A number moves by the difference of its mean under the new and the old causes, in which its noise cancels; the error
    is that of the coefficients, clustered by patient, one unit error per equation. Where a cause is a number that
    followed too, its errors come in through the slope (first order): they are shared, and add up or cancel in ``Z``.
    What was set is known.
    """
    order = [n for n in nx.topological_sort(nx.DiGraph(graph.edges)) if NOISE.format(n) in after.obs]
    nodes = [node for node in map(fitted.scalars.get, order) if node is not None and node.levels is None]
    found: dict[str, np.ndarray] = {}
    for own, node in enumerate(nodes):
        moved = before.numeric(node.node) != after.numeric(node.node)
        moved &= after.obs[NOISE.format(node.node)].notna().to_numpy()
        found[node.node] = errors = np.zeros((len(moved), len(nodes)))
        if not moved.any():
            continue
        at = np.flatnonzero(moved)
        old, new = node.causes(before[at]), node.causes(after[at])
        rows = node.mean.parents.rows
        contrast = rows(node.values(new)) - rows(node.values(old))
        errors[moved, own] = np.sqrt(np.maximum(np.einsum("np,pq,nq->n", contrast, node.covariance, contrast), 0.0))
        for cause in sorted(set(node.parents) & set(found)):
            errors[moved] += _slope(node, cause, new)[:, None] * found[cause][moved]
    nothing = np.zeros((len(before), len(nodes)))
    stacked = [found.get(name, nothing) for name in fitted.mean.parents.continuous]
    return np.stack(stacked, axis=1) if stacked else np.zeros((len(before), 0, 0))


def _slope(node: ScalarNode, cause: str, causes: np.ndarray) -> np.ndarray:
    """Slope ``(n,)`` of a number in one of its causes."""
    low, _, high = node.mean.parents.knots[node.mean.parents.continuous.index(cause)]
    step, up = STEP * max(float(high - low), 1e-300), causes.copy()
    up[:, node.parents.index(cause)] += step
    return np.asarray((node.predictions(up) - node.predictions(causes))[:, 0] / step)


def through_numbers(fitted: Fitted, numbers: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Variance ``(n, d)`` that errors ``(n, m, q)`` of numbers at ``numbers (n, m)`` add to the embedding."""
    parents, d = fitted.mean.parents, fitted.mean.coefficients.shape[1]
    if not errors.any():
        return np.zeros((len(numbers), d))
    slopes, out = fitted.mean.coefficients[1 : 1 + parents.n_splines], np.zeros((len(numbers), errors.shape[2], d))
    for j, (low, _, high) in enumerate(parents.knots):
        up, step = numbers.copy(), STEP * max(float(high - low), 1e-300)
        up[:, j] += step
        slope = ((parents.splines(up) - parents.splines(numbers)) / step) @ slopes
        out += errors[:, j, :, None] * slope[:, None, :]
    return np.asarray((out**2).sum(axis=1))
