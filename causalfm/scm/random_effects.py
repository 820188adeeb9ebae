"""Technical effects and their interactions as random effects, shrunken apart along each band of principal directions.

The noise of a difference of means is that of the tissue: large along the few directions in which tissues differ, while
a technical factor may move the embedding along others. One ratio for all directions, or none, lets this noise in.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from causalfm.scm.additive import Additive
from causalfm.scm.cells import Cells
from causalfm.scm.parents import Parents
from causalfm.scm.principal import Sample, n_directions
from causalfm.scm.regression import MeanModel, pseudo_inverse
from causalfm.scm.sampling_error import SamplingError
from causalfm.singular_values import thin_svd

FOLDS = 5
FEWEST = 20  # patients below which no directions are told apart
PATIENTS = 512  # whose directions are looked at: eigenvectors of more cost more than they tell
STEPS = 200
TOLERANCE = 1e-3
SMALLEST = 1e-10  # variance of an effect over that of a patient
LARGEST = 1e8  # beyond it nothing is shrunken, and effects that cannot be told apart would have no posterior


class RandomEffects(Additive):
    """Shared noise around a mean whose technical effects, by class too, are shrunken direction by direction."""

    coupling = "shared noise around a mean whose technical effects are shrunken, each band of directions by itself"
    crossed = True


def shrink_by_direction(
    model: MeanModel, gram: np.ndarray, error: SamplingError, sample: Sample, cells: Cells
) -> tuple[MeanModel, SamplingError]:
    """Shrink technical effects, and their interactions with biology, as random effects.

    Parameters
    ----------
    model, gram, error
        Unshrunken least squares: coefficients, ``(p, p)`` Gram matrix, errors.
    sample
        Residuals of some rows.
    cells
        Layout of the rows.

    Returns
    -------
    model : MeanModel
        Posterior means: biology, covariates and the constant stay unshrunken.
    error : SamplingError
        Posterior variances. They cover on average over effects, not for each single one, and take patients as alike.

    Notes
    -----
    Along direction ``u`` with variance ``lambda`` of a patient's mean, effects of factor ``f`` have variance
    ``tau_f lambda``; ``tau_f`` is the same for the directions of a band (1, 2, 4, ... of them, and all others) and
    found by maximum likelihood (EM). ``lambda`` is measured on patients that did not choose ``u``: the sample's own
    eigenvalues are too large for the first directions and too small for the rest.

    References
    ----------
    Efron and Morris, Stein's estimation rule and its competitors, J. Am. Statist. Assoc. 68:117 (1973).
    """
    every = error.moment[: len(cells.levels)].sum(axis=0) / cells.n_patients  # (d,) variance of a patient's mean
    basis, along = patient_directions(_patient_means(sample, cells), float(every.sum()))
    kind = effect_kinds(model.parents)
    cross = gram @ model.coefficients
    left = max(float(every.sum() - along.sum()), 1e-12 * float(every.sum()))
    d, k = basis.shape
    coefficients, noise, loadings = np.zeros_like(cross), every.copy(), []
    bands = [(basis[:, a:b], along[a:b]) for a, b in _bands(k)]
    rest = cross - (cross @ basis) @ basis.T
    for U, variance in bands:
        white = (cross @ U) / np.sqrt(variance)
        inverse, wide = _posterior(gram, white @ white.T / len(variance), len(variance), kind)
        coefficients += inverse @ (cross @ U) @ U.T
        inside = U**2 @ variance
        noise -= inside
        loadings.append((wide, inside))
    if k < d:
        inverse, wide = _posterior(gram, rest @ rest.T / left, d - k, kind)
        coefficients += inverse @ rest
        loadings.append((wide, np.maximum(noise, 1e-12 * every)))
    changed = dataclasses.replace(model, coefficients=coefficients, inverse=inverse)
    return changed, _posterior_error(error, loadings, len(cells.levels))


def effect_kinds(parents: Parents) -> np.ndarray:
    """Variance component of each regressor ``(p,)``: one per technical factor and per interaction; -1: none."""
    kind, factors = np.full(parents.width, -1), [b for _, b in parents.crossed]
    at = 1 + parents.n_splines
    for j, size in enumerate(parents.sizes):
        if j in factors:
            kind[at : at + size] = factors.index(j)
        at += size
    for i, (a, b) in enumerate(parents.crossed):
        size = parents.sizes[a] * parents.sizes[b]
        kind[at : at + size] = len(factors) + i
        at += size
    return kind


def patient_directions(means: np.ndarray, total: float) -> tuple[np.ndarray, np.ndarray]:
    """Principal directions of patients' means, and their variance measured on other patients.

    Parameters
    ----------
    means
        ``(m, d)`` mean residual of each patient.
    total
        Sum over dimensions of the variance of a patient's mean.

    Returns
    -------
    basis, variance
        ``(d, k)`` orthonormal and ``(k,)``; none with fewer than 20 patients.
    """
    m, d = means.shape
    k = n_directions(d, m) if m >= FEWEST else 0
    size = float((means**2).sum())
    if k == 0 or size == 0.0:
        return np.zeros((d, 0)), np.zeros(0)
    fold = np.random.default_rng(0).permutation(m) % FOLDS
    square = np.zeros(k)
    for f in range(FOLDS):
        square += ((means[fold == f] @ _first_directions(means[fold != f], k)) ** 2).sum(axis=0)
    return _first_directions(means, k), np.maximum(square / size, 1e-9) * total


def _first_directions(means: np.ndarray, k: int) -> np.ndarray:
    _, _, right = thin_svd(means)
    out = np.zeros((means.shape[1], k))
    out[:, : len(right)] = right[:k].T
    return out


def _patient_means(sample: Sample, cells: Cells) -> np.ndarray:
    """Mean residual ``(m, d)`` of the patients in the sample, at most 512 of them, by length: ids do not matter."""
    owner = np.empty(len(cells.order), dtype=np.int64)
    owner[cells.order] = cells.patient[cells.share]
    patients, at = np.unique(owner[sample.rows], return_inverse=True)
    sums = np.zeros((len(patients), sample.residual.shape[1]))
    np.add.at(sums, at, sample.residual)
    means = sums / np.bincount(at)[:, None]
    means = means[np.argsort((means**2).sum(axis=1), kind="stable")]
    return means if len(means) <= PATIENTS else means[np.linspace(0, len(means) - 1, PATIENTS).astype(int)]


def _bands(k: int) -> list[tuple[int, int]]:
    """Cut ``k`` directions into bands of 1, 2, 4, ... directions."""
    edges = [min(k, 2**i - 1) for i in range(k.bit_length() + 1)]
    return [(a, b) for a, b in itertools.pairwise(edges) if b > a]


def _posterior(gram: np.ndarray, moment: np.ndarray, m: int, kind: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Posterior covariance ``(p, p)`` of the coefficients per unit of noise: for their means, and for their errors.

    ``moment (p, p)``: mean over ``m`` directions of ``c c'``, ``c`` the sums of regressor times embedding per unit of
    noise.
    """
    free, shrunken = np.flatnonzero(kind < 0), np.flatnonzero(kind >= 0)
    solve = gram[np.ix_(shrunken, free)] @ pseudo_inverse(gram[np.ix_(free, free)])[0]
    left = gram[np.ix_(shrunken, shrunken)] - solve @ gram[np.ix_(free, shrunken)]
    out = np.hstack([-solve, np.eye(len(shrunken))])
    order = np.concatenate([free, shrunken])
    inside = out @ moment[np.ix_(order, order)] @ out.T
    found = []
    for adjusted in (False, True):
        penalised = gram.copy()
        tau = effect_variances(left, inside, m, kind[shrunken], adjusted=adjusted)
        penalised[shrunken, shrunken] += 1.0 / tau[kind[shrunken]]
        found.append(pseudo_inverse(penalised)[0])
    return found[0], found[1]


def effect_variances(left: np.ndarray, moment: np.ndarray, m: int, kind: np.ndarray, *, adjusted: bool) -> np.ndarray:
    """Estimate the variances of the effects of each kind, per unit of noise, by EM.

    Parameters
    ----------
    left, moment
        ``(p, p)`` Gram matrix of the regressors after the others, and mean over directions of ``c c'``, ``c`` their
        sums with the embedding.
    m
        Directions.
    kind
        ``(p,)``.
    adjusted
        Multiply the likelihood by the variance. Where few effects tell it, the plain maximum is often 0: best for
        means, but intervals then covered 90 % instead of 95.

    References
    ----------
    Li and Lahiri, An adjusted maximum likelihood method, J. Multivariate Analysis 101:882 (2010).
    """
    count = np.bincount(kind).astype(np.float64)
    if adjusted:
        count *= 1.0 - np.minimum(2.0 / (count * m), 0.5)  # of a kind with few effects half is left
    tau = np.full(len(count), 0.1)
    for _ in range(STEPS):
        # NumPy's inverse, though SciPy's Cholesky does half the work: NumPy and SciPy bring a pool of threads each, and
        # two pools that take turns thousands of times wait for each other (25 s instead of 0.5 on two threads)
        posterior = np.linalg.inv(left + np.diag(1.0 / tau[kind]))
        second = np.diag(posterior) + ((posterior @ moment) * posterior).sum(axis=1)
        new = np.clip(np.bincount(kind, second) / count, SMALLEST, LARGEST)
        moved, tau = float(np.abs(np.log(new / tau)).max()), new
        if moved < TOLERANCE:
            break
    return tau


def _posterior_error(error: SamplingError, bands: list[tuple[np.ndarray, np.ndarray]], n_cells: int) -> SamplingError:
    """Errors with posterior covariance times noise ``(d,)``, added up over bands.

    The terms of the cells stay in front, at no weight: the variance of a patient's mean is read from them.
    """
    loadings, moment = [np.zeros((n_cells, error.loadings.shape[1]))], [error.moment[:n_cells]]
    for inverse, noise in bands:
        eigenvalues, vectors = np.linalg.eigh(0.5 * (inverse + inverse.T))
        kept = eigenvalues > 1e-12 * eigenvalues[-1]
        loadings.append((vectors[:, kept] * np.sqrt(eigenvalues[kept])).T)
        moment.append(np.tile(noise, (int(kept.sum()), 1)))
    terms = np.arange(sum(len(part) for part in loadings))
    return dataclasses.replace(
        error, loadings=np.concatenate(loadings), left=terms, right=terms, moment=np.concatenate(moment)
    )
