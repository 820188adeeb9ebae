"""Independent units: one averaged embedding per patient, with the factor, stratum and covariates of that patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from causalfm.cohort import Cohort, Factor
from causalfm.errors import DataError
from causalfm.moments import cell_sums

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph

SPLINE_KNOTS = 3


@dataclass(frozen=True, eq=False)
class Units:
    """Patients as the rows of a design.

    Attributes
    ----------
    Z
        ``(G, d)`` mean embedding of each patient: rows count equally within a patient, patients equally overall.
    level
        The tested factor, one code per patient.
    stratum
        Combination of the categorical conditioning columns, one code per patient (a single stratum if there are none).
    stratum_columns
        ``(W, p)`` level codes of the ``p`` conditioning factors in each stratum.
    conditioning
        The ``p`` categorical conditioning factors, at patient level.
    covariates
        ``(G, q)`` spline basis of the continuous conditioning columns, centred; ``q = 0`` if there are none.
    size
        Rows per patient.
    unit
        Name of the independent unit.
    notes
        Sentences on what was done to get here.
    """

    Z: np.ndarray
    level: Factor
    stratum: np.ndarray
    stratum_columns: np.ndarray
    conditioning: tuple[Factor, ...]
    covariates: np.ndarray
    size: np.ndarray
    unit: str
    notes: tuple[str, ...] = field(default_factory=tuple)

    def __len__(self) -> int:
        return len(self.Z)

    @property
    def n_strata(self) -> int:
        """Number of strata."""
        return len(self.stratum_columns)

    def counts(self) -> np.ndarray:
        """Patients per stratum and level, ``(W, L)``."""
        return table(self.stratum, self.level.codes, (self.n_strata, self.level.n_levels))

    def stratum_name(self, w: int) -> str:
        """Levels of stratum ``w`` in words, for instance ``"tumour=LUAD"``."""
        pairs = zip(self.conditioning, self.stratum_columns[w], strict=True)
        return ", ".join(f"{factor.name}={factor.levels[code]}" for factor, code in pairs) or "all patients"


def table(a: np.ndarray, b: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Count pairs of codes: a cross table of ``shape``."""
    return np.bincount(a * shape[1] + b, minlength=shape[0] * shape[1]).reshape(shape)


def joint_factor(cohort: Cohort, names: Sequence[str]) -> Factor:
    """Cross several columns into one factor, keeping the combinations that occur.

    Parameters
    ----------
    cohort
        Cohort with the columns.
    names
        One or more column names.

    Returns
    -------
    Factor
        Named ``"a + b"``, with levels ``"a1 + b1"``.
    """
    factors = [cohort.factor(name) for name in names]
    if len(factors) == 1:
        return factors[0]
    rows, codes = np.unique(np.stack([f.codes for f in factors], axis=1), axis=0, return_inverse=True)
    levels = (" + ".join(f.levels[c] for f, c in zip(factors, row, strict=True)) for row in rows)
    return Factor(" + ".join(names), codes.reshape(-1), tuple(levels))


def varies_within(codes: np.ndarray, groups: Factor) -> np.ndarray:
    """Return a mask ``(G,)`` of the groups in which ``codes`` takes more than one value."""
    low = np.full(groups.n_levels, np.iinfo(np.int64).max)
    high = np.full(groups.n_levels, -1)
    np.minimum.at(low, groups.codes, codes)
    np.maximum.at(high, groups.codes, codes)
    return np.asarray(low < high)


def patient_units(cohort: Cohort, graph: CausalGraph, of: Sequence[str], given: Sequence[str]) -> Units:
    """Average rows to patients and lay out the design of one question.

    Parameters
    ----------
    cohort
        Embeddings ``(n, d)`` and table.
    graph
        Declared graph: its ``group`` is the independent unit, its kinds tell strata from covariates.
    of
        Tested factor; several are crossed into one.
    given
        Conditioning columns. If biology varies within patients its effect is estimated within patients, without any
        term for the factor, and removed before averaging (statistics rule 2); it then forms no strata.

    Returns
    -------
    Units
        One row per patient.

    Raises
    ------
    DataError
        The factor, or a conditioning column other than biology, varies within patients.

    Notes
    -----
    Assumption: where biology varies within patients its effect is the same for all patients.
    """
    groups = cohort.factor(graph.group, private=True)
    factor = joint_factor(cohort, of)
    _refuse_varying(factor, groups, graph)
    first = _first_rows(groups)
    sums = cell_sums(cohort.X, groups.codes, groups.n_levels)
    Z, notes = sums.means(), []
    strata: list[Factor] = []
    continuous: list[np.ndarray] = []
    for name in given:
        if graph.kind(name, cohort) == "continuous":
            values = cohort.numeric(name)
            continuous.append(np.bincount(groups.codes, values, groups.n_levels) / sums.count)
            continue
        column = cohort.factor(name)
        if name == graph.biology and varies_within(column.codes, groups).any():
            Z = Z - within_group_term(cohort, groups, column, sums.count)
            notes.append(f"{name} varies within {graph.group}s: its effect was estimated within {graph.group}s and removed")
            continue
        _refuse_varying(column, groups, graph)
        strata.append(Factor(name, column.codes[first], column.levels))
    stratum, columns = _cross(strata, len(Z))
    level = Factor(factor.name, factor.codes[first], factor.levels)
    basis = _spline_basis(continuous, len(Z))
    return Units(Z, level, stratum, columns, tuple(strata), basis, sums.count.astype(np.int64), graph.group, tuple(notes))


def within_group_term(cohort: Cohort, groups: Factor, biology: Factor, size: np.ndarray) -> np.ndarray:
    """Share-weighted biology term of each patient, ``(G, d)``, from within-patient contrasts.

    Patient-centred class means are regressed on patient-centred class indicators, every patient x class cell counting
    once; the factor takes no part, so that its effect cannot leak into the biology term.
    """
    B = biology.n_levels
    cells = cell_sums(cohort.X, groups.codes * B + biology.codes, groups.n_levels * B)
    used = cells.count > 0
    owner = np.repeat(np.arange(groups.n_levels), B)[used]
    classes = np.tile(np.eye(B), (groups.n_levels, 1))[used]
    means = cells.total[used] / cells.count[used, None]
    n_cells = np.bincount(owner, minlength=groups.n_levels)

    def centre(values: np.ndarray) -> np.ndarray:
        total = np.zeros((groups.n_levels, values.shape[1]))
        np.add.at(total, owner, values)
        return np.asarray(values - (total / n_cells[:, None])[owner])

    effects, *_ = np.linalg.lstsq(centre(classes), centre(means), rcond=None)
    share = cells.count.reshape(-1, B) / size[:, None]
    return np.asarray(share @ effects)


def _first_rows(groups: Factor) -> np.ndarray:
    first = np.full(groups.n_levels, len(groups))
    np.minimum.at(first, groups.codes, np.arange(len(groups)))
    return first


def _refuse_varying(column: Factor, groups: Factor, graph: CausalGraph) -> None:
    count = int(varies_within(column.codes, groups).sum())
    if count:
        raise DataError(
            f"column {column.name!r} takes several values within {count} of {groups.n_levels} {graph.group}s: the "
            f"{graph.group} is the independent unit here. Correct the table, or keep one level per {graph.group} "
            "(within-patient re-scans need a paired analysis, which this version does not have)."
        )


def _cross(strata: list[Factor], n: int) -> tuple[np.ndarray, np.ndarray]:
    if not strata:
        return np.zeros(n, dtype=np.int64), np.zeros((1, 0), dtype=np.int64)
    columns, codes = np.unique(np.stack([f.codes for f in strata], axis=1), axis=0, return_inverse=True)
    return codes.reshape(-1), columns


def _spline_basis(columns: list[np.ndarray], n: int) -> np.ndarray:
    """Quadratic splines with one inner knot at the median, centred, constant columns left out."""
    if not columns:
        return np.zeros((n, 0))
    from sklearn.preprocessing import SplineTransformer

    parts = []
    for values in columns:
        if np.ptp(values) == 0:
            continue
        spline = SplineTransformer(n_knots=SPLINE_KNOTS, degree=2, knots="quantile", include_bias=False)
        basis = spline.fit_transform(values[:, None])
        parts.append(basis - basis.mean(axis=0))
    return np.concatenate(parts, axis=1) if parts else np.zeros((n, 0))
