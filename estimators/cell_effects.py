"""The effect of a factor within one cell of other columns, with what every patient adds to its error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from causalfm.cohort import Cohort
from causalfm.estimators.bundles import bundle_groups
from causalfm.gram_norms import GramNorm, gram_norm
from causalfm.graph import CausalGraph
from causalfm.paired_units import paired_units
from causalfm.positivity import complete_table
from causalfm.standardisation import build_design, standardised_means
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
        df = np.array([max(float(len(within)) - 1.0, 1.2)])
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


@dataclass(frozen=True, eq=False)
class Stacked:
    """The patients of all cells in one list.

    Attributes
    ----------
    slots
        One array per cell: place of each of its patients in the list. A patient of several cells has one place.
    codes, df
        As in :class:`CellEffect`, for the list.
    """

    slots: tuple[np.ndarray, ...]
    codes: np.ndarray
    df: np.ndarray

    def norm(self, cells: Sequence[CellEffect], weights: np.ndarray) -> GramNorm:
        """Mean squared distance of ``sum_c weights[c] gamma_c``."""
        K, d = cells[0].gamma.shape
        parts = np.zeros((K, len(self.codes), d))
        for weight, slot, cell in zip(weights, self.slots, cells, strict=True):
            for total, part in zip(parts, cell.parts, strict=True):
                np.add.at(total, slot, weight * part)
        gamma = sum(w * c.gamma for w, c in zip(weights, cells, strict=True))
        return gram_norm(np.asarray(gamma), parts, self.codes, self.df, scale=cells[0].scale)


def stack(cells: Sequence[CellEffect], *, most: int = MOST) -> Stacked:
    """Put the patients of all cells in one list; beyond ``most`` they share places within their cell.

    Parameters
    ----------
    cells
        Effects of the cells.
    most
        Places, about.
    """
    groups = np.concatenate([cell.groups for cell in cells])
    ends = np.cumsum([len(cell.groups) for cell in cells])[:-1]
    if len(np.unique(groups)) < len(groups):  # patients with rows in several cells
        places = np.unique(groups, return_inverse=True)[1]
        n = int(places.max()) + 1
        return Stacked(tuple(np.split(places, ends)), np.zeros(n, dtype=np.int64), np.array([n - 1.0]))
    offsets = np.cumsum([0, *(len(cell.df) for cell in cells)])
    codes = np.concatenate([cell.codes + offset for cell, offset in zip(cells, offsets, strict=False)])
    df, held = np.concatenate([cell.df for cell in cells]), np.bincount(codes)
    places = bundle_groups(codes, most=most)
    first = np.zeros(int(places.max()) + 1, dtype=np.int64)
    first[places] = codes
    return Stacked(tuple(np.split(places, ends)), first, np.maximum(df * np.bincount(first) / held, 1.2))
