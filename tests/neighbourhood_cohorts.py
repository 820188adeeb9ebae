"""Small cohorts with known shifts, for the tests of the neighbour metrics."""

import numpy as np
import pandas as pd

from causalfm.cohort import Cohort
from causalfm.graph import CausalGraph
from causalfm.metrics.design import Design
from causalfm.metrics.margin_lists import margins_of
from causalfm.metrics.nearest_typed import unit_loader

GRAPH = CausalGraph.standard(biology="tumour", technical=["site"], group="patient")
NESTED = CausalGraph.standard(biology="tumour", technical=["site", "scanner"], group="patient")


def cohort_of(X: np.ndarray, biology, site, patient, **columns) -> Cohort:
    obs = pd.DataFrame({"tumour": np.asarray(biology).astype(str), "site": np.asarray(site).astype(str)})
    obs["patient"] = [f"id-{p}" for p in patient]
    return Cohort(np.asarray(X, dtype=np.float32), obs.assign(**columns))


def clustered(rng, counts, *, d=12, tiles=2, biology=0.0, site=0.0, patient=0.5, scanner=None) -> Cohort:
    """``counts[class][site]`` patients; orthogonal shifts; strength 1 is three noise standard deviations.

    ``scanner``: strength of a shift between two scanners, which every other patient of each cell has.
    """
    codes = [(b, s) for b, row in enumerate(counts) for s, n in enumerate(row) for _ in range(n)]
    b, s = np.repeat(np.array(codes), tiles, axis=0).T
    p = np.repeat(np.arange(len(codes)), tiles)
    X = rng.standard_normal((len(p), d)) + patient * rng.standard_normal((len(codes), d))[p]
    X += biology * 3 * np.eye(d)[b] + site * 3 * np.eye(d)[len(counts) + s]
    if scanner is None:
        return cohort_of(X, b, s, p)
    which = p % 2
    X[:, -1] += scanner * 3 * which
    return cohort_of(X, b, s, p, scanner=which.astype(str))


def codes_of(cohort: Cohort, *columns: str) -> tuple[np.ndarray, ...]:
    return tuple(cohort.factor(c).codes for c in columns or ("tumour", "site", "patient"))


def without(cohort: Cohort, unit: int) -> Cohort:
    """Leave one patient out, by code."""
    return cohort[np.flatnonzero(codes_of(cohort, "patient")[0] != unit)]


def margins_by_row(X: np.ndarray, b: np.ndarray, s: np.ndarray, g: np.ndarray, *, m: int = 5) -> np.ndarray:
    """The margin of every row, ``nan`` for those that have none."""
    design = Design(b, s, g, (), (), "", "", "", np.zeros(len(X), dtype=np.int64))
    found = margins_of(unit_loader(X), design, m, np.arange(len(X)), None, 0)
    out = np.full(len(X), np.nan)
    out[found.so.queries] = found.values
    return out
