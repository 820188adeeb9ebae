"""p-values of every method of ``invariance_test`` on one cohort, and of other software as it would be used on it.

Other software knows neither patients nor strata of them. It gets the rows, as its examples do, and once the means of
patients; what has no conditioning set gets embeddings less the mean of their class.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from causalfm.cohort import Cohort
from causalfm.datasets.linear_scm import LinearTruth
from causalfm.graph import CausalGraph
from causalfm.invariance import invariance_test
from causalfm.invariance.methods import METHODS

WITH_AGE = CausalGraph.standard(biology="tumour", technical=["site"], covariates=["age"], group="patient")
WITHOUT = CausalGraph.standard(biology="tumour", technical=["site"], group="patient")
PERMUTATIONS = 199
PEER_PERMUTATIONS = 99
PEERS = ("hyppo", "dowhy", "causallearn")

Values = dict[str, Any]
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def p_values_of_methods(cohort: Cohort, truth: LinearTruth, seed: int, first: bool, design: dict[str, Any]) -> Values:
    """p-values of all methods by the public function, conditioning set and all."""
    graph = WITH_AGE if "age_effect" in design else WITHOUT
    return {
        method: invariance_test(
            cohort, graph, of="site", method=method, n_permutations=PERMUTATIONS, random_state=seed
        ).p_value
        for method in METHODS
    }


def p_values_of_peers(cohort: Cohort, truth: LinearTruth, seed: int, first: bool, design: dict[str, Any]) -> Values:
    """p-values of other software. Some of it draws from NumPy's global generator, which is seeded and put back."""
    state = np.random.get_state()  # noqa: NPY002 - the peers' own choice
    np.random.seed(seed % 2**32)  # noqa: NPY002
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # few permutations, old interfaces
            out = {f"{name}, rows": float(test(_arrays(cohort), seed)) for name, test in TESTS.items()}
            means = {f"{name}, patient means": float(test(_patients(cohort), seed)) for name, test in TESTS.items()}
    finally:
        np.random.set_state(state)  # noqa: NPY002
    return out | means


def peers_installed() -> bool:
    """Whether the software compared with is there; it is no dependency of the study."""
    return all(importlib.util.find_spec(name) is not None for name in PEERS)


def _arrays(cohort: Cohort) -> Arrays:
    """Embeddings, sites and classes of the rows, the latter two as indicators."""
    site, tumour = cohort.factor("site"), cohort.factor("tumour")
    return np.asarray(cohort.X, float), np.eye(site.n_levels)[site.codes], np.eye(tumour.n_levels)[tumour.codes]


def _patients(cohort: Cohort) -> Arrays:
    """Means over patients."""
    patient = cohort.factor("patient", private=True)
    share = np.eye(patient.n_levels)[patient.codes].T / patient.counts()[:, None]
    return tuple(share @ values for values in _arrays(cohort))  # type: ignore[return-value]


def _hyppo(arrays: Arrays, seed: int) -> float:
    from hyppo.independence import Dcorr

    x, site, tumour = arrays
    x = x - tumour @ np.linalg.lstsq(tumour, x, rcond=None)[0]
    found = Dcorr().test(x, site, reps=PEER_PERMUTATIONS, workers=1, auto=False, random_state=seed % 2**32)
    return float(found[1])


def _dowhy(arrays: Arrays, seed: int) -> float:
    from dowhy.gcm.independence_test import kernel_based

    return float(kernel_based(*arrays))


def _causal_learn(arrays: Arrays, seed: int) -> float:
    from causallearn.utils.KCI.KCI import KCI_CInd

    return float(KCI_CInd().compute_pvalue(*arrays)[0])


TESTS: dict[str, Callable[[Arrays, int], float]] = {
    "hyppo Dcorr": _hyppo,
    "dowhy kernel": _dowhy,
    "causal-learn KCI": _causal_learn,
}
