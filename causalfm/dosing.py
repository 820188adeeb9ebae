"""Doses: continuous factors such as a scan date or a section's thickness, and where their values can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from causalfm.arguments import check_whole
from causalfm.cohort import Cohort
from causalfm.dropped_cells import strata_left_out
from causalfm.errors import DataError, positions
from causalfm.matching import covariate_means
from causalfm.positivity import (
    MIN_GROUPS,
    CompleteTable,
    Overlap,
    comparable_set,
    first_comparable,
    nesting_parents,
)
from causalfm.results import Verdict
from causalfm.strata import Strata, stratify

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph

DAY = pd.Timedelta(days=1)
EXPLAINED = 0.99  # share of a dose's variance within strata beyond which covariates give it away


@dataclass(frozen=True, eq=False)
class Doses:
    """A continuous factor on the design of one question.

    Attributes
    ----------
    name
        Column.
    values
        ``(G,)`` value of each unit; dates in days since the first.
    strata
        The units' strata; there are no levels.
    origin
        First date, if the column holds dates.
    """

    name: str
    values: np.ndarray
    strata: Strata
    origin: pd.Timestamp | None

    def shown(self, value: float) -> str:
        """Return a value in words: a date, or a number with four digits."""
        return f"{value:.4g}" if self.origin is None else str((self.origin + value * DAY).date())

    def kept(self, minimum: int) -> tuple[int, ...]:
        """Strata to compare in: the values vary, and have a value in common with all others kept.

        Of the sets of strata that have a value in common the one with the most units.
        """
        ranges = {w: (v.min(), v.max()) for w, v in self._parts() if len(v) >= minimum and np.ptp(v) > 0}
        sets = [tuple(w for w, (a, b) in ranges.items() if a <= low <= b) for low, _ in ranges.values()]
        count = np.bincount(self.strata.stratum, minlength=self.strata.n_strata)
        return max(sets, key=lambda chosen: int(count[list(chosen)].sum()), default=())

    def inside(self, kept: Sequence[int]) -> np.ndarray:
        """Mask ``(G,)`` of the units in these strata."""
        return np.isin(self.strata.stratum, kept)

    def left_out(self, kept: Sequence[int], minimum: int) -> dict[int, str]:
        """Give the reason of every other stratum."""
        out = {}
        for w, values in self._parts():
            if w not in kept:
                why = f"range {self.shown(values.min())} to {self.shown(values.max())}, apart from the others"
                if len(values) < minimum:
                    why = f"{len(values)} {self.strata.unit}s, not {minimum}"
                elif np.ptp(values) == 0:
                    why = f"{self.name} is the same in all {len(values)} {self.strata.unit}s"
                out[w] = why
        return out

    def _parts(self) -> list[tuple[int, np.ndarray]]:
        return [(w, self.values[self.strata.stratum == w]) for w in range(self.strata.n_strata)]


def is_dose(cohort: Cohort, graph: CausalGraph, of: Sequence[str]) -> bool:
    """Say whether a question is about a continuous factor.

    Raises
    ------
    DataError
        Several factors are asked together, one of them continuous.
    """
    doses = [name for name in of if graph.kind(name, cohort) == "continuous"]
    if doses and len(of) > 1:
        raise DataError(
            f"column {doses[0]!r} is continuous and has no levels to be crossed in a joint question of={list(of)!r}: "
            "ask about it alone, or bin it with pandas.cut."
        )
    return bool(doses)


def read_doses(cohort: Cohort, graph: CausalGraph, name: str, given: Sequence[str]) -> Doses:
    """Lay out the units by dose and stratum.

    Parameters
    ----------
    cohort, graph
        Data and declared graph.
    name
        Continuous column; the ranks of an ordered category stand for its levels.
    given
        Conditioning columns.

    Returns
    -------
    Doses
        One value per unit.

    Raises
    ------
    DataError
        The column holds text or varies within units, or a conditioning column does.
    """
    strata = stratify(cohort, graph, (), given)
    column, origin = cohort.column(name), None
    if isinstance(column.dtype, pd.CategoricalDtype) and column.cat.ordered:
        rows = cohort.factor(name).codes.astype(np.float64)
    elif pd.api.types.is_datetime64_any_dtype(column.dtype):
        origin = column.min()
        rows = ((column - origin) / DAY).to_numpy(np.float64)
    else:
        rows = cohort.numeric(name)
    groups = strata.groups
    low, high = np.full(groups.n_levels, np.inf), np.full(groups.n_levels, -np.inf)
    np.minimum.at(low, groups.codes, rows)
    np.maximum.at(high, groups.codes, rows)
    if (low < high).any():
        first = np.unique(groups.codes, return_index=True)[1][low < high]
        raise DataError(
            f"column {name!r} is continuous and takes several values within {len(first)} of {groups.n_levels} "
            f"{groups.name}s ({positions(sorted(first.tolist()))}): {groups.name}s are compared with each other, so "
            f"that each needs one value. Average it over each {groups.name}, or bin it with pandas.cut to compare "
            f"within {groups.name}s."
        )
    return Doses(name, low, strata, origin)


def comparable_doses(
    cohort: Cohort, graph: CausalGraph, name: str, valid: Sequence[tuple[str, ...]], minimum: int = MIN_GROUPS
) -> Overlap:
    """Say in which strata the values of a continuous factor can be compared.

    Parameters
    ----------
    cohort, graph, name
        Data, declared graph and factor.
    valid
        Valid conditioning sets in order of preference; the first that leaves something to compare is chosen.
    minimum
        Least units per stratum, at least 3.

    Returns
    -------
    Overlap
        ``levels`` holds the range of the values compared.

    Raises
    ------
    DataError
        See :func:`read_doses`.
    """
    check_whole(minimum, "minimum", MIN_GROUPS, why="independent units that the variance of a stratum needs")
    return first_comparable(_overlap(cohort, graph, name, given, minimum) for given in valid)


def comparable(
    cohort: Cohort, graph: CausalGraph, of: Sequence[str], valid: Sequence[tuple[str, ...]], minimum: int = MIN_GROUPS
) -> Overlap:
    """Say what can be compared: values of a continuous factor, see :func:`comparable_doses`, or levels."""
    if is_dose(cohort, graph, of):
        return comparable_doses(cohort, graph, of[0], valid, minimum)
    return comparable_set(cohort, graph, of, valid, minimum)


def _overlap(cohort: Cohort, graph: CausalGraph, name: str, given: Sequence[str], minimum: int) -> Overlap:
    doses = read_doses(cohort, graph, name, given)
    nested = next((p for p in nesting_parents(cohort, graph, (name,)) if p in given), None)
    kept, unit = doses.kept(minimum), doses.strata.unit
    if not kept:
        where = ", ".join(given) or "the cohort"
        why = f"no stratum of {where} holds {minimum} {unit}s at different values of {name}"
        if nested:
            why = f"every level of {nested} has a single value of {name}: {name} cannot be told from {nested}"
    elif given_away := _given_away(cohort, doses, kept):
        why = f"within strata {given_away} gives {name} away: a comparison would rest on extrapolation alone"
    else:
        why = ""
    if why:
        sentence = f"{why[:1].upper()}{why[1:]}."
        return Overlap(
            name, tuple(given), "cannot tell", sentence, False, (), (), (why,), None, minimum, nested, continuous=True
        )
    inside = doses.values[doses.inside(kept)]
    reasons = doses.left_out(kept, minimum)
    out = tuple(f"{doses.strata.stratum_name(w)}: {why}" for w, why in reasons.items())
    values = f"{doses.shown(inside.min())} to {doses.shown(inside.max())}"
    names = tuple(doses.strata.stratum_name(w) for w in kept)
    sentence = f"Values of {name} from {values} are compared over {'; '.join(names)} ({len(inside)} {unit}s)."
    if out:
        sentence = f"Values of {name} cannot be compared in {'; '.join(out)}. {sentence}"
    verdict: Verdict = "cannot tell" if out else "pass"
    table = CompleteTable((0,), kept, len(inside))
    found = name, tuple(given), verdict, sentence, True, (values,), names, out, table, minimum, nested
    return Overlap(*found, continuous=True, cells=strata_left_out(doses.strata, reasons))


def _given_away(cohort: Cohort, doses: Doses, kept: Sequence[int]) -> str:
    """Names of the continuous conditioning columns if they predict the dose within strata almost without error."""
    rows = doses.inside(kept)
    columns = np.column_stack([doses.values, covariate_means(cohort, doses.strata)])[rows]
    onehot = np.eye(doses.strata.n_strata)[doses.strata.stratum[rows]][:, list(kept)]
    columns -= onehot @ ((onehot.T @ columns) / onehot.sum(axis=0)[:, None])
    values, rest = columns[:, 0], columns[:, 1:]
    left = values - rest @ np.linalg.lstsq(rest, values, rcond=None)[0] if rest.size else values
    return " and ".join(doses.strata.continuous) if left @ left < (1.0 - EXPLAINED) * (values @ values) else ""
