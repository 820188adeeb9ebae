"""Mean of ``Z`` under one intervention against another: the default claim, which needs no coupling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np
import pandas as pd

from causalfm.arrows import EMBEDDING
from causalfm.errors import DataError, NotComparableError
from causalfm.results import CAVEAT, Result
from causalfm.scm.fitted import Fitted, undetermined_message
from causalfm.scm.interventions import changed_nodes, level_code, refuse_confounded, set_value
from causalfm.scm.parents import SPLINE, Values
from causalfm.scm.support import refuse_beyond, refuse_unseen_levels

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph

Key = tuple[str, int, int]  # node, configuration of its parents, level


@dataclass(frozen=True)
class InterventionalContrast(Result):
    """Difference of the mean embedding between two interventions.

    Attributes
    ----------
    do, reference
        The interventions.
    difference, standard_error, low, high
        ``(d,)`` with 95 % intervals per dimension.
    n, n_groups, unit
        Rows and independent units behind the model, and what the unit is.
    details
        Target population, weights, what follows the interventions.
    """

    do: Mapping[str, Any]
    reference: Mapping[str, Any]
    difference: np.ndarray
    standard_error: np.ndarray
    low: np.ndarray
    high: np.ndarray
    n: int
    n_groups: int
    unit: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per dimension."""
        columns = zip(self.difference, self.low, self.high, self.standard_error, strict=True)
        return [
            {"dimension": j, "value": float(v), "low": float(a), "high": float(b), "standard_error": float(s)}
            for j, (v, a, b, s) in enumerate(columns)
        ]


def interventional_contrast(
    fitted: Fitted, graph: CausalGraph, do: Mapping[str, Any], reference: Mapping[str, Any], assume: str | None = None
) -> InterventionalContrast:
    """Estimate ``E[Z | do] - E[Z | reference]`` over the patients of the fit.

    Parameters
    ----------
    fitted, graph
        Model and graph.
    do, reference
        Interventions. A number that is set is one for all patients, within the range seen.
    assume
        ``"additive"`` allows levels at which fewer than three patients of a class were seen.

    Returns
    -------
    InterventionalContrast
        The interval covers the error of the coefficients and of the shares of nodes that follow (which scanner a
        hospital uses); both are independent, since coefficients are unbiased whatever the shares.

    Raises
    ------
    DataError
        A level never seen, a node that cannot be predicted, a contrast that the design leaves open, or classes hardly
        seen at a level, one that follows included.
    """
    plans = [plan(fitted, graph, side) for side in (do, reference)]
    means = [expected_regressors(fitted, side) for side in plans]
    difference = (means[0][0] - means[1][0])[None]
    if fitted.mean.undetermined(difference).any():
        raise NotComparableError(undetermined_message(fitted, graph, do, fitted.n))
    if assume is None:
        for side in plans:
            refuse_unseen_levels(fitted, graph, (*side.codes, *side.follow), spread_out(fitted, side)[0])
    variance = fitted.error.variance(difference)[0]
    for key in sorted({key[:2] for _, used in means for key in used}):
        variance = variance + _share_error(fitted, plans, *key)
    quantile = float(fitted.error.quantiles(difference)[0]) if np.any(difference) else 0.0
    value, error = (difference @ fitted.mean.coefficients)[0], np.sqrt(variance)
    half = np.full(len(error), np.inf) if np.isinf(quantile) else quantile * error
    followers = sorted({node for side in plans for node in side.follow})
    unit = graph.group
    details = {
        "target": f"the {fitted.n_groups} {unit}s of the fit",
        "weights": f"rows equal within a {unit}, {unit}s equal",
        "follows": followers,
        "interval_for": "these levels, new units",
        "caveat": CAVEAT,
    }
    return InterventionalContrast(
        dict(do), dict(reference), value, error, value - half, value + half, fitted.n, fitted.n_groups, unit, details
    )


@dataclass(frozen=True)
class Plan:
    """Level codes and numbers that are set, and the nodes between them and ``Z`` that follow, causes first."""

    codes: Mapping[str, int]
    numbers: Mapping[str, float]
    follow: tuple[str, ...]


def plan(fitted: Fitted, graph: CausalGraph, do: Mapping[str, Any]) -> Plan:
    """Read an intervention; nodes below it that no longer lead to ``Z`` do not matter."""
    below, codes, numbers = changed_nodes(graph, do), {}, {}
    open_arrows = nx.DiGraph([(a, b) for a, b in graph.edges if b not in do])
    follow = tuple(node for node in below if node in open_arrows and nx.has_path(open_arrows, node, EMBEDDING))
    for name, value in do.items():
        levels = fitted.known(name)
        if levels is None:
            numbers[name] = float(set_value(pd.Series([0.0]), value, None, name).iloc[0])
            refuse_beyond(fitted.mean.parents, name, numbers[name])
        else:
            codes[name] = level_code(value, levels, name)
    for node in follow:
        if node not in fitted.tables:
            above = ", ".join(name for name in do if name in open_arrows and nx.has_path(open_arrows, name, node))
            raise DataError(
                f"{node!r} follows from {above} and is a number, or owes something to one: the mean of Z "
                "would need the distribution of its noise and the error of its equation over the patients, which the "
                f"model does not keep. Set {node!r} in do as well, for what does not pass through it; or compare "
                "the means of counterfactual(cohort, do) over the rows of the fit."
            )
        refuse_confounded(graph, node)
    return Plan(codes, numbers, follow)


def expected_regressors(
    fitted: Fitted, side: Plan, force: Key | None = None
) -> tuple[np.ndarray, set[tuple[str, int]]]:
    """Mean regressors ``(p,)`` over the patients under an intervention, and the shares used: nodes, configurations.

    ``force`` puts all patients of one configuration at one level of a node.
    """
    joint, weight, splines, used = spread_out(fitted, side, force)
    parents = fitted.mean.parents
    levels = joint[:, [fitted.columns.index(c) for c in parents.categorical]]
    rows = parents.rows(Values(levels, np.zeros((len(levels), 0))), splines=False)
    rows[:, 1 : 1 + parents.n_splines] = splines
    for name in set(side.numbers) & set(parents.continuous):
        at = parents.continuous.index(name)
        numbers = np.where(np.arange(len(parents.knots)) == at, side.numbers[name], parents.knots[:, 1])
        own = slice(SPLINE * at, SPLINE * (at + 1))
        rows[:, 1 : 1 + parents.n_splines][:, own] = parents.splines(numbers[None])[:, own]
    return weight @ rows, used


def spread_out(
    fitted: Fitted, side: Plan, force: Key | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, set[tuple[str, int]]]:
    """Return the combinations of levels that the patients have under an intervention.

    Returns
    -------
    joint, weight, splines
        ``(J', k)`` codes in the order of ``fitted.columns``, ``(J',)`` shares of the patients, all above 0, and
        ``(J', q)`` mean spline columns.
    used
        Nodes that follow, and the configurations of their parents that are met.
    """
    joint, weight, splines = fitted.joint.copy(), fitted.patients / fitted.patients.sum(), fitted.spline_means
    used: set[tuple[str, int]] = set()
    for name, code in side.codes.items():
        joint[:, fitted.columns.index(name)] = code
    for node in side.follow:
        table = fitted.tables[node]
        at = table.locate(joint[:, [fitted.columns.index(p) for p in table.parents]])
        used |= {(node, int(q)) for q in np.unique(at)}
        shares = table.shares()
        if force is not None and force[0] == node:
            shares[force[1]] = np.eye(shares.shape[1])[force[2]]
        K = shares.shape[1]
        joint, splines = np.repeat(joint, K, axis=0), np.repeat(splines, K, axis=0)
        joint[:, fitted.columns.index(node)] = np.tile(np.arange(K), len(at))
        weight = (weight[:, None] * shares[at]).reshape(-1)
        kept = weight > 0
        joint, splines, weight = joint[kept], splines[kept], weight[kept]
    return joint, weight, splines, used


def _share_error(fitted: Fitted, plans: Sequence[Plan], node: str, q: int) -> np.ndarray:
    """Variance ``(d,)`` that the shares of one configuration of one node add: those of a multinomial."""
    table = fitted.tables[node]
    shares, n = table.shares()[q], table.count[q].sum()
    effects = []
    for level in np.flatnonzero(shares > 0):
        sides = [expected_regressors(fitted, side, (node, q, int(level)))[0] for side in plans]
        effects.append((sides[0] - sides[1]) @ fitted.mean.coefficients)
    weight, each = shares[shares > 0], np.stack(effects)
    centre = weight @ each
    return np.asarray(weight @ (each - centre) ** 2 / n)
