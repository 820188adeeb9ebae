"""The cohorts that are timed: patients of hospitals with classes, scanners and ages, in memory or in a mapped file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from causalfm.cohort import Cohort
from causalfm.graph import CausalGraph

GRAPH = CausalGraph.standard(biology="tumour", technical=["site"], covariates=["age"], group="patient")
SCANNED = CausalGraph.standard(biology="tumour", technical=["site", "scanner"], covariates=["age"], group="patient")
CLASS_AND_SITE = CausalGraph.standard(biology="tumour", technical=["site"], group="patient")
BLOCK = 10_000


def table(n: int, *, sites: int, rows: int = 50, classes: int = 2, seed: int = 0) -> pd.DataFrame:
    """Lay out ``n`` rows of patients with ``rows`` each; a third of them have the class common at their site."""
    rng = np.random.default_rng(seed)
    patient = np.arange(n) // rows
    own = np.arange(patient[-1] + 1)
    site = own % sites
    tumour = np.where(rng.random(len(own)) < 0.3, site % classes, own // sites % classes)
    codes = {"patient": own, "site": site, "tumour": tumour, "scanner": rng.integers(0, 3, len(own))}
    obs = pd.DataFrame({name: np.char.add(name[0], values.astype(str))[patient] for name, values in codes.items()})
    return obs.assign(age=rng.normal(60.0, 10.0, len(own))[patient])


def embeddings(obs: pd.DataFrame, d: int, path: Path | None = None, *, strength: float = 0.3) -> np.ndarray:
    """Draw float32 rows in which class, site and patient act beside noise of 1, block by block.

    Parameters
    ----------
    obs
        As of :func:`table`.
    d
        Dimensions.
    path
        Of the file that is mapped; None: in memory.
    strength
        Of class, site and patient per dimension. From 0.3 on neighbours share class and site; at 0.1 they are mixed.
    """
    rng = np.random.default_rng(1)
    factors = [pd.factorize(obs[name]) for name in ("site", "tumour", "patient")]
    parts = [(code, strength * rng.standard_normal((len(levels), d), dtype=np.float32)) for code, levels in factors]
    shape = len(obs), d
    X = np.empty(shape, np.float32) if path is None else np.lib.format.open_memmap(path, "w+", np.float32, shape)
    for start in range(0, len(X), BLOCK):
        rows = slice(start, start + BLOCK)
        block = rng.standard_normal(X[rows].shape, dtype=np.float32)
        for codes, centre in parts:
            block += centre[codes[rows]]
        X[rows] = block
    if path is None:
        return X
    X.flush()
    del X
    return np.asanyarray(np.load(path, mmap_mode="r"))


def cohort(n: int, d: int, path: Path | None = None, *, strength: float = 0.3, **layout: int) -> Cohort:
    """Draw a cohort: :func:`table` and :func:`embeddings`."""
    obs = table(n, **layout)
    return Cohort(embeddings(obs, d, path, strength=strength), obs)
