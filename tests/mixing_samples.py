"""Small cohorts for the tests of the mixing and clustering metrics."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from causalfm.cohort import Cohort
from causalfm.graph import CausalGraph
from causalfm.results import Estimate

GRAPH = CausalGraph.standard(biology="tumour", technical=["site"], group="patient")
NESTED = CausalGraph.standard(biology="tumour", technical=["site", "scanner", "stain"], group="patient")

# counts[class][site] patients
DESIGNS = {
    "balanced": [[10, 10], [10, 10]],
    "classes 90/10": [[18, 18], [2, 2]],
    "sites 90/10": [[18, 2], [18, 2]],
    "6 x 3 incomplete": [[4, 3, 0], [0, 4, 3], [3, 0, 4], [4, 4, 0], [0, 3, 4], [3, 4, 3]],
    "2 x 10": [[3] * 10] * 2,
}


def cohort_of(X: np.ndarray, biology, site, patient, **columns) -> Cohort:
    obs = pd.DataFrame({"tumour": np.asarray(biology).astype(str), "site": np.asarray(site).astype(str)})
    obs["patient"] = [f"id-{p:04d}" for p in patient]
    return Cohort(np.asarray(X, dtype=np.float32), obs.assign(**columns))


def clustered(
    rng: np.random.Generator, counts, *, d: int = 12, tiles: int = 3, biology=0.0, site=0.0, patient=0.5
) -> Cohort:
    """Shift classes and sites along axes; strength 1 is one noise standard deviation per axis, times 3."""
    codes = [(b, s) for b, row in enumerate(counts) for s, n in enumerate(row) for _ in range(n)]
    b, s = np.repeat(np.array(codes), tiles, axis=0).T
    p = np.repeat(np.arange(len(codes)), tiles)
    axes = max(d, len(counts) + len(counts[0]))
    X = rng.standard_normal((len(p), axes)) + patient * rng.standard_normal((len(codes), axes))[p]
    X += biology * 3 * np.eye(axes)[b] + site * 3 * np.eye(axes)[len(counts) + s]
    return cohort_of(X, b, s, p)


def three_factors(rng: np.random.Generator, *, patients: int = 8, tiles: int = 2, scanner: float = 0.0) -> Cohort:
    """Two sites with two scanners each, which differ between sites; the stain alternates; sites lie far apart."""
    codes = np.array([(b, s, c) for b in (0, 1) for s in (0, 1) for c in (0, 1) for _ in range(patients)])
    b, s, c = np.repeat(codes, tiles, axis=0).T
    p = np.repeat(np.arange(len(codes)), tiles)
    X = rng.standard_normal((len(p), 8)) + 0.5 * rng.standard_normal((len(codes), 8))[p]
    X += 6 * np.eye(8)[s] + scanner * np.eye(8)[2 + c]
    machine = np.array([f"scanner {2 * x + y}" for x, y in zip(s, c, strict=True)])
    return cohort_of(X, b, s, p, scanner=machine, stain=np.where(p % 2, "H&E", "IHC"))


def codes_of(cohort: Cohort) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return tuple(cohort.factor(c).codes for c in ("tumour", "site", "patient"))


def without_each(cohort: Cohort, value: Callable[[Cohort], float]) -> np.ndarray:
    """Compute a value anew without each patient."""
    groups = codes_of(cohort)[2]
    return np.array([value(cohort[np.flatnonzero(groups != g)]) for g in range(int(groups.max()) + 1)])


def effects_of(estimate: Estimate) -> np.ndarray:
    assert estimate.influence is not None
    return estimate.influence.effects


def jackknifed(value: float, without: np.ndarray) -> np.ndarray:
    return (len(without) - 1) / len(without) * (value - without)
