"""Scalar nodes with numbers among what they are or owe: a number, or a level that owes something to a number.

A number is a smooth function of its causes plus noise; a level is drawn by a multinomial logistic model. Both are
evaluated as functional causal models of ``dowhy.gcm`` (:mod:`causalfm.scm.gcm_mechanisms`), and kept as plain arrays.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.cohort import Cohort, Factor
from causalfm.errors import DataError, positions
from causalfm.scm.gcm_mechanisms import functional_model
from causalfm.scm.logistic import multinomial_logits
from causalfm.scm.parents import Parents, Values, known_codes
from causalfm.scm.regression import MeanModel, fit_mean

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph

ROUNDING = 1e-6  # of the spread: stored noise leads to the number beside it up to this


@dataclass(frozen=True, eq=False)
class ScalarNode:
    """A measured node given its causes.

    Attributes
    ----------
    node
        Name.
    levels
        Its levels; None for a number.
    order
        ``(K,)`` levels in the order in which their probabilities are cumulated; empty for a number.
    mean
        Coefficients ``(p, 1)`` of a number, ``(p, K)`` logits of levels.
    spread
        Standard deviation of the noise of a number; patients weigh equally.
    covariance
        ``(p, p)`` of a number's coefficients, clustered by patient; empty for levels.
    """

    node: str
    levels: tuple[str, ...] | None
    order: np.ndarray
    mean: MeanModel
    spread: float
    covariance: np.ndarray

    @property
    def parents(self) -> tuple[str, ...]:
        """Causes: those with levels, then numbers."""
        return (*self.mean.parents.categorical, *self.mean.parents.continuous)

    def values(self, causes: np.ndarray) -> Values:
        """Causes ``(n, p)`` as level codes and numbers."""
        k = len(self.mean.parents.categorical)
        return Values(causes[:, :k].astype(np.int64), causes[:, k:])

    def predictions(self, causes: np.ndarray) -> np.ndarray:
        """Mean ``(n, 1)`` of a number, or logits ``(n, K)``, under the causes ``(n, p)``."""
        return np.asarray(self.mean.parents.rows(self.values(causes)) @ self.mean.coefficients)

    def causes(self, cohort: Cohort) -> np.ndarray:
        """Read the causes ``(n, p)``: codes of the model's levels, then numbers."""
        try:
            values = self.mean.parents.read(cohort)
        except DataError as error:
            way_out = f"{self.node!r} follows it by an equation: whatever the policy, set {self.node!r} in do= as well."
            raise DataError(f"{error} {way_out}") from None
        return np.concatenate([values.levels, values.numbers], axis=1)

    def seen(self, cohort: Cohort) -> np.ndarray:
        """Read the node itself ``(n,)``: a number, or the code of its level."""
        return cohort.numeric(self.node) if self.levels is None else known_codes(cohort, self.node, self.levels)

    def abduct(self, seen: np.ndarray, causes: np.ndarray, luck: np.ndarray) -> np.ndarray:
        """Noise ``(n,)`` behind ``seen``; ``luck`` in (0, 1) is the place within the interval that a level leaves."""
        if self.levels is None:
            return np.asarray(functional_model(self).estimate_noise(seen, causes)[:, 0])
        low, high = self._bounds(causes)
        row, rank = np.arange(len(seen)), np.argsort(self.order)[seen]
        return np.asarray(low[row, rank] + (high - low)[row, rank] * luck)

    def predict(self, noise: np.ndarray, causes: np.ndarray) -> np.ndarray:
        """Return the number or level code ``(n,)`` under the causes, given the noise."""
        if self.levels is None:
            return np.asarray(functional_model(self).evaluate(causes, noise)[:, 0])
        high = self._bounds(causes)[1]
        rank = np.minimum((noise[:, None] >= high).sum(axis=1), len(self.order) - 1)
        return np.asarray(self.order[rank])

    def explains(self, noise: np.ndarray, causes: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """Tell in which rows ``(n,)`` the noise leads to what was seen."""
        if self.levels is not None:
            inside = (noise >= 0.0) & (noise < 1.0)
            return np.asarray(inside & (self.predict(np.where(inside, noise, 0.0), causes) == seen))
        found = self.predict(noise, causes)
        return np.asarray(np.abs(found - seen) <= ROUNDING * (self.spread + np.abs(seen)))

    def follow(self, noise: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Predict under new causes.

        Raises
        ------
        DataError
            A change of causes whose effect the design leaves open.
        """
        rows = self.mean.parents.rows
        open_ = np.flatnonzero(self.mean.undetermined(rows(self.values(after)) - rows(self.values(before))))
        if len(open_):
            raise DataError(
                f"what {self.node} would be in {len(open_)} rows ({positions(open_.tolist())}) is not identified on "
                f"this design: the effects of {', '.join(self.parents)} on it cannot be told apart. Set it as well, "
                f"do={{..., {self.node!r}: ...}}, or add rows that hold the missing combinations."
            )
        return self.predict(noise, after)

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw noise ``(n,)``: Gaussian for a number, uniform for levels."""
        return self.spread * rng.standard_normal(n) if self.levels is None else rng.random(n)

    def _bounds(self, causes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        high = np.cumsum(functional_model(self).estimate_probabilities(causes)[:, self.order], axis=1)
        high = high / high[:, -1:]
        return np.concatenate([np.zeros((len(high), 1)), high[:, :-1]], axis=1), high


def fit_scalar_nodes(
    cohort: Cohort, graph: CausalGraph, factors: Mapping[str, Factor], skip: Sequence[str]
) -> dict[str, ScalarNode]:
    """Fit the measured nodes that are numbers, or have numbers as causes.

    Parameters
    ----------
    cohort, graph
        Data and declared graph.
    factors
        The measured nodes with levels.
    skip
        Nodes that have a model.

    Returns
    -------
    dict
        By name; nodes without causes have no model.

    Notes
    -----
    Patients weigh equally, and rows equally within: a node that is the same in all rows of a patient is fitted on
    patients, however many rows each has. ``dowhy.gcm`` fits without weights; hence coefficients are found here.
    """
    groups = cohort.factor(graph.group, private=True)
    weight = 1.0 / groups.counts()[groups.codes]
    out = {}
    for name in graph.measured:
        causes = graph.parents(name)
        if name in skip or not causes:
            continue
        categorical = tuple(c for c in causes if c in factors)
        continuous = tuple(c for c in causes if c not in factors)
        knots = np.array([_knots(cohort.numeric(c), groups, weight) for c in continuous])
        levels = tuple(factors[c].levels for c in categorical)
        parents = Parents(categorical, levels, continuous, knots.reshape(len(continuous), 3))
        if name in factors:
            ordinal = graph.kind(name, cohort) == "ordinal"
            out[name] = _levels_model(factors[name], parents, parents.read(cohort), weight, ordinal=ordinal)
        else:
            out[name] = _number_model(name, cohort.numeric(name), parents, parents.read(cohort), groups)
    return out


def _knots(x: np.ndarray, groups: Factor, weight: np.ndarray) -> tuple[float, float, float]:
    """Least, middle and largest value; the middle one is that of the patients' means."""
    means = np.bincount(groups.codes, weight * x, groups.n_levels)
    return float(x.min()), float(np.median(means)), float(x.max())


def _number_model(name: str, y: np.ndarray, parents: Parents, values: Values, groups: Factor) -> ScalarNode:
    """Weighted least squares; spread and covariance are corrected for the number of coefficients."""
    weight, design = 1.0 / groups.counts()[groups.codes], parents.rows(values)
    mean, _ = fit_mean(y[:, None], parents, values, weight)
    residual = y - (design @ mean.coefficients)[:, 0]
    free = groups.n_levels - np.trace(mean.estimable)
    spread = np.sqrt(weight @ residual**2 / free) if free >= 1 else 0.0
    scores = np.stack([np.bincount(groups.codes, weight * residual * column) for column in design.T], axis=1)
    middle = scores.T @ scores * (groups.n_levels / max(free, 1.0))
    covariance = mean.inverse @ middle @ mean.inverse
    return ScalarNode(name, None, np.zeros(0, dtype=np.int64), mean, float(spread), covariance)


def _levels_model(factor: Factor, parents: Parents, values: Values, weight: np.ndarray, *, ordinal: bool) -> ScalarNode:
    """Multinomial logistic regression; levels stand in order of how common they are, ordinal ones in their own."""
    K = factor.n_levels
    mean, _ = fit_mean(np.eye(K)[factor.codes], parents, values, weight)  # what the design determines
    logits = multinomial_logits(parents.rows(values), factor.codes, weight, K)
    common = np.round(np.bincount(factor.codes, weight, K), 6)
    order = np.arange(K) if ordinal else np.argsort(-common, kind="stable")
    mean = dataclasses.replace(mean, coefficients=logits)
    return ScalarNode(factor.name, factor.levels, order, mean, 0.0, np.zeros((0, 0)))


_PARTS = ("coefficients", "inverse", "estimable", "scale")


def pack_scalars(nodes: Mapping[str, ScalarNode]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return header and arrays."""
    header: dict[str, Any] = {}
    tensors: dict[str, np.ndarray] = {}
    for i, (name, node) in enumerate(sorted(nodes.items())):
        parents = node.mean.parents
        header[name] = {
            "categorical": list(parents.categorical),
            "continuous": list(parents.continuous),
            "number": node.levels is None,
            "spread": node.spread,
            "position": i,
        }
        tensors |= {f"scalar/{i}/{part}": getattr(node.mean, part) for part in _PARTS}
        rest = {"knots": parents.knots, "order": node.order, "covariance": node.covariance}
        tensors |= {f"scalar/{i}/{part}": value for part, value in rest.items()}
    return header, tensors


def unpack_scalars(
    header: Mapping[str, Any], tensors: Mapping[str, np.ndarray], known: Mapping[str, tuple[str, ...]]
) -> dict[str, ScalarNode]:
    """Rebuild the nodes; ``known`` holds the levels of the nodes that have any."""
    out = {}
    for name, node in header.items():
        own = f"scalar/{node['position']}/"
        categorical = tuple(node["categorical"])
        levels = tuple(known[c] for c in categorical)
        parents = Parents(categorical, levels, tuple(node["continuous"]), tensors[own + "knots"])
        mean = MeanModel(parents, *(tensors[own + part] for part in _PARTS))
        own_levels = None if node["number"] else known[name]
        rest = tensors[own + "order"], mean, float(node["spread"]), tensors[own + "covariance"]
        out[name] = ScalarNode(name, own_levels, *rest)
    return out
