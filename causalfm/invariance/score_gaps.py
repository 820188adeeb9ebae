"""Gaps between levels of a factor in what a model says, in points of probability, with intervals by patient."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from causalfm.positivity import CompleteTable
from causalfm.singular_values import orthonormal
from causalfm.standardisation import Design, build_design, standardised_means
from causalfm.units import Units


@dataclass(frozen=True, eq=False)
class Gaps:
    """Numbers that are zero for an invariant model, with their errors.

    Attributes
    ----------
    names
        Levels of each: a pair ``(a, b)`` for ``a - b``, or one level for ``a`` against the others.
    values, errors, df
        ``(J, K)``: the gap in each score column, its standard error and degrees of freedom.
    """

    names: tuple[tuple[str, ...], ...]
    values: np.ndarray
    errors: np.ndarray
    df: np.ndarray

    def reach(self, tail: float) -> np.ndarray:
        """Half width ``(J, K)`` of intervals that leave ``tail`` on one side."""
        return np.asarray(stats.t.isf(tail, self.df) * self.errors)


def pair_gaps(units: Units, kept: CompleteTable) -> Gaps:
    """Differences between the standardised mean scores of every two levels.

    Parameters
    ----------
    units
        Patients with scores as ``Z (G, K)``.
    kept
        Levels and strata to be compared.

    Returns
    -------
    Gaps
        Student's t with Satterthwaite's degrees of freedom; variances per stratum and level.

    References
    ----------
    Satterthwaite, Biometrics Bulletin 2 (1946) 110-114.
    """
    design = build_design(units, kept)
    means = standardised_means(design.level, kept.levels, design.stratum, kept.strata)
    pairs = list(itertools.combinations(range(len(means)), 2))
    weights = np.stack([means[i] - means[j] for i, j in pairs])
    levels = [units.level.levels[i] for i in kept.levels]
    return _linear([(levels[i], levels[j]) for i, j in pairs], weights, design, units.Z[design.rows])


def level_means(units: Units, kept: CompleteTable) -> Gaps:
    """Standardised mean scores of every level, with what :func:`pair_gaps` says of intervals."""
    design = build_design(units, kept)
    means = standardised_means(design.level, kept.levels, design.stratum, kept.strata)
    return _linear([(units.level.levels[i],) for i in kept.levels], means, design, units.Z[design.rows])


def _linear(names: Iterable[tuple[str, ...]], weights: np.ndarray, design: Design, Z: np.ndarray) -> Gaps:
    """Contrasts ``weights (J, G)`` of patients ``Z (G, K)`` with the variances of the design's cells."""
    weights, cells = design.adjust(weights), design.cells
    onehot = np.eye(cells.n_cells)[cells.codes]
    variances = (onehot.T @ cells.residuals**2) / cells.df[:, None]
    parts = (weights**2 @ onehot)[:, :, None] * variances
    total = parts.sum(axis=1)
    df = total**2 / np.maximum((parts**2 / cells.df[:, None]).sum(axis=1), 1e-300)
    return Gaps(tuple(names), weights @ Z, np.sqrt(total), np.maximum(df, 1.0))


def equal_score_gaps(y: np.ndarray, s: np.ndarray, basis: np.ndarray, groups: np.ndarray, levels: list[str]) -> Gaps:
    """By how much the frequency of each class at one level differs from the others' at equal scores.

    Parameters
    ----------
    y, s
        ``(n, K)`` and ``(n, L)`` indicators of class and level.
    basis
        ``(n, r)`` functions of the scores.
    groups
        ``(n,)`` codes of the patients, who weigh equally.
    levels
        Names of the ``L`` levels.

    Returns
    -------
    Gaps
        For each level the coefficient of ``y`` on ``s`` after regressing both on the basis, whatever the calibration
        curve that all levels share; variances from sums over patients, df of the patients at the level (or elsewhere).

    References
    ----------
    Robinson, Econometrica 56 (1988) 931-954; Liang and Zeger, Biometrika 73 (1986) 13-22.
    """
    n = int(groups.max()) + 1
    root = 1.0 / np.sqrt(np.bincount(groups, minlength=n)[groups])[:, None]
    conditions = orthonormal(root * np.hstack([np.ones((len(y), 1)), basis]))
    Y, S = (values - conditions @ (conditions.T @ values) for values in (root * y, root * s))
    power = np.maximum((S**2).sum(axis=0), 1e-300)[:, None]
    values, spare = (S.T @ Y) / power, np.sqrt(np.maximum(1.0 - (conditions**2).sum(axis=1), 1e-9))
    errors = np.empty_like(values)
    for at, level in enumerate(S.T):
        sums = np.zeros((n, y.shape[1]))
        np.add.at(sums, groups, (level / spare)[:, None] * (Y - level[:, None] * values[at]))
        errors[at] = np.sqrt((sums**2).sum(axis=0)) / power[at]
    held = np.array([len(np.unique(groups[column > 0])) for column in s.T])
    df = np.maximum(np.minimum(held, n - held) - 1.0, 1.0)[:, None] * np.ones(values.shape)
    return Gaps(tuple((level,) for level in levels), values, errors * np.sqrt(n / (n - 1.0)), df)
