"""Parents of ``Z`` as regressors: indicators of levels, crossed levels, splines of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from causalfm.arrows import EMBEDDING
from causalfm.cohort import Cohort
from causalfm.errors import DataError, positions

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph

SPLINE = 3  # columns per number: t, t**2 and max(t, 0)**2, a quadratic spline with one knot at the median


@dataclass(frozen=True, eq=False)
class Values:
    """The parents of ``Z`` of some rows.

    Attributes
    ----------
    levels
        ``(n, k)`` level codes of the categorical parents.
    numbers
        ``(n, m)`` the continuous parents.
    """

    levels: np.ndarray
    numbers: np.ndarray

    def __getitem__(self, rows: slice | np.ndarray) -> Values:
        return Values(self.levels[rows], self.numbers[rows])


@dataclass(frozen=True, eq=False)
class Parents:
    """How the parents of ``Z`` enter its mean.

    Attributes
    ----------
    categorical, levels
        Columns with levels (ordinal ones too: each level has an effect of its own) and their level names.
    continuous, knots
        Columns with numbers, and ``(m, 3)`` least, median and largest value seen. Splines go on in straight lines
        beyond the ends.
    crossed
        Pairs of categorical columns whose combinations have effects of their own.
    """

    categorical: tuple[str, ...]
    levels: tuple[tuple[str, ...], ...]
    continuous: tuple[str, ...]
    knots: np.ndarray
    crossed: tuple[tuple[int, int], ...] = ()

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of levels of each categorical column."""
        return tuple(len(levels) for levels in self.levels)

    @property
    def n_main(self) -> int:
        """Regressors before the crossed ones: the constant, splines, levels."""
        return 1 + SPLINE * len(self.continuous) + sum(self.sizes)

    @property
    def n_splines(self) -> int:
        """Regressors that are splines: they follow the constant."""
        return SPLINE * len(self.continuous)

    @property
    def width(self) -> int:
        """All regressors."""
        return self.n_main + sum(self.sizes[a] * self.sizes[b] for a, b in self.crossed)

    def rows(self, values: Values, *, splines: bool = True) -> np.ndarray:
        """Regressors ``(n, width)``; without ``splines`` those columns stay 0."""
        out = np.zeros((len(values.levels), self.width))
        out[:, 0] = 1.0
        if splines:
            out[:, 1 : 1 + self.n_splines] = self.splines(values.numbers)
        at, row = 1 + self.n_splines, np.arange(len(out))
        for column, size in enumerate(self.sizes):
            out[row, at + values.levels[:, column]] = 1.0
            at += size
        for a, b in self.crossed:
            out[row, at + values.levels[:, a] * self.sizes[b] + values.levels[:, b]] = 1.0
            at += self.sizes[a] * self.sizes[b]
        return out

    def splines(self, numbers: np.ndarray) -> np.ndarray:
        """``(n, 3 m)`` quadratic splines, straight beyond the range seen."""
        low, middle, high = self.knots.T
        half = np.where(high > low, (high - low) / 2.0, 1.0)
        t = (numbers - middle) / half
        inner = np.clip(t, (low - middle) / half, (high - middle) / half)
        up, beyond = np.maximum(inner, 0.0), t - inner
        columns = [t, inner**2 + 2.0 * inner * beyond, up**2 + 2.0 * up * beyond]
        return np.stack(columns, axis=2).reshape(len(numbers), self.n_splines)

    def read(self, cohort: Cohort) -> Values:
        """Code the parents of a cohort.

        Raises
        ------
        DataError
            A column that is missing or incomplete, or a level that the model never saw.
        """
        levels = [known_codes(cohort, name, seen) for name, seen in zip(self.categorical, self.levels, strict=True)]
        numbers = [cohort.numeric(name) for name in self.continuous]
        n = len(cohort)
        return Values(
            np.stack(levels, axis=1) if levels else np.zeros((n, 0), dtype=np.int64),
            np.stack(numbers, axis=1) if numbers else np.zeros((n, 0)),
        )


def parents_of_embedding(cohort: Cohort, graph: CausalGraph, *, crossed: bool) -> Parents:
    """Learn the levels and ranges of the parents of ``Z`` from a cohort.

    Parameters
    ----------
    cohort, graph
        Data and declared graph.
    crossed
        Cross biology with each technical parent.

    Returns
    -------
    Parents
        The regressors.

    Raises
    ------
    DataError
        Crossing without biology, or without a technical factor, among the parents.
    """
    causes = graph.parents(EMBEDDING)
    # biology first, hospital before scanner: where factors are confounded, transport gives shared shape to the first
    parents = [p for p in (graph.biology, *graph.covariates, *graph.technical) if p in causes]
    continuous = tuple(p for p in parents if graph.kind(p, cohort) == "continuous")
    categorical = tuple(p for p in parents if p not in continuous)
    knots = [np.quantile(cohort.numeric(p), (0.0, 0.5, 1.0)) for p in continuous]
    pairs: list[tuple[int, int]] = []
    if crossed:
        factors = [categorical.index(t) for t in graph.technical if t in categorical]
        if graph.biology not in categorical or not factors:
            raise DataError(
                "mechanisms 'interaction' and 'random-effects' cross the biology with technical factors, and the graph "
                "does not make both causes of Z: choose mechanism='additive'."
            )
        pairs = [(categorical.index(graph.biology), factor) for factor in factors]
    levels = tuple(cohort.factor(p).levels for p in categorical)
    return Parents(categorical, levels, continuous, np.array(knots).reshape(len(knots), 3), tuple(pairs))


def known_codes(cohort: Cohort, name: str, seen: Sequence[str]) -> np.ndarray:
    """Code a column by the levels of a fitted model.

    Parameters
    ----------
    cohort, name
        Data and column.
    seen
        Levels of the model.

    Returns
    -------
    numpy.ndarray
        ``(n,)`` int64.

    Raises
    ------
    DataError
        Levels never seen: their names, count and first rows.
    """
    factor = cohort.factor(name)
    code = {level: i for i, level in enumerate(seen)}
    mapped = np.array([code.get(level, -1) for level in factor.levels])[factor.codes]
    new = np.flatnonzero(mapped < 0)
    if len(new):
        names = sorted({factor.levels[c] for c in factor.codes[new]})
        number = pd.api.types.is_numeric_dtype(cohort.obs[name]) and not pd.api.types.is_bool_dtype(cohort.obs[name])
        hint = f" If they are numbers, declare kinds={{{name!r}: 'continuous'}} in the graph." if number else ""
        raise DataError(
            f"column {name!r} has {len(names)} level(s) that the model never saw, in {len(new)} rows "
            f"({positions(new.tolist())}): {', '.join(names[:5])}. Nothing tells their effect: fit the model on a "
            "cohort that holds them, leave these rows out, or, if technical, make the model with unseen='shrink' or "
            f"'adapt'.{hint}"
        )
    return np.asarray(mapped, dtype=np.int64)
