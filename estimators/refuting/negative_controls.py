"""Refuters with negative controls: facts that the factor cannot change, and factors that cannot change the outcome."""

from __future__ import annotations

import dataclasses

import numpy as np

from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.estimators.estimating import ROUNDING
from causalfm.estimators.refuting.refutation import RefutationRow
from causalfm.estimators.refuting.refuted_units import Refuted, answer, compared_only, with_levels, with_outcome
from causalfm.graph import CausalGraph
from causalfm.moments import cell_sums, centred
from causalfm.norms import SquaredNorm, signed_root
from causalfm.positivity import complete_table
from causalfm.results import Verdict, verdict_against
from causalfm.strata import table, varies_within
from causalfm.units import Units


def negative_outcome(
    refuted: Refuted, patients: np.ndarray, cohort: Cohort, graph: CausalGraph, column: str, margin: float
) -> RefutationRow:
    """Put a fact that the factor cannot change in place of the outcome.

    Parameters
    ----------
    refuted
        The patients compared.
    patients
        ``(G,)`` their positions in the cohort's group codes.
    cohort, graph
        Data and declared graph.
    column
        A patient's age, sex, ...: number, or category.
    margin
        Standard deviations within cells that may be left between levels.

    Returns
    -------
    RefutationRow
        ``after`` is a root mean square distance in standard deviations within cells.

    Raises
    ------
    DataError
        A column that is conditioned on (nothing can be left of it), or that the factor changes under the graph.
    """
    units = refuted.units
    _refuse_control(graph, units, column, "outcome")
    values = _patient_values(cohort, graph, column)[patients]
    if _fixed(values, refuted.cells):
        raise DataError(
            f"{column!r} is the same for all {units.unit}s of a cell (level and stratum): it follows from what is "
            "compared or conditioned on, so that as a negative control outcome it has nothing left. Choose another."
        )
    norm, spread = refuted.answer(with_outcome(units, values)), _spread_within(values, refuted.cells)
    verdict, low, high = _against(norm, spread, margin)
    before, after = signed_root(refuted.norm.value), signed_root(norm.value / spread)
    name = units.level.name
    told = {
        "pass": f"{column} does not differ between levels of {name} by more than {margin:.2g} standard deviations",
        "fail": f"{name} 'changes' {column}, which it cannot: its levels hold {units.unit}s that differ beyond the set",
        "cannot tell": f"whether {column} differs between levels of {name} cannot be told",
    }[verdict]
    sentence = f"{told[:1].upper()}{told[1:]}: {after:.2f} ({low:.2f} to {high:.2f})."
    done = f"{column} in place of the outcome; distances in standard deviations within cells"
    return RefutationRow(f"negative control outcome: {column}", done, before, after, low, high, verdict, sentence)


def negative_exposure(
    refuted: Refuted, patients: np.ndarray, cohort: Cohort, graph: CausalGraph, column: str, margin: float
) -> RefutationRow:
    """Put a factor that cannot change the outcome in place of the factor, within its levels and strata.

    Parameters
    ----------
    refuted, patients, cohort, graph
        See :func:`negative_outcome`.
    column
        A categorical column without effect on the outcome, such as the parity of the accession number.
    margin
        Share of the factor's own distance that may be left.

    Returns
    -------
    RefutationRow
        ``after`` is the distance between its levels, in units of the outcome.
    """
    units = refuted.units
    _refuse_control(graph, units, column, "exposure")
    factor = cohort.factor(column)
    groups = cohort.factor(graph.group, private=True)
    if (varies := varies_within(factor.codes, groups)).any():
        raise DataError(
            f"column {column!r} takes several values within {int(varies.sum())} {units.unit}s: a negative control "
            f"exposure has one value per {units.unit}."
        )
    codes = factor.codes[np.unique(groups.codes, return_index=True)[1]][patients]
    n_cells = units.n_strata * refuted.n_levels
    kept = complete_table(table(refuted.cells, codes, (n_cells, factor.n_levels)), refuted.settings.minimum)
    before, name = signed_root(refuted.norm.value), f"negative control exposure: {column}"
    done = f"{column} in place of {units.level.name}, within its levels and strata"
    if kept is None:
        nan = float("nan")
        why = f"No cell holds two levels of {column} with {refuted.settings.minimum} {units.unit}s each."
        return RefutationRow(name, done, before, nan, nan, nan, "cannot tell", why)
    swapped = dataclasses.replace(
        with_levels(units, codes),
        level=dataclasses.replace(factor, codes=codes),
        stratum=refuted.cells,
        stratum_columns=np.arange(n_cells)[:, None],
        conditioning=(dataclasses.replace(units.level, name="cell"),),
    )
    norm = answer(compared_only(swapped, kept), refuted.settings)
    scale = max(refuted.norm.value, np.finfo(float).tiny)
    verdict, low, high = _against(norm, scale, margin)
    after, root = signed_root(norm.value), float(np.sqrt(scale))
    told = {"pass": "moves the outcome by less than", "fail": "moves the outcome by more than"}.get(
        verdict, "cannot be told to move the outcome by less than"
    )
    sentence = (
        f"{column}, which should have no effect, {told} {margin:.0%} of the distance of {units.level.name}: "
        f"{after:.3g} ({low * root:.3g} to {high * root:.3g}) against {before:.3g}."
    )
    return RefutationRow(name, done, before, after, low * root, high * root, verdict, sentence)


def _against(norm: SquaredNorm, scale: float, margin: float) -> tuple[Verdict, float, float]:
    """Verdict of one-sided 95 % bounds against the margin; ends of the two-sided interval, as scaled distances."""
    ends = [float(np.sqrt(end / scale)) for end in norm.interval()]
    bounds = [float(np.sqrt(norm.bound(p) / scale)) for p in (0.95, 0.05)]
    return verdict_against(bounds[0], bounds[1], margin), ends[0], ends[1]


def _refuse_control(graph: CausalGraph, units: Units, column: str, what: str) -> None:
    conditioned = {f.name for f in units.conditioning} | set(units.continuous)
    factors = set(units.level.name.split(" + "))
    if column in conditioned | factors:
        raise DataError(
            f"{column!r} is compared or conditioned on: as a negative control {what} it has nothing left. Choose a "
            "column that the set does not hold."
        )
    if column in (*graph.groups, graph.specimen):
        raise DataError(f"{column!r} is a unit, not a fact about one: choose another negative control {what}.")
    if column in graph.nodes and (changing := [f for f in factors if column in graph.descendants(f)]):
        raise DataError(
            f"under the graph {changing[0]} changes {column!r}: a negative control {what} is a fact it cannot change."
        )


def _patient_values(cohort: Cohort, graph: CausalGraph, column: str) -> np.ndarray:
    """``(all patients, r)`` means of a numeric column, or shares of the levels of another."""
    groups = cohort.factor(graph.group, private=True)
    if graph.kind(column, cohort) == "continuous":
        rows = cohort.numeric(column)[:, None]
    else:
        factor = cohort.factor(column)
        rows = np.eye(factor.n_levels)[factor.codes]
    return cell_sums(rows, groups.codes, groups.n_levels).means()


def _fixed(Z: np.ndarray, cells: np.ndarray) -> bool:
    return bool(np.abs(centred(Z, cells, int(cells.max()) + 1)).max() <= ROUNDING * np.abs(Z).max())


def _spread_within(Z: np.ndarray, cells: np.ndarray) -> float:
    """Pooled variance within cells, summed over columns."""
    residual = centred(Z, cells, int(cells.max()) + 1)
    return max(float((residual**2).sum() / (len(Z) - len(np.unique(cells)))), np.finfo(float).tiny)
