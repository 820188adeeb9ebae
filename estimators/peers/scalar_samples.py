"""One scalar outcome per row with its treatment, covariates and groups: what estimators of other packages take."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from causalfm.cohort import Cohort
from causalfm.errors import DataError

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph


@dataclass(frozen=True, eq=False)
class ScalarSample:
    """A table with roles.

    Attributes
    ----------
    frame
        n rows: treatment, outcome, adjustment and heterogeneity columns.
    groups
        ``(n,)`` codes of the independent units.
    unit
        What they are, for instance ``"patient"``.
    treatment, outcome
        Columns. A treatment of text is categorical, of numbers continuous.
    given, heterogeneity
        Columns adjusted for, and columns by which the effect may differ.
    reference
        Level the others are compared with; empty for a continuous treatment.
    """

    frame: pd.DataFrame
    groups: np.ndarray
    unit: str
    treatment: str
    outcome: str
    given: tuple[str, ...]
    heterogeneity: tuple[str, ...] = ()
    reference: str = ""

    @property
    def levels(self) -> tuple[str, ...]:
        """Levels of a categorical treatment, the reference first; empty for a continuous one."""
        if is_number(self.frame[self.treatment]):
            return ()
        others = sorted(set(self.frame[self.treatment]) - {self.reference})
        return (self.reference, *others)

    def take(self, rows: np.ndarray) -> ScalarSample:
        """Return the sample of these row positions, repeated ones included."""
        return dataclasses.replace(self, frame=self.frame.iloc[rows].reset_index(drop=True), groups=self.groups[rows])

    def aggregated(self) -> ScalarSample:
        """Average every independent unit to one row.

        Raises
        ------
        DataError
            A categorical column takes several values within a unit: it has no average.
        """
        parts = {}
        for name in self.frame.columns:
            column = self.frame[name].groupby(self.groups, sort=True)
            if is_number(self.frame[name]):
                parts[name] = column.mean()
                continue
            if (varies := column.nunique() > 1).any():
                raise DataError(
                    f"column {name!r} takes several values within {int(varies.sum())} of {len(varies)} {self.unit}s "
                    f"and has no average there: choose clusters='bootstrap'."
                )
            parts[name] = column.first()
        frame = pd.DataFrame(parts).reset_index(drop=True)
        return dataclasses.replace(self, frame=frame, groups=np.unique(self.groups))

    def resampled(self, rng: np.random.Generator) -> ScalarSample:
        """Draw whole units with replacement, as many of each treatment level as there are.

        A unit drawn twice keeps one code, so that cross-fitting never splits its copies.
        """
        units, first, codes = np.unique(self.groups, return_index=True, return_inverse=True)
        strata = np.zeros(len(units), dtype=int)
        if self.levels:
            strata = pd.factorize(self.frame[self.treatment].iloc[first])[0]
        drawn = np.empty(len(units), dtype=int)
        for stratum in np.unique(strata):
            members = np.flatnonzero(strata == stratum)
            drawn[members] = rng.choice(members, len(members))
        order, start = np.argsort(codes, kind="stable"), np.r_[0, np.cumsum(np.bincount(codes))]
        return self.take(np.concatenate([order[start[u] : start[u + 1]] for u in drawn]))

    def design(self, columns: tuple[str, ...]) -> np.ndarray:
        """Return columns as numbers ``(n, p)``: categorical ones as indicators of all levels but the first."""
        parts = [
            self.frame[c].to_numpy(float)[:, None] if is_number(self.frame[c]) else _indicators(self.frame[c])
            for c in columns
        ]
        return np.concatenate(parts, axis=1) if parts else np.zeros((len(self.frame), 0))


def scalar_sample(
    cohort: Cohort,
    graph: CausalGraph,
    *,
    treatment: str,
    outcome: np.ndarray,
    name: str = "outcome",
    given: Sequence[str] = (),
    heterogeneity: Sequence[str] = (),
    reference: str | None = None,
) -> ScalarSample:
    """Lay out a cohort for estimators of other packages.

    Parameters
    ----------
    cohort, graph
        Data and declared graph; its kinds tell categories from numbers, its ``group`` is the independent unit.
    treatment
        Measured node.
    outcome
        ``(n,)`` numbers, one per row.
    name
        What to call the outcome; no column of the graph.
    given, heterogeneity
        Conditioning set, and the columns of it by which the effect may differ.
    reference
        Level the others are compared with; default the first.

    Returns
    -------
    ScalarSample
        Every measured column, whatever the method needs of them.

    Raises
    ------
    DataError
        An outcome that is not one finite number per row, or carries a name of the graph; heterogeneity outside the
        set; an unknown reference.
    """
    values = np.asarray(outcome, dtype=float)
    if values.shape != (len(cohort),) or not np.isfinite(values).all():
        raise DataError(
            f"the outcome has shape {values.shape}: it must be one finite number for each of {len(cohort)} rows."
        )
    if name in graph.columns:
        raise DataError(f"the outcome is called {name!r}, as a column of the graph is: choose another name.")
    if outside := [c for c in heterogeneity if c not in given]:
        raise DataError(
            f"heterogeneity names {', '.join(map(repr, outside))}; the effect is known by {', '.join(given)}."
        )
    columns: dict[str, np.ndarray] = {}
    for column in graph.measured:
        if graph.kind(column, cohort) == "continuous":
            columns[column] = cohort.numeric(column)
        else:
            factor = cohort.factor(column)
            columns[column] = np.asarray(factor.levels, dtype=object)[factor.codes]
    levels = () if columns[treatment].dtype != object else cohort.factor(treatment).levels
    if levels and reference is not None and reference not in levels:
        raise DataError(f"reference={reference!r} is not a level of {treatment}: {', '.join(levels)}.")
    return ScalarSample(
        frame=pd.DataFrame({**columns, name: values}),
        groups=cohort.factor(graph.group, private=True).codes,
        unit=graph.group,
        treatment=treatment,
        outcome=name,
        given=tuple(given),
        heterogeneity=tuple(heterogeneity),
        reference=(reference or levels[0]) if levels else "",
    )


def is_number(column: pd.Series) -> bool:
    """Whether a column holds numbers that are no truth values."""
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _indicators(column: pd.Series) -> np.ndarray:
    codes, levels = pd.factorize(column, sort=True)
    return np.eye(len(levels))[codes][:, 1:]
