"""What a confounded training set costs with a corrector: it is fitted on the confounded set itself, as its user would.

Where class and site are one in the training set, every corrector that is given biology refuses: the probe is then
trained on rows as they are, and the share of such sets is reported.
"""

from __future__ import annotations

import numpy as np

from causalfm.errors import CausalFMError
from causalfm.estimators.scoring.correcting import Attempt, corrected
from causalfm.estimators.scoring.discriminant import PENALTIES, discriminant_path
from causalfm.estimators.scoring.trial import Trial
from causalfm.metrics.downstream import apd
from causalfm.metrics.schedules import confounded_schedule
from causalfm.metrics.training_sets import Draw, Schedule

STEPS, REPEATS = 3, 5  # no, half and complete association: more steps need more patients per cell


def confounded_training(trial: Trial, attempt: Attempt) -> dict[str, float]:
    """Return the average performance drop at the sites trained on, and the share of sets that could not be corrected.

    Raises
    ------
    DataError
        A table that cannot carry training sets from no association to a complete one.
    """
    schedule = confounded_schedule(trial.cohort, trial.graph, confounder=trial.confounder, steps=STEPS)
    rng, accuracies, refused = np.random.default_rng(attempt.random_state), [], []
    for _ in range(REPEATS):
        for draw in schedule.draw(rng):
            found = [_step(trial, attempt, schedule, draw, step) for step in range(len(draw.train))]
            accuracies.append([accuracy for accuracy, _ in found])
            refused.append([kept for _, kept in found])
    return {"apd": apd(np.array(accuracies).T), "apd_not_corrected": float(np.mean(refused))}


def _step(trial: Trial, attempt: Attempt, schedule: Schedule, draw: Draw, step: int) -> tuple[float, bool]:
    """Accuracy, cells weighing the same, of a probe trained on one set, and whether the corrector refused it."""
    masks = []
    for rows in (draw.train[step], np.concatenate([draw.validation, draw.test])):
        masks.append(np.zeros(len(trial), dtype=bool))
        masks[-1][rows] = True
    refused = False
    try:
        X = corrected(trial, attempt, masks[0], masks)
    except CausalFMError:
        X, refused = trial.cohort.X, True
    X, y, train = np.asarray(X, dtype=np.float64), schedule.y, draw.train[step]
    new = np.concatenate([draw.validation, draw.test])
    guesses = discriminant_path(X[train], y[train], np.ones(len(train)), X[new], PENALTIES)
    split, shares = len(draw.validation), draw.shares[step]
    total = np.bincount(y[draw.validation], shares)
    reached = [np.bincount(y[draw.validation], shares * (g[:split] == y[draw.validation])) / total for g in guesses]
    best = len(PENALTIES) - 1 - int(np.argmax([each[total > 0].mean().round(12) for each in reached][::-1]))
    hit = guesses[best][split:] == y[draw.test]
    cell = np.unique(y[draw.test] * len(schedule.levels) + schedule.level[draw.test], return_inverse=True)[1]
    return float((np.bincount(cell, hit) / np.bincount(cell)).mean()), refused
