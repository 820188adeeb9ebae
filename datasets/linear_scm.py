"""Clustered embeddings from a known linear structural causal model: the truth that every calibration needs.

``Z = site + biology + scanner + age + patient + noise``: patients are the independent units and bring several rows.
The *design* (how many patients each site x biology cell holds) is a deterministic function of the arguments and the
*effects* depend on ``effect_seed`` only, so that independent cohorts of one design share their truth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from causalfm.cohort import Cohort
from causalfm.errors import DataError


@dataclass(frozen=True, eq=False)
class LinearTruth:
    """True mean vectors of each level.

    Attributes
    ----------
    site, biology, scanner
        ``(levels, d)`` contributions to the mean embedding; ``scanner`` is the direct part only.
    scanner_given_site
        ``(sites, scanners)`` share of patients per scanner.
    """

    site: np.ndarray
    biology: np.ndarray
    scanner: np.ndarray
    scanner_given_site: np.ndarray

    def site_total(self) -> np.ndarray:
        """``(sites, d)`` total effect of the site, through its scanners too."""
        return np.asarray(self.site + self.scanner_given_site @ self.scanner)


def mean_square_distance(vectors: np.ndarray) -> float:
    """Mean squared distance over pairs of rows of ``vectors (levels, d)``."""
    levels = len(vectors)
    centred = vectors - vectors.mean(axis=0)
    return float(2.0 * (centred**2).sum() / (levels - 1))


def linear_scm(
    *,
    n_groups: int = 80,
    rows_per_group: int | tuple[int, int] = 5,
    d: int = 32,
    n_sites: int = 4,
    n_biology: int = 2,
    n_scanners: int = 0,
    site_effect: float = 0.0,
    biology_effect: float = 1.0,
    scanner_effect: float = 0.0,
    age_effect: float = 0.0,
    group_effect: float = 1.0,
    noise: float = 1.0,
    decay: float = 1.0,
    confounding: float = 0.0,
    age_by_site: float = 0.0,
    groups_by_site: float = 0.0,
    size_by_site: float = 0.0,
    variance_by_site: float = 0.0,
    biology_within_group: bool = False,
    scanner_nested: bool = False,
    effect_seed: int = 0,
    random_state: int = 0,
) -> tuple[Cohort, LinearTruth]:
    """Draw one cohort.

    Parameters
    ----------
    n_groups, rows_per_group
        Patients and rows each; a pair draws the number of rows uniformly between its ends.
    d, n_sites, n_biology, n_scanners
        Dimensions and levels; ``n_scanners=0`` leaves the scanner column out.
    site_effect, biology_effect, scanner_effect
        Root mean square distance between two levels of the factor.
    age_effect
        Norm of the change in ``Z`` per standard deviation of age.
    group_effect, noise
        Root of the trace of the patient and of the row covariance.
    decay
        Eigenvalue ``j`` of both covariances is proportional to ``(j + 1) ** -decay``: 0 is isotropic.
    confounding
        0: biology is equally distributed at all sites; towards 1: each site favours one class.
    age_by_site
        Shift of the mean age from first to last site, in standard deviations.
    groups_by_site
        The first site holds ``1 + groups_by_site`` times as many patients as the last.
    size_by_site
        The last site brings ``1 + size_by_site`` times as many rows per patient as the first.
    variance_by_site
        The last site's patients have ``1 + variance_by_site`` times the standard deviation of the first.
    biology_within_group
        Every patient holds rows of all classes, in shares that depend on the site as under ``confounding``.
    scanner_nested
        Scanner number = site number modulo ``n_scanners`` instead of varying within the site.
    effect_seed, random_state
        Seeds of the effects and of the cohort.

    Returns
    -------
    cohort : Cohort
        ``obs`` has ``patient``, ``site``, ``tumour``, ``age`` and, if asked, ``scanner``.
    truth : LinearTruth
        True level means.

    Raises
    ------
    DataError
        Fewer than two sites or classes, or ``confounding`` outside [0, 1).
    """
    low, high = (rows_per_group, rows_per_group) if isinstance(rows_per_group, int) else rows_per_group
    if n_sites < 2 or n_biology < 2 or n_scanners < 0 or not 0.0 <= confounding < 1.0:
        raise DataError("linear_scm needs n_sites >= 2, n_biology >= 2, n_scanners >= 0 and 0 <= confounding < 1")
    if n_groups < n_sites or not 1 <= low <= high:
        raise DataError("linear_scm needs n_groups >= n_sites and rows_per_group >= 1, a pair in ascending order")
    rng = np.random.default_rng(random_state)
    scale = (np.arange(d) + 1.0) ** (-decay / 2)
    scale /= np.sqrt((scale**2).sum())
    truth, ages = _effects(
        np.random.default_rng(effect_seed),
        scale,
        (n_sites, n_biology, max(n_scanners, 1)),
        (site_effect, biology_effect, scanner_effect),
        scanner_nested,
    )
    shares = _biology_shares(n_sites, n_biology, confounding)
    site, biology = _design(n_groups, shares, groups_by_site, within=biology_within_group)
    rank = site / (n_sites - 1)
    size = _sizes(rng, (low, high), 1.0 + size_by_site * rank)
    row = np.repeat(np.arange(n_groups), size)
    scanner = _scanners(site, truth.scanner_given_site, scanner_nested)
    age = rng.standard_normal(n_groups) + age_by_site * (rank - 0.5)
    row_biology = rng.random(len(row))[:, None] > shares[site[row]].cumsum(axis=1) if biology_within_group else None
    classes = biology[row] if row_biology is None else row_biology.sum(axis=1).clip(max=n_biology - 1)
    patient = group_effect * (1.0 + variance_by_site * rank)[:, None] * rng.standard_normal((n_groups, d)) * scale
    Z = truth.site[site] + truth.scanner[scanner] + age_effect * age[:, None] * ages + patient
    Z = Z[row] + truth.biology[classes] + noise * rng.standard_normal((len(row), d)) * scale
    obs = {
        "patient": [f"p{g}" for g in row],
        "site": [f"site{s}" for s in site[row]],
        "tumour": [f"class{b}" for b in classes],
        "age": 60.0 + 10.0 * age[row],
    }
    if n_scanners:
        obs["scanner"] = [f"scanner{s}" for s in scanner[row]]
    return Cohort(Z, pd.DataFrame(obs), {"source": "linear_scm"}), truth


def _effects(
    rng: np.random.Generator,
    scale: np.ndarray,
    levels: tuple[int, int, int],
    sizes: tuple[float, float, float],
    nested: bool,
) -> tuple[LinearTruth, np.ndarray]:
    """Draw level means along the directions in which patients vary, scaled to the root mean square distances asked."""
    parts = []
    for count, size in zip(levels, sizes, strict=True):
        vectors = rng.standard_normal((count, len(scale))) * scale
        vectors -= vectors.mean(axis=0)
        parts.append(vectors * size / np.sqrt(mean_square_distance(vectors)) if count > 1 else 0.0 * vectors)
    direction = rng.standard_normal(len(scale)) * scale
    sites, _, scanners = levels
    share = np.full((sites, scanners), 1.0 / scanners)
    if nested:
        share = np.eye(scanners)[np.arange(sites) % scanners]
    return LinearTruth(parts[0], parts[1], parts[2], share), direction / np.linalg.norm(direction)


def _biology_shares(n_sites: int, n_biology: int, confounding: float) -> np.ndarray:
    """``(sites, classes)`` shares: each site prefers one class by an amount that grows with ``confounding``."""
    favoured = np.eye(n_biology)[np.arange(n_sites) % n_biology]
    return np.asarray((1.0 - confounding) / n_biology + confounding * favoured)


def _design(n_groups: int, shares: np.ndarray, groups_by_site: float, *, within: bool) -> tuple[np.ndarray, np.ndarray]:
    """Fix site and class of each patient by the largest-remainder rounding of the expected cell counts."""
    n_sites, n_biology = shares.shape
    site = np.arange(n_groups) % n_sites
    if groups_by_site:
        weight = np.linspace(1.0 + groups_by_site, 1.0, n_sites)
        site = np.repeat(np.arange(n_sites), _rounded(n_groups * weight / weight.sum(), n_groups))
    biology = np.zeros(n_groups, dtype=np.int64)
    if within:
        return site, biology
    for s in range(n_sites):
        members = np.flatnonzero(site == s)
        biology[members] = np.repeat(np.arange(n_biology), _rounded(shares[s] * len(members), len(members)))
    return site, biology


def _rounded(expected: np.ndarray, total: int) -> np.ndarray:
    """Round by largest remainders, so that the sum is ``total``."""
    counts = np.floor(expected).astype(np.int64)
    counts[np.argsort(counts - expected, kind="stable")[: total - counts.sum()]] += 1
    return np.asarray(counts)


def _sizes(rng: np.random.Generator, rows: int | tuple[int, int], factor: np.ndarray) -> np.ndarray:
    low, high = (rows, rows) if isinstance(rows, int) else rows
    drawn = np.rint(rng.integers(low, high, size=len(factor), endpoint=True) * factor)
    return np.asarray(np.maximum(1, drawn), dtype=np.int64)


def _scanners(site: np.ndarray, share: np.ndarray, nested: bool) -> np.ndarray:
    """Give scanners to patients in turn within each site, so that every site and class meets every scanner."""
    if nested:
        return np.asarray(share.argmax(axis=1)[site])
    turn = np.zeros(len(site), dtype=np.int64)
    for s in np.unique(site):
        members = np.flatnonzero(site == s)
        turn[members] = np.arange(len(members))
    return np.asarray(turn % share.shape[1])
