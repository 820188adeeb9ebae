"""The effect of a factor within one cell of other columns, with what every patient adds to its error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from causalfm.cohort import Cohort, Factor
from causalfm.estimators.influence.bundles import bundle_groups
from causalfm.gram_norms import LEAST_DF, GramNorm, gram_norm, norm_of_products
from causalfm.graph import CausalGraph
from causalfm.paired_units import paired_units
from causalfm.positivity import MIN_GROUPS, complete_table
from causalfm.standardisation import build_design, standardised_means
from causalfm.strata import groups_per_level, joint_factor
from causalfm.units import helmert, patient_units

MOST = 600  # units of a joint Gram matrix


@dataclass(frozen=True, eq=False)
class CellEffect:
    """Contrasts of the factor's levels in one cell.

    Attributes
    ----------
    gamma
        ``(K, d)`` orthonormal contrasts of the ``K + 1`` levels.
    parts
        ``(K, G, d)`` what each patient adds to their error.
    groups
        ``(G,)`` the patients, positions in the cohort's group codes.
    codes, df
        ``(G,)`` within which covariances are alike, and their degrees of freedom.
    """

    gamma: np.ndarray
    parts: np.ndarray
    groups: np.ndarray
    codes: np.ndarray
    df: np.ndarray

    @property
    def scale(self) -> float:
        """Factor that makes the squared norm the mean squared distance between two levels."""
        return 2.0 / len(self.gamma)

    def norm(self) -> GramNorm:
        """Mean squared distance between the levels in this cell."""
        return gram_norm(self.gamma, self.parts, self.codes, self.df, scale=self.scale)


def cell_effect(
    cohort: Cohort, rows: np.ndarray, graph: CausalGraph, of: Sequence[str], given: Sequence[str], *, paired: bool
) -> CellEffect | None:
    """Estimate the effect in the rows of one cell, between patients or within them.

    Parameters
    ----------
    cohort, rows
        Data, and positions of the cell's rows at the compared levels.
    graph
        Declared graph.
    of, given
        Factor, and conditioning columns beside those that make the cell.
    paired
        Whether patients are their own controls.

    Returns
    -------
    CellEffect or None
        None if not all levels of the cell can be compared.
    """
    own = np.unique(cohort.factor(graph.group, private=True).codes[rows])
    part = cohort[rows]
    if paired:
        within = paired_units(part, graph, of, given).within
        if len(within.levels) < part.factor(of[0]).n_levels:
            return None
        C = helmert(len(within.levels)) @ within.inverse
        residuals, U = within.residuals(), within.U
        df = np.array([max(float(len(within)) - 1.0, LEAST_DF)])
        codes = np.zeros(len(within), dtype=np.int64)
        return CellEffect(
            np.einsum("kl,gld->kd", C, U), np.einsum("kl,gld->kgd", C, residuals), own[within.units], codes, df
        )
    units = patient_units(part, graph, of, given)
    kept = complete_table(units.counts())
    if kept is None or len(kept.levels) < units.level.n_levels:
        return None
    design = build_design(units, kept)
    means = standardised_means(design.level, kept.levels, design.stratum, kept.strata)
    weights = design.adjust(helmert(len(kept.levels)) @ means)
    cells = design.cells
    widen = np.sqrt(np.bincount(cells.codes) / cells.df)[cells.codes]
    parts = weights[:, :, None] * (cells.residuals * widen[:, None])
    return CellEffect(weights @ design.Z, parts, own[design.rows], cells.codes, cells.df)


def comparable_counts(
    cohort: Cohort, graph: CausalGraph, cell: Factor, factor: Factor, rest: Sequence[str]
) -> np.ndarray:
    """Patients per cell and level that another level can be compared with, given the other categorical columns.

    A level whose patients are alone in their strata has many patients and nothing to be compared with: were it among
    the levels, every cell would be lost.
    """
    strata = [name for name in rest if graph.kind(name, cohort) != "continuous"]
    inner = joint_factor(cohort, strata) if strata else cell
    unit = cohort.factor(graph.group, private=True).codes
    shape = (cell.n_levels, inner.n_levels, factor.n_levels)
    codes = (cell.codes * inner.n_levels + inner.codes) * factor.n_levels + factor.codes
    counts = groups_per_level(codes, unit, int(np.prod(shape))).reshape(shape)
    enough = counts >= MIN_GROUPS
    beside = enough & (enough.sum(axis=2, keepdims=True) > 1)
    return np.asarray(np.where(beside, counts, 0).sum(axis=1))


@dataclass(frozen=True, eq=False)
class Stacked:
    """The patients of all cells in one list, one entry per patient and cell, with their inner products.

    Attributes
    ----------
    gamma
        ``(C, K, d)`` effects of the cells.
    cell, unit
        ``(A,)`` cell of each entry, and its place among the independent units: a patient of several cells has one.
    gram, along
        ``(A, A)`` inner products of the entries' contributions, and ``(A, C)`` those with the cells' effects.
    codes, df
        As in :class:`CellEffect`, for the units.
    """

    gamma: np.ndarray
    cell: np.ndarray
    unit: np.ndarray
    gram: np.ndarray
    along: np.ndarray
    codes: np.ndarray
    df: np.ndarray

    def norm(self, weights: np.ndarray) -> GramNorm:
        """Mean squared distance between the levels of the effect ``sum_c weights[c] gamma_c``, weights ``(C,)``."""
        own, scale = weights[self.cell], 2.0 / self.gamma.shape[1]
        gram, v = own[:, None] * self.gram * own, own * (self.along @ weights)
        if len(self.codes) < len(own):  # patients of several cells
            units = sparse.csr_array((np.ones(len(own)), (self.unit, np.arange(len(own)))))
            gram, v = np.asarray(units @ (units @ gram).T), np.asarray(units @ v)
        gamma = np.tensordot(weights, self.gamma, axes=1)
        return norm_of_products(gamma, scale * gram, scale * v, self.codes, self.df, scale=scale)


def stack(cells: Sequence[CellEffect], *, most: int = MOST) -> Stacked:
    """Put the patients of all cells in one list; beyond ``most`` they share entries within their cell.

    Parameters
    ----------
    cells
        Effects of the cells.
    most
        Entries, about; patients of several cells always have entries of their own.
    """
    gamma = np.stack([effect.gamma for effect in cells])
    groups = np.concatenate([effect.groups for effect in cells])
    cell = np.repeat(np.arange(len(cells)), [len(effect.groups) for effect in cells])
    parts = np.concatenate([effect.parts for effect in cells], axis=1)
    if len(np.unique(groups)) < len(groups):
        unit = np.unique(groups, return_inverse=True)[1]
        codes, df = np.zeros(int(unit.max()) + 1, dtype=np.int64), np.array([float(unit.max())])
        return Stacked(gamma, cell, unit, *_products(parts, gamma), codes, df)
    offsets = np.cumsum([0, *(len(effect.df) for effect in cells)])
    codes = np.concatenate([effect.codes + offset for effect, offset in zip(cells, offsets, strict=False)])
    df, held = np.concatenate([effect.df for effect in cells]), np.bincount(codes)
    place = bundle_groups(codes, most=most)
    n = int(place.max()) + 1
    bundled = np.zeros((len(parts), n, parts.shape[2]))
    for total, part in zip(bundled, parts, strict=True):
        np.add.at(total, place, part)
    first, cell_of = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    first[place], cell_of[place] = codes, cell
    df = np.maximum(df * np.bincount(first) / held, LEAST_DF)
    return Stacked(gamma, cell_of, np.arange(n), *_products(bundled, gamma), first, df)


def _products(parts: np.ndarray, gamma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inner products of contributions ``(K, A, d)`` with each other and with effects ``(C, K, d)``."""
    gram = np.zeros((parts.shape[1], parts.shape[1]))
    for part in parts:
        gram += part @ part.T
    along = sum(part @ effect.T for part, effect in zip(parts, gamma.swapaxes(0, 1), strict=True))
    return gram, np.asarray(along)
