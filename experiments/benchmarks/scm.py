"""The causal model of embeddings: fitting it, moving every row to one site, asking it; beside ``dowhy.gcm``."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from causalfm.cohort import Cohort
from causalfm.scm import EmbeddingSCM, flips, gap_paths
from experiments.benchmarks import cohorts, limits
from experiments.benchmarks.claim import Claim, Trial

GRAPH = cohorts.SCANNED
TO = {"site": "s0"}
MECHANISMS = ("additive", "location-scale", "optimal-transport", "interaction", "random-effects")
FOLDS = 20  # of gap_paths and flips


def fit(folder: Path, mechanism: str, n: int, d: int, sites: int, rows: int) -> Trial:
    """Fit one mechanism to a mapped file."""
    cohort = cohorts.cohort(n, d, folder / "X.npy", sites=sites, rows=rows)
    return Trial(
        lambda: EmbeddingSCM(GRAPH, mechanism).fit(cohort), partial(limits.normal_equations, cohort.X, sites + 8)
    )


def move(folder: Path, mechanism: str, n: int, d: int, sites: int, rows: int) -> Trial:
    """Move every row of a mapped file to one site."""
    cohort = cohorts.cohort(n, d, folder / "X.npy", sites=sites, rows=rows)
    scm = EmbeddingSCM(GRAPH, mechanism).fit(cohort)
    return Trial(lambda: scm.counterfactual(cohort, do=TO), partial(limits.copy, cohort.X))


def beside_gcm(folder: Path, n: int, d: int, sites: int) -> Trial:
    """Fit the additive model of class and site and move every row to one site; in dowhy a dimension is a node."""
    warnings.simplefilter("ignore")
    import networkx as nx
    from dowhy import gcm

    gcm.config.disable_progress_bars()
    cohort = cohorts.cohort(n, d, sites=sites, rows=1)
    cohort = cohort.replace(X=cohort.X.astype(np.float64))
    names = [f"z{i}" for i in range(d)]
    frame = cohort.obs[["site", "tumour"]].astype(str).assign(**dict(zip(names, cohort.X.T, strict=True)))

    def peer() -> np.ndarray:
        arrows = [(cause, name) for name in names for cause in ("site", "tumour")]
        model = gcm.InvertibleStructuralCausalModel(nx.DiGraph(arrows))
        for cause in ("site", "tumour"):
            model.set_causal_mechanism(cause, gcm.EmpiricalDistribution())
        for name in names:
            model.set_causal_mechanism(name, gcm.AdditiveNoiseModel(gcm.ml.create_linear_regressor()))
        gcm.fit(model, frame)
        moved = gcm.counterfactual_samples(model, {"site": lambda _: "s0"}, observed_data=frame)
        return moved[names].to_numpy(np.float64)

    return Trial(
        lambda: EmbeddingSCM(cohorts.CLASS_AND_SITE).fit(cohort).counterfactual(cohort, do=TO).X,
        partial(limits.normal_equations, cohort.X, sites + 3),
        peer,
    )


def audit(folder: Path, question: str, n: int, d: int, sites: int, rows: int) -> Trial:
    """Ask the additive model, which is fitted again without each fold of patients."""
    cohort = cohorts.cohort(n, d, sites=sites, rows=rows)
    scm, direction = EmbeddingSCM(GRAPH).fit(cohort), np.random.default_rng(2).standard_normal(d).astype(np.float32)

    def score(X: np.ndarray) -> np.ndarray:
        margin = X @ direction
        return np.stack([-margin, margin], axis=1)

    asked: dict[str, Any] = {
        "gap_paths": lambda: gap_paths(scm, cohort, ("s0", "s1"), model=score),
        "flips": lambda: flips(scm, cohort, score),
    }

    def bare() -> None:
        for _ in range(FOLDS):
            limits.normal_equations(cohort.X, sites + 8)

    return Trial(asked[question], bare)


def flow(folder: Path, n: int, d: int, sites: int, rows: int) -> Trial:
    """Train the flow."""
    cohort: Cohort = cohorts.cohort(n, d, sites=sites, rows=rows)
    return Trial(lambda: EmbeddingSCM(GRAPH, "flow").fit(cohort), partial(limits.normal_equations, cohort.X, sites + 8))


EQUATIONS = "the columns of sites, scanners, classes and age multiplied with the rows once, float64"
LARGE = {"n": 30_000, "d": 1536, "sites": 34, "rows": 50}
TINY = {"n": 600, "d": 8, "sites": 3, "rows": 5}
FEW_MODELS = "dowhy.gcm has a node per number and no patients; scm.gcm compares what both can do"
SHIFTS = ("additive", "interaction")
PASSES = (
    "Rows are read for the regression, for the residuals with their principal directions, and for the hash that ties "
    "the model to its cohort; half of the least time is an eigendecomposition that does not grow with rows."
)
EM = " Random effects of patients are found by EM in all regressors."
ENTRIES = (
    Claim(
        "scm.gcm",
        "additive model fitted and every row moved to one site",
        beside_gcm,
        {"n": 20_000, "d": 64, "sites": 5},  # with the two classes 7 levels: beyond, dowhy encodes by target, no model
        {"n": 300, "d": 4, "sites": 3},
        "the columns of sites and classes multiplied with the rows once, float64",
        peer="dowhy",
        differs="largest difference of a counterfactual number",
        why="Beside the regression the model keeps the moments of residuals, a density and the support of the design; "
        "the rows are hashed, checked and written.",
        tolerance=1e-8,
    ),
    *(
        Claim(
            f"scm.fit.{mechanism}",
            f"`EmbeddingSCM.fit`, {mechanism}, from a mapped file",
            partial(fit, mechanism=mechanism),
            LARGE,
            TINY,
            EQUATIONS,
            no_peer=FEW_MODELS,
            repeats=3,
            why=PASSES + (EM if mechanism == "random-effects" else ""),
        )
        for mechanism in MECHANISMS
    ),
    Claim(
        "scm.fit.flow",
        "`EmbeddingSCM.fit`, flow, on the processor",
        flow,
        {"n": 5000, "d": 256, "sites": 8, "rows": 10},
        TINY,
        EQUATIONS,
        no_peer=FEW_MODELS,
        repeats=1,
        why="A flow is trained by many small steps on some of the rows, with checkpoints on others; no single product "
        "bounds it.",
    ),
    *(
        Claim(
            f"scm.move.{mechanism}",
            f"`counterfactual` of every row, {mechanism}, from a mapped file",
            partial(move, mechanism=mechanism),
            LARGE,
            TINY,
            "the rows read and written once",
            no_peer=FEW_MODELS,
            repeats=3,
            why="Rows are checked to lie where the model was fitted, and gathered by the change of levels; each number"
            " is then read and written by several operations while it is in the cache"
            + (
                ", and spread mechanisms take the residual to the level's own scale or directions."
                if mechanism not in SHIFTS
                else "."
            ),
        )
        for mechanism in MECHANISMS
    ),
    *(
        Claim(
            f"scm.{question}",
            words,
            partial(audit, question=question),
            {"n": n, "d": 768, "sites": 5, "rows": 10},
            TINY,
            "that of a fit, 20 times",
            no_peer="no library splits a gap of embeddings or counts flips",
            why=why,
            repeats=3,
        )
        for question, n, words, why in (
            (
                "gap_paths",
                5000,
                "`gap_paths` of the embedding and of a score, 20 folds",
                "Each of the fits takes the time of scm.fit; with each, rows are moved along every order of switching "
                "the arrows, and scored.",
            ),
            (
                "flips",
                2000,
                "`flips` of a score, every row to every other site, 20 folds",
                "Each of the fits takes the time of scm.fit; with each, every row is moved to every other site, and "
                "scored there with draws of its error.",
            ),
        )
    ),
)
