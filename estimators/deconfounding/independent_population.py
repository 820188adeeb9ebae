"""A population in which class and factor are independent: weights of rows, and what each patient adds to a score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Mixed:
    """Rows of a complete table of factor and class, with their weights in two populations.

    Attributes
    ----------
    site, y
        ``(n,)`` codes among the kept levels and classes.
    groups
        ``(n,)`` codes of the patients, every code used.
    found
        ``(n,)`` weights as found: patients equal, rows equal within a patient; they add up to one.
    shape
        Number of levels and classes.
    """

    site: np.ndarray
    y: np.ndarray
    groups: np.ndarray
    found: np.ndarray
    shape: tuple[int, int]

    @property
    def cell(self) -> np.ndarray:
        """Cell of each row."""
        return np.asarray(self.site * self.shape[1] + self.y)

    @property
    def mass(self) -> np.ndarray:
        """``(levels, classes)`` shares as found."""
        return np.bincount(self.cell, self.found, self.shape[0] * self.shape[1]).reshape(self.shape)

    @property
    def independent(self) -> np.ndarray:
        """``(n,)`` weights ``p(y) p(s) / p(y, s)`` times those found."""
        mass = self.mass
        target = np.outer(mass.sum(axis=1), mass.sum(axis=0))
        if np.allclose(target, mass, rtol=1e-12, atol=0.0):
            return self.found  # independent as they are: no difference, not even of rounding
        return np.asarray(self.found * (target / mass).ravel()[self.cell])

    def effective(self) -> float:
        """Effective number of patients under the independent weights: ``(sum w)^2 / sum w^2``."""
        w = np.bincount(self.groups, self.independent)
        return float(w.sum() ** 2 / (w**2).sum())

    def strata(self) -> np.ndarray:
        """``(G,)`` code of the cells that each patient has rows in."""
        held = np.zeros((int(self.groups.max()) + 1, self.shape[0] * self.shape[1]), dtype=bool)
        held[self.groups, self.cell] = True
        return np.unique(held, axis=0, return_inverse=True)[1].reshape(-1)


def mixed(site: np.ndarray, y: np.ndarray, groups: np.ndarray, shape: tuple[int, int]) -> Mixed:
    """Lay out rows; every cell of ``shape`` holds some.

    Parameters
    ----------
    site, y
        ``(n,)`` codes.
    groups
        ``(n,)`` patients; codes may have gaps.
    shape
        Number of levels and classes.
    """
    codes = np.unique(groups, return_inverse=True)[1]
    count = np.bincount(codes)
    return Mixed(site, y, codes, 1.0 / (count[codes] * len(count)), shape)


def influence(rows: Mixed, weights: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """Return what each patient adds to a score, cell by cell.

    Parameters
    ----------
    rows
        The table.
    weights
        ``(n,)`` of the population that the score is for: ``rows.found`` or ``rows.independent``.
    slopes
        ``(n, k)`` gradient of the score in the weights.

    Returns
    -------
    numpy.ndarray
        ``(G, k)``: rows less the mean of their cell. Shares of cells are part of the design: the score is the one
        expected of new patients in the same numbers per level and class, as everywhere in the library.
    """
    direct = weights[:, None] * slopes
    carried = np.zeros((rows.shape[0] * rows.shape[1], slopes.shape[1]))
    np.add.at(carried, rows.cell, direct)
    carried /= rows.mass.reshape(-1, 1)
    sums = np.zeros((int(rows.groups.max()) + 1, slopes.shape[1]))
    np.add.at(sums, rows.groups, direct - rows.found[:, None] * carried[rows.cell])
    return sums


def small_sample(influence: np.ndarray, strata: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Covariance of scores from what patients add, and degrees of freedom of each.

    Parameters
    ----------
    influence
        ``(G, k)``.
    strata
        ``(G,)`` cells of the patients.

    Returns
    -------
    covariance : numpy.ndarray
        ``(k, k)``.
    df : numpy.ndarray
        ``(k,)`` Satterthwaite.

    Notes
    -----
    Deviations from the mean of a cell of ``n`` patients are widened by ``n / (n - 1)``, as a jackknife's are: scores of
    a few patients are skewed, and with the unbiased ``sqrt(n / (n - 1))`` intervals of 20 patients cover 87 % in place
    of 90. What lies between cells (patients with rows of several classes only) is widened for ``G - 1``.
    """
    G = len(influence)
    held = np.bincount(strata).astype(float)
    mean = np.zeros((len(held), influence.shape[1]))
    np.add.at(mean, strata, influence)
    mean /= held[:, None]
    within = (influence - mean[strata]) * (held / np.maximum(held - 1.0, 1.0))[strata][:, None]
    between = mean[strata] * np.sqrt(G / (G - 1.0))
    covariance = within.T @ within + between.T @ between
    own = np.zeros_like(mean)
    np.add.at(own, strata, within**2)
    spread = (between**2).sum(axis=0)
    slack = (own**2 / np.maximum(held - 1.0, 1.0)[:, None]).sum(axis=0) + spread**2 / max(G - 1.0, 1.0)
    df = np.where(slack > 0.0, np.diag(covariance) ** 2 / np.where(slack > 0.0, slack, 1.0), G - 1.0)
    return covariance, np.maximum(df, 1.0)
