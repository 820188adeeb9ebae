"""One corrector on one trial: it is fitted anew for every part that it is scored on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from causalfm.errors import CausalFMError
from causalfm.estimators.scoring.balanced_tables import balanced_scores
from causalfm.estimators.scoring.confounded_sets import confounded_training
from causalfm.estimators.scoring.correcting import Attempt, corrected
from causalfm.estimators.scoring.readers import read_out
from causalfm.estimators.scoring.trial import FOLDS, INNER, Trial, shares, within_accuracy

DRAWS = 5  # per balanced table; the whole procedure is repeated some twenty times


def measure(trial: Trial, attempt: Attempt) -> tuple[dict[str, float], dict[str, str]]:
    """Score a corrector; where it refuses, its measures are ``nan`` and the reason is kept.

    Returns
    -------
    values : dict
        By measure.
    reasons : dict
        By measure: why there is no value.
    """
    values: dict[str, float] = {}
    reasons: dict[str, str] = {}
    for part, names in PARTS:
        named = names(attempt.readers)
        try:
            found = part(trial, attempt)
        except CausalFMError as error:
            found = dict.fromkeys(named, float("nan"))
            reasons |= dict.fromkeys(named, str(error))
        values |= found
    return values, reasons


def seconds_of(trial: Trial, corrector: Any) -> float:
    """Processor seconds of one fit and one pass over all rows; 0 without a corrector, ``nan`` where it refuses."""
    if corrector is None:
        return 0.0
    every, started = np.ones(len(trial), dtype=bool), time.process_time()
    try:
        corrected(trial, Attempt(corrector, (), False, 0), every, [every])
    except CausalFMError:
        return float("nan")
    return time.process_time() - started


def unseen_patients(trial: Trial, attempt: Attempt) -> dict[str, float]:
    """Read the site from one half of the patients by a fit on the other half.

    Both the patients that train the reader and those that it reads are new to the corrector: in the rows of the fit
    site means are equal exactly, so that a reader trained there finds nothing that it could use elsewhere.
    """
    codes = trial.site
    hits = {reader: np.zeros(len(trial)) for reader in attempt.readers}
    for half in (0, 1):
        rows = trial.half == half
        X = corrected(trial, attempt, ~rows, [rows])
        for part in range(INNER):
            test = rows & (trial.inner == part)
            for reader, hit in hits.items():
                about = (codes.y, codes.context, trial.groups, rows & ~test, test)
                hit[test] = read_out(reader, X, *about, attempt.random_state) == codes.y[test]
    return {f"site_{reader}": within_accuracy(hit, codes, trial.groups) for reader, hit in hits.items()}


def unseen_neighbours(trial: Trial, attempt: Attempt) -> dict[str, float]:
    """Score balanced neighbourhoods in one half of the patients by a fit on the other half; mean of both."""
    found = []
    for half in (0, 1):
        rows = trial.half == half
        new = trial.cohort.replace(X=corrected(trial, attempt, ~rows, [rows]))[rows]
        found.append(balanced_scores(new, trial.graph, trial.confounder, attempt.random_state, DRAWS))
    index, margin = np.mean(found, axis=0)
    return {"robustness_index": float(index), "croma": float(margin)}


def unseen_biology(trial: Trial, attempt: Attempt) -> dict[str, float]:
    """Read the outcome of patients whom neither the corrector nor the probe has seen, at sites that both have."""
    hit, codes = np.zeros(len(trial)), trial.biology
    for fold in range(FOLDS):
        test = trial.fold == fold
        X = corrected(trial, attempt, ~test, [~test, test])
        about = codes.y, codes.context, trial.groups, ~test, test
        hit[test] = read_out("linear", X, *about, attempt.random_state) == codes.y[test]
    return {"biology": within_accuracy(hit, codes, trial.groups)}


def unseen_sites(trial: Trial, attempt: Attempt) -> dict[str, float]:
    """Leave every site out: read the outcome there by a probe of the others, and the site itself.

    A new site is passed as one batch to read the outcome. To tell it from the others it is passed as two batches of
    different patients: the reader trains on one, with one half of the others, and is asked about the other.
    """
    site, biology = trial.site, trial.biology
    found: dict[str, list[float]] = {"biology_new_site": [], **{f"new_site_{r}": [] for r in attempt.readers}}
    for level in range(len(trial.levels)):
        here = site.y == level
        others = ~here & ~np.isin(trial.groups, trial.groups[here])
        judged = np.zeros_like(biology.judged)
        judged[level] = biology.judged[level] & (biology.judged.sum(axis=0) > biology.judged[level])
        judged &= judged.sum(axis=1, keepdims=True) >= 2
        if judged.any():
            X = corrected(trial, attempt, others, [others, here])
            about = biology.y, biology.context, trial.groups, others, here
            hit = read_out("linear", X, *about, attempt.random_state) == biology.y[here]
            rows = type(biology)(biology.y[here], biology.context[here], judged)
            found["biology_new_site"].append(within_accuracy(hit, rows, trial.groups[here]))
        for reader, value in _told(trial, attempt, here, others).items():
            found[f"new_site_{reader}"].append(value)
    values = {name: float(np.mean(each)) if each else float("nan") for name, each in found.items()}
    sites = found["biology_new_site"]
    return values | {"worst_new_site": min(sites) if sites and np.isfinite(sites).all() else float("nan")}


def _told(trial: Trial, attempt: Attempt, here: np.ndarray, others: np.ndarray) -> dict[str, float]:
    """Balanced accuracy, within biology, with which a site that the corrector has not seen is told from the others."""
    level, counts = int(trial.site.y[here][0]), trial.site.judged
    judged = np.stack([np.delete(counts, level, axis=1).any(axis=1), counts[:, level]], axis=1)
    judged &= judged.all(axis=1, keepdims=True)
    if not judged.any():
        return {}
    halves = [here & (trial.half == half) for half in (0, 1)]
    X = corrected(trial, attempt, others, [others, *(rows for rows in halves if rows.any())])
    used = here | others
    codes = type(trial.site)(here.astype(np.int64), trial.site.context, judged)
    out = {}
    for reader in attempt.readers:
        hit = np.zeros(len(trial))
        for half in (0, 1):
            train, test = used & (trial.half != half), used & (trial.half == half)
            about = codes.y, codes.context, trial.groups, train, test
            hit[test] = read_out(reader, X, *about, attempt.random_state) == codes.y[test]
        out[reader] = within_accuracy(hit[used], codes.part(used), trial.groups[used])
    return out


Part = Callable[[Trial, Attempt], dict[str, float]]
PARTS: tuple[tuple[Part, Callable[[tuple[str, ...]], list[str]]], ...] = (
    (unseen_patients, lambda readers: [f"site_{r}" for r in readers]),
    (unseen_neighbours, lambda readers: ["robustness_index", "croma"]),
    (confounded_training, lambda readers: ["apd", "apd_not_corrected"]),
    (unseen_biology, lambda readers: ["biology"]),
    (unseen_sites, lambda readers: ["biology_new_site", "worst_new_site", *(f"new_site_{r}" for r in readers)]),
)


def floor_of(judged: np.ndarray, patients: np.ndarray) -> float:
    """Variance that an accuracy has at least: without any error it has a width (one more error in each direction)."""
    share, held = shares(judged), np.maximum(patients, 1)
    size = 1.0 / float((share**2 / held).sum()) if judged.any() else 1.0
    return 1.0 / (size + 2.0) ** 2
