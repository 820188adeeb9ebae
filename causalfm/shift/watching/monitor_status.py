"""What a monitor says after a batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from causalfm.results import Result, Verdict

if TYPE_CHECKING:
    from causalfm.shift.watching.monitor_plan import Plan, State

LOG10 = math.log(10.0)


@dataclass(frozen=True)
class Alarm:
    """An alarm, as it was raised.

    Attributes
    ----------
    stream, track
        What moved: ``"embedding"``, ``"scores"`` or ``"errors"``, and which number of it.
    batch, batch_name
        Number (from 1) and name of the batch that raised it.
    since, since_name
        Batch from which on patients most likely differ; an estimate without an interval.
    patients
        Patients of that stream compared until then.
    odds
        Value of the martingale: the least odds against nothing having changed.
    """

    stream: str
    track: str
    batch: int
    batch_name: str
    since: int
    since_name: str
    patients: int
    odds: float

    @property
    def sentence(self) -> str:
        """The alarm in words."""
        at, since = _called(self.batch, self.batch_name), _called(self.since, self.since_name)
        return (
            f"{self.stream} ({self.track}) differ from the reference: raised in {at}, after {self.patients} compared; "
            f"most likely since {since}"
        )


def _called(number: int, name: str) -> str:
    return f"batch {number} ({name})" if name else f"batch {number}"


@dataclass(frozen=True)
class MonitorStatus(Result):
    """State of a monitor after a batch.

    Attributes
    ----------
    verdict
        ``"fail"``: there was an alarm. ``"pass"``: none, and by now four of five changes of the size ``noticeable``
        that were there from the start would have raised one. ``"cannot tell"``: none, but it is too early to say so.
    sentence
        The same in words, with the guarantee.
    alarm
        The first alarm, or None. It stays until :meth:`Monitor.reset`.
    guarantee
        What is promised, and under which assumption.
    batch, batch_name
        Batches seen, and the name of the last one.
    repeated
        This very batch was seen before: nothing was done.
    patients, labelled
        Patients compared so far in embedding and scores, and in errors.
    returned
        Patients of this batch who had been seen before, and are not compared again.
    outside
        Patients so far whose values of the ``given`` columns the reference does not have: not compared.
    forgotten
        Patients whom the memory of ids has lost; should one come again, she counts as new.
    tracks
        Per track: stream, track, log10 of the martingale, its largest so far, the value that raises the alarm, whether
        it did, the batch since which it most likely differs, and the patients compared.
    """

    verdict: Verdict
    sentence: str
    alarm: Alarm | None
    guarantee: str
    batch: int
    batch_name: str
    repeated: bool
    patients: int
    labelled: int
    returned: int
    outside: int
    forgotten: int
    tracks: Sequence[Mapping[str, Any]]

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per track."""
        return [dict(track) for track in self.tracks]


def guarantee(alpha: float, unit: str, given: Sequence[str], resets: int, forgotten: int) -> str:
    """Return what is promised, in words."""
    lost = f" {forgotten} {unit}s seen before are forgotten: none of them may come again." * bool(forgotten)
    like = f" among those alike in {' and '.join(given)}" if given else ""
    again = f" This holds from reset to reset; there were {resets}." if resets else ""
    return (
        f"If every {unit} of the stream, counted at the first visit, is exchangeable with those of the reference{like},"
        f" the probability that an alarm is ever raised is at most {100 * alpha:g} %.{again}{lost}"
    )


def sentence(alarm: Alarm | None, patients: int, outside: int, plan: Plan, promise: str) -> str:
    """Return the state in words."""
    unit, needed = plan.group, plan.needed
    columns = " or ".join(plan.cells.columns)
    away = f" Not compared: {outside} {unit}s with values of {columns} that the reference does not have."
    away *= bool(outside)
    if alarm is not None:
        return f"Alarm: {alarm.sentence}.{away} {promise}"
    plural = "" if plan.noticeable == 1 else "s"
    size = f"a shift by {plan.noticeable:g} standard deviation{plural} of one watched number"
    if needed < 0:
        early = f"The reference is too small to notice {size}."
    elif patients < needed:
        early = f"It is early: four of five times {size} is noticed within {needed} {unit}s."
    else:
        early = f"Four of five times {size}, there from the start, is noticed within {needed}."
    return (
        f"No alarm; {patients} {unit}s compared.{away} {early} No alarm does not show that nothing changed. {promise}"
    )


def track_rows(plan: Plan, state: State) -> tuple[dict[str, Any], ...]:
    """Return the numbers of every track."""
    rows = []
    for panel, watch in zip(plan.panels, state.watches, strict=True):
        columns = watch.wealth.log_value(), watch.wealth.peak, panel.threshold, watch.wealth.change()
        for stream, name, now, peak, needed, since in zip(panel.streams, panel.names, *columns, strict=True):
            row = {"stream": stream, "track": name, "log10_odds": float(now) / LOG10, "largest": float(peak) / LOG10}
            row |= {"alarm_at": float(needed) / LOG10, "alarm": bool(peak >= needed), "since": int(since)}
            rows.append({**row, "patients": watch.compared})
    return tuple(rows)
