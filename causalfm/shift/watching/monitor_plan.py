"""What a monitor was told and what it fixed on the reference, and what has happened since."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from causalfm.cohort import Cohort
from causalfm.shift.domains import known_labels
from causalfm.shift.watching.monitor_cells import Cells
from causalfm.shift.watching.monitor_memory import hashed
from causalfm.shift.watching.monitor_panels import Panel, Watch
from causalfm.shift.watching.monitor_scores import Source
from causalfm.shift.watching.monitor_status import Alarm
from causalfm.shift.watching.monitor_views import EmbeddingView, log_odds, one_row_each, patient_means, score_values

Unit = Literal["mean", "row"]
REMEMBERED = 4096  # batches
MOST_ODDS = 690.0  # log; larger ones would overflow


@dataclass(frozen=True, eq=False)
class Plan:
    """Fixed at the fit.

    Attributes
    ----------
    group, biology
        Columns of the independent unit and of the label.
    unit
        Whether a patient is the mean of her rows or one row drawn at random.
    alpha
        Bound on the probability that there is ever a false alarm.
    view, cells, panels
        What is looked at, among whom, and the tracks: of images, and of errors if there are scores.
    classes, score_columns, answers
        Levels of the biology; columns of probabilities; what the model said of the probes. None where there is none.
    dtype
        Of the reference's embeddings.
    noticeable, needed
        Size of a change, and the patients after which it is noticed four of five times (-1: never).
    seed, fingerprint, n_reference
        Of the random order and ties; of the reference; its patients.
    """

    group: str
    biology: str
    unit: Unit
    alpha: float
    view: EmbeddingView
    cells: Cells
    panels: tuple[Panel, ...]
    classes: tuple[str, ...] | None
    score_columns: tuple[str, ...] | None
    answers: np.ndarray | None
    dtype: str
    noticeable: float
    needed: int
    seed: int
    fingerprint: str
    n_reference: int

    def columns(self, batch: Cohort) -> tuple[str, ...]:
        """Columns of a batch that are looked at."""
        labels = (self.biology,) if self.biology in batch.obs.columns else ()
        return (self.group, *self.cells.columns, *(self.score_columns or ()), *labels)


@dataclass(frozen=True, eq=False)
class State:
    """Moved by every batch.

    Attributes
    ----------
    number, resets
        Batches seen, resets made.
    watches
        One per panel.
    seen
        Digest, name and the caller's stamp of the last batches.
    alarm
        The first alarm since the fit or the last reset.
    stamp
        Changes with every batch, and is the same after the same batches.
    """

    number: int
    resets: int
    watches: tuple[Watch, ...]
    seen: tuple[tuple[str, str, str], ...]
    alarm: Alarm | None
    stamp: str

    def name_of(self, number: int) -> str:
        """Name of a batch, if it is remembered."""
        at = number - 1 - self.number + len(self.seen)
        return self.seen[at][1] if 0 <= at < len(self.seen) else ""


def next_stamp(*parts: str) -> str:
    """Return a digest of texts."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]


def image_values(
    cohort: Cohort, units: np.ndarray, n_units: int, view: EmbeddingView, source: Source | None, name: str
) -> np.ndarray:
    """Return the numbers of patients ``(n_units, T)`` that need no label."""
    parts = [view.values(patient_means(cohort.X, units, n_units))]
    if source is not None:
        parts.append(score_values(patient_means(source.of(cohort, name), units, n_units)))
    return np.concatenate(parts, axis=1)


def error_values(
    cohort: Cohort, units: np.ndarray, n_units: int, labels: np.ndarray, source: Source, name: str
) -> np.ndarray:
    """Return ``(n_units, 1)`` log odds of the probability that the model left for other classes than the true one."""
    right = source.of(cohort, name)[np.arange(len(labels)), labels]
    return log_odds(1.0 - patient_means(right[:, None], units, n_units))


def step(
    plan: Plan, state: State, batch: Cohort, key: bytes, source: Source | None, seen: tuple[str, str, str]
) -> tuple[State, int]:
    """Compare the patients of a batch who have not been compared before.

    Returns
    -------
    State, int
        The next state, and how many patients of the batch had been compared before.
    """
    number = state.number + 1
    rng = np.random.default_rng([plan.seed, number])
    factor = batch.factor(plan.group, private=True)
    hashes = hashed(factor.levels, key)
    labels = np.full(len(batch), -1) if plan.classes is None else known_labels(batch, plan.biology, plan.classes)
    cells, numbers = plan.cells.of(batch, factor.codes, len(hashes))
    watches = []
    for k, (panel, watch) in enumerate(zip(plan.panels, state.watches, strict=True)):
        there = labels >= 0 if k else np.ones(len(batch), dtype=bool)
        new = ~watch.memory.known(hashes) & (np.bincount(factor.codes[there], minlength=len(hashes)) > 0)
        if new.any():
            rows = np.flatnonzero(there & new[factor.codes])
            units = np.unique(factor.codes[rows], return_inverse=True)[1]
            values = _values(plan, panel, batch[rows], units, labels[rows], source, rng)
            inside = new & (cells >= 0)
            watch = watch.meet(hashes[new], int((new & ~inside).sum()))
            if inside.any():
                levels = panel.levels(values[inside[new]], plan.cells.basis(numbers[inside]))
                watch = watch.rank(cells[inside], levels, rng, number)
        watches.append(watch)
    returned = int(state.watches[0].memory.known(hashes).sum())
    kept = (*state.seen, seen)[-REMEMBERED:]
    after = State(number, state.resets, tuple(watches), kept, state.alarm, next_stamp(state.stamp, *seen))
    return (after if after.alarm is not None else replace(after, alarm=_alarm(plan, after))), returned


def _values(
    plan: Plan,
    panel: Panel,
    batch: Cohort,
    units: np.ndarray,
    labels: np.ndarray,
    source: Source | None,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the numbers ``(m, T)`` of the patients of these rows."""
    m = int(units.max()) + 1
    if plan.unit == "row":
        rows = one_row_each(units, m, rng)
        batch, units, labels = batch[rows], np.arange(m), labels[rows]
    if panel.streams != ("errors",):
        return image_values(batch, units, m, plan.view, source, "batch")
    assert source is not None
    return error_values(batch, units, m, labels, source, "batch")


def _alarm(plan: Plan, state: State) -> Alarm | None:
    """Return the alarm of the track that is furthest above its threshold, or None."""
    found = []
    for panel, watch in zip(plan.panels, state.watches, strict=True):
        excess = watch.wealth.peak - panel.threshold
        track = int(excess.argmax())
        if excess[track] >= 0:
            found.append((float(excess[track]), panel, watch, track))
    if not found:
        return None
    _, panel, watch, track = max(found, key=lambda item: item[0])
    since = min(int(watch.wealth.change()[track]), state.number)
    return Alarm(
        panel.streams[track],
        panel.names[track],
        state.number,
        state.name_of(state.number),
        since,
        state.name_of(since),
        watch.compared,
        float(np.exp(min(watch.wealth.peak[track], MOST_ODDS))),
    )
