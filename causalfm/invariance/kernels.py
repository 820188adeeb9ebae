"""Mean kernel features of patients: what ``mean`` does to embeddings, other methods do to these.

A kernel ``k(x, y) = <phi(x), phi(y)>`` turns a distribution into the mean of its features, and characteristic kernels
tell all distributions apart. The features used are Nyström's: ``phi(x) = L^-1 k(landmarks, x)`` with
``L L' = k(landmarks, landmarks)``. They are exact where every row is a landmark, and otherwise exact on the span of a
thousand rows that are spread over all patients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import lapack

from causalfm.cohort import Cohort
from causalfm.strata import Strata, stratify
from causalfm.units import Units, patient_units, refuse_scale

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph

LANDMARKS = 1024  # up to so many rows the features are exact
TOLERANCE = {np.dtype(np.float64): 1e-10, np.dtype(np.float32): 1e-5}  # share of a landmark that must be new

Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]


def square_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances between the rows of ``a (n, d)`` and ``b (m, d)``, ``(n, m)``."""
    out: np.ndarray = a @ b.T
    out *= -2.0
    out += (a**2).sum(axis=1)[:, None]
    out += (b**2).sum(axis=1)
    np.maximum(out, 0.0, out=out)
    return out


def gaussian_kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean of ``exp(-|x - y|^2 / (2 s^2))`` over the bandwidths ``s`` 1, 1/2 and 1/4, ``(n, m)``.

    At the median distance alone the kernel sees little but means. Among 100 + 100 patients in 2 and 8 dimensions it
    found a bimodal site in 8 % (the mean of three: 100 % and 75 %), and one of 1.3 to 1.5 times the spread in 49-70 %
    (77-79 %); a shifted one in 85-87 % (79 %).
    """
    out = square_distances(a, b)
    out *= -0.5
    np.exp(out, out=out)
    half = out**2
    half *= half
    out += half
    half *= half
    half *= half
    out += half
    out /= 3.0
    return out


def distance_kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``|x| + |y| - |x - y|``, ``(n, m)``: the squared distance of two mean features is the energy distance.

    References
    ----------
    Sejdinovic, Sriperumbudur, Gretton and Fukumizu, Ann. Statist. 41 (2013) 2263-2291.
    """
    out = square_distances(a, b)
    np.sqrt(out, out=out)
    np.subtract(np.linalg.norm(b, axis=1), out, out=out)
    out += np.linalg.norm(a, axis=1)[:, None]
    return out


KERNELS: dict[str, Kernel] = {"gaussian": gaussian_kernel, "distance": distance_kernel}


@dataclass(frozen=True, eq=False)
class KernelFeatures:
    """A feature map of rows: call it for the kernel's values at the landmarks, times ``root`` these are the features.

    Attributes
    ----------
    kernel
        Kernel of rows that are centred and scaled.
    landmarks
        ``(r, d)`` centred and scaled rows.
    root
        ``(r, r)``; kernel values times ``root`` have the kernel as their inner products. It is applied to means of
        rows, which is the same and much less work.
    centre, scale
        ``(d,)`` point that is taken off rows, and what they are divided by: the root of the median squared distance
        between rows of different patients of one stratum.
    exact
        True if every row was a candidate for a landmark: nothing is approximated.
    """

    kernel: Kernel
    landmarks: np.ndarray
    root: np.ndarray
    centre: np.ndarray
    scale: float
    exact: bool

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Return the kernel's values between rows ``(n, d)`` and the landmarks, ``(n, r)``."""
        dtype = np.result_type(rows.dtype, np.float32)
        scaled = (rows - self.centre.astype(dtype)) * dtype.type(1.0 / self.scale)
        return self.kernel(scaled.astype(self.landmarks.dtype, copy=False), self.landmarks)


def kernel_units(
    cohort: Cohort,
    graph: CausalGraph,
    of: Sequence[str],
    given: Sequence[str],
    kernel: str,
    *,
    n_landmarks: int = LANDMARKS,
    random_state: int = 0,
) -> tuple[Units, KernelFeatures]:
    """Average kernel features to patients on the design of one question.

    Parameters
    ----------
    cohort, graph, of, given
        As in :func:`causalfm.units.patient_units`.
    kernel
        ``"gaussian"``, whose bandwidths are 1, 1/2 and 1/4 of the root of the median squared distance between rows of
        different patients of one stratum, or ``"distance"``.
    n_landmarks
        Landmarks; cohorts of no more rows use all of them.
    random_state
        Seed of the landmarks.

    Returns
    -------
    units : Units
        ``Z (G, r)``: inner products of two patients' rows are the mean of the kernel over all pairs of their rows.
    features : KernelFeatures
        The map, with its settings.

    Notes
    -----
    Rows count equally within a patient and patients equally, so that the mean feature of a level describes a random row
    of a random patient, however many rows patients bring.

    Continuous conditioning columns act on kernel features neither smoothly nor alike in all strata, even where they
    just move the embedding. Their additive term in the embedding, estimated from the patient means within strata, is
    therefore taken off the rows before the kernel; the test takes off what is left of them in the features.

    Landmarks against random Fourier features: both need one matrix product with all rows. At 1,024 features and 1,536
    dimensions the patients' inner products correlated .97 to .999 with the exact ones by landmarks, .53 to .97 by
    Fourier features, whose error does not know where the data are (docs/adr/0009-kernel-features.md).

    References
    ----------
    Williams and Seeger, NIPS 13 (2001) 682-688; Yang, Li, Mahdavi, Jin and Zhou, NIPS 25 (2012) 476-484;
    Garreau, Jitkrittum and Kanagawa, arXiv:1707.07269 (median heuristic).
    """
    strata = stratify(cohort, graph, of, given)
    offset = _covariate_term(patient_units(cohort, graph, of, given)) if strata.continuous else None
    features = kernel_features(cohort, strata, kernel, offset, n_landmarks, random_state)
    units = patient_units(cohort, graph, of, given, features=features, offset=offset)
    return units.mapped(features.root), features


def kernel_features(
    cohort: Cohort,
    strata: Strata,
    kernel: str,
    offset: np.ndarray | None = None,
    n_landmarks: int = LANDMARKS,
    random_state: int = 0,
) -> KernelFeatures:
    """Choose bandwidth and landmarks for a cohort.

    Parameters
    ----------
    cohort, strata
        Rows, and patients with their strata. The tested factor takes no part.
    kernel
        ``"gaussian"`` or ``"distance"``.
    offset
        ``(G, d)`` taken off the rows of each patient first.
    n_landmarks, random_state
        See :func:`kernel_units`.

    Returns
    -------
    KernelFeatures
        The map. It depends on the rows as a set: neither on their order nor on the names of patients or levels.
    """
    chosen = spread_rows(cohort, strata.groups.codes, n_landmarks, random_state)
    rows = _rows(cohort, strata, chosen, offset)
    refuse_scale(rows)
    scale = _scale(rows, strata, chosen)
    exact = len(cohort) <= n_landmarks
    if exact:
        rows = _rows(cohort, strata, np.arange(len(cohort)), offset)
    centre = rows.mean(axis=0)
    candidates = (rows - centre) / scale
    function = KERNELS[kernel]
    dtype = np.dtype(np.float64 if exact else np.float32)
    root, used = _root(function(candidates, candidates), TOLERANCE[dtype])
    if kernel == "distance":
        root *= np.sqrt(scale)  # the distance of the rows as they are
    return KernelFeatures(function, candidates[used].astype(dtype), root, centre, scale, exact)


def spread_rows(cohort: Cohort, groups: np.ndarray, size: int, random_state: int) -> np.ndarray:
    """Draw rows that are spread evenly over the patients.

    Parameters
    ----------
    cohort
        Rows ``(n, d)``.
    groups
        ``(n,)`` patient codes.
    size
        Rows to draw. One comes twice only if its patient is asked for more rows than there are.
    random_state
        Seed.

    Returns
    -------
    numpy.ndarray
        ``(size,)`` positions: a systematic sample of the patients, and one of the rows of each.

    Notes
    -----
    Patients and rows are drawn by rank along a random direction of the embedding, so that the sample is the same in
    whatever order rows come, whatever patients are called, and if every row comes twice.
    """
    rng = np.random.default_rng(random_state)
    direction = rng.standard_normal(cohort.d)
    along = np.concatenate([block.astype(np.float64) @ direction for _, block in cohort.blocks()])
    count = np.bincount(groups)
    centre = np.bincount(groups, along) / count
    order = np.lexsort((along, groups, centre[groups]))
    ranked = np.argsort(centre, kind="stable")
    first = np.append(0, np.cumsum(count[ranked]))
    share, patient = np.modf((np.arange(size) + rng.random()) / size * len(count))
    patient = patient.astype(np.int64)
    turned = (share + rng.random(len(count))[patient]) % 1.0
    row = np.floor(turned * count[ranked[patient]]).astype(np.int64)
    return np.asarray(order[first[patient] + row])


def _rows(cohort: Cohort, strata: Strata, chosen: np.ndarray, offset: np.ndarray | None) -> np.ndarray:
    rows = np.asarray(cohort.X[chosen], dtype=np.float64)
    return rows if offset is None else rows - offset[strata.groups.codes[chosen]]


def _scale(rows: np.ndarray, strata: Strata, chosen: np.ndarray) -> float:
    """Root of the median squared distance between rows of different patients of one stratum (and class)."""
    patient = strata.groups.codes[chosen]
    stratum = strata.stratum[patient]
    if strata.within is not None:
        stratum = stratum * strata.within.n_levels + strata.within.codes[chosen]
    apart = patient[:, None] != patient
    alike = apart & (stratum[:, None] == stratum)
    squares = square_distances(rows - rows.mean(axis=0), rows - rows.mean(axis=0))[alike if alike.any() else apart]
    if not squares.size:
        return 1.0
    square = float(np.median(squares)) or float(squares.mean())
    return float(np.sqrt(square)) or 1.0


def _root(gram: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """``root (r, r)`` and the positions of ``r`` rows with ``gram[:, used] @ root`` a factor of ``gram``."""
    lower, pivots, rank, _ = lapack.dpstrf(gram, tol=tolerance * float(np.diag(gram).max()), lower=1)
    if not rank:  # every row is the centre
        return np.zeros((1, 1)), np.zeros(1, dtype=np.int64)
    used = pivots[:rank] - 1
    inverse, _ = lapack.dtrtri(lower[:rank, :rank], lower=1)
    return np.tril(inverse).T, np.asarray(used)


def _covariate_term(units: Units) -> np.ndarray:
    """``(G, d)`` additive term of the covariates in the patient means, estimated within strata."""
    strata = np.eye(units.n_strata)[units.stratum]
    slopes, *_ = np.linalg.lstsq(np.concatenate([strata, units.covariates], axis=1), units.Z, rcond=None)
    return np.asarray(units.covariates @ slopes[units.n_strata :])
