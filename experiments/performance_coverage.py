"""Coverage of the intervals of ``deconfounded_performance``: ``docs/performance_coverage.csv``.

A model reads the class, and the class that its site favours; patients are the units. The truth is the score of 40,000
patients of the same design; of the adjusted scores, of 400,000 patients whose site is drawn beside everything else.
``python -m experiments.performance_coverage [--cohorts 1000]``
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalfm.cohort import Cohort
from causalfm.estimators import deconfounded_performance
from causalfm.estimators.deconfounding.independent_population import Mixed, mixed
from causalfm.estimators.deconfounding.premiums import Premium, premiums
from causalfm.estimators.deconfounding.weighted_scores import Scored
from causalfm.graph import CausalGraph
from experiments.corrector_biology import write_rows

AGED = CausalGraph.standard(biology="tumour", technical="site", covariates=["age"], group="patient")
EDGE = 0.7  # between two bins of confidence
TRUTH_SEED, MANY = 10**6, 40_000
DESIGNS: dict[str, dict[str, Any]] = {
    "20 patients of 3 rows": {"G": 20},
    "60 patients of 3 rows": {"G": 60},
    "300 patients of a row": {"G": 300, "rows": 1},
    "60 patients of 3 rows, nearly perfect": {"G": 60, "signal": 3.8, "shortcut": 0.3},
    "300 patients of a row, nearly perfect": {"G": 300, "rows": 1, "signal": 3.8, "shortcut": 0.3},
}
AGED_SIZES = (60, 300)
Parts = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def draw(
    rng: np.random.Generator,
    G: int = 60,
    *,
    S: int = 2,
    K: int = 2,
    rows: int = 3,
    lean: float = 0.4,
    shortcut: float = 1.0,
    signal: float = 1.5,
) -> Parts:
    """Draw probabilities ``(n, K)``, site, class and patient of rows.

    Parameters
    ----------
    rng
        Generator.
    G, S, K, rows
        Patients, sites, classes, rows of each patient.
    lean
        How much each site prefers its own class: 0 not at all.
    shortcut, signal
        What the site's class, and the row's own, add to the logits.
    """
    share = (1 - lean) / K + lean * np.eye(K)[np.arange(S) % K]
    site, y = np.arange(G) % S, np.zeros(G, dtype=int)
    for s in range(S):
        own = np.flatnonzero(site == s)
        y[own] = np.searchsorted(np.floor(np.cumsum(share[s]) * len(own) + 0.5), np.arange(len(own)), side="right")
    patient = np.repeat(np.arange(G), rows)
    logits = signal * np.eye(K)[y] + shortcut * np.eye(K)[site % K] + 0.7 * rng.standard_normal((G, K))
    logits = logits[patient] + 0.7 * rng.standard_normal((len(patient), K))
    chances = np.exp(logits)
    return chances / chances.sum(axis=1, keepdims=True), site[patient], y[patient], patient


def table(chances: np.ndarray, site: np.ndarray, y: np.ndarray, patient: np.ndarray, **more: Any) -> Any:
    """Return a cohort, whose embeddings are noise, and the table of probabilities."""
    obs = pd.DataFrame({"patient": patient, "site": site, "tumour": y}).astype(str).assign(**more)
    X = np.random.default_rng(0).standard_normal((len(y), 2))
    return Cohort(X, obs), pd.DataFrame(chances, columns=[str(k) for k in range(chances.shape[1])])


def laid_out(
    chances: np.ndarray, site: np.ndarray, y: np.ndarray, patient: np.ndarray, bins: np.ndarray | None = None
) -> tuple[Scored, Mixed]:
    """Return what scores are computed from, in bins of confidence."""
    rows = mixed(site, y, patient, (int(site.max()) + 1, chances.shape[1]))
    bins = np.zeros(len(y), dtype=int) if bins is None else bins
    return Scored(chances, y, tuple(range(chances.shape[1])), bins), rows


def judged(parts: Parts) -> tuple[Premium, ...]:
    """Return all scores, as found, independent and their difference, with two bins of confidence."""
    scored, rows = laid_out(*parts)
    return premiums(dataclasses.replace(scored, bins=(parts[0].max(axis=1) > EDGE).astype(int)), rows, "patient")


def aged(seed: int, G: int = 300, *, random_site: bool = False) -> tuple[np.ndarray, ...]:
    """Draw probabilities, site, class and age: older patients go to site 1 and are harder to read.

    ``random_site``: the site is drawn with the same share of all patients, beside class and age.
    """
    rng = np.random.default_rng(seed)
    age, y = rng.standard_normal(G), rng.integers(0, 2, G)
    odds = 1 / (1 + np.exp(-(1.2 * age + 1.5 * (y - 0.5))))
    site = (rng.random(G) < (odds.mean() if random_site else odds)).astype(int)
    logit = (2 * y - 1) * (2.0 - 1.2 * age) + (2 * site - 1) + 0.95 * rng.standard_normal(G)
    chance = 1 / (1 + np.exp(-logit))
    return np.stack([1 - chance, chance], axis=1), site, y, age


def aged_cohort(seed: int, G: int = 300) -> tuple[Cohort, pd.DataFrame]:
    """Return these patients, one row each, as a cohort and a table of probabilities."""
    chances, site, y, age = aged(seed, G)
    cohort, predictions = table(chances, site, y, np.arange(G), age=age)
    return cohort, predictions


def adjusted_truth() -> tuple[float, float]:
    """Return the accuracy where the site is drawn beside everything else, and how much higher it is as found."""
    right = []
    for random_site in (True, False):
        chances, _, y, _ = aged(TRUTH_SEED, 400_000, random_site=random_site)
        right.append(float((chances.argmax(axis=1) == y).mean()))
    return right[0], right[1] - right[0]


def rows_of(cohorts: int) -> Iterator[dict[str, Any]]:
    """Yield one row per design, score and population."""
    for name, design in DESIGNS.items():
        truth = judged(draw(np.random.default_rng(TRUTH_SEED), **{**design, "G": MANY}))
        hits = np.zeros((len(truth), 3))
        rng = np.random.default_rng(0)
        for _ in range(cohorts):
            for i, (a, b) in enumerate(zip(judged(draw(rng, **design)), truth, strict=True)):
                for j, (x, z) in enumerate(zip(_three(a), _three(b), strict=True)):
                    hits[i, j] += x.low <= z.value <= x.high
        for i, one in enumerate(truth):
            for j, (population, value) in enumerate(zip(POPULATIONS, _three(one), strict=True)):
                yield _row(name, one.score, population, value.value, hits[i, j], cohorts)
    true = adjusted_truth()
    for G in AGED_SIZES:
        held, told = np.zeros(2), 0
        for seed in range(cohorts):
            cohort, predictions = aged_cohort(seed, G)
            scores = {s.score: s for s in deconfounded_performance(cohort, AGED, predictions=predictions).scores}
            if "adjusted_accuracy" not in scores:
                continue
            told += 1
            found = scores["adjusted_accuracy"]
            for j, (x, value) in enumerate(zip((found.independent, found.premium), true, strict=True)):
                held[j] += x.low <= value <= x.high
        for population, value, hit in zip(POPULATIONS[1:], true, held, strict=True):
            yield _row(f"{G} patients, age decides the site", "adjusted_accuracy", population, value, hit, told)


POPULATIONS = ("as found", "independent", "premium")


def _three(one: Premium) -> tuple[Any, Any, Any]:
    return one.found, one.independent, one.premium


def _row(design: str, score: str, population: str, truth: float, held: float, cohorts: int) -> dict[str, Any]:
    coverage = round(float(held) / cohorts, 4)
    said = {"design": design, "score": score, "population": population, "truth": round(truth, 4)}
    return {**said, "coverage": coverage, "cohorts": cohorts}


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cohorts", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "performance_coverage.csv")
    given = parser.parse_args()
    write_rows(list(rows_of(given.cohorts)), given.out)


if __name__ == "__main__":
    main()
