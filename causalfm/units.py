"""Independent units: one averaged embedding per patient on the design of a question."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from causalfm.cohort import Cohort, Factor
from causalfm.errors import DataError
from causalfm.moments import CellSums, cell_sums
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

    def mapped(self, matrix: np.ndarray) -> Units:
        """Return the units after a linear map ``(d, r)`` of the embedding."""
        contrasts = self.contrasts
        if contrasts is not None:
            stacked = contrasts.shape[1] // len(matrix)
            contrasts = (contrasts.reshape(-1, len(matrix)) @ matrix).reshape(len(contrasts), stacked * matrix.shape[1])
        return dataclasses.replace(self, Z=self.Z @ matrix, contrasts=contrasts)


def patient_units(
    cohort: Cohort,
    graph: CausalGraph,
    of: Sequence[str],
    given: Sequence[str],
    *,
    features: Callable[[np.ndarray], np.ndarray] | None = None,
    offset: np.ndarray | None = None,
) -> Units:
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
    features
        Map of a block of rows to the features that are averaged in place of the embeddings.
    offset
        ``(G, d)`` taken off the rows of each patient before the features.

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
    Assumption for the embeddings themselves, where biology varies within patients: its effect is the same for all
    patients, so that only rows add to the error of the biology term. In features classes differ by something else in
    every patient, and the error of their mean difference would follow the shares of classes, hence the site: a true
    null was rejected in 20 %. Features are therefore averaged within classes first, with the same weights of classes in
    all patients, and patients are compared with patients that hold the same classes.
    """
    strata = stratify(cohort, graph, of, given)
    groups, within = strata.groups, strata.within

    def mapped(block: np.ndarray, rows: slice) -> np.ndarray:
        block = block if offset is None else block - offset[groups.codes[rows]]
        return block if features is None else features(block)

    plain = features is None and offset is None
    B = 1 if within is None else within.n_levels
    codes = groups.codes if within is None else groups.codes * B + within.codes
    cells = cell_sums(cohort.X, codes, groups.n_levels * B, features=None if plain else mapped)
    sums = cells if B == 1 else cells.merge_cells(np.arange(groups.n_levels * B) // B, groups.n_levels)
    contrasts, Z = None, sums.total
    np.divide(Z, sums.count[:, None], out=Z)  # in place: with a row per patient this is as large as the embeddings
    refuse_scale(Z)
    if within is not None:
        Z, contrasts = _within_patients(cells, groups.n_levels, B, alike=features is not None)
        if features is not None:
            strata = _by_classes_held(strata, cells.count.reshape(-1, B) > 0, within)
    covariates = [np.bincount(groups.codes, cohort.numeric(c), groups.n_levels) / sums.count for c in strata.continuous]
    fields = {name: getattr(strata, name) for name in Strata.__dataclass_fields__}
    basis = _spline_basis(covariates, len(Z))
    return Units(**fields, Z=Z, covariates=basis, contrasts=contrasts, size=groups.counts())


def refuse_scale(Z: np.ndarray) -> None:
    """Refuse embeddings whose fourth powers overflow or vanish: variances of squared distances are made of them."""
    largest = float(max(Z.max(), -Z.min()))
    if largest > 1 / SMALLEST or 0.0 < largest < SMALLEST:
        raise DataError(
            f"X has means of up to {largest:.1e}, whose fourth powers leave the range of floating-point numbers. "
            "Multiply X by a constant that brings them near 1; distances relative to biology stay the same."
        )


def helmert(levels: int) -> np.ndarray:
    """Orthonormal contrasts ``(levels - 1, levels)``."""
    return np.asarray(np.linalg.svd(np.eye(levels) - 1.0 / levels)[0][:, : levels - 1].T)


def _within_patients(cells: CellSums, G: int, B: int, *, alike: bool) -> tuple[np.ndarray, np.ndarray]:
    """Means of the patients without their biology term ``(G, d)``, and class contrasts of those that hold all classes.

    ``cells`` hold the rows of each patient and class, patients first. Patient-centred class means are regressed on
    patient-centred class indicators, every patient x class cell counting once; the factor takes no part, so that its
    effect cannot leak into the biology term. Rows count equally within a patient; if patients are to be ``alike``,
    classes count as they do on average over the patients, as far as a patient holds them.
    """
    used = cells.count > 0
    owner = np.repeat(np.arange(G), B)[used]
    classes = np.tile(np.eye(B), (G, 1))[used]
    means = cells.total[used] / cells.count[used, None]
    n_cells = np.bincount(owner, minlength=G)

    def centre(values: np.ndarray) -> np.ndarray:
        total = np.zeros((G, values.shape[1]))
        np.add.at(total, owner, values)
        return np.asarray(values - (total / n_cells[:, None])[owner])

    effects, *_ = np.linalg.lstsq(centre(classes), centre(means), rcond=None)
    share = cells.count.reshape(-1, B)
    share = share / share.sum(axis=1, keepdims=True)
    if alike:
        share = share.mean(axis=0) * (share > 0)
        share = share / share.sum(axis=1, keepdims=True)
    Z = np.zeros((G, means.shape[1]))
    np.add.at(Z, owner, share[share > 0][:, None] * (means - classes @ effects))
    full = means[(n_cells == B)[owner]].reshape(-1, B, means.shape[1])
    return Z, np.asarray(helmert(B) @ full).reshape(len(full), (B - 1) * means.shape[1])


def _by_classes_held(strata: Strata, held: np.ndarray, biology: Factor) -> Strata:
    """Divide the strata by the classes ``held (G, B)`` of each patient."""
    patterns, codes = np.unique(held, axis=0, return_inverse=True)
    names = (" and ".join(name for name, there in zip(biology.levels, row, strict=True) if there) for row in patterns)
    conditioning = (*strata.conditioning, Factor(f"{biology.name} held", codes.reshape(-1), tuple(names)))
    columns, stratum = np.unique(np.stack([f.codes for f in conditioning], axis=1), axis=0, return_inverse=True)
    return dataclasses.replace(strata, stratum=stratum.reshape(-1), stratum_columns=columns, conditioning=conditioning)


def _spline_basis(columns: list[np.ndarray], n: int) -> np.ndarray:
    """Quadratic splines with one inner knot at the median, centred; constant columns add nothing."""
    columns = [values for values in columns if np.ptp(values) > 0]
    if not columns:
        return np.zeros((n, 0))
    from sklearn.preprocessing import SplineTransformer

    spline = SplineTransformer(n_knots=SPLINE_KNOTS, degree=2, knots="quantile", include_bias=False)
    basis = np.concatenate([spline.fit_transform(values[:, None]) for values in columns], axis=1)
    return np.asarray(basis - basis.mean(axis=0))
