"""The scalar nodes of both domains in one table: patients, weights, regressors."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from causalfm.errors import GraphError
from causalfm.shift.domains import Domains

REFERENCE, DEPLOYMENT = 0, 1
KNOTS = (5.0, 35.0, 65.0, 95.0)  # percentiles, Harrell's for four knots
MAIN, CURVE = 2.5, 0.5  # standard deviation of coefficients: Gelman et al., Ann. Appl. Stat. 2 (2008); less for details
# regressors that are products of two nodes: one for so many patients at most, and so many in all
PATIENTS_PER_PRODUCT, MOST_PRODUCTS = 10.0, 60


@dataclass(frozen=True, eq=False)
class SwapTable:
    """Labelled rows of both domains; those of a patient that are alike in all nodes are one item.

    Attributes
    ----------
    domain
        ``(m,)`` 0 for the reference, 1 for the deployment.
    units
        ``(m,)`` codes of the independent units: those of the reference first, without gaps.
    weights
        ``(m,)`` those of a unit add up to 1.
    loss
        ``(m,)`` mean accuracy of an item's rows.
    columns
        For each node ``(m,)`` numbers (continuous) or codes (categorical).
    levels
        Levels of the categorical nodes: those of the reference, then new ones.
    """

    domain: np.ndarray
    units: np.ndarray
    weights: np.ndarray
    loss: np.ndarray
    columns: Mapping[str, np.ndarray]
    levels: Mapping[str, tuple[str, ...]]

    def n_units(self, domain: int) -> int:
        """Count the independent units of a domain."""
        return len(np.unique(self.units[self.domain == domain]))

    def mean(self, domain: int) -> float:
        """Accuracy in a domain, patients weighing the same."""
        rows = self.domain == domain
        return float(np.average(self.loss[rows], weights=self.weights[rows]))

    def subset(self, kept: np.ndarray) -> tuple[SwapTable, np.ndarray]:
        """Return the items in the mask ``kept (m,)`` and the former codes of their units."""
        units, codes = np.unique(self.units[kept], return_inverse=True)
        columns = {name: values[kept] for name, values in self.columns.items()}
        arrays = {name: getattr(self, name)[kept] for name in ("domain", "weights", "loss")}
        return dataclasses.replace(self, units=codes.reshape(-1), columns=columns, **arrays), units

    def missing_levels(self, node: str, *, of: int, among: int) -> tuple[str, ...]:
        """Levels of a node that one domain has and the other lacks; empty for numbers."""
        if node not in self.levels:
            return ()
        here, there = (set(self.columns[node][self.domain == d].tolist()) for d in (of, among))
        return tuple(self.levels[node][code] for code in sorted(here - there))

    def regressors(self, nodes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return regressors ``(m, p)`` and the prior size of their coefficients on the log odds scale, ``(p,)``.

        A constant, indicators and splines of the nodes, and products of two nodes (linear in numbers) while they are
        few: the expectation is ``MAIN``, but ``CURVE`` for what bends and for products.
        """
        mains = [self._main(node) for node in nodes]
        parts = [np.ones((len(self.domain), 1)), *(m for m, _ in mains)]
        sizes = [np.array([np.inf]), *(size for _, size in mains)]
        straight = [(m[:, size > CURVE], float(size[0]) / MAIN) for m, size in mains]
        free = [m.shape[1] - (node in self.levels) for node, (m, _) in zip(nodes, straight, strict=True)]
        pairs = sorted(itertools.combinations(range(len(nodes)), 2), key=lambda pair: free[pair[0]] * free[pair[1]])
        room = min((self.n_units(REFERENCE) + self.n_units(DEPLOYMENT)) / PATIENTS_PER_PRODUCT, MOST_PRODUCTS)
        for i, j in pairs:
            room -= free[i] * free[j]
            if room < 0.0:
                break
            (a, width), (b, length) = straight[i], straight[j]
            parts.append((a[:, :, None] * b[:, None, :]).reshape(len(a), -1))
            sizes.append(np.full(parts[-1].shape[1], CURVE * width * length))
        return np.concatenate(parts, axis=1), np.concatenate(sizes)

    def _main(self, node: str) -> tuple[np.ndarray, np.ndarray]:
        values = self.columns[node]
        if node in self.levels:
            # one for every level, so that none is special: any two of them differ by MAIN
            indicators = np.eye(len(self.levels[node]))[values]
            return indicators, np.full(indicators.shape[1], MAIN / 2.0**0.5)
        spline = natural_spline(values)
        return spline, np.array([MAIN, *[CURVE] * (spline.shape[1] - 1)])


def natural_spline(x: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Natural cubic spline of numbers, ``(m, <= 3)`` uncorrelated columns of variance 1; the first is linear.

    With ``weights (m,)`` in moments and knots: rows of a patient given twice then change nothing.
    """
    share = np.full(len(x), 1.0 / len(x)) if weights is None else weights / weights.sum()
    z = x - float(share @ x)
    z = z / (float(share @ z**2) ** 0.5 or 1.0)
    knots = np.unique(np.percentile(z, KNOTS) if weights is None else _percentiles(z, share))
    parts = [np.ones(len(z)), z]
    if len(knots) > 2:
        cubes = [np.maximum(z - k, 0.0) ** 3 for k in knots]
        slopes = [(cube - cubes[-1]) / (knots[-1] - k) for cube, k in zip(cubes, knots[:-1], strict=False)]
        parts += [slope - slopes[-1] for slope in slopes[:-1]]
    root = np.sqrt(share)[:, None]
    q, r = np.linalg.qr(np.stack(parts, axis=1) * root)
    return np.asarray(q[:, 1:] / root * np.sign(np.diag(r))[1:])


def _percentiles(z: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Weighted percentiles; halfway where a share is met exactly, so that ``-z`` has the same with the other sign."""
    order = np.argsort(z)
    reached = np.cumsum(share[order])
    below, above = (np.searchsorted(reached, np.array(KNOTS) / 100.0 + gap) for gap in (-1e-9, 1e-9))
    return np.asarray((z[order][below] + z[order][above]) / 2.0)


def swap_table(domains: Domains, nodes: Sequence[str]) -> SwapTable:
    """Collect the labelled rows of both domains.

    Parameters
    ----------
    domains
        The two domains; a row is correct where the class with the highest score is the label.
    nodes
        Measured nodes.

    Returns
    -------
    SwapTable
        Items of both domains.

    Raises
    ------
    DataError, GraphError
        A column that is missing, holds no values, or is multi-label.
    """
    sides = [domains.reference, domains.deployment]
    known = [side.known for side in sides]
    domain = np.repeat([REFERENCE, DEPLOYMENT], [int(k.sum()) for k in known])
    columns: dict[str, np.ndarray] = {}
    levels: dict[str, tuple[str, ...]] = {}
    for node in nodes:
        columns[node], found = _column(domains, node, known)
        if found:
            levels[node] = found
    raw = [side.units[k] for side, k in zip(sides, known, strict=True)]
    shift = int(raw[0].max()) + 1 if len(raw[0]) else 0
    units = np.unique(np.concatenate([raw[0], raw[1] + shift]), return_inverse=True)[1].reshape(-1)
    hits = [(side.scores.argmax(axis=1) == side.labels)[k] for side, k in zip(sides, known, strict=True)]
    return _collapsed(domain, units, np.concatenate(hits).astype(float), columns, levels)


def _column(domains: Domains, node: str, known: Sequence[np.ndarray]) -> tuple[np.ndarray, tuple[str, ...]]:
    sides, graph = [domains.reference, domains.deployment], domains.graph
    if node == graph.biology:
        return np.concatenate([s.labels[k] for s, k in zip(sides, known, strict=True)]), domains.classes
    if node == domains.site:
        return np.concatenate([s.sites[k] for s, k in zip(sides, known, strict=True)]), domains.sites
    kind = graph.kind(node, sides[0].cohort)
    if kind == "multi-label":
        raise GraphError(f"{node!r} is multi-label: its change cannot be attributed; declare one column per label.")
    if kind == "continuous":
        return np.concatenate([s.cohort.numeric(node)[k] for s, k in zip(sides, known, strict=True)]), ()
    factors = [s.cohort.factor(node) for s in sides]
    names = tuple(dict.fromkeys(level for factor in factors for level in factor.levels))
    where = {level: code for code, level in enumerate(names)}
    codes = [np.array([where[level] for level in f.levels])[f.codes][k] for f, k in zip(factors, known, strict=True)]
    return np.concatenate(codes), names


def _collapsed(
    domain: np.ndarray,
    units: np.ndarray,
    hits: np.ndarray,
    columns: Mapping[str, np.ndarray],
    levels: Mapping[str, tuple[str, ...]],
) -> SwapTable:
    """Make one item of the rows of a unit that are alike in every node."""
    item = units.astype(np.int64)
    for values in columns.values():
        codes = np.unique(values, return_inverse=True)[1].reshape(-1)
        item = np.unique(item * (int(codes.max()) + 1) + codes, return_inverse=True)[1].reshape(-1)
    first = np.unique(item, return_index=True)[1]
    weights = np.bincount(item, 1.0 / np.bincount(units)[units])
    loss = np.bincount(item, hits) / np.bincount(item)
    kept = {name: values[first] for name, values in columns.items()}
    return SwapTable(domain[first], units[first], weights, loss, kept, dict(levels))
