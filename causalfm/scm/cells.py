"""Who is where: cells of levels, and what each patient holds in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalfm.cohort import Factor
from causalfm.scm.parents import Parents, Values


@dataclass(frozen=True, eq=False)
class Cells:
    """Rows by cell (combination of the categorical parents) and by share (one patient's rows of one cell).

    Attributes
    ----------
    levels
        ``(C, k)`` level codes of each cell that holds rows.
    order
        ``(n,)`` rows patient by patient, and cell by cell within.
    share
        ``(n,)`` share of each row of ``order``.
    cell, patient
        ``(K,)`` cell and patient of each share.
    weight
        ``(K,)`` weight of each share; those of a patient add up to 1.
    row_weight
        ``(n,)`` weight of each row, in the order of the cohort.
    splines
        ``(K, q)`` mean spline columns of each share.
    """

    levels: np.ndarray
    order: np.ndarray
    share: np.ndarray
    cell: np.ndarray
    patient: np.ndarray
    weight: np.ndarray
    row_weight: np.ndarray
    splines: np.ndarray

    @property
    def n_patients(self) -> int:
        """Number of patients."""
        return int(self.patient[-1]) + 1

    def per_cell(self) -> np.ndarray:
        """Patients in each cell ``(C,)``: shares of a patient count in part."""
        return np.asarray(np.bincount(self.cell, self.weight, len(self.levels)))

    def rows(self, parents: Parents) -> np.ndarray:
        """Regressors of each cell ``(C, p)``, without splines."""
        return parents.rows(Values(self.levels, np.zeros((len(self.levels), 0))), splines=False)

    def mean_splines(self) -> np.ndarray:
        """Mean spline columns of each cell ``(C, q)``."""
        sums = [np.bincount(self.cell, self.weight * column, len(self.levels)) for column in self.splines.T]
        return np.stack(sums, axis=1) / self.per_cell()[:, None] if sums else np.zeros((len(self.levels), 0))


def lay_out(values: Values, groups: Factor, parents: Parents) -> Cells:
    """Sort rows into cells and shares.

    Parameters
    ----------
    values
        Parents of the rows.
    groups
        The independent unit of each row.
    parents
        Regressors.

    Returns
    -------
    Cells
        Rows count equally within a patient, patients equally.
    """
    levels, cell = _distinct(values.levels)
    row_weight = 1.0 / groups.counts()[groups.codes]
    order = np.lexsort((cell, groups.codes))
    key = groups.codes[order] * len(levels) + cell[order]
    kept, share = np.unique(key, return_inverse=True)
    weight = np.bincount(share, row_weight[order])
    columns = parents.splines(values.numbers)[order]
    sums = [np.bincount(share, row_weight[order] * column, len(kept)) for column in columns.T]
    splines = np.stack([s / weight for s in sums], axis=1) if sums else np.zeros((len(kept), 0))
    return Cells(levels, order, share, kept % len(levels), kept // len(levels), weight, row_weight, splines)


def _distinct(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct rows of ``codes (n, k)`` and the position of each row among them."""
    if not codes.shape[1]:
        return np.zeros((1, 0), dtype=np.int64), np.zeros(len(codes), dtype=np.int64)
    found, where = np.unique(codes, axis=0, return_inverse=True)
    return found, where.reshape(-1)
