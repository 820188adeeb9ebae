"""Answers of rows outside memory beside those of the same rows in memory, question by question."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import causalfm as cfm
from causalfm import metrics
from causalfm.auditing.row_sample import row_sample
from causalfm.cohort import Cohort
from causalfm.estimators import ComBat, LinearEraser
from causalfm.metrics.reference import reference_index
from causalfm.neighbours import knn
from causalfm.results import plain
from experiments.scale.cohorts import table_path, write_cohort
from experiments.scale.streaming import GRAPH

QUERIES, SHOWN = 1024, 4096
TINY = 1e-9  # of the largest number of an answer: below it a difference is counted as if it were this


def questions(drawn: np.ndarray) -> dict[str, Callable[[Cohort], Any]]:
    """Return what is asked of either cohort; ``drawn`` are the rows that a sampled question gets."""

    def moved(c: Cohort) -> Any:
        scm = cfm.EmbeddingSCM(GRAPH).fit(c)
        return np.asarray(scm.counterfactual(c[:SHOWN], do={"site": "S0"}).X)

    def corrected(c: Cohort, corrector: Any) -> Any:
        X = c.X.array if hasattr(c.X, "array") else c.X
        corrector.fit(X, c.obs["site"], biology=c.obs["tumour"])
        rows = np.asarray(c.X[:SHOWN])
        return corrector.transform(rows, **({"factor": c.obs["site"][:SHOWN]} if corrector._needs_factor() else {}))

    def listed(c: Cohort) -> Any:
        groups = c.factor("patient", private=True).codes
        found = knn(c.X, 100, exclude=groups, queries=QUERIES)
        return np.where(found.indices < 0, 0.0, found.similarity)

    def index(c: Cohort) -> Any:
        groups = c.factor("patient", private=True).codes
        lists = knn(c.X, 100, exclude=groups, queries=QUERIES, reserve=100)
        return metrics.robustness_index(c, GRAPH, confounder="site", neighbours=lists, standardised=False).to_dict()

    def test(of: str, method: str) -> Callable[[Cohort], Any]:
        return lambda c: cfm.invariance_test(c, GRAPH, of=of, method=method, n_permutations=199).to_dict()

    def effect(of: str) -> Callable[[Cohort], Any]:
        def ask(c: Cohort) -> Any:
            found = cfm.effect(c, GRAPH, treatment=of)
            return [found.to_frame().to_dict("list"), *(e.to_dict() for e in (found.joint, found.ratio, found.share))]

        return ask

    return {
        "fingerprint": lambda c: c.fingerprint(GRAPH.columns),
        "invariance of the site, means": test("site", "mean"),
        "invariance of the scanner, means": test("scanner", "mean"),
        "invariance of the site, kernel (MMD)": test("site", "mmd"),
        "effect of the site": effect("site"),
        "effect of the scanner": effect("scanner"),
        "counterfactuals of the model": moved,
        "rows corrected by ComBat": lambda c: corrected(c, ComBat()),
        "rows corrected by LEACE": lambda c: corrected(c, LinearEraser()),
        "similarities of queries among all rows": listed,
        "robustness index of queries": index,
        "robustness index, 2 x 2 reference": lambda c: reference_index(c, GRAPH, confounder="site").to_dict(),
        "probe of the rows drawn": lambda c: metrics.readout(c[drawn], GRAPH, of="site").to_dict(),
    }


def numbers(answer: Any) -> tuple[list[float], list[Any]]:
    """Return all numbers of an answer, in order, and everything else."""
    found: tuple[list[float], list[Any]] = ([], [])
    if isinstance(answer, dict | list | tuple):
        parts = answer.values() if isinstance(answer, dict) else answer
        for values, rest in map(numbers, parts):
            found[0].extend(values)
            found[1].extend(rest)
        return found[0], [*found[1], list(answer) if isinstance(answer, dict) else len(answer)]
    if isinstance(answer, float):
        return [answer], []
    return [], [answer]


def difference(here: Any, there: Any) -> float:
    """Return the largest relative difference of two answers; infinite where anything else than a number differs.

    Rows are compared relative to their largest number, other numbers one by one.
    """
    if isinstance(here, np.ndarray):
        same = here.shape == there.shape
        return float(np.abs(here - there).max() / np.abs(here).max()) if same else float("inf")
    (a, rest), (b, other) = numbers(plain(here)), numbers(plain(there))
    if rest != other or len(a) != len(b) or not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return float("inf")
    x, y = (np.asarray([v for v in values if np.isfinite(v)]) for values in (a, b))
    if not len(x):
        return 0.0
    return float((np.abs(x - y) / np.maximum(np.abs(x), TINY * max(np.abs(x).max(), TINY))).max())


def equality(folder: Path, gib: float, limit: int) -> dict[str, Any]:
    """Ask every question in memory and outside it."""
    path = write_cohort(folder, gib)
    here = cfm.read(path, obs=table_path(path))
    there = cfm.read(path, obs=table_path(path), lazy=True, memory_limit=limit)
    sample = row_sample(there, GRAPH, 0)
    assert sample is not None
    drawn = np.searchsorted(there.obs.index, sample.rows.obs.index)
    found = {}
    for name, ask in questions(drawn).items():
        found[name] = difference(ask(here), ask(there))
        print(name, found[name], flush=True)
    return {"rows": len(there), "gib": there.X.nbytes / 2**30, "limit_gib": limit / 2**30, "differences": found}
