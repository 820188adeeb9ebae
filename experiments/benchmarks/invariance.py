"""Permutation tests: those of independent rows beside hyppo's, and those of patients beside what they must compute."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from causalfm.invariance import invariance_test
from causalfm.invariance.dependence import dependence_test
from causalfm.invariance.kernels import LANDMARKS
from experiments.benchmarks import cohorts, limits
from experiments.benchmarks.claim import Claim, Trial

CATEGORIES = 4


def rows_test(folder: Path, kernel: str, n: int, d: int, n_permutations: int) -> Trial:
    """Ask whether embeddings depend on a category (distances) or on numbers (Gaussian kernels)."""
    from hyppo.independence import Dcorr, Hsic
    from scipy.spatial.distance import pdist

    warnings.simplefilter("ignore")  # hyppo warns of fewer than 1,000 permutations
    rng = np.random.default_rng(0)
    x, Peer = rng.standard_normal((n, d)), {"distance": Dcorr, "gaussian": Hsic}[kernel]
    y = np.eye(CATEGORIES)[rng.integers(CATEGORIES, size=n)]
    A, permuted = rng.random((n, n)), rng.random((n, (CATEGORIES - 1) * n_permutations))
    if kernel == "gaussian":  # hyppo gives y the bandwidth of x: numbers as far apart as the rows of x
        y = x[:, :3] + rng.standard_normal((n, 3))
        y *= np.median(pdist(x)) / np.median(pdist(y))

    def peer(rows: int = n, reps: int = n_permutations) -> Any:
        return Peer().test(x[:rows], y[:rows], reps=reps, auto=False, random_state=0)

    def bare() -> None:
        x @ x.T
        if kernel == "distance":
            A @ permuted
            return
        for _ in range(n_permutations):
            np.vdot(A, A)

    peer(min(n, 50), 2)  # hyppo compiles itself at first use
    statistic = Peer().statistic(x, y)  # the test of Hsic corrects kernels as if they were distances, and returns that
    return Trial(
        lambda: dependence_test(x, y, kernel=kernel, n_permutations=n_permutations),  # type: ignore[arg-type]
        bare,
        peer,
        answer=lambda found: np.array(found[0]),
        peer_answer=lambda found: np.array(statistic),
    )


def patients_test(folder: Path, method: str, n: int, d: int, sites: int, rows: int, n_permutations: int) -> Trial:
    """Test one method of ``invariance_test`` on a large cohort, with effect and verdict."""
    cohort = cohorts.cohort(n, d, sites=sites, rows=rows)
    bare = {"mean": limits.read, "mmd": _landmarks, "gcm": partial(_draws, rows=rows, columns=sites - 1)}[method]
    given = {"of": "site", "method": method, "n_permutations": n_permutations}
    return Trial(lambda: invariance_test(cohort, cohorts.CLASS_AND_SITE, **given), lambda: bare(cohort.X))


def _landmarks(X: np.ndarray) -> None:
    limits.rows_with(X, np.ones((X.shape[1], min(LANDMARKS, len(X)))))


def _draws(X: np.ndarray, rows: int, columns: int, n_draws: int = 499) -> None:
    """Read the rows; multiply signs of patients with a column of the factor times all dimensions, for all columns."""
    limits.read(X)
    units = np.ones((len(X) // rows, X.shape[1]))
    signs = np.ones((n_draws, len(units)))
    for _ in range(columns):
        signs @ units


HYPPO = {"peer": "hyppo", "differs": "difference of the statistics", "tolerance": 1e-8, "peer_repeats": 1}
PATIENTS = {
    "mean": ("equal means", "the rows read and added up, float32"),
    "mmd": ("equal distributions", "the rows multiplied with the landmarks, float32"),
    "gcm": ("the largest generalised covariance", "the rows read; signs of patients multiplied with residual products"),
}
WHY = {
    "mean": "Rows are added up per patient in float64, with a conversion of every number; what follows depends on "
    "patients only: their covariances, the permutations, the size of the effect and its interval.",
    "mmd": "Each product becomes a kernel, which takes an exponential, and the kernels are turned to coordinates by a "
    "second product nearly as large; permutations, effect and interval as for the mean come on top.",
    "gcm": "Each draw regresses the multiplied residuals on the conditioning columns once more, and needs sums of "
    "squares beside sums: a second product and several passes over the patients' residuals.",
}
ENTRIES = (
    Claim(
        "invariance.dcorr",
        "distance correlation with a category, 200 permutations of rows",
        partial(rows_test, kernel="distance"),
        {"n": 800, "d": 1536, "n_permutations": 200},
        {"n": 60, "d": 8, "n_permutations": 10},
        "distances between rows as one product, and one of these with the permuted categories, float64",
        why="Distances are rooted and centred and permuted categories laid out as columns: passes over memory beside "
        "the products, at a size where a pass takes about as long.",
        **HYPPO,
    ),
    Claim(
        "invariance.hsic",
        "Hilbert-Schmidt criterion with three numbers, 200 permutations of rows",
        partial(rows_test, kernel="gaussian"),
        {"n": 800, "d": 1536, "n_permutations": 200},
        {"n": 60, "d": 8, "n_permutations": 10},
        "distances between rows as one product, and one scalar product of matrices per permutation, float64",
        why="Every permutation gathers the rows and columns of a matrix in another order, which memory does far more "
        "slowly than it reads them in their own.",
        **HYPPO,
    ),
    *(
        Claim(
            f"invariance.{method}",
            f"`invariance_test`, {words}: 499 draws of patients, effect and verdict",
            partial(patients_test, method=method),
            {"n": 100_000, "d": 1536, "sites": 34, "rows": 100, "n_permutations": 499},
            {"n": 1000, "d": 16, "sites": 3, "rows": 10, "n_permutations": 49},
            limit,
            no_peer="hyppo permutes rows; no library permutes patients within strata",
            why=WHY[method],
            repeats=3,
        )
        for method, (words, limit) in PATIENTS.items()
    ),
)
