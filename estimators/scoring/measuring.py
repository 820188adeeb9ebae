"""One corrector on one trial: it is fitted anew for every part that it is scored on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from causalfm.errors import CausalFMError
from causalfm.estimators.scoring.balanced_tables import balanced_scores
from causalfm.estimators.scoring.confounded_sets import confounded_training
from causalfm.estimators.scoring.correcting import Attempt, corrected
from causalfm.estimators.scoring.readers import read_out
from causalfm.estimators.scoring.trial import FOLDS, INNER, Codes, Trial, shares, within_accuracy

AT = "biology_at:"  # of one site that was left out
DRAWS = 5  # per balanced table; the whole procedure is repeated some twenty times


def measure(
    trial: Trial, attempt: Attempt, parts: Sequence[str] | None = None
) -> tuple[dict[str, float], dict[str, str]]:
    """Score a corrector; where it refuses, its measures are ``nan`` and the reason is kept.

    Parameters
    ----------
    trial, attempt
        Rows and corrector.
    parts
        Keys of ``PARTS``; None: all.

    Returns
    -------
    values : dict
        By measure; those that begin with ``AT`` are of one site.
    reasons : dict
        By measure: why there is no value.
    """
    values: dict[str, float] = {}
    reasons: dict[str, str] = {}
    attempt = replace(attempt, fits={})
    for part, names in (PARTS[name] for name in parts or PARTS):
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
    site means are equal exactly, so that a reader trained there finds less than there is (``docs/scoreboard.md``).
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
                hit[test] = read_out(reader, X, *about, attempt.random_state, attempt.trees) == codes.y[test]
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
        hit[test] = read_out(attempt.probe, X, *about, attempt.random_state) == codes.y[test]
    return {"biology": within_accuracy(hit, codes, trial.groups)}


def unseen_sites(trial: Trial, attempt: Attempt) -> dict[str, float]:
    """Leave every site out and read the outcome there by a probe of the others; the site is passed as one batch."""
    codes = trial.biology
    found: dict[str, float] = {}
    for level, here, others in _left_out(trial):
        judged = judged_at(codes.judged, level)
        if not judged.any():
            continue
        X = corrected(trial, attempt, others, [others, here])
        hit = read_out(attempt.probe, X, codes.y, codes.context, trial.groups, others, here, attempt.random_state)
        rows = Codes(codes.y[here], codes.context[here], judged)
        found[f"{AT}{level}"] = within_accuracy(hit == codes.y[here], rows, trial.groups[here])
    each = list(found.values()) or [float("nan")]
    return {"biology_new_site": float(np.mean(each)), "worst_new_site": float(np.min(each)), **found}


def judged_at(judged: np.ndarray, level: int) -> np.ndarray:
    """Return the classes that count at a site that is left out: others must hold them too."""
    out = np.zeros_like(judged)
    out[level] = judged[level] & (judged.sum(axis=0) > judged[level])
    return np.asarray(out & (out.sum(axis=1, keepdims=True) >= 2))


def told_sites(trial: Trial, attempt: Attempt) -> dict[str, float]:
    """Balanced accuracy, within biology, with which a site that the corrector has not seen is told from the others.

    The site is passed as two batches of different patients: the reader trains on one, with one half of the others, and
    is asked about the other. (A batch that is adapted to is centred exactly, and would be told below chance.)
    """
    found: dict[str, list[float]] = {reader: [] for reader in attempt.readers}
    for level, here, others in _left_out(trial):
        counts = trial.site.judged
        judged = np.stack([np.delete(counts, level, axis=1).any(axis=1), counts[:, level]], axis=1)
        judged &= judged.all(axis=1, keepdims=True)
        if not judged.any():
            continue
        halves = [here & (trial.half == half) for half in (0, 1)]
        # augmented rows are never deployed: told from rows as they are, they would be told by the augmentation
        X = corrected(trial, attempt, others, [others, *(rows for rows in halves if rows.any())], probed=False)
        used = here | others
        codes = Codes(here.astype(np.int64), trial.site.context, judged)
        for reader, each in found.items():
            hit = np.zeros(len(trial))
            for half in (0, 1):
                train, test = used & (trial.half != half), used & (trial.half == half)
                about = codes.y, codes.context, trial.groups, train, test
                hit[test] = read_out(reader, X, *about, attempt.random_state, attempt.trees) == codes.y[test]
            each.append(within_accuracy(hit[used], codes.part(used), trial.groups[used]))
    return {f"new_site_{reader}": float(np.mean(each)) if each else float("nan") for reader, each in found.items()}


def _left_out(trial: Trial) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield every site, its rows, and the rows of patients who were never there."""
    for level in range(len(trial.levels)):
        here = trial.site.y == level
        if here.any():
            yield level, here, ~here & ~np.isin(trial.groups, trial.groups[here])


Part = Callable[[Trial, Attempt], dict[str, float]]
PARTS: dict[str, tuple[Part, Callable[[tuple[str, ...]], list[str]]]] = {
    "site": (unseen_patients, lambda readers: [f"site_{r}" for r in readers]),
    "neighbours": (unseen_neighbours, lambda readers: ["robustness_index", "croma"]),
    "confounded": (confounded_training, lambda readers: ["apd", "apd_not_corrected"]),
    "biology": (unseen_biology, lambda readers: ["biology"]),
    "new_sites": (unseen_sites, lambda readers: ["biology_new_site", "worst_new_site"]),
    "told_sites": (told_sites, lambda readers: [f"new_site_{r}" for r in readers]),
}


def floor_of(judged: np.ndarray, patients: np.ndarray) -> float:
    """Variance that an accuracy has at least: without any error it has a width (one more error in each direction)."""
    share, held = shares(judged), np.maximum(patients, 1)
    size = 1.0 / float((share**2 / held).sum()) if judged.any() else 1.0
    return 1.0 / (size + 2.0) ** 2
