"""What a structural causal model learns from a cohort: two passes over the rows, nothing of a single patient kept."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from causalfm.arrows import EMBEDDING
from causalfm.cohort import Cohort, Factor
from causalfm.errors import DataError, NotIdentifiedError
from causalfm.scm.cells import lay_out
from causalfm.scm.density import Density, fit_density
from causalfm.scm.exogenous import NodeTable, node_table
from causalfm.scm.interaction import shrink_interactions
from causalfm.scm.interventions import refuse_confounded
from causalfm.scm.mechanisms import Mechanism, Noise, fit_noise
from causalfm.scm.nodes import NodeModel
from causalfm.scm.parents import Parents, Values, parents_of_embedding
from causalfm.scm.principal import directions, n_directions, principal_rows, residual_sample
from causalfm.scm.random_effects import RandomEffects, shrink_by_direction
from causalfm.scm.regression import MeanModel, solve_mean
from causalfm.scm.residuals import residual_moments
from causalfm.scm.runs import lay_out_runs, products
from causalfm.scm.sampling_error import SamplingError
from causalfm.scm.scalar_nodes import ScalarNode, fit_scalar_nodes

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph
    from causalfm.scm.pair_maps import PairMaps

MAX_REGRESSORS = 2000
NOTHING = 1e-24  # share of the sum of squares: what rounding leaves


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted model.

    Attributes
    ----------
    mean, noise, error, density
        Of ``Z`` given its parents.
    tables
        Categorical nodes with categorical parents.
    scalars
        Numbers with parents, and categorical nodes with numbers among theirs.
    continuous
        Measured nodes that are numbers.
    columns, levels
        Categorical measured nodes and their levels.
    joint, patients
        ``(J, k)`` combinations of these that occur and the patients in each.
    numbers
        ``(J, m)`` means of the measured numbers in each, and ``(m, m)`` covariance within.
    spline_means
        ``(J, q)`` mean spline columns in each.
    n, n_groups, fingerprint
        Rows, independent units, and the hash of what was fitted.
    pairs
        What pairs taught; None without.
    """

    mean: MeanModel
    noise: Noise
    error: SamplingError
    density: Density
    tables: Mapping[str, NodeTable]
    scalars: Mapping[str, ScalarNode]
    continuous: tuple[str, ...]
    columns: tuple[str, ...]
    levels: tuple[tuple[str, ...], ...]
    joint: np.ndarray
    patients: np.ndarray
    numbers: np.ndarray
    within: np.ndarray
    spline_means: np.ndarray
    n: int
    n_groups: int
    fingerprint: str
    pairs: PairMaps | None = None

    @property
    def models(self) -> dict[str, NodeModel]:
        """Models of all measured nodes with causes."""
        return {**self.tables, **self.scalars}

    def known(self, name: str) -> tuple[str, ...] | None:
        """Levels of a categorical node; None for a number."""
        return dict(zip(self.columns, self.levels, strict=True)).get(name)

    def crossed_patients(self, a: str, b: str) -> np.ndarray:
        """Patients per level of ``a`` and level of ``b``."""
        i, j = self.columns.index(a), self.columns.index(b)
        out = np.zeros((len(self.levels[i]), len(self.levels[j])))
        np.add.at(out, (self.joint[:, i], self.joint[:, j]), self.patients)
        return out


def fit_model(cohort: Cohort, graph: CausalGraph, mechanism: Mechanism, *, rows_only: bool = False) -> Fitted:
    """Fit all nodes.

    Parameters
    ----------
    cohort, graph
        Data and declared graph.
    mechanism
        How the noise of ``Z`` carries over.
    rows_only
        Nothing but means and moved rows will be asked: principal directions, which can take most of the time, are
        left out where the mechanism does without, and the density is round.

    Returns
    -------
    Fitted
        See there.

    Raises
    ------
    GraphError, NotIdentifiedError
        No parents of ``Z``, or parents with an unmeasured common cause with it.
    DataError
        Too few patients, too many regressors, or no residual.
    """
    graph.check(cohort, doses=True)
    groups = cohort.factor(graph.group, private=True)
    parents = _checked_parents(cohort, graph, mechanism, groups.n_levels)
    values = parents.read(cohort)
    cells = lay_out(values, groups, parents)
    runs = lay_out_runs(values, cells, parents)
    gram, cross = products(cohort.X, parents, runs)
    mean = solve_mean(parents, gram, cross)
    sample = residual_sample(cohort.X, mean, values, cells)
    if rows_only and not mechanism.directed:
        basis, variance = np.eye(cohort.d, 1), sample.weight @ sample.residual**2
    else:
        basis, variance = directions(sample.residual, sample.weight, n_directions(cohort.d, groups.n_levels))
    moments = residual_moments(cohort.X, mean, runs, cells, basis, variance)
    _refuse_no_residual(mean, gram, float(moments.square.sum()), len(cohort))
    error = moments.error
    if isinstance(mechanism, RandomEffects):
        mean, error = shrink_by_direction(mean, gram, error, sample, cells)
    elif mechanism.crossed:
        mean, error = shrink_interactions(mean, gram, error, parents.n_main)
    noise = fit_noise(mechanism, moments, parents, lambda: principal_rows(cohort.X, mean, values, cells, basis))
    total = float(moments.square.sum() / moments.count.sum())
    continuous = tuple(n for n in graph.measured if graph.kind(n, cohort) == "continuous")
    factors = {name: cohort.factor(name) for name in graph.measured if name not in continuous}
    tables = _tables(cohort, graph, factors, groups)
    return Fitted(
        mean=mean,
        noise=noise,
        error=error,
        density=fit_density(sample, values.levels[sample.rows], noise, basis, total),
        tables=tables,
        scalars=fit_scalar_nodes(cohort, graph, factors, tuple(tables)),
        continuous=continuous,
        columns=tuple(factors),
        levels=tuple(f.levels for f in factors.values()),
        **_population(cohort, continuous, list(factors.values()), parents, values, cells.row_weight),
        n=len(cohort),
        n_groups=groups.n_levels,
        fingerprint=cohort.fingerprint(graph.columns),
        pairs=None,
    )


def _checked_parents(cohort: Cohort, graph: CausalGraph, mechanism: Mechanism, n_groups: int) -> Parents:
    """Regressors of ``Z``, if its mechanism is identified and the data suffice."""
    if not graph.parents(EMBEDDING):
        raise NotIdentifiedError(f"nothing causes {EMBEDDING} in this graph: add arrows into it.\nGraph: {graph}")
    refuse_confounded(graph, EMBEDDING)
    parents = parents_of_embedding(cohort, graph, crossed=mechanism.crossed)
    if not parents.categorical:
        raise DataError("no categorical node causes Z: counterfactuals move rows between levels. Bin a number.")
    if n_groups < 3:
        raise DataError(f"{n_groups} {graph.group}s make no model: add {graph.group}s, at least 3.")
    if parents.width > MAX_REGRESSORS:
        most = int(np.argmax(parents.sizes))
        raise DataError(
            f"the causes of Z make {parents.width} regressors (levels, crossed levels, splines), and at most "
            f"{MAX_REGRESSORS} can be fitted: column {parents.categorical[most]!r} alone has {parents.sizes[most]} "
            f"levels. Merge rare levels{', or leave out the interaction' if parents.crossed else ''}."
        )
    return parents


def _refuse_no_residual(mean: MeanModel, gram: np.ndarray, residual: float, n: int) -> None:
    """Refuse a fit that leaves nothing: every mechanism and every interval rests on what is left."""
    fitted = float((mean.coefficients * (gram @ mean.coefficients)).sum())
    if residual <= NOTHING * fitted:
        raise DataError(
            f"the causes of Z leave no residual in any of {n} rows: the embeddings are constant within levels, or "
            "there are as many regressors as rows. Check the embeddings, merge rare levels, or add rows."
        )


def _population(
    cohort: Cohort,
    continuous: Sequence[str],
    factors: Sequence[Factor],
    parents: Parents,
    values: Values,
    weight: np.ndarray,
) -> dict[str, np.ndarray]:
    """Joint distribution of the measured nodes over the patients."""
    joint, at = np.unique(np.stack([f.codes for f in factors], axis=1), axis=0, return_inverse=True)
    at = at.reshape(-1)
    seen = np.stack([cohort.numeric(name) for name in continuous], axis=1) if continuous else np.zeros((len(at), 0))
    numbers = _means(seen, at, weight)
    left = (seen - numbers[at]) * np.sqrt(weight / weight.sum())[:, None]
    return {
        "joint": joint,
        "patients": np.bincount(at, weight),
        "numbers": numbers,
        "within": left.T @ left,
        "spline_means": _means(parents.splines(values.numbers), at, weight),
    }


def _means(values: np.ndarray, codes: np.ndarray, weight: np.ndarray) -> np.ndarray:
    sums = [np.bincount(codes, weight * column) for column in values.T]
    return np.stack(sums, axis=1) / np.bincount(codes, weight)[:, None] if sums else np.zeros((codes.max() + 1, 0))


def _tables(cohort: Cohort, graph: CausalGraph, factors: Mapping[str, Factor], groups: Factor) -> dict[str, NodeTable]:
    """Tables of the categorical nodes whose measured parents are all categorical, and at least one."""
    out = {}
    for name, factor in factors.items():
        parents = graph.parents(name)
        if parents and all(p in factors for p in parents):
            ordinal = graph.kind(name, cohort) == "ordinal"
            out[name] = node_table(factor, [factors[p] for p in parents], groups, ordinal=ordinal)
    return out


def undetermined_message(fitted: Fitted, graph: CausalGraph, do: Mapping[str, object], rows: int) -> str:
    """Say, with the table, that a contrast is not determined by the design."""
    named = (n for n in (*do, *graph.technical) if n != graph.biology and n in fitted.columns)
    factor = next(named, graph.biology)
    other = graph.biology
    counts = fitted.crossed_patients(factor, other)
    best = None
    for a, b in itertools.permutations(fitted.columns, 2):  # a factor that determines another hides its effect
        if a == factor and bool(((fitted.crossed_patients(a, b) > 0).sum(axis=1) == 1).all()):
            best = b
            if b == graph.biology:
                break
    if best is not None:
        other, counts = best, fitted.crossed_patients(factor, best)
    names, others = (fitted.known(n) or () for n in (factor, other))
    lines = [
        f"{level}: " + ", ".join(f"{o} {c:g}" for o, c in zip(others[:6], row, strict=False))
        for level, row in zip(names[:6], np.round(counts, 1), strict=False)
    ]
    shown = "; ".join(f"{k}={v}" for k, v in do.items())
    return (
        f"do({shown}) is not identified on this design for {rows} rows: {factor} and {other} (or other causes of Z) "
        f"cannot be told apart. {graph.group.capitalize()}s by {factor} and {other}: {'; '.join(lines)}"
        f"{' ...' if len(names) > 6 else ''}. Add {graph.group}s that hold the missing combinations, or merge levels."
    )
