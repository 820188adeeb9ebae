"""From the numbers of every corrector to scores; changes are taken within halves, so that they are paired."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from causalfm.estimators.scoring.intervals import Scale, change_bounds, half_width, least_bounds, scale_of, within_range
from causalfm.estimators.scoring.measuring import AT
from causalfm.estimators.scoring.result import Score
from causalfm.estimators.scoring.trial import Trial

HIGHER = ("apd", "robustness_index", "croma", "biology", "biology_new_site", "worst_new_site")
LEAST_SITE = "worst_new_site"
CHANGES = ("change", "change_low", "change_high", "joint_low", "joint_high")
NAN = float("nan")


@dataclass(frozen=True, eq=False)
class Run:
    """All numbers of one corrector: on all patients, with a leak, and ``(halvings, 2)`` in halves."""

    name: str
    values: dict[str, float]
    reasons: dict[str, str]
    leaked: dict[str, float]
    halves: dict[str, np.ndarray]

    def at_sites(self) -> list[str]:
        """Return the measures of single sites."""
        return [name for name in self.values if name.startswith(AT)]

    def half(self, measured: str) -> np.ndarray:
        """Return the numbers of a measure in halves, ``(0, 2)`` if there are none."""
        return self.halves.get(measured, np.full((0, 2), NAN))


def scores_of(trial: Trial, runs: Sequence[Run]) -> tuple[Score, ...]:
    """Put values, intervals and changes together; the first run is without correction."""
    names = dict.fromkeys(name for run in runs for name in run.values)
    scales = {name: scale_of(trial, name) for name in names}
    out = []
    for run in runs:
        for name in (name for name in run.values if not name.startswith(AT)):
            found = _least if name == LEAST_SITE else _bounds
            base = None if run is runs[0] else runs[0]
            value, low, high, *change = found(run, base, name, scales, max(1, len(runs) - 1))
            better = "higher" if name in HIGHER else "lower"
            known: dict[str, Any] = {"value": value, "low": low, "high": high, "chance": scales[name].chance}
            known |= dict(zip(CHANGES, change, strict=True))
            known |= {"leak": run.leaked.get(name, NAN), "reason": run.reasons.get(name, "")}
            out.append(Score(run.name, name, better=better, **known))
            if name == "biology" and base is not None:
                out.append(_lost(out[-1]))
    return tuple(out)


def _bounds(run: Run, base: Run | None, name: str, scales: dict[str, Scale], looks: int) -> tuple[float, ...]:
    """Value with its interval, change with its interval, and that for all correctors together."""
    value, half = run.values[name], half_width(run.half(name), scales[name])
    known = value, *within_range(name, value - half, value + half)
    if base is None:
        return (*known, *(NAN,) * 5)
    change = value - base.values[name]
    one, all_ = _paired(run, base, name, scales[name], (1, looks))
    return (*known, change, change - one, change + one, change - all_, change + all_)


def _least(run: Run, base: Run | None, name: str, scales: dict[str, Scale], looks: int) -> tuple[float, ...]:
    """Do the same for the least of several sites, from intervals of the sites that hold together."""
    value, sites = run.values[name], run.at_sites()
    if not sites or not np.isfinite(value):
        return (value, *(NAN,) * 7)
    each = np.array([run.values[site] for site in sites])
    bounds = least_bounds(each, np.array([half_width(run.half(s), scales[s], len(sites)) for s in sites]))
    known = value, *within_range(name, *bounds)
    if base is None:
        return (*known, *(NAN,) * 5)
    changes = each - np.array([base.values[site] for site in sites])
    both = (len(sites), len(sites) * looks)
    halves = np.array([_paired(run, base, site, scales[site], both) for site in sites])
    moved = (bound for column in halves.T for bound in change_bounds(changes, column))
    return (*known, value - base.values[name], *moved)


def _paired(run: Run, base: Run, name: str, scale: Scale, looks: tuple[int, int]) -> tuple[float, ...]:
    """Half widths of the change for one interval and for several; ``nan`` where halves are missing."""
    if run.half(name).shape != base.half(name).shape:
        return (NAN,) * len(looks)
    return tuple(half_width(run.half(name) - base.half(name), scale, look) for look in looks)


def _lost(score: Score) -> Score:
    """Return the change of an accuracy as what is lost of it."""
    empty: dict[str, Any] = dict.fromkeys((*CHANGES, "leak"), NAN)
    lost: dict[str, Any] = {"value": -score.change, "low": -score.change_high, "high": -score.change_low, "chance": 0.0}
    return replace(score, name="biology_lost", better="lower", **lost, **empty)
