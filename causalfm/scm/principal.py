"""Principal directions of the residual, from a sample of rows that is spread over the patients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg

from causalfm.moments import ordered_blocks
from causalfm.scm.cells import Cells
from causalfm.scm.parents import Values
from causalfm.scm.regression import MeanModel, regressors

SAMPLE = 2048  # rows
DIRECTIONS = 64
MOST_ROWS = 2**18  # of coordinates along the directions: 64 MiB
GOLDEN = (5.0**0.5 - 1.0) / 2.0  # multiples, less their whole part, are spread evenly over 0 to 1


@dataclass(frozen=True, eq=False)
class Sample:
    """Rows spread over the patients: all their first rows, then their second ones, up to 2,048.

    Attributes
    ----------
    rows, weight
        ``(s,)`` positions, ascending, and weights that add up to 1.
    residual
        ``(s, d)``. Which rows are taken does not look at the embeddings, so that directions turn with them.
    """

    rows: np.ndarray
    weight: np.ndarray
    residual: np.ndarray


def residual_sample(X: np.ndarray, model: MeanModel, values: Values, cells: Cells) -> Sample:
    """Read a sample of residuals.

    Parameters
    ----------
    X
        ``(n, d)`` floating, may be a memory map.
    model, values, cells
        The mean, the rows' parents, their layout.

    Returns
    -------
    Sample
        Patients weigh equally in it.
    """
    rows, weight = _spread(cells)
    residual = np.empty((len(rows), X.shape[1]))
    for at, block in ordered_blocks(X, rows):
        residual[at] = block
    residual -= model.at(values[rows])
    return Sample(rows, weight / weight.sum(), residual)


@dataclass(frozen=True, eq=False)
class PrincipalRows:
    """Residuals along the principal directions.

    Attributes
    ----------
    along
        ``(n, k)`` float32.
    levels
        ``(n, p)`` level codes of the parents of ``Z``.
    patient
        ``(n,)`` codes.
    """

    along: np.ndarray
    levels: np.ndarray
    patient: np.ndarray


def principal_rows(X: np.ndarray, model: MeanModel, values: Values, cells: Cells, basis: np.ndarray) -> PrincipalRows:
    """Read all rows, or 2**18 of them spread over the patients, along ``basis (d, k)``.

    Parameters
    ----------
    X
        ``(n, d)`` floating, may be a memory map; read in blocks.
    model, values, cells
        The mean, the rows' parents, their layout.
    basis
        Orthonormal.

    Returns
    -------
    PrincipalRows
        Patient by patient, so that training does not depend on how they are mixed in the file.
    """
    rows, _ = _spread(cells, MOST_ROWS)
    design, along = regressors(model.parents, values), np.empty((len(rows), basis.shape[1]), dtype=np.float32)
    slopes = model.coefficients @ basis
    for at, block in ordered_blocks(X, rows):
        along[at] = block.astype(np.float64) @ basis - design(rows[at]) @ slopes
    patient = np.empty(len(cells.order), dtype=np.int64)
    patient[cells.order] = cells.patient[cells.share]
    sort = np.argsort(patient[rows], kind="stable")
    rows = rows[sort]
    return PrincipalRows(along[sort], values.levels[rows], patient[rows])


def directions(residual: np.ndarray, weight: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Principal directions of weighted rows.

    Parameters
    ----------
    residual, weight
        ``(s, d)`` and ``(s,)``; weights add up to 1.
    k
        How many.

    Returns
    -------
    basis, variance
        ``(d, k)`` orthonormal, largest variance first; ``(d,)`` variance of each dimension.
    """
    d = residual.shape[1]
    covariance = residual.T @ (residual * weight[:, None])
    _, vectors = linalg.eigh(covariance, subset_by_index=(d - k, d - 1))
    return np.ascontiguousarray(vectors[:, ::-1]), np.diag(covariance).copy()


def n_directions(d: int, n_patients: int) -> int:
    """At most 64, and a quarter of the patients."""
    return max(1, min(DIRECTIONS, d, n_patients // 4))


def _spread(cells: Cells, most: int = SAMPLE) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the sample, in ascending order, and their weights: patients weigh equally in the sample too."""
    order, patient = cells.order, cells.patient[cells.share]
    first = np.flatnonzero(np.diff(patient, prepend=-1))
    rank = np.arange(len(order)) - first[patient]
    chosen = np.lexsort((patient * GOLDEN % 1.0, rank))[:most]  # ids often begin with the hospital: not the first ones
    weight = 1.0 / np.bincount(patient[chosen])[patient[chosen]]
    rows = order[chosen]
    ascending = np.argsort(rows)
    return rows[ascending], weight[ascending]
