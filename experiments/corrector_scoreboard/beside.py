"""What the scoreboard does not measure: a reader trained where it must not be, and another probe of the cancer type."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from causalfm.cohort import Cohort
from causalfm.estimators.scoring.correcting import Attempt, corrected
from causalfm.estimators.scoring.measuring import judged_at
from causalfm.estimators.scoring.readers import read_out
from causalfm.estimators.scoring.result import NONE
from causalfm.estimators.scoring.trial import Codes, Trial, chance_of, trial_of, within_accuracy
from causalfm.metrics.learners import choose_strength, fit_logistic
from causalfm.metrics.recall import cell_balance
from experiments.encoder_comparison import HOSPITALS


def from_fit(cohort: Cohort, made: dict[str, Any], readers: tuple[str, ...]) -> pd.DataFrame:
    """Return with what accuracy the site is read from new patients by readers trained on rows of the corrector's fit.

    The false all-clear: there the corrector has made site means equal, and a linear probe learns less than there is to
    learn. The same halves as ``site_*``, whose readers are trained on rows new to the corrector.
    """
    trial, rows = trial_of(cohort, HOSPITALS, None, None, 0), []
    for name, one in made.items():
        attempt = Attempt(one, readers, False, 0)
        hits = {reader: np.zeros(len(trial)) for reader in readers}
        for half in (0, 1):
            new = trial.half == half
            X = corrected(trial, attempt, ~new, [~new, new])
            for reader, hit in hits.items():
                about = trial.site.y, trial.site.context, trial.groups, ~new, new
                hit[new] = read_out(reader, X, *about, 0) == trial.site.y[new]
        for reader, hit in hits.items():
            value = within_accuracy(hit, trial.site, trial.groups)
            rows.append({"corrector": name, "name": f"from_fit_{reader}", "value": value, "better": "lower"})
    return pd.DataFrame(rows).assign(chance=chance_of(trial.site.judged), reason="")


def unseen_by_logistic(cohort: Cohort, made: dict[str, Any]) -> pd.DataFrame:
    """Return the accuracy at unseen hospitals of logistic regression in place of the scoreboard's discriminant.

    Penalty chosen on a third of the training patients; the same sites left out, cells and weights.
    """
    trial, rows = trial_of(cohort, HOSPITALS, None, None, 0), []
    codes = trial.biology
    for name, one in {NONE: None, **made}.items():
        attempt, found = Attempt(one, (), False, 0), []
        for level in range(len(trial.levels)):
            here, judged = trial.site.y == level, judged_at(codes.judged, level)
            if judged.any():
                others = ~here & ~np.isin(trial.groups, trial.groups[here])
                X = corrected(trial, attempt, others, [others, here])
                hit = _logistic(trial, X, others, here) == codes.y[here]
                at = Codes(codes.y[here], codes.context[here], judged)
                found.append(within_accuracy(hit, at, trial.groups[here]))
        value = float(np.mean(found)) if found else float("nan")
        rows.append({"corrector": name, "name": "unseen_by_logistic", "value": value, "better": "higher"})
    return pd.DataFrame(rows).assign(chance=chance_of(codes.judged), reason="")


def _logistic(trial: Trial, X: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Guess the cancer type of test rows; cells of training rows weigh the same, and patients within them."""
    y, units = trial.biology.y[train], np.unique(trial.groups[train], return_inverse=True)[1]
    weights = cell_balance(y, trial.biology.context[train], 1.0 / np.bincount(units)[units])
    weights *= (int(units.max()) + 1) / weights.sum()
    rows, new = (np.asarray(X[mask], dtype=np.float64) for mask in (train, test))
    strength = choose_strength(rows, y, units, weights, 0)
    return np.asarray(fit_logistic(rows, y, weights, new, [strength], len(trial.classes))[0].argmax(axis=1))
