"""Correctors: fit and apply beside neuroCombat, combatlearn and concept-erasure; fits from mapped files."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalfm.estimators import ComBat, LinearEraser
from experiments.benchmarks import cohorts, limits
from experiments.benchmarks.claim import Claim, Trial


def beside_peer(folder: Path, peer: str, n: int, d: int, sites: int) -> Trial:
    """Fit and apply at once, in the form that is the peer's."""
    warnings.simplefilter("ignore")
    obs = cohorts.table(n, sites=sites, rows=1, classes=3)
    X, site, table = cohorts.embeddings(obs, d), obs["site"], obs[["site", "tumour"]]
    biology = table["tumour"]
    ours: dict[str, Callable[[], Any]] = {
        "neuroCombat": lambda: ComBat().fit(X, site, biology=biology).transform_given(X, site, biology=biology),
        "combatlearn": lambda: (
            ComBat(prior="levels").fit(X, site, biology=biology).transform_given(X, site, biology=biology)
        ),
        "concept-erasure": lambda: LinearEraser().fit(X, site).transform(X),
    }
    theirs = {"neuroCombat": _neurocombat, "combatlearn": _combatlearn, "concept-erasure": _erasure}
    bare = partial(_erased, X) if peer == "concept-erasure" else partial(_three_passes, X)
    return Trial(ours[peer], bare, partial(theirs[peer], X, table))


def _neurocombat(X: np.ndarray, table: pd.DataFrame) -> np.ndarray:
    from neuroCombat import neuroCombat

    with contextlib.redirect_stdout(io.StringIO()):
        return np.asarray(neuroCombat(X.T.copy(), table, "site", ["tumour"])["data"].T)


def _combatlearn(X: np.ndarray, table: pd.DataFrame) -> np.ndarray:
    from combatlearn.core import ComBatModel

    frame = pd.DataFrame(X, index=table.index)
    given = {"batch": table["site"], "discrete_covariates": table[["tumour"]]}
    return np.asarray(ComBatModel(method="fortin").fit(frame, **given).transform(frame, **given))


def _erasure(X: np.ndarray, table: pd.DataFrame) -> np.ndarray:
    import torch
    from concept_erasure import LeaceEraser

    x, z = torch.from_numpy(X), torch.from_numpy(pd.get_dummies(table["site"]).to_numpy(np.float32))
    return np.asarray(LeaceEraser.fit(x, z)(x))


def _three_passes(X: np.ndarray) -> None:
    """Read for the fit; read again and write for the rows."""
    limits.read(X)
    limits.copy(X)


def _erased(X: np.ndarray) -> None:
    """Covariance for the fit; rows times a projection."""
    limits.covariance(X)
    limits.rows_with(X, np.eye(X.shape[1]))


def from_a_file(folder: Path, corrector: str, cold: bool, n: int, d: int, sites: int) -> Trial:
    """Fit from a mapped file, from the system's cache or from the disk."""
    obs, path = cohorts.table(n, sites=sites), folder / "X.npy"
    cohorts.embeddings(obs, d, path)
    Corrector = {"combat": ComBat, "leace": LinearEraser}[corrector]

    def ours() -> Any:
        return Corrector().fit(np.load(path, mmap_mode="r"), obs["site"], biology=obs["tumour"])

    if cold:
        return Trial(ours, partial(limits.read_file, path), before=partial(limits.forget, path))
    X = np.load(path, mmap_mode="r")
    return Trial(ours, partial(limits.read if corrector == "combat" else limits.covariance, X))


SMALL, TINY = {"n": 5000, "d": 768, "sites": 8}, {"n": 300, "d": 8, "sites": 3}
LARGE, FEW = {"n": 100_000, "d": 1536, "sites": 8}, {"n": 1000, "d": 8, "sites": 3}
COLD = " that no cache holds"
COVARIANCE = "rows multiplied with themselves, float64"
ERASED = f"{COVARIANCE}; rows multiplied with a projection, float32"
PASSES = "the rows read twice and written once"
SUMS = (
    "Sums of products with level and class and sums of squares are taken in float64, so that every number is checked, "
    "converted, centred and multiplied, where the limit adds float32."
)
SHRUNK = " Empirical Bayes is solved for every dimension, and the rows are moved level by level."
PROJECTION = (
    "Rows are checked, sorted by level and centred in float64 before they are multiplied, and the covariance is "
    "decomposed once, which does not grow with rows."
)
ENTRIES = (
    *(
        Claim(
            f"correctors.{name}",
            f"{words} fitted and applied",
            partial(beside_peer, peer=peer),
            SMALL,
            TINY,
            limit,
            peer=peer,
            differs="largest difference of a number",
            why=why,
            tolerance=1e-4,
        )
        for name, words, peer, limit, why in (
            ("combat", "`ComBat`", "neuroCombat", PASSES, SUMS + SHRUNK),
            ("combat_levels", '`ComBat(prior="levels")`', "combatlearn", PASSES, SUMS + SHRUNK),
            ("leace", "`LinearEraser`", "concept-erasure", ERASED, PROJECTION),
        )
    ),
    *(
        Claim(
            f"correctors.{name}",
            f"`{words}` from a mapped file{place}",
            partial(from_a_file, corrector=corrector, cold=cold),
            LARGE,
            FEW,
            limit,
            no_peer="the peers take arrays in memory only",
            why=why,
            repeats=3,
        )
        for name, corrector, words, place, cold, limit, why in (
            ("combat_mapped", "combat", "ComBat().fit", "", False, "the rows read and added up, float32", SUMS),
            ("leace_mapped", "leace", "LinearEraser().fit", "", False, COVARIANCE, PROJECTION),
            ("combat_disk", "combat", "ComBat().fit", COLD, True, "the file read from the disk", SUMS),
        )
    ),
)
