"""Changes of known kind and size at a hospital that was watched in peace before: how many patients until the alarm."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from causalfm.cohort import Cohort
from causalfm.datasets.planted_shifts import planted_shift
from causalfm.shift import Monitor

FIRST_SEED = 12_000_000  # fixed before the first run; 10,000 to a kind and size
REFERENCE, QUIET, CHANGED, BATCH = 300, 200, 600, 20  # patients
GRID = {
    "scanner": (0.5, 1.0, 1.5, 2.0, 3.0),
    "covariate": (0.5, 1.0, 2.0, 3.0),
    "case_mix": (0.5, 1.0, 1.6),
    "concept": (0.5, 1.0, 1.5, 2.5),
    "new_support": (0.1, 0.2, 0.5, 1.0),
}
SIZES = {
    "scanner": "displacement, in half distances between the classes",
    "covariate": "patients older, in standard deviations",
    "case_mix": "last class: .5 + .3 size of the patients",
    "concept": "labels of .4 size of the patients change",
    "new_support": ".5 size of the patients from an unseen scanner",
}


@dataclass(frozen=True)
class Outcome:
    """One stream.

    Attributes
    ----------
    early
        Whether the alarm came before the change.
    delay
        Patients after the change until the alarm, in whole batches; ``nan``: none came.
    stream
        What moved.
    since
        Estimated batch of the change less the true one.
    """

    early: bool
    delay: float
    stream: str
    since: float


@lru_cache(maxsize=4)
def _hospital(kind: str, size: float, effect_seed: int) -> Any:
    """Return graph and draws of a hospital before (``size`` 0) or after a change; other hospitals train the model."""
    _, _, graph, truth = planted_shift(kind, size, effect_seed=effect_seed, n_groups=12, new_groups=1)
    return graph, truth


def _renamed(cohort: Cohort, word: str) -> Cohort:
    return cohort.replace(obs=cohort.obs.assign(patient=word + cohort.obs["patient"]))


def _model(truth: Any, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    cohort = truth.draw("reference", 300, 4, seed)
    return LogisticRegression(max_iter=1000).fit(cohort.X, cohort.obs["tumour"])


def one(kind: str, size: float, seed: int) -> Outcome:
    """Fit a monitor at a hospital, let it watch in peace, change the hospital, and wait for the alarm."""
    graph, before = _hospital("nothing", 0.0, seed)
    _, after = _hospital(kind, size, seed)
    reference = before.draw("deployment", REFERENCE, 4, seed)
    monitor = Monitor.fit(reference, graph, model=_model(before, seed), noticeable=4.0, random_state=seed % 2**31)
    stream = [_renamed(before.draw("deployment", QUIET, 4, seed + 1), "q")]
    stream.append(_renamed(after.draw("deployment", CHANGED, 4, seed + 2), "c"))
    batch = 0
    for changed, cohort in enumerate(stream):
        unit = np.repeat(np.arange(len(cohort) // 4), 4) // BATCH
        for k in range(unit[-1] + 1):
            batch += 1
            status = monitor.update(cohort[unit == k])
            if status.alarm is not None:
                delay = float((k + 1) * BATCH) if changed else np.nan
                since = float(status.alarm.since - QUIET // BATCH - 1)
                return Outcome(not changed, delay, status.alarm.stream, since)
    return Outcome(False, np.nan, "", np.nan)
