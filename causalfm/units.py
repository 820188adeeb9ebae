"""Independent units: one averaged embedding per patient on the design of a question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from causalfm.cohort import Cohort, Factor
from causalfm.errors import DataError
from causalfm.moments import cell_sums
from causalfm.strata import Strata, stratify

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph

SPLINE_KNOTS = 3
SMALLEST = 1e-70


@dataclass(frozen=True, eq=False)
class Units(Strata):
    """Patients as rows: the strata of a question with embeddings and covariates.

    Attributes
    ----------
    Z
        ``(G, d)`` mean embedding of each patient: rows count equally within a patient, patients equally overall. Where
        biology varies within patients, its term is removed.
    covariates
        ``(G, q)`` centred spline basis of the continuous conditioning columns.
    contrasts
        ``(P, (B - 1) d)`` within-patient contrasts between classes (orthonormal, stacked) of the patients that hold all
        classes; None if biology does not vary within patients.
    size
        ``(G,)`` rows of each patient.
    """

    Z: np.ndarray
    covariates: np.ndarray
    contrasts: np.ndarray | None
    size: np.ndarray

    def __len__(self) -> int:
        return len(self.Z)


def patient_units(cohort: Cohort, graph: CausalGraph, of: Sequence[str], given: Sequence[str]) -> Units:
    """Average rows to patients on the design of one question.

    Parameters
    ----------
    cohort
        Embeddings ``(n, d)`` and table.
    graph
        Declared graph: its ``group`` is the independent unit, its kinds tell strata from covariates.
    of
        Tested factor; several are crossed into one.
    given
        Conditioning columns. If biology varies within patients, its effect is estimated within patients, without any
        term for the factor, and removed before averaging (statistics rule 2).

    Returns
    -------
    Units
        One row per patient.

    Raises
    ------
    DataError
        The factor, or a conditioning column other than biology, varies within patients; values near the ends of the
        floating-point range.

    Notes
    -----
    Assumption: where biology varies within patients its effect is the same for all patients.
    """
    strata = stratify(cohort, graph, of, given)
    groups = strata.groups
    sums = cell_sums(cohort.X, groups.codes, groups.n_levels)
    Z, contrasts = sums.means(), None
    _refuse_scale(Z)
    if strata.within is not None:
        term, contrasts = _within_patients(cohort, groups, strata.within)
        Z = Z - term
    covariates = [np.bincount(groups.codes, cohort.numeric(c), groups.n_levels) / sums.count for c in strata.continuous]
    fields = {name: getattr(strata, name) for name in Strata.__dataclass_fields__}
    basis = _spline_basis(covariates, len(Z))
    return Units(**fields, Z=Z, covariates=basis, contrasts=contrasts, size=groups.counts())


def _refuse_scale(Z: np.ndarray) -> None:
    """Refuse embeddings whose fourth powers overflow or vanish: variances of squared distances are made of them."""
    largest = float(np.abs(Z).max())
    if largest > 1 / SMALLEST or 0.0 < largest < SMALLEST:
        raise DataError(
            f"X has means of up to {largest:.1e}, whose fourth powers leave the range of floating-point numbers. "
            "Multiply X by a constant that brings them near 1; distances relative to biology stay the same."
        )


def helmert(levels: int) -> np.ndarray:
    """Orthonormal contrasts ``(levels - 1, levels)``."""
    return np.asarray(np.linalg.svd(np.eye(levels) - 1.0 / levels)[0][:, : levels - 1].T)


def _within_patients(cohort: Cohort, groups: Factor, biology: Factor) -> tuple[np.ndarray, np.ndarray]:
    """Biology term of each patient ``(G, d)`` and class contrasts of the patients that hold all classes.

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
    share = cells.count.reshape(-1, B)
    share = share / share.sum(axis=1, keepdims=True)
    full = means[(n_cells == B)[owner]].reshape(-1, B, cohort.d)
    return np.asarray(share @ effects), np.asarray(helmert(B) @ full).reshape(len(full), -1)


def _spline_basis(columns: list[np.ndarray], n: int) -> np.ndarray:
    """Quadratic splines with one inner knot at the median, centred; constant columns add nothing."""
    columns = [values for values in columns if np.ptp(values) > 0]
    if not columns:
        return np.zeros((n, 0))
    from sklearn.preprocessing import SplineTransformer

    spline = SplineTransformer(n_knots=SPLINE_KNOTS, degree=2, knots="quantile", include_bias=False)
    basis = np.concatenate([spline.fit_transform(values[:, None]) for values in columns], axis=1)
    return np.asarray(basis - basis.mean(axis=0))
